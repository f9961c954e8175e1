"""What the actors of one process share: the plan, the books, and the inboxes that fill them."""

from __future__ import annotations

from functools import cache

from pytest_redisq.check import Contract
from pytest_redisq.load.actors import Inbox, Pusher
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
        self._pushers: list[Pusher] = []
        #: Messages enqueued by other means than pushers.
        self.put = 0

    def key(self, name: str) -> str:
        return self.plan.key(name)

    def inbox(self, *, reader: str = "", ordered: bool = False) -> Inbox:
        """The inbox of all consumers that share the messages (of one `reader`, where there are several); where their
        order is judged, each has its own.
        """
        if ordered:
            return self.own_inbox(reader=reader, ordered=True)
        if reader not in self._shared:
            self._shared[reader] = self.own_inbox(reader=reader)
        return self._shared[reader]

    def own_inbox(self, *, reader: str = "", ordered: bool = False) -> Inbox:
        """An inbox for one consumer: one that is owed every message (`reader`), or whose order is judged."""
        self._inboxes.append(Inbox(self.ledger, self.codec, reader=reader, ordered=ordered))
        return self._inboxes[-1]

    def pusher(self, index: int, command: tuple[str | int, ...], *, name: str) -> Pusher:
        number = self.plan.producer_number(index)
        pusher = Pusher(self.ledger, self.codec, number, command, name=name, pipeline=self.plan.pipeline)
        self._pushers.append(pusher)
        return pusher

    def sent(self) -> int:
        return self.put + sum(pusher.sent for pusher in self._pushers)

    def received(self) -> int:
        return sum(inbox.received for inbox in self._inboxes)

    def flush(self) -> None:
        """Put what has come into the books. In the thread where the actors work, or when they have ended."""
        for inbox in self._inboxes:
            inbox.flush()

    def settle(self) -> Ledger:
        """The books, when all actors have ended."""
        self.flush()
        for pusher in self._pushers:
            pusher.settle()
        return self.ledger


@cache
def in_order(contract: str) -> bool:
    """Whether the order of arrival is judged, so that it has to be kept."""
    return Contract.parse(contract).fifo
