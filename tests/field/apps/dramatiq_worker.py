"""The module for Dramatiq's command line: the actor, on a broker at the environment's Redis."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.field.apps.dramatiq_app import actor_on

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
actor_on(dramatiq.get_broker())
