"""A list that is drained in chunks while others push to it; nothing is lost and nothing comes twice."""

from pytest_redisq.load.scenario import Drain
from pytest_redisq.load.users import users_of

SwarmUser, ProducerUser, ConsumerUser = users_of(Drain())
