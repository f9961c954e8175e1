"""Watches a run while it goes on: prints a line of progress every two seconds, and keeps the highest figures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import gevent
import redis

from pytest_redisq.check import Contract, Guarantee
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.results.thresholds import shown
from pytest_redisq.load.scenarios import OwnQueue, Scenario
from pytest_redisq.load.scenarios.scenario import ScenarioWithFigures, ScenarioWithGroups, ScenarioWithTrimming

#: Seconds between two samples, and between two printed lines.
LOOK_SECONDS, TELL_SECONDS = 0.5, 2.0

#: Our figure → the name in INFO: all memory; the part in clients' buffers; the fullest output buffer.
_OF_THE_SERVER = {
    "server.memory": "used_memory",
    "server.buffers": "mem_clients_normal",
    "server.output_buffer": "client_recent_max_output_buffer",
}


class ProgressSample(NamedTuple):
    """One sample of the run, in messages. The workers are asked first, then the server.

    `copies` is how often each message is handed out to be shared (by how many groups), `taken` what was received of all
    these, and `held` what the server still has of them, None if it did not answer. `gaps` is of each reader who is
    owed every message how many it has passed over. `refused`: enqueues that certainly or perhaps did not happen;
    `trimmed`: what the server has thrown away, as it was told to.
    """

    at: float
    sent: int = 0
    refused: int = 0
    received: int = 0
    taken: int = 0
    copies: int = 1
    held: int | None = 0
    gaps: Sequence[int] = ()
    trimmed: int = 0
    connecting: int = 0


class RunProgress:
    """Looks at the run of `assignment` through `client`.

    `progress` tells what each process has done so far (see LocustWorker), as it knew it at most `late` seconds ago.
    """

    def __init__(
        self,
        scenario: Scenario,
        assignment: Assignment,
        client: redis.Redis,
        *,
        stats: Any,
        progress: Callable[[], Iterable[Mapping[str, Any]]],
        late: float,
        tell: Callable[[str], None],
    ) -> None:
        self._scenario = scenario
        self._assignment = assignment
        self._client = client
        self._stats = stats
        self._progress = progress
        self._tell = tell
        self._began = time.monotonic()
        self._seen = deque([ProgressSample(self._began)], maxlen=round((late + TELL_SECONDS) / LOOK_SECONDS) + 1)
        self._highest: dict[str, float] = {}
        #: When the server answered last, by `time.monotonic()`.
        self.answered: float = self._began
        shared = Contract.parse(scenario.contract).guarantee is not Guarantee.FAN_OUT
        #: How much the user's own queue holds is unknown before the end.
        self._knows_depth = not isinstance(scenario, OwnQueue)
        self._copies = (
            scenario.groups if isinstance(scenario, ScenarioWithGroups) else int(shared and self._knows_depth)
        )

    def figures(self) -> dict[str, float]:
        """The highest of each figure: `depth` and the scenario's figures, in messages; memory, in bytes."""
        return dict(self._highest)

    def go_on(self) -> None:
        """Take samples and print lines, until the greenlet is killed."""
        looks = 0
        while True:
            gevent.sleep(LOOK_SECONDS)
            looks += 1
            words = self._look()
            if looks % round(TELL_SECONDS / LOOK_SECONDS) == 0:
                self._tell(self._line(words))

    def _look(self) -> str:
        """Take a sample. Returns what the server holds, in words."""
        told = list(self._progress())
        sums = {
            what: sum(each[what] for each in told) for what in ("sent", "refused", "received", "taken", "connecting")
        }
        gaps = [gaps for each in told for gaps in each["gaps"]]
        seen = ProgressSample(time.monotonic(), **sums, gaps=gaps, copies=self._copies)
        try:
            with gevent.Timeout(TELL_SECONDS, redis.TimeoutError(f"no answer within {TELL_SECONDS:g} s")):
                figures, held, trimmed = self._ask()
        except Exception as error:
            # A user's scenario may raise anything.
            self._seen.append(seen._replace(held=None))
            return f"depth unknown ({error or type(error).__name__})"
        self.answered = time.monotonic()
        self._seen.append(seen._replace(held=held, trimmed=trimmed))
        return "  ".join(f"{name} {value:,}" for name, value in figures.items())

    def _ask(self) -> tuple[dict[str, int], int, int]:
        """Ask the server. Returns its figures, and `held` and `trimmed` of the sample."""
        scenario, client, assignment = self._scenario, self._client, self._assignment
        figures = {"depth": scenario.backlog(client, assignment)} if self._knows_depth else {}
        if isinstance(scenario, ScenarioWithFigures):
            figures |= scenario.watch(client, assignment)
        held = (
            scenario.held(client, assignment) if isinstance(scenario, ScenarioWithGroups) else figures.get("depth", 0)
        )
        info: dict[str, Any] = {**client.info("memory"), **client.info("clients")}
        for name, value in figures.items():
            self._note(name, value)
        for name, theirs in _OF_THE_SERVER.items():
            self._note(name, float(info.get(theirs, 0)))
        return figures, held, scenario.trimmed(client, assignment) if isinstance(scenario, ScenarioWithTrimming) else 0

    def _note(self, name: str, value: float) -> None:
        self._highest[name] = max(self._highest.get(name, 0.0), float(value))

    def _line(self, words: str) -> str:
        before, now = self._seen[0], self._seen[-1]
        rate = (now.received - before.received) / max(now.at - before.at, 1e-9)
        total = self._stats.total
        p50, p99 = (total.get_current_response_time_percentile(each) or 0 for each in (0.5, 0.99))
        line = (
            f"{now.at - self._began:5.0f} s  {rate:9,.0f} messages/s"
            f"  p50 {shown('p50', p50 * 1000)}  p99 {shown('p99', p99 * 1000)}  {words}"
        )
        if now.copies and now.held is not None:
            line += f"  in flight {in_flight(before, now):,}"
        if now.copies or now.gaps:
            line += f"  lost so far {lost(before, now):,}"
        if now.connecting:
            line += f"  connecting {now.connecting:,}"
        return f"{line}  errors {self._stats.num_failures:,}"


def lost(before: ProgressSample, now: ProgressSample) -> int:
    """How many deliveries are missing as far as can be seen: of what had been sent at the first look and was not held
    any more, and of what readers had passed over by then, whatever nobody has received, refused or trimmed by now.

    >>> lost(ProgressSample(0, sent=900, held=190), ProgressSample(5, sent=1000, taken=700, held=250))
    10
    >>> lost(ProgressSample(0, copies=0, gaps=[7, 2]), ProgressSample(5, copies=0, gaps=[9, 2], refused=1, trimmed=1))
    5
    """
    gone = now.refused + now.trimmed
    shared = 0
    if now.copies and before.held is not None:
        shared = max(now.copies * (before.sent - gone) - now.taken - before.held, 0)
    return shared + sum(max(gaps - gone, 0) for gaps in before.gaps)


def in_flight(before: ProgressSample, now: ProgressSample) -> int:
    """How many messages of shared queues are between producer and consumer, and neither held nor lost.

    >>> in_flight(ProgressSample(0, sent=900, held=190), ProgressSample(5, sent=1000, taken=700, held=250))
    40
    """
    sent = now.copies * (now.sent - now.refused - now.trimmed)
    return max(sent - now.taken - (now.held or 0) - lost(before._replace(gaps=()), now), 0)
