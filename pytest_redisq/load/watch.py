"""A run seen from outside while it goes on: a line of progress now and then, and the highest of what was seen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import gevent
import redis

from pytest_redisq.check import Contract, Guarantee
from pytest_redisq.load.plan import Plan
from pytest_redisq.load.scenario import Scenario, Watched
from pytest_redisq.load.thresholds import shown

#: How often it looks, and how often it tells what it saw, in seconds.
LOOK_SECONDS, TELL_SECONDS = 0.5, 2.0

#: What INFO calls what we call so: all memory; of that, what clients' buffers take; the fullest output buffer.
_OF_THE_SERVER = {
    "server.memory": "used_memory",
    "server.buffers": "mem_clients_normal",
    "server.output_buffer": "client_recent_max_output_buffer",
}


class _Seen(NamedTuple):
    at: float
    sent: int
    received: int


class Watch:
    """Looks at the run of `plan` through `client`. `progress` tells what each process has done so far (see Stage)."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        client: redis.Redis,
        *,
        stats: Any,
        progress: Callable[[], Iterable[Mapping[str, int]]],
        tell: Callable[[str], None],
    ) -> None:
        self._scenario = scenario
        self._plan = plan
        self._client = client
        self._stats = stats
        self._progress = progress
        self._tell = tell
        self._began = time.monotonic()
        self._seen = deque([_Seen(self._began, 0, 0)], maxlen=round(TELL_SECONDS / LOOK_SECONDS) + 1)
        self._highest: dict[str, float] = {}
        self._shared = Contract.parse(scenario.contract).guarantee is not Guarantee.FAN_OUT

    def figures(self) -> dict[str, float]:
        """The highest that was seen of each: `depth` and what the scenario watches, in messages; memory, in bytes."""
        return dict(self._highest)

    def go_on(self) -> None:
        """Look and tell, until it is killed."""
        looks = 0
        while True:
            gevent.sleep(LOOK_SECONDS)
            looks += 1
            inside, words = self._look()
            if looks % round(TELL_SECONDS / LOOK_SECONDS) == 0:
                self._tell(self._line(inside, words))

    def _look(self) -> tuple[int | None, str]:
        """How many messages are inside, None where the server does not answer; and all that was seen, in words."""
        told = list(self._progress())
        sent, received = (sum(each[what] for each in told) for what in ("sent", "received"))
        self._seen.append(_Seen(time.monotonic(), sent, received))
        try:
            inside = self._scenario.backlog(self._client, self._plan)
            more = dict(self._scenario.watch(self._client, self._plan)) if isinstance(self._scenario, Watched) else {}
            info: dict[str, Any] = {**self._client.info("memory"), **self._client.info("clients")}
        except redis.RedisError as error:
            return None, f"depth unknown ({error})"
        seen = {"depth": inside, **more}
        for name, value in seen.items():
            self._note(name, value)
        for name, theirs in _OF_THE_SERVER.items():
            self._note(name, float(info.get(theirs, 0)))
        return inside, "  ".join(f"{name} {value:,}" for name, value in seen.items())

    def _note(self, name: str, value: float) -> None:
        self._highest[name] = max(self._highest.get(name, 0.0), float(value))

    def _line(self, inside: int | None, words: str) -> str:
        before, now = self._seen[0], self._seen[-1]
        rate = (now.received - before.received) / max(now.at - before.at, 1e-9)
        total = self._stats.total
        p50, p99 = (total.get_current_response_time_percentile(each) or 0 for each in (0.5, 0.99))
        line = (
            f"{now.at - self._began:5.0f} s  {rate:9,.0f} messages/s"
            f"  p50 {shown('p50', p50 * 1000)}  p99 {shown('p99', p99 * 1000)}  {words}"
        )
        if self._shared and inside is not None:
            in_flight, lost = missing(before.sent, now.sent, now.received, inside, self._stats.num_failures)
            line += f"  in flight {in_flight:,}  lost so far {lost:,}"
        return f"{line}  errors {self._stats.num_failures:,}"


def missing(sent_before: int, sent: int, received: int, inside: int, refused: int) -> tuple[int, int]:
    """How many messages are on their way, and how many are lost as far as can be seen: sent a while ago, and by now
    neither received nor inside nor refused.

    >>> missing(sent_before=900, sent=1000, received=700, inside=190, refused=0)
    (100, 10)
    """
    lost = max(sent_before - received - inside - refused, 0)
    return max(sent - received - inside - refused - lost, 0), lost
