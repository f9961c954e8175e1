"""The consumers on a stage, and the record of their deliveries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import redis

from pytest_redisq.history import Recorder
from pytest_redisq.model import Kind, Message, decode_body
from pytest_redisq.queues import Delivery
from pytest_redisq.queues.steps import QueueLogic, Steps

RUN = "b0b0"


class Ledger:
    """`acks` counts, by body, how often a queue's `ack` returned True."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.acks: Counter[bytes] = Counter()

    def work(self, name: str, end: QueueLogic, over: Callable[[], bool]) -> Steps[None]:
        """Get and acknowledge until it is `over` and nothing comes; after a cut, go on."""
        while True:
            last = over()
            token = self.recorder.invoke(name, Kind.DEQUEUE)
            try:
                delivery = yield from end.get(0)
            except redis.ConnectionError as cut:
                self.recorder.info(token, str(cut))
                continue
            if delivery is None:
                self.recorder.ok(token, ())
                if last:
                    return
                continue
            message = decode_body(RUN, delivery.body)
            assert message is not None
            self.recorder.ok(token, (message,), _ids(delivery))
            yield from self._acknowledge(name, end, message, delivery)

    def _acknowledge(self, name: str, end: QueueLogic, message: Message, delivery: Delivery) -> Steps[None]:
        while True:
            token = self.recorder.invoke(name, Kind.ACK, (message,))
            try:
                acked = yield from end.ack(delivery)
            except redis.ConnectionError as cut:
                self.recorder.info(token, str(cut))
                continue
            if acked:
                self.acks[delivery.body] += 1
                self.recorder.ok(token, None, _ids(delivery))
            else:
                self.recorder.fail(token, "no longer ours")
            return


def _ids(delivery: Delivery) -> tuple[str, ...]:
    return () if delivery.id is None else (delivery.id,)
