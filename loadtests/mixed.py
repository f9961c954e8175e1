"""A job queue beside plain GET and SET, whose latency must not suffer."""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import MixedWorkload

EngineUser, ProducerUser, ConsumerUser = users_of(MixedWorkload())
