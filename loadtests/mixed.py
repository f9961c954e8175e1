"""A job queue beside plain reads and writes of other people, who must not suffer."""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import MixedWorkload

EngineUser, ProducerUser, ConsumerUser = users_of(MixedWorkload())
