"""Bursts of XADD on one stream, read by groups and by readers of every entry, bounded by MAXLEN if you like.

redisq load xadd-burst --pipeline 100 --set groups=3 --set readers=5
redisq load xadd-burst --set maxlen=100000 --set 'contract=fan-out, bounded' --fail-if 'lag>50000' --fail-if 'trimmed>0'
"""

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import XaddBurst

EngineUser, ProducerUser, ConsumerUser = users_of(XaddBurst())
