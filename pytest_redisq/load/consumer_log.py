"""When each consumer of a load run asked for messages and took them, as far as liveness is judged by it.

Times are nanoseconds of the wall clock, which the process that strikes with faults shares, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pytest_redisq.check.evidence import Recovery
from pytest_redisq.history import FaultRecord

#: A consumer that waited less for a message has not waited.
_SHORT_NS = 250_000_000
#: Messages are counted by spans of this length.
_SPAN_NS = 100_000_000
#: If so many messages for each consumer are taken while one consumer asks and takes none, that is no bad luck.
_LUCK = 100


@dataclass(slots=True)
class ConsumerLog:
    """What one consumer did.

    `first_ns`: when it asked first. `since_ns`: since when it asks in vain; 0: it does not. `took_ns`: when it took a
    message last. `ended_ns`: when its last call ended; 0: it is under way. `waits`: each long wait for a message, from
    when to when. `calls`: how often it has asked since it took a message; 0 if that is not known.
    """

    first_ns: int = 0
    since_ns: int = 0
    took_ns: int = 0
    ended_ns: int = 0
    calls: int = 0
    waits: list[tuple[int, int]] = field(default_factory=list)

    def asks(self, now_ns: int) -> None:
        self.first_ns = self.first_ns or now_ns
        self.since_ns = self.since_ns or now_ns
        self.ended_ns = 0
        self.calls += 1

    def took(self, now_ns: int) -> None:
        if now_ns - self.since_ns > _SHORT_NS:
            self.waits.append((self.since_ns, now_ns))
        self.since_ns, self.calls = 0, 0
        self.took_ns = self.ended_ns = now_ns

    def ended(self, now_ns: int) -> None:
        """A call has brought no message."""
        self.ended_ns = now_ns

    def wait_after(self, healed_ns: int, end_ns: int) -> tuple[int, int, bool]:
        """From when to when it asked for its first message after a fault was healed, and whether it took one."""
        for start_ns, stop_ns in self.waits:
            if healed_ns < stop_ns:
                if start_ns >= end_ns:
                    break
                return max(start_ns, healed_ns), min(stop_ns, end_ns), stop_ns < end_ns
        if self.took_ns > healed_ns:
            return healed_ns, healed_ns, True
        start_ns = max(self.since_ns or self.ended_ns, healed_ns)
        return start_ns, max(start_ns, min(self.ended_ns, end_ns)), False


@dataclass(slots=True)
class ConsumerLogs:
    """The logs of all consumers, by name, and how many messages were put and taken in each span of time."""

    consumers: dict[str, ConsumerLog] = field(default_factory=dict)
    put: Counter[int] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)

    def open(self, name: str) -> ConsumerLog:
        """The log of a new consumer."""
        return self.consumers.setdefault(name, ConsumerLog())

    def count_put(self, now_ns: int, messages: int = 1) -> None:
        _count(self.put, now_ns, messages)

    def count_taken(self, now_ns: int, messages: int = 1) -> None:
        _count(self.taken, now_ns, messages)

    def merge(self, other: ConsumerLogs) -> None:
        """Add those of another process."""
        self.consumers.update(other.consumers)
        self.put.update(other.put)
        self.taken.update(other.taken)

    def dump(self, now_ns: int) -> list[Any]:
        """As plain values. A call that is under way ends now."""
        consumers = [
            [name, log.first_ns, log.since_ns, log.took_ns, log.ended_ns or now_ns, log.calls, log.waits]
            for name, log in self.consumers.items()
        ]
        return [consumers, list(self.put.items()), list(self.taken.items())]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Self:
        """The inverse of `dump`."""
        consumers, put, taken = dumped
        logs = {
            name: ConsumerLog(first, since, took, ended, calls, [(start, stop) for start, stop in waits])
            for name, first, since, took, ended, calls, waits in consumers
        }
        return cls(logs, *(Counter({span: number for span, number in each}) for each in (put, taken)))  # noqa: C416

    def recoveries(self, faults: Sequence[FaultRecord]) -> Iterator[Recovery]:
        """How each consumer that outlived a fault came back, for each fault."""
        strikes = _strikes(faults)
        for place, (fault, (at_ns, healed_ns)) in enumerate(strikes):
            end_ns = strikes[place + 1][1][0] if place + 1 < len(strikes) else 2**63
            for name, log in sorted(self.consumers.items()):
                if 0 < log.first_ns < at_ns and healed_ns < end_ns:
                    yield self._recovery(name, log, fault, log.wait_after(healed_ns, end_ns), superseded=end_ns < 2**63)

    def _recovery(
        self, name: str, log: ConsumerLog, fault: str, wait: tuple[int, int, bool], *, superseded: bool
    ) -> Recovery:
        start_ns, stop_ns, took = wait
        put, taken = (_within(counts, start_ns, stop_ns) for counts in (self.put, self.taken))
        passed_over = sum(taken.values()) >= _LUCK * len(self.consumers)
        untouched = bool(put) and not taken
        ignored_from_ns = max(start_ns, min(put) * _SPAN_NS) if untouched else start_ns
        return Recovery(
            consumer=name,
            fault=fault,
            took=took,
            superseded=superseded,
            waited_seconds=(stop_ns - start_ns) / 1e9,
            ignored_seconds=(stop_ns - ignored_from_ns) / 1e9 if passed_over or untouched else 0.0,
            did={0: "waited", 1: "asked once"}.get(log.calls, f"asked {log.calls} times"),
        )


def _strikes(faults: Sequence[FaultRecord]) -> list[tuple[str, tuple[int, int]]]:
    """By its spelling, when each fault struck and when it was healed."""
    times: dict[str, list[int]] = {}
    for record in faults:
        if record.struck and record.at_ns is not None:
            times.setdefault(record.fault, []).append(record.at_ns)
    return sorted(((fault, (min(each), max(each))) for fault, each in times.items()), key=lambda strike: strike[1])


def _count(spans: Counter[int], now_ns: int, messages: int) -> None:
    if messages:  # a span that is there has some
        spans[now_ns // _SPAN_NS] += messages


def _within(counts: Mapping[int, int], start_ns: int, stop_ns: int) -> dict[int, int]:
    """The counts of the spans that lie within two times."""
    first, last = -(-start_ns // _SPAN_NS), stop_ns // _SPAN_NS
    return {span: number for span, number in counts.items() if first <= span < last}
