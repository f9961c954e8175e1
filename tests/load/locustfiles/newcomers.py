"""A queue of tests/newcomers.py, which takes its consumers' first messages and never gives an answer to some of them.

QUEUE: the class. A consumer of a killed worker leaves its message behind; here the consumer drops it without an ack.
The last message that is dropped comes long before the end of the run: the queue of the consumer that takes what comes
back is of this class, too, and would lease a message anew.
"""

import itertools
import os

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue
from tests import newcomers

base = getattr(newcomers, os.environ["QUEUE"])
gets = itertools.count(1)
#: Of all messages that are taken, those that are dropped.
DROPPED = (50, 100, 150)


class Forgetful(base):  # type: ignore[misc, valid-type]
    """Some messages are taken, and then forgotten by their worker."""

    def get(self, timeout_seconds: float) -> bytes | None:
        body = super().get(timeout_seconds)
        if body is not None and next(gets) in DROPPED:
            return super().get(timeout_seconds)
        return body


class ForgetfulAsync(base):  # type: ignore[misc, valid-type]
    async def get(self, timeout_seconds: float) -> newcomers.Entry | None:
        entry = await super().get(timeout_seconds)
        if entry is not None and next(gets) in DROPPED:
            return await super().get(timeout_seconds)
        return entry


queue = ForgetfulAsync if issubclass(base, newcomers.AsyncGroup) else Forgetful
EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(queue, producers=2, consumers=2))
