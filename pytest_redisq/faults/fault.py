"""A fault as an object and as text: `NAME[:TARGET][@WHEN][+DURATION]`, and the one parser of that spelling."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias, cast, get_args

from pytest_redisq.spelling import suggest

FaultName = Literal[
    "lost-request",
    "lost-reply",
    "cut-reply",
    "drop",
    "kill",
    "kill-before",
    "kill-after",
    "kill-holding",
    "term",
    "cancel",
    "pause",
    "delay",
    "timeout",
    "oom",
    "readonly",
    "loading",
    "noscript",
    "moved",
    "evict",
    "group-gone",
    "restart",
    "restart-empty",
    "failover",
    "script-flush",
]
NAMES: tuple[FaultName, ...] = get_args(FaultName)

_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_FORM = re.compile(
    rf"(?P<name>[^:@+]+)(?::(?P<target>[^:@+]+))?(?:@(?:(?P<messages>\d+)|(?P<seconds>{_NUMBER})s))?"
    rf"(?:\+(?:(?P<duration>{_NUMBER})s|(?P<forever>forever)))?"
)
_SPELLING = (
    "write NAME[:TARGET][@WHEN][+DURATION], as in 'kill:consumer@500' (after 500 messages) "
    "or 'pause:server@2s+3s' (after 2 seconds, for 3)"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong on purpose. `str(fault)` is its spelling; `Fault.parse` reads it.

    * `name`: what happens (see `catalogue.CATALOGUE`).
    * `target`: what it strikes: "server", "connections", "consumer", "consumers", "process", or in `explore` the name
      or the letter of an actor; default: any actor.
    * `after_messages`: when, by the number of messages that all consumers have received (for `run`).
    * `at_seconds`: when, in seconds since the run began (for `load`).
    * `for_seconds`: how long it lasts, in seconds; `math.inf` for a fault that is not healed; default 0.

    Raises ValueError for an unknown name, a target that cannot be spelled, or a number out of range.

    >>> str(Fault("pause", target="server", at_seconds=2, for_seconds=3))
    'pause:server@2s+3s'
    """

    name: FaultName
    _: KW_ONLY
    target: str = ""
    after_messages: int | None = None
    at_seconds: float | None = None
    for_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(
                f"no such fault: {self.name!r}.{suggest(self.name, NAMES)} The names are {', '.join(NAMES)}."
            )
        if self.target != self.target.strip() or re.search(r"[,:@+]", self.target):
            raise ValueError(
                f"target={self.target!r} cannot be spelled in a fault: it contains one of , : @ + or begins or ends "
                "with a blank. Give an actor by its letter, such as A for the first."
            )
        if self.after_messages is not None and self.at_seconds is not None:
            raise ValueError(f"{self.name} takes after_messages or at_seconds, not both")
        if self.after_messages is not None and self.after_messages < 0:
            raise ValueError(f"after_messages={self.after_messages!r} must be at least 0")
        if self.at_seconds is not None and not 0 <= self.at_seconds < math.inf:
            raise ValueError(f"at_seconds={self.at_seconds!r} must be at least 0")
        if not self.for_seconds >= 0:
            raise ValueError(f"for_seconds={self.for_seconds!r} must be at least 0")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that `text` spells. Raises ValueError, with the syntax or a similar name.

        >>> Fault.parse("kill:consumer@500")
        Fault(name='kill', target='consumer', after_messages=500, at_seconds=None, for_seconds=0.0)
        >>> Fault.parse("lost-replies")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: no such fault: 'lost-replies'. Did you mean 'lost-reply'? The names are lost-request, ...
        """
        form = _FORM.fullmatch(text.strip())
        if form is None:
            raise ValueError(f"{text!r} is not a fault: {_SPELLING}")
        return cls(
            cast(FaultName, form["name"]),
            target=form["target"] or "",
            after_messages=None if form["messages"] is None else int(form["messages"]),
            at_seconds=None if form["seconds"] is None else float(form["seconds"]),
            for_seconds=math.inf if form["forever"] else float(form["duration"] or 0),
        )

    def __str__(self) -> str:
        when = "" if self.after_messages is None else f"@{self.after_messages}"
        when += "" if self.at_seconds is None else f"@{_number(self.at_seconds)}s"
        return f"{self.where}{when}{_duration(self.for_seconds)}"

    @property
    def where(self) -> str:
        """The spelling without time and duration: `kill:consumer`."""
        return f"{self.name}:{self.target}" if self.target else self.name


#: One fault or several, each as an object or as text. A text may contain several, separated by commas.
AnyFaults: TypeAlias = str | Fault | Iterable[str | Fault]


def parse_faults(faults: AnyFaults) -> tuple[Fault, ...]:
    """Parse faults given as objects, as texts, or as one text with commas.

    Raises ValueError for a text that is not a fault, and TypeError for an object that is neither a text nor a fault.

    >>> [str(fault) for fault in parse_faults("lost-reply, kill:one")]
    ['lost-reply', 'kill:one']
    """
    found: list[Fault] = []
    if not isinstance(faults, str | Fault | Iterable):
        raise TypeError(f"faults={faults!r} must be a fault, the text of one, or a sequence of these")
    for each in [faults] if isinstance(faults, str | Fault) else faults:
        if isinstance(each, Fault):
            found.append(each)
        elif isinstance(each, str):
            found += [Fault.parse(text) for text in each.split(",") if text.strip()]
        else:
            raise TypeError(f"{each!r} is not a fault: give a Fault, or {_SPELLING.removeprefix('write ')}")
    return tuple(found)


def _number(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else repr(seconds)


def _duration(seconds: float) -> str:
    if seconds == math.inf:
        return "+forever"
    return f"+{_number(seconds)}s" if seconds else ""
