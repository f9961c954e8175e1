"""A pair of external commands, which a load run cannot drive."""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue
from pytest_redisq.runner import Command

EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue((Command(["produce"]), Command(["consume"]))))
