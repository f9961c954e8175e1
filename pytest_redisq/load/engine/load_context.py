"""What the clients of one process share: the assignment, the books, and the delivery buffers that fill them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pytest_redisq.check import Contract
from pytest_redisq.load.codec import TRAILER_BYTES, BodyCodec
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import PushClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.ledger import Ledger


class LoadContext:
    """Makes what clients need, and closes the books when they have ended."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.ledger = Ledger()
        self.codec = BodyCodec(assignment.salt, max(assignment.payload_bytes, TRAILER_BYTES))
        self._buffers: list[DeliveryBuffer] = []
        self._shared: dict[str, DeliveryBuffer] = {}
        self._alone: set[str] = set()
        self._push_clients: list[PushClient] = []
        #: Messages that others than pushers have tried to enqueue.
        self.put = 0

    def key(self, name: str) -> str:
        return self.assignment.key(name)

    def delivery_buffer(self, coverage: Coverage | None = None, *, reader: str = "") -> DeliveryBuffer:
        """The buffer of all consumers that share the messages (of one `reader`, where there are several).

        `coverage` says what it records; by default nothing but the messages (see `Coverage`).
        """
        if reader not in self._shared:
            self._shared[reader] = self._open(reader, coverage)
        return self._shared[reader]

    def own_delivery_buffer(self, coverage: Coverage | None = None, *, reader: str) -> DeliveryBuffer:
        """The buffer of one consumer who is owed every message."""
        self._alone.add(reader)
        return self._open(reader, coverage)

    def _open(self, reader: str, coverage: Coverage | None) -> DeliveryBuffer:
        self._buffers.append(DeliveryBuffer(self.ledger, self.codec, reader=reader, coverage=coverage))
        return self._buffers[-1]

    def push_client(self, index: int, command: tuple[str | int, ...], *, name: str) -> PushClient:
        number = self.assignment.producer_number(index)
        push_client = PushClient(self.ledger, self.codec, number, command, name=name, pipeline=self.assignment.pipeline)
        self._push_clients.append(push_client)
        return push_client

    def sent(self) -> int:
        return self.put + sum(push_client.sent for push_client in self._push_clients)

    def progress(self) -> dict[str, Any]:
        """How many messages have been sent, how many of them in vain, how many deliveries there were, and how many
        different messages consumers got who share them; and how many each reader who is owed all has passed over.
        """
        readers = self.ledger.readers
        received = sum(buffer.received for buffer in self._buffers)
        booked = sum(len(readers[name].once) for name in readers.keys() - self._alone)
        # Looked at after the books, so that what goes from there into the books meanwhile is not counted twice.
        waiting = [(buffer.reader, len(buffer.keys)) for buffer in self._buffers]
        return {
            "sent": self.sent(),
            "refused": len(self.ledger.failed) + len(self.ledger.unknown),
            "received": received + sum(number for _, number in waiting),
            "taken": booked + sum(number for reader, number in waiting if reader not in self._alone),
            "gaps": [readers[name].gaps() for name in self._alone],
        }

    def flush(self) -> None:
        """Put what has come into the books. In the thread where the clients work, or when they have ended."""
        for buffer in self._buffers:
            buffer.flush()

    def settle(self) -> Ledger:
        """The books, when all clients have ended."""
        for buffer in self._buffers:
            buffer.settle()
        for push_client in self._push_clients:
            push_client.settle()
        return self.ledger


@cache
def in_order(contract: str) -> bool:
    """Whether the order of arrival is judged, so that it has to be kept."""
    return Contract.parse(contract).fifo
