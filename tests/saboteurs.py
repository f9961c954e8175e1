"""Queues that do wrong, each in one way, around any queue that does right; and one that does right, in memory.

Each hands out or takes in every third message wrongly, counting from the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from pytest_redisq.history import History, Recorder
from pytest_redisq.model import UNREADABLE, Kind, Message, decode_body, encode_body
from pytest_redisq.queues.protocol import Delivery

RUN = "5ab0"
EVERY = 3


class Inner(Protocol):
    """What a saboteur sits in front of: a queue with acks that tells what is inside."""

    def put(self, body: bytes, /) -> str | None: ...

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None: ...

    def ack(self, delivery: Delivery, /) -> object: ...

    def pending(self) -> Sequence[bytes]: ...

    def recover(self) -> object: ...


class InMemory:
    """The correct twin: first in, first out, ids like a stream's, kept until acknowledged."""

    def __init__(self) -> None:
        self._entries: deque[Delivery] = deque()
        self._held: dict[str, bytes] = {}
        self._last = 0

    def put(self, body: bytes, /) -> str:
        self._last += 1
        self._entries.append(Delivery(body=body, id=f"{self._last}-0"))
        return f"{self._last}-0"

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:  # noqa: ARG002 - nobody else could put
        if not self._entries:
            return None
        delivery = self._entries.popleft()
        assert delivery.id is not None
        self._held[delivery.id] = delivery.body
        return delivery

    def ack(self, delivery: Delivery, /) -> bool:
        assert delivery.id is not None
        return self._held.pop(delivery.id, None) is not None

    def pending(self) -> list[bytes]:
        return list(self._held.values())

    def recover(self) -> int:
        """What is held comes again, first of all; whoever held it is dead."""
        again = [Delivery(body=body, id=name) for name, body in self._held.items()]
        self._entries.extendleft(reversed(again))
        self._held.clear()
        return len(again)


class Saboteur:
    """Does right, until a subclass does otherwise."""

    def __init__(self, inner: Inner) -> None:
        self.inner = inner
        self._count = 0

    def put(self, body: bytes, /) -> str | None:
        return self.inner.put(body)

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        return self.inner.get(timeout_seconds)

    def ack(self, delivery: Delivery, /) -> object:
        return self.inner.ack(delivery)

    def pending(self) -> Sequence[bytes]:
        return self.inner.pending()

    def recover(self) -> object:
        return self.inner.recover()

    def due(self) -> bool:
        """Whether this one is to be done wrongly."""
        self._count += 1
        return self._count % EVERY == 1


class Drops(Saboteur):
    """Takes a message out, for good, and hands out the next."""

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        delivery = self.inner.get(timeout_seconds)
        if delivery is None or not self.due():
            return delivery
        self.inner.ack(delivery)
        return self.inner.get(timeout_seconds)


class EnqueuesTwice(Saboteur):
    """As a client does that retries after a lost reply."""

    def put(self, body: bytes, /) -> str | None:
        if self.due():
            self.inner.put(body)
        return self.inner.put(body)


class DeliversTwice(Saboteur):
    """Hands out the same delivery again."""

    _again: Delivery | None = None

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        again, self._again = self._again, None
        if again is not None:
            return again
        delivery = self.inner.get(timeout_seconds)
        self._again = delivery if delivery is not None and self.due() else None
        return delivery


class Invents(Saboteur):
    """Hands out, once in a while, a message that nobody sent."""

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        if self._count < 2 * EVERY and self.due():
            return Delivery(body=encode_body(RUN, Message(0, 10**6 + self._count)))
        return self.inner.get(timeout_seconds)

    def ack(self, delivery: Delivery, /) -> object:
        message = decode_body(RUN, delivery.body)
        return self.inner.ack(delivery) if message is not None and message.sequence < 10**6 else True


class Garbles(Saboteur):
    """Changes a byte on the way in."""

    def put(self, body: bytes, /) -> str | None:
        return self.inner.put(body[:-1] + b"?" if self.due() else body)


class Reorders(Saboteur):
    """Takes three at a time and hands them out last first, so that of two producers' messages some change places."""

    def __init__(self, inner: Inner) -> None:
        super().__init__(inner)
        self._held: list[Delivery] = []

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        if not self._held:
            taken = (self.inner.get(timeout_seconds) for _ in range(EVERY))
            self._held = [delivery for delivery in taken if delivery is not None]
        return self._held.pop() if self._held else None


class Sticks(Saboteur):
    """Takes a message into the pending list and hands out the next."""

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        delivery = self.inner.get(timeout_seconds)
        return self.inner.get(timeout_seconds) if delivery is not None and self.due() else delivery


class LiesAboutAcks(Saboteur):
    """Says that it has forgotten a message, and has not."""

    def ack(self, delivery: Delivery, /) -> object:
        return True if self.due() else self.inner.ack(delivery)


class AcksBeforeTheWork(Saboteur):
    """Has acknowledged what it hands out, so that whoever dies takes it along."""

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        delivery = self.inner.get(timeout_seconds)
        if delivery is not None:
            self.inner.ack(delivery)
        return delivery

    def ack(self, delivery: Delivery, /) -> object:  # noqa: ARG002 - it has been done
        return True


class RedeliversAfterAck(Saboteur):
    """Hands a message out again after its ack."""

    _again: Delivery | None = None

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        again, self._again = self._again, None
        return again or self.inner.get(timeout_seconds)

    def ack(self, delivery: Delivery, /) -> object:
        self._again = delivery if self.due() else None
        return self.inner.ack(delivery)


class SwapsBodies(Saboteur):
    """Hands out two messages, each with the body of the other."""

    _held: Delivery | None = None

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        first = self.inner.get(timeout_seconds)
        second = self.inner.get(timeout_seconds) if first is not None and self.due() else None
        if first is None or second is None:
            return first
        self._held = replace(second, body=first.body)
        return replace(first, body=second.body)


class Around:
    """Makes a saboteur around each worker's own end of a correct queue."""

    def __init__(self, saboteur: type[Saboteur], queue: Any) -> None:
        self.saboteur = saboteur
        self.queue = queue

    def __call__(self, client: Any) -> Any:
        end = self.queue.bind(client)
        made: Any = self.saboteur(end)
        made.remaining, made.close = end.remaining, end.close
        return made


def drive(queue: Inner, messages: int = 30, producers: int = 2, dies_holding: int | None = None) -> History:
    """Put all, get and acknowledge all, one after the other in one thread; what is pending then is stuck.

    The consumer dies with the delivery of number `dies_holding` in hand, and leaves the rest to its heir.
    """
    recorder, name, received = Recorder(), "consumer", 0
    for number in range(messages):
        sent = Message(number % producers, number // producers)
        token = recorder.invoke(f"producer-{sent.producer}", Kind.ENQUEUE, (sent,))
        recorder.ok(token, None, _named(queue.put(encode_body(RUN, sent, b"payload"))))
    while True:
        token = recorder.invoke(name, Kind.DEQUEUE)
        delivery = queue.get(0)
        if delivery is None:
            recorder.ok(token, ())
            break
        got = decode_body(RUN, delivery.body) or UNREADABLE
        recorder.ok(token, (got,), _named(delivery.id), error="" if got is not UNREADABLE else repr(delivery.body))
        received += 1
        if received == dies_holding:
            name = "heir"
            queue.recover()
            continue
        token = recorder.invoke(name, Kind.ACK, (got,))
        queue.ack(delivery)
        recorder.ok(token)
    left = (decode_body(RUN, body) or UNREADABLE for body in queue.pending())
    recorder.quiescence(pending=tuple(left))
    return recorder.history()


def _named(identifier: str | None) -> tuple[str, ...]:
    return () if identifier is None else (identifier,)
