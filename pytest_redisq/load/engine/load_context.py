"""The objects that the clients of one process share: the assignment, the ledger, and the delivery buffers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from pytest_redisq.check import Contract
from pytest_redisq.load.codec import TRAILER_BYTES, BodyCodec, message_of
from pytest_redisq.load.consumer_log import ConsumerLog
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import LoadClient, PushClient
from pytest_redisq.load.engine.consumer_samples import ConsumerSamples, CountingClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.queue_errors import QueueErrors
from pytest_redisq.model import Message
from pytest_redisq.resp import Trait


class LoadContext:
    """Creates the delivery buffers and producers of one process, and completes its ledger at the end."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.ledger: Ledger = Ledger()
        self.codec: BodyCodec = BodyCodec(assignment.salt, max(assignment.payload_bytes, TRAILER_BYTES))
        self._buffers: list[DeliveryBuffer] = []
        self._shared: dict[str, DeliveryBuffer] = {}
        self._alone: set[str] = set()
        self._push_clients: list[PushClient] = []
        #: Messages that clients other than PushClient have tried to enqueue.
        self.put = 0
        self._samples = ConsumerSamples(self.ledger.logs)
        #: The consumers of own queues that are at work on a message.
        self.at_work: set[int] = set()
        #: What the commands of the user's own queue have done.
        self.seen: Trait = Trait.NONE
        #: What the user's own queue raised, apart from errors of Redis and the network.
        self.errors: QueueErrors = QueueErrors()

    def find(self, value: bytes) -> Iterator[Message]:
        """The message that a value of the server is."""
        if len(value) == self.codec.payload_bytes and (decoded := self.codec.read(value)) is not None:
            yield message_of(decoded.key)

    def key(self, name: str) -> str:
        return self.assignment.key(name)

    def delivery_buffer(self, coverage: Coverage | None = None, *, reader: str = "") -> DeliveryBuffer:
        """The buffer of all consumers that share the messages of one reader.

        * `coverage`: what it records; default: only the messages (see `Coverage`).
        * `reader`: the reader's name, if there are several; default: "".
        """
        if reader not in self._shared:
            self._shared[reader] = self._open(reader, coverage)
        return self._shared[reader]

    def own_delivery_buffer(self, coverage: Coverage | None = None, *, reader: str) -> DeliveryBuffer:
        """The buffer of one consumer that must receive every message. Parameters as for `delivery_buffer`."""
        self._alone.add(reader)
        return self._open(reader, coverage)

    def watch(self, client: LoadClient, contract: str) -> None:
        """Keep a log of this consumer, if `contract` promises liveness and it counts what it receives."""
        if not client.producing and isinstance(client, CountingClient) and _is_live(contract):
            self._samples.watch(client, self.open_log())

    def open_log(self) -> ConsumerLog:
        """The log of one more consumer."""
        logs = self.ledger.logs
        return logs.open(f"consumer-{self.assignment.first_consumer + len(logs.consumers)}")

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
        """Counts of messages so far, by name.

        * `sent`: enqueues; `refused`: those that failed or whose outcome is unknown.
        * `received`: deliveries.
        * `taken`: different messages that the consumers of shared queues received.
        * `distinct`: different messages in the ledger, of all readers.
        * `gaps`: for each reader of all messages, how many it has skipped.
        """
        readers = self.ledger.readers
        received = sum(buffer.received for buffer in self._buffers)
        booked = sum(len(readers[name].once) for name in readers.keys() - self._alone)
        # Read after the ledger, so that messages that move into the ledger meanwhile are not counted twice.
        waiting = [(buffer.reader, len(buffer.keys)) for buffer in self._buffers]
        return {
            "sent": self.sent(),
            "refused": len(self.ledger.failed) + len(self.ledger.unknown),
            "received": received + sum(number for _, number in waiting),
            "taken": booked + sum(number for reader, number in waiting if reader not in self._alone),
            "distinct": self.distinct(),
            "gaps": [readers[name].gaps() for name in self._alone],
        }

    def distinct(self) -> int:
        """How many different messages are in the ledger as received, each reader by itself."""
        return sum(len(received.once) for received in self.ledger.readers.values())

    def flush(self) -> None:
        """Add the received messages to the ledger. Call it in the clients' thread, or when the clients have ended."""
        for buffer in self._buffers:
            buffer.flush()
        self._samples.sample(put=self.sent(), taken=sum(buffer.received for buffer in self._buffers))

    def settle(self) -> Ledger:
        """Returns the complete ledger. Call it when all clients have ended."""
        for buffer in self._buffers:
            buffer.settle()
        for push_client in self._push_clients:
            push_client.settle()
        return self.ledger


@cache
def _is_live(contract: str) -> bool:
    return Contract.parse(contract).live_seconds is not None


@cache
def in_order(contract: str) -> bool:
    """Whether `contract` judges the order of arrival, so that it must be recorded."""
    return Contract.parse(contract).fifo


@cache
def is_bounded(contract: str) -> bool:
    """Whether `contract` excuses what a bound removed, so that it is recorded what consumers were handed."""
    return Contract.parse(contract).bounded
