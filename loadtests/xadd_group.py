"""Bursts of XADD, shared by the consumers of one group; at the end every entry was read and acknowledged."""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import XaddGroup

EngineUser, ProducerUser, ConsumerUser = users_of(XaddGroup())
