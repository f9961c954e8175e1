"""A list that is drained in chunks while producers push to it. Nothing is lost and nothing comes twice."""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import ListDrain

EngineUser, ProducerUser, ConsumerUser = users_of(ListDrain())
