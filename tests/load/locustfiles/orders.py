"""The queue of tests/endpoint/orders.py whose class the environment names, with the work that it names."""

import os

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue
from tests.endpoint import orders

WORK = getattr(orders, os.environ.get("WORK", ""), 0.0)
EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(getattr(orders, os.environ["ORDERS"]), work=WORK))
