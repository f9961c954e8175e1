"""Bursts of XADD, and readers that each receive every entry."""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import XaddFanout

EngineUser, ProducerUser, ConsumerUser = users_of(XaddFanout())
