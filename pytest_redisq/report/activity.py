"""What the tests of a pytest run did with redisq, as counts, and the summary of them at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

#: The slowest runs and explorations that the summary shows.
SHOWN_SLOWEST = 3

#: The order in which outcomes are told.
_OUTCOMES = ("pass", "fail", "unknown", "not judged")


@dataclass(slots=True, kw_only=True)
class Activity:
    """Counts that can be added up over tests and processes.

    * `runs`, `messages`: runs and load runs, and the messages that they sent.
    * `verdicts`: of runs, by outcome; "not judged" for a run without one.
    * `explorations`, `schedules`: explorations, and the schedules of all.
    * `explored`: explorations by outcome.
    * `places`, `struck`: where faults could strike in explorations, and where they did.
    * `slowest`: seconds, what it was, and the test.
    """

    runs: int = 0
    messages: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    explorations: int = 0
    schedules: int = 0
    explored: Counter[str] = field(default_factory=Counter)
    places: int = 0
    struck: int = 0
    slowest: list[tuple[float, str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.runs or self.explorations)

    def add(self, other: Self) -> None:
        """Add the counts of `other`, and keep the slowest of both."""
        self.runs += other.runs
        self.messages += other.messages
        self.verdicts.update(other.verdicts)
        self.explorations += other.explorations
        self.schedules += other.schedules
        self.explored.update(other.explored)
        self.places += other.places
        self.struck += other.struck
        self.slowest = sorted([*self.slowest, *other.slowest], reverse=True)[:SHOWN_SLOWEST]

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values, for the report of a test that travels between processes."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"verdicts": dict(self.verdicts), "explored": dict(self.explored)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The counts that `as_json` gave."""
        slowest = [(seconds, what, test) for seconds, what, test in values["slowest"]]
        counters = {name: Counter(values[name]) for name in ("verdicts", "explored")}
        return cls(**{**values, **counters, "slowest": slowest})

    def line(self) -> str:
        """All of it in one line."""
        return "; ".join(filter(None, [self._runs(), self._explorations()]))

    def lines(self) -> Iterator[str]:
        """A line for the runs, one for the explorations, and the slowest of them."""
        yield from filter(None, [self._runs(), self._explorations()])
        yield from (f"{seconds:.2f} s {what} in {test}" for seconds, what, test in self.slowest)

    def _runs(self) -> str:
        if not self.runs:
            return ""
        return f"{_number(self.runs, 'run')} of {_number(self.messages, 'message')}: {_outcomes(self.verdicts)}"

    def _explorations(self) -> str:
        if not self.explorations:
            return ""
        of = f"{_number(self.explorations, 'exploration')} of {_number(self.schedules, 'schedule')}"
        struck = f", faults struck at {self.struck:,} of {self.places:,} places" if self.places else ""
        return f"{of}: {_outcomes(self.explored)}{struck}"


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _outcomes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _OUTCOMES if counts.get(outcome))
