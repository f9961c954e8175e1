"""What a queue promises, and the one table of what breaks which promise: code, documentation and tests read it here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeAlias

from pytest_redisq.check.contract_text import ContractText
from pytest_redisq.spelling import suggest


class Guarantee(StrEnum):
    """How often a message arrives; over what is not listed in `LAWS` a contract has no say."""

    AT_MOST_ONCE = "at-most-once"
    AT_LEAST_ONCE = "at-least-once"
    #: At least once, and a repeated delivery is known by the queue id that it repeats.
    EFFECTIVELY_ONCE = "effectively-once"
    #: Every reader gets every entry, in the order of the ids.
    FAN_OUT = "fan-out"


class AnomalyKind(StrEnum):
    """What can be wrong with a message, or noteworthy about it; `LAWS` says what each one means."""

    LOST = "lost"
    INDETERMINATE = "indeterminate"
    STUCK = "stuck"
    FORGOTTEN = "forgotten"
    TRIMMED = "trimmed"
    UNEXPECTED = "unexpected"
    CORRUPTED = "corrupted"
    WRONG_ID = "wrong-id"
    FALSE_FAIL = "false-fail"
    DUPLICATED = "duplicated"
    CLONED = "cloned"
    RECOVERED = "recovered"
    REORDERED = "reordered"
    PREMATURE_ACK = "premature-ack"
    FALSE_ACK = "false-ack"
    POLL_SKIP = "poll-skip"
    NONMONOTONIC_POLL = "nonmonotonic-poll"
    LATE_JOIN = "late-join"
    DEAF = "deaf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """When a message shows an anomaly, in a line of words and as a formula; and the guarantees that this breaks.

    `optional`: the guarantees that one such anomaly breaks, but that may pass where the law could not be judged.
    """

    meaning: str
    formula: str = ""
    breaks: frozenset[Guarantee]
    optional: frozenset[Guarantee] = frozenset()


_ALL = frozenset(Guarantee)
_NONE: frozenset[Guarantee] = frozenset()
_MUST_ARRIVE = _ALL - {Guarantee.AT_MOST_ONCE}
_SHARED = _ALL - {Guarantee.FAN_OUT}
_FAN_OUT = frozenset({Guarantee.FAN_OUT})

#: The time that `live` stands for, in seconds.
LIVE_SECONDS = 10.0

#: With multisets of messages: A attempted enqueues, E acknowledged (ok) ones, P possible ones (ok or unknown), D ok
#: dequeues (under fan-out: those of one reader), K ok acks. `reordered` counts only where order was promised,
#: `trimmed` only where no bound was declared, `deaf` only where liveness was promised.
LAWS: Mapping[AnomalyKind, Law] = {
    AnomalyKind.LOST: Law(
        meaning="acknowledged, never delivered, no longer in the queue; no operation of unknown outcome explains it",
        formula="E − D, less what is stuck, remaining, trimmed or indeterminate",
        breaks=_MUST_ARRIVE,
    ),
    AnomalyKind.INDETERMINATE: Law(
        meaning="as lost, but a dequeue of unknown outcome may have taken it",
        breaks=_MUST_ARRIVE,
    ),
    AnomalyKind.STUCK: Law(
        meaning="still in the queue at the end (pending, in a processing list), not acknowledged; nothing delivers it",
        breaks=_MUST_ARRIVE,
    ),
    AnomalyKind.FORGOTTEN: Law(
        meaning="delivered only to consumers that did not finish it (they ended, or their work or their ack failed), "
        "not delivered again, no longer in the queue",
        formula="in D and in E, not in K; only where there are acks, or work that failed",
        breaks=_SHARED - {Guarantee.AT_MOST_ONCE},
    ),
    AnomalyKind.TRIMMED: Law(
        meaning="acknowledged, and removed by the queue's own bound (MAXLEN) before it was delivered",
        breaks=_MUST_ARRIVE,
    ),
    AnomalyKind.UNEXPECTED: Law(meaning="delivered, but never sent", formula="in D, not in A", breaks=_ALL),
    AnomalyKind.CORRUPTED: Law(meaning="the body is not a complete message of this run", breaks=_ALL),
    # Only effectively-once lets consumers rely on ids. A loss that a wrong id leads to is found by the other laws.
    AnomalyKind.WRONG_ID: Law(
        meaning="delivered under the id that the queue had given to another message",
        breaks=_ALL,
        optional=_ALL - {Guarantee.EFFECTIVELY_ONCE},
    ),
    AnomalyKind.FALSE_FAIL: Law(
        meaning="delivered although its enqueue had failed for certain", formula="(D ∩ A) − P", breaks=_ALL
    ),
    AnomalyKind.DUPLICATED: Law(
        meaning="delivered more often than sent",
        formula="D − A, of what is in A",
        breaks=frozenset({Guarantee.AT_MOST_ONCE}),
    ),
    AnomalyKind.CLONED: Law(
        meaning="duplicated, and ids do not show it: delivered under more ids than it was sent times, or without ids",
        breaks=frozenset({Guarantee.EFFECTIVELY_ONCE, Guarantee.FAN_OUT}),
    ),
    AnomalyKind.RECOVERED: Law(
        meaning="delivered, and the outcome of its enqueue was unknown",
        formula="(D ∩ P) − E",
        breaks=_NONE,
    ),
    AnomalyKind.REORDERED: Law(
        meaning="delivered in a dequeue that began after a later message of its producer had come, or behind it in one",
        breaks=_ALL,
    ),
    AnomalyKind.PREMATURE_ACK: Law(
        meaning="acknowledged by a consumer, but never delivered", formula="in K, not in D", breaks=_SHARED
    ),
    AnomalyKind.FALSE_ACK: Law(
        meaning="acknowledged, but delivered again later under the same id, or still in the queue at the end",
        breaks=_SHARED,
    ),
    # What was passed over is also lost, indeterminate or trimmed: the other laws find it without ids.
    AnomalyKind.POLL_SKIP: Law(
        meaning="never delivered to a reader that got entries with lower and with higher ids",
        breaks=_FAN_OUT,
        optional=_FAN_OUT,
    ),
    AnomalyKind.NONMONOTONIC_POLL: Law(
        meaning="delivered to a reader that had already got the same or a higher id", breaks=_FAN_OUT
    ),
    AnomalyKind.LATE_JOIN: Law(
        meaning="never delivered to a reader that may not yet have been listening when it was enqueued", breaks=_NONE
    ),
    AnomalyKind.DEAF: Law(
        meaning="a consumer that outlived a fault, and then asked in vain for the time that `live` states, while "
        "messages lay there that no consumer took",
        breaks=_ALL,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A guarantee, with or without order, leave to throw the oldest away, and liveness.

    `fifo`: messages of one producer arrive in the order of their enqueues. `bounded`: entries that the queue says it
    trimmed may be missing. `live_seconds`: each consumer that outlived a fault takes messages again within this time;
    None if the contract does not say `live`.

    >>> Contract.parse("at-least-once, fifo, live=30s")
    Contract(guarantee=<Guarantee.AT_LEAST_ONCE: 'at-least-once'>, fifo=True, bounded=False, live_seconds=30.0)
    """

    guarantee: Guarantee
    fifo: bool = False
    bounded: bool = False
    live_seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The contract that `text` names: a guarantee, and after commas `fifo`, `bounded`, `live` or `live=30s`.

        ValueError, with the words that there are, for text that names no contract.
        """
        words = [word.strip().lower().replace("_", "-").replace(" ", "-") for word in text.split(",") if word.strip()]
        times = [_live_seconds(word, text) for word in words if _names_live(word)]
        guarantees = [word for word in words if word not in _MODIFIERS and not _names_live(word)]
        for word in guarantees:
            if word not in _GUARANTEES:
                raise ValueError(_mistyped(word, text))
        if len(guarantees) != 1:
            raise ValueError(
                f"a contract names one guarantee, and {text!r} names {len(guarantees)}: one of "
                f"{', '.join(_GUARANTEES)}, and after a comma {_OR_MODIFIERS}"
            )
        return cls(
            guarantee=Guarantee(guarantees[0]),
            fifo="fifo" in words,
            bounded="bounded" in words,
            live_seconds=times[-1] if times else None,
        )

    def forbids(self, kind: AnomalyKind) -> bool:
        """Whether one such anomaly breaks this contract."""
        if kind is AnomalyKind.REORDERED:
            return self.fifo
        if kind is AnomalyKind.DEAF:
            return self.live_seconds is not None
        if kind is AnomalyKind.TRIMMED and self.bounded:
            return False
        return self.guarantee in LAWS[kind].breaks

    def needs(self, kind: AnomalyKind) -> bool:
        """Whether this contract cannot be said to hold where that law was not judged."""
        return self.forbids(kind) and (kind is AnomalyKind.REORDERED or self.guarantee not in LAWS[kind].optional)

    def __str__(self) -> str:
        modifiers = [*(["fifo"] if self.fifo else []), *(["bounded"] if self.bounded else [])]
        if self.live_seconds is not None:
            modifiers.append("live" if self.live_seconds == LIVE_SECONDS else f"live={self.live_seconds:g}s")
        return ", ".join([self.guarantee, *modifiers])


#: What a function that judges takes: a text such as "at-least-once, fifo", or a `Contract`.
AnyContract: TypeAlias = ContractText | Contract


def contract_of(given: AnyContract) -> Contract:
    """`given` itself, or the contract that its text names.

    ValueError: no contract is called so. TypeError: it is neither text nor a `Contract`.
    """
    match given:
        case Contract():
            return given
        case str():
            return Contract.parse(given)
        case _:
            raise TypeError(f'{given!r} is no contract: give its name, as "at-least-once, fifo", or a Contract')


_GUARANTEES = tuple(map(str, Guarantee))
_MODIFIERS = ("fifo", "bounded", "live")
_OR_MODIFIERS = "fifo, bounded or live"
_LIVE = re.compile(r"live(?:-?=-?(\d+(?:\.\d+)?)-?s)?")


def _names_live(word: str) -> bool:
    return re.match(r"live(?:-?=|$)", word) is not None


def _live_seconds(word: str, text: str) -> float:
    """The time that `live` or `live=30s` states, in seconds."""
    found = _LIVE.fullmatch(word)
    seconds = float(found[1] or LIVE_SECONDS) if found else 0.0
    if not seconds:
        raise ValueError(
            f"live takes a time in seconds, and {word!r} in {text!r} has none: write live, which is "
            f"{LIVE_SECONDS:g} seconds, or live=30s"
        )
    return seconds


def _mistyped(word: str, text: str) -> str:
    if word == "exactly-once":
        return (
            "no queue delivers exactly once: where a reply can be lost, one side must either try again or give up. "
            'What can be promised is "effectively-once" (a repeated delivery carries the id of the first, so that a '
            'consumer can tell) or, where repeats are worse than losses, "at-most-once"'
        )
    whole = [f"{guarantee}, {modifier}" for guarantee in _GUARANTEES for modifier in _MODIFIERS]
    hint = suggest(word, [*_GUARANTEES, *_MODIFIERS, *whole])
    return (
        f"no such word in a contract: {word!r} in {text!r}.{hint} "
        f"A contract is one of {', '.join(_GUARANTEES)}, and after a comma {_OR_MODIFIERS}"
    )
