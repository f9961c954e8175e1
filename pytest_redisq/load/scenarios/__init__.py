"""What a load run does to the server: one class for each scenario, for either engine."""

from pytest_redisq.load.scenarios.large_replies import LrangePayload
from pytest_redisq.load.scenarios.list_scenarios import BlpopWorkers, ListDrain, MixedWorkload
from pytest_redisq.load.scenarios.own_queue import OwnQueue
from pytest_redisq.load.scenarios.scenario import Scenario
from pytest_redisq.load.scenarios.stream_scenarios import XaddBurst, XaddFanout, XaddGroup

__all__ = [
    "BlpopWorkers",
    "ListDrain",
    "LrangePayload",
    "MixedWorkload",
    "OwnQueue",
    "Scenario",
    "XaddBurst",
    "XaddFanout",
    "XaddGroup",
]
