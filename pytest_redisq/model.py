"""What can happen to a message, and how it is named: the vocabulary that every other module speaks.

An **op** is *invoked* and ends in one of three outcomes, for where a network is involved there are never two:
`ok` (it happened), `fail` (it certainly did not), `info` (unknown: a timeout, a dropped connection, a killed process).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What an op tries to do."""

    ENQUEUE = "enqueue"
    DEQUEUE = "dequeue"
    ACK = "ack"
    DRAIN = "drain"
    #: What a consumer does with a message. Only work that failed is recorded.
    WORK = "work"


class Outcome(StrEnum):
    """How an op ended."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class Message(NamedTuple):
    """The identity of a message: the `sequence`-th (from 0) that `producer` (from 0) attempted to enqueue."""

    producer: int
    sequence: int

    def __str__(self) -> str:
        if self.producer < 0:
            return "unreadable" if self.producer == -1 else ""
        return f"{self.producer}/{self.sequence}"


#: Stands in a dequeue for a body that is no whole message of this run: invented, garbled, or somebody else's.
UNREADABLE = Message(-1, -1)
#: Stands in an anomaly that concerns a consumer and no message.
NO_MESSAGE = Message(-2, -2)

#: The error of an ack that a queue refused.
ACK_REFUSED = "the message was no longer its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation, from its invocation to its end, upon zero or more messages.

    `messages` is empty for a dequeue that came back with nothing, and for one whose outcome is unknown.
    `ids` are the queue's own names for those messages (stream IDs, say), one each, or empty where it has none.
    `invoked_ns` and `ended_ns` are readings of one monotonic clock, in nanoseconds, shared by all actors of a history;
    `ended_ns` is None for an op that never ended (its process was killed): its outcome is `info`.
    """

    actor: str
    kind: Kind
    outcome: Outcome
    messages: tuple[Message, ...] = ()
    ids: tuple[str, ...] = ()
    invoked_ns: int
    ended_ns: int | None
    queue: str = ""
    error: str = ""


_MAGIC = b"rq"


def body_marker(run: str) -> bytes:
    """How every body of `run` begins, so that it can be found inside of something else.

    >>> body_marker("7f3a")
    b'rq 7f3a '
    """
    return b"%s %s " % (_MAGIC, run.encode("ascii"))


def encode_body(run: str, message: Message, payload: bytes = b"") -> bytes:
    """The body that carries `message` through a queue: readable, self-identifying and self-checking.

    >>> encode_body("7f3a", Message(3, 17), b"hello")
    b'rq 7f3a 3 17 5482a01d hello'
    """
    head = b"%s%d %d" % (body_marker(run), message.producer, message.sequence)
    return b"%s %08x %s" % (head, zlib.crc32(payload, zlib.crc32(head)), payload)


def decode_body(run: str, body: bytes) -> Message | None:
    """The message that `body` carries; None where it is not a body of `run`, or not the body that was sent.

    >>> decode_body("7f3a", b"rq 7f3a 3 17 5482a01d hello")
    Message(producer=3, sequence=17)
    >>> decode_body("7f3a", b"rq 7f3a 3 18 5482a01d hello") is None
    True
    """
    parts = body.split(b" ", 5)
    if len(parts) != 6 or parts[0] != _MAGIC or parts[1] != run.encode("ascii"):
        return None
    try:
        message = Message(int(parts[2]), int(parts[3]))
    except ValueError:
        return None
    return message if encode_body(run, message, parts[5]) == body else None
