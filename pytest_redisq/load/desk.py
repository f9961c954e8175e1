"""What the actors of one process share: the plan, the books, and the inboxes that fill them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pytest_redisq.check import Contract
from pytest_redisq.load.actors import Inbox, Pusher
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.message import TRAILER_BYTES, Codec
from pytest_redisq.load.plan import Plan


class Desk:
    """Makes what actors need, and closes the books when they have ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger = Ledger()
        self.codec = Codec(plan.salt, max(plan.payload_bytes, TRAILER_BYTES))
        self._inboxes: list[Inbox] = []
        self._shared: dict[str, Inbox] = {}
        self._alone: set[str] = set()
        self._pushers: list[Pusher] = []
        #: Messages that others than pushers have tried to enqueue.
        self.put = 0

    def key(self, name: str) -> str:
        return self.plan.key(name)

    def inbox(self, coverage: Coverage | None = None, *, reader: str = "") -> Inbox:
        """The inbox of all consumers that share the messages (of one `reader`, where there are several).

        `coverage` says what it records; by default nothing but the messages (see `Coverage`).
        """
        if reader not in self._shared:
            self._shared[reader] = self._open(reader, coverage)
        return self._shared[reader]

    def own_inbox(self, coverage: Coverage | None = None, *, reader: str) -> Inbox:
        """The inbox of one consumer who is owed every message."""
        self._alone.add(reader)
        return self._open(reader, coverage)

    def _open(self, reader: str, coverage: Coverage | None) -> Inbox:
        self._inboxes.append(Inbox(self.ledger, self.codec, reader=reader, coverage=coverage))
        return self._inboxes[-1]

    def pusher(self, index: int, command: tuple[str | int, ...], *, name: str) -> Pusher:
        number = self.plan.producer_number(index)
        pusher = Pusher(self.ledger, self.codec, number, command, name=name, pipeline=self.plan.pipeline)
        self._pushers.append(pusher)
        return pusher

    def sent(self) -> int:
        return self.put + sum(pusher.sent for pusher in self._pushers)

    def progress(self) -> dict[str, Any]:
        """How many messages have been sent, how many of them in vain, how many deliveries there were, and how many
        different messages consumers got who share them; and how many each reader who is owed all has passed over.
        """
        readers = self.ledger.readers
        received = sum(inbox.received for inbox in self._inboxes)
        booked = sum(len(readers[name].once) for name in readers.keys() - self._alone)
        # Looked at after the books, so that what goes from there into the books meanwhile is not counted twice.
        waiting = [(inbox.reader, len(inbox.keys)) for inbox in self._inboxes]
        return {
            "sent": self.sent(),
            "refused": len(self.ledger.failed) + len(self.ledger.unknown),
            "received": received + sum(number for _, number in waiting),
            "taken": booked + sum(number for reader, number in waiting if reader not in self._alone),
            "holes": [readers[name].holes() for name in self._alone],
        }

    def flush(self) -> None:
        """Put what has come into the books. In the thread where the actors work, or when they have ended."""
        for inbox in self._inboxes:
            inbox.flush()

    def settle(self) -> Ledger:
        """The books, when all actors have ended."""
        for inbox in self._inboxes:
            inbox.settle()
        for pusher in self._pushers:
            pusher.settle()
        return self.ledger


@cache
def in_order(contract: str) -> bool:
    """Whether the order of arrival is judged, so that it has to be kept."""
    return Contract.parse(contract).fifo
