"""Bursts of XADD, and readers who each get every entry."""

from pytest_redisq.load.scenario import XaddFanout
from pytest_redisq.load.users import users_of

SwarmUser, ProducerUser, ConsumerUser = users_of(XaddFanout())
