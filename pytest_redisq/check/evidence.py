"""What the laws need to know of a run, whatever has recorded it: the interface between the judge and its backings.

Two backings implement it: the columns of a history (`column_evidence`, of run and explore) and the bitmaps of a load
run (`pytest_redisq.load.bitmap_evidence`). A backing counts and compares; only the judge says what that means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from pytest_redisq.history import FaultRecord, FoundPlace
from pytest_redisq.model import Message, Op


class Knowledge(Enum):
    """Whether a backing can say something, such as under which ids messages were delivered."""

    #: Recorded: the law is judged.
    RECORDED = "recorded"
    #: There is no such thing, as a list has no ids: the law has no occasion, and nothing is missing.
    ABSENT = "absent"
    #: There may be such a thing, and the backing kept no record of it: what depends on it is not judged.
    UNRECORDED = "unrecorded"


class Messages(Protocol):
    """One or more messages that are alike in all that a law asks for."""

    def __len__(self) -> int: ...

    def runs(self) -> Iterator[tuple[Message, int]]:
        """The messages as runs of consecutive sequences of one producer: the first of each, and the run's length."""

    def split(self, number: int) -> tuple[Messages, Messages]:
        """The first `number` messages, and the rest."""


@dataclass(frozen=True, slots=True)
class OneMessage:
    """A single message, as `Messages`."""

    message: Message

    def __len__(self) -> int:
        return 1

    def runs(self) -> Iterator[tuple[Message, int]]:
        yield self.message, 1

    def split(self, number: int) -> tuple[Messages, Messages]:
        return (self, NO_MESSAGES) if number else (NO_MESSAGES, self)


class _NoMessages:
    def __len__(self) -> int:
        return 0

    def runs(self) -> Iterator[tuple[Message, int]]:
        return iter(())

    def split(self, number: int) -> tuple[Messages, Messages]:  # noqa: ARG002
        return self, self


NO_MESSAGES: Messages = _NoMessages()


class Counts(NamedTuple):
    """How often a message occurs in each multiset that the laws compare (see `contract.LAWS`)."""

    attempted: int = 0
    acknowledged: int = 0
    possible: int = 0
    delivered: int = 0
    acked: int = 0
    pending: int = 0
    remaining: int = 0
    trimmed: int = 0


class Repeat(NamedTuple):
    """Messages that were delivered more than once.

    `ids`: the different ids of their deliveries. `nameless`: some delivery had no id. Both say nothing where the
    share's `ids` are unrecorded. `after_ack`: whether a delivery was invoked after an ok ack had ended; None: unknown.
    """

    messages: Messages
    attempted: int
    delivered: int
    ids: tuple[str, ...]
    nameless: bool
    after_ack: bool | None


class Missing(NamedTuple):
    """Acknowledged messages that a reader of a fan-out never got.

    `skipped`: it got entries with lower and with higher ids; None: unknown. `owed`: whether it listened when they were
    enqueued; None: unknown.
    """

    messages: Messages
    trimmed: bool
    skipped: bool | None
    owed: bool | None
    ids: tuple[str, ...] = ()


class Example(NamedTuple):
    """A message that shows an anomaly, with what proves it."""

    message: Message
    words: str
    times: int = 1
    ids: tuple[str, ...] = ()
    op: Op | None = None


class ErrorCount(NamedTuple):
    """An error that operations ended with.

    `operation`: its kind, such as "dequeue"; under load, the name of the request. `text`: the error, and where in the
    user's code it was raised first. `times`: number of operations.
    """

    operation: str
    text: str
    times: int


class Recovery(NamedTuple):
    """How a consumer that outlived a fault came back after it. Only time during which it asked for messages counts.

    `took`: whether it took a message. `waited_seconds`: how long it asked until then, from when a message was there.
    `ignored_seconds`: the longest time that it asked while messages lay there that no consumer took. `superseded`:
    another fault struck afterwards, and the record of this one ends there. `did`: what it did meanwhile, in words.
    `last`: the last op of that, where ops were recorded.
    """

    consumer: str
    fault: str
    took: bool
    superseded: bool
    waited_seconds: float
    ignored_seconds: float
    did: str
    last: Op | None = None


class Share(Protocol):
    """The consumers among which messages are shared: all of a queue; under fan-out, one reader."""

    @property
    def reader(self) -> str:
        """The reader's name; empty where there is one share only."""

    @property
    def ids(self) -> Knowledge:
        """What is known of the ids under which messages were delivered."""

    @property
    def acks(self) -> Knowledge:
        """What is known of the acknowledgements by consumers."""

    @property
    def order(self) -> Knowledge:
        """What is known of the order in which messages came; never absent."""

    @property
    def polls(self) -> Knowledge:
        """What is known of the order of ids in which a reader got entries; absent if it does not poll by id."""

    @property
    def excuse(self) -> float:
        """How many messages dequeues of unknown outcome may have taken, at most."""

    @property
    def unknown_dequeues(self) -> str:
        """The dequeues of unknown outcome, in words; empty if there are none."""

    @property
    def repeated(self) -> int:
        """How many deliveries were not the first of a message."""

    def uneven(self) -> Iterator[tuple[Counts, Messages]]:
        """Every message that was not enqueued, acknowledged and delivered equally often, or is still inside; once."""

    def repeats(self) -> Iterator[Repeat]:
        """Every message that was delivered more than once."""

    def never_delivered(self) -> Iterator[tuple[int, Messages]]:
        """The messages that consumers acknowledged and never got, each with the number of acks."""

    def in_flight(self) -> Iterator[tuple[int, Messages]]:
        """The messages that were in flight at the end, each with how often it was acknowledged by the queue.

        Those are the messages all of whose deliveries were in the last dequeue of a consumer that never tried to
        acknowledge them, and that nothing else accounts for: no ack, not inside, not trimmed.
        """

    def missing(self) -> Iterator[Missing]:
        """Every acknowledged message that was never delivered; for fan-out."""

    def reordered(self) -> Iterator[Messages]:
        """The messages each delivery of which was invoked after that of a later message of its producer had ended."""

    def backwards(self) -> Iterator[Example]:
        """The deliveries whose id is not above all that the reader had got before."""


class Evidence(Protocol):
    """The whole record of a run."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the verdict should know about the recording."""

    @property
    def faults(self) -> Sequence[FaultRecord]:
        """What became of the faults of the run, in the order of time."""

    def errors(self) -> Sequence[ErrorCount]:
        """The errors that operations ended with, the most frequent first."""

    @property
    def enqueue_ids(self) -> Knowledge:
        """What is known of the ids that the queue gave to producers."""

    def shares(self, *, fan_out: bool) -> Sequence[Share]:
        """The queue's consumers as one share; for a fan-out a share for each reader."""

    def unsettled(self) -> Sequence[str]:
        """Why what is missing might yet arrive; empty if the run ended in quiescence."""

    @property
    def trim_doubt(self) -> str:
        """Why it cannot be told whether messages that count as trimmed were removed by a bound; empty if it can."""

    def remaining(self) -> int:
        """How many messages could still be had from the queue."""

    @property
    def searched(self) -> bool:
        """Whether the server's keys were searched for the missing messages."""

    @property
    def places(self) -> Sequence[FoundPlace]:
        """Where that search found messages; empty if there was none."""

    def totals(self) -> Mapping[str, int]:
        """The fields of `verdict.Totals` by name, as far as they do not depend on the contract."""

    def unreadable(self) -> Iterator[Example]:
        """The deliveries of bodies that no producer sent whole."""

    def wrong_ids(self) -> Iterator[Example]:
        """The deliveries under an id that the queue had given to another message."""

    def recoveries(self, *, fan_out: bool) -> Iterator[Recovery] | None:
        """How each consumer that outlived a fault came back, for each fault; None if that is not recorded."""

    def failed_work(self, messages: set[Message]) -> Mapping[Message, int]:
        """How often the work on each of `messages` failed, where ops were recorded."""

    def last_seen(self, messages: set[Message]) -> Mapping[Message, Op]:
        """For each of `messages` the op invoked last of those that mention it, where ops were recorded."""
