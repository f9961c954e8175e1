"""A job queue beside plain reads and writes of other people, who must not suffer."""

from pytest_redisq.load.scenario import Mixed
from pytest_redisq.load.users import users_of

SwarmUser, ProducerUser, ConsumerUser = users_of(Mixed())
