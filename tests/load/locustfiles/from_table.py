"""A queue of the tables in tests/table, by its name, under load."""

import importlib
import os

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue

module, _, name = os.environ["TABLE_QUEUE"].partition(":")
queue = getattr(importlib.import_module(module), name)
EngineUser, ProducerUser, ConsumerUser = users_of(
    OwnQueue(queue, contract=os.environ["TABLE_CONTRACT"], producers=2, consumers=2)
)
