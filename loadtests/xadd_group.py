"""Bursts of XADD, shared by the consumers of one group; at the end every entry was read and acknowledged."""

from pytest_redisq.load.scenario import XaddGroup
from pytest_redisq.load.users import users_of

SwarmUser, ProducerUser, ConsumerUser = users_of(XaddGroup())
