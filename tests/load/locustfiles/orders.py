"""The queue of tests/endpoint/orders.py whose class the environment names."""

import os

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue
from tests.endpoint import orders

EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(getattr(orders, os.environ["ORDERS"])))
