"""Collects the bodies that consumers receive, and adds them to the ledger by the thousand."""

from __future__ import annotations

import zlib
from array import array

from pytest_redisq.check import Knowledge
from pytest_redisq.load.codec import RESIDUE, STAMP, TRAILER_BYTES, BodyCodec
from pytest_redisq.load.deliveries import AckBatch, Coverage, Dequeue
from pytest_redisq.load.ledger import Ledger


class DeliveryBuffer:
    """Collects the bodies that one reader received (see Ledger), and adds them to the ledger by the thousand.

    `coverage`: what is recorded. With `tracks`, the order or the acks are recorded. Then each consumer calls `ask`
    before a dequeue and `took` after it, and `ack` or `ack_failed` after an acknowledgement.
    """

    __slots__ = (
        "_acks", "_clock", "_dequeues", "_in_hand", "_ledger", "_received", "_salt", "keys", "reader", "received",
        "tracks",
    )  # fmt: skip

    def __init__(self, ledger: Ledger, codec: BodyCodec, *, reader: str = "", coverage: Coverage | None = None) -> None:
        self._ledger = ledger
        self._salt = codec.salt
        self._received = ledger.reader(reader, coverage)
        known = self._received.coverage
        self.tracks: bool = Knowledge.RECORDED in (known.order, known.acks)
        self.reader: str = reader
        self.keys: list[bytes] = []
        self.received: int = 0
        self._clock = 0  # counts the ends of dequeues and acks
        self._dequeues: list[Dequeue] = []
        self._acks: list[AckBatch] = []
        self._in_hand: dict[object, list[bytes]] = {}  # by consumer: the keys of its last dequeue

    def take(self, body: bytes, now_ns: int) -> int:
        """Add a body. Returns nanoseconds since it was sent; 0 if the body is corrupted."""
        if zlib.crc32(body, self._salt) == RESIDUE and len(body) >= TRAILER_BYTES:
            self.keys.append(body[-12:-4])
            under_way: int = now_ns - STAMP.unpack_from(body, len(body) - TRAILER_BYTES)[0]
            return max(under_way, 1)
        self._ledger.corrupt(body)
        return 0

    def whole(self, body: bytes) -> bool:
        """Whether `body` is an unchanged body of this run."""
        return zlib.crc32(body, self._salt) == RESIDUE and len(body) >= TRAILER_BYTES

    def ask(self, consumer: object) -> int:
        """Note that `consumer` is about to invoke a dequeue. Returns the argument `asked` for `took`."""
        self._in_hand.pop(consumer, None)
        return self._clock

    def took(self, consumer: object, asked: int, start: int) -> list[bytes]:
        """Note the end of a dequeue. Its messages are in `keys` from `start` on; returns these."""
        self._clock += 1
        self._dequeues.append(Dequeue(start, asked, self._clock))
        brought = self.keys[start:]
        self._in_hand[consumer] = brought
        return brought

    def ack(self, keys: list[bytes]) -> None:
        """Note that the messages were acknowledged."""
        self._clock += 1
        self._acks.append(AckBatch(self._clock, keys))

    def fail(self, consumer: object, keys: list[bytes], *, ack: bool) -> None:
        """The work of `consumer` on the messages failed for certain, or its ack did."""
        failed = array("Q", b"".join(keys))
        self._received.failed.update(failed)
        self._received.acks_failed |= ack
        self._received.work_failed.update(() if ack else failed)
        if consumer in self._in_hand:
            self._in_hand[consumer] = [key for key in self._in_hand[consumer] if key not in keys]

    def ack_failed(self, keys: list[bytes]) -> None:
        """Note that the outcome of an ack of the messages is unknown."""
        self._received.ack_tried.update(array("Q", b"".join(keys)))

    def lose(self, most: int) -> None:
        """Note a dequeue of unknown outcome, which may have taken `most` messages."""
        self._received.unknown_dequeues += 1
        self._received.unknown_takes += most

    def go_back(self, keys: list[bytes]) -> None:
        """Note entries under ids that are not above all earlier ones."""
        self._received.backwards.update(array("Q", b"".join(keys)))

    def name_ids(self) -> None:
        """Note that deliveries have ids. Neither the ids nor their order is recorded."""
        unrecorded = Knowledge.UNRECORDED
        self._received.coverage = self._received.coverage._replace(ids=unrecorded, polls=unrecorded)

    def flush(self) -> None:
        """Add the collected messages to the ledger."""
        keys, self.keys = self.keys, []
        dequeues, self._dequeues = self._dequeues, []
        acks, self._acks = self._acks, []
        self.received += len(keys)
        self._ledger.receive(keys, reader=self.reader, dequeues=dequeues, acks=acks)

    def settle(self) -> None:
        """Note that all consumers have ended: the messages of their last dequeues were in flight at the end."""
        self.flush()
        for keys in self._in_hand.values():
            self._received.in_flight.update(array("Q", b"".join(keys)))
        self._in_hand.clear()
