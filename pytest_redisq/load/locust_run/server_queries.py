"""What the master asks the server about a run. The server may be dead, frozen, read-only or flushed.

Each query has a time limit. A query that failed is a reason for *unknown*; the rest is judged.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import gevent
import redis
from pyroaring import BitMap64
from redis.backoff import ConstantBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from pytest_redisq.check import Contract, Guarantee
from pytest_redisq.errors import ServerError
from pytest_redisq.history import Search
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_run.bound_watch import BoundWatch
from pytest_redisq.load.locust_run.missing_search import (
    MissingSearch,
    add_finished,
    add_found,
    add_recovered,
    finished_keys,
    missed_keys,
    missing_keys,
)
from pytest_redisq.load.locust_run.run_keys import RunKeys
from pytest_redisq.load.locust_run.run_progress import TELL_SECONDS
from pytest_redisq.load.scenarios import OwnQueue, Scenario
from pytest_redisq.load.scenarios.scenario import ScenarioWithTrimming
from pytest_redisq.resp import Trait
from pytest_redisq.search import SearchResult, declared_bound
from pytest_redisq.secret import without_secrets
from pytest_redisq.servers import Address

T = TypeVar("T")

#: What failed, if the server did not let itself be searched.
_SEARCHED = "the server's keys could not be searched for missing messages"

#: At the end of a run, a server that has not answered for so many seconds is not asked again (loadtests/README.md).
SILENCE_SECONDS = 30.0
#: Seconds that the server has at least for its first answer at the end.
_LEAST_SECONDS = 5.0
_RETRY_SECONDS = 0.2


class _SilentError(Exception):
    pass


class ServerQueries:
    """Asks the server about the run of `assignment`. `failures` has the queries that failed, in words.

    `headway` is called while the queue is drained, whenever it has got shorter. `shared`: whether clients of other
    processes may use the server.
    """

    def __init__(
        self,
        scenario: Scenario,
        assignment: Assignment,
        client: redis.Redis,
        headway: Callable[[], None],
        *,
        shared: bool = True,
    ) -> None:
        self._scenario = scenario
        self._assignment = assignment
        self._client = client
        self._headway = headway
        self._answered = time.monotonic()
        self._before = state(client)
        self.clients_before: int = connected(client)
        self.server: str = described(client, assignment.url)
        #: Whether the server does not answer, and is not asked again.
        self.silent: bool = False
        self.failures: list[str] = []
        #: Tells what bounds have removed from a queue of the user's own; None for other queues.
        self.bounds: BoundWatch | None = None
        if isinstance(scenario, OwnQueue):
            declared = declared_bound(scenario.make) is not None
            self.bounds = BoundWatch(MissingSearch(scenario, assignment), client, declared=declared, shared=shared)

    def answered(self, moment: float) -> None:
        """The server answered another client at `moment`, by `time.monotonic()`."""
        self._answered = max(self._answered, moment)

    def ask(self, what: str, question: Callable[[], T], otherwise: T) -> T:
        """Returns what `question` returns; `otherwise` if the server does not answer, or answers with an error."""
        try:
            return self._bounded(question)
        except (_SilentError, redis.ConnectionError, redis.TimeoutError):
            self._give_up()
        except Exception as error:
            # A user's own queue may raise anything.
            self.failures.append(f"{what}: {error or type(error).__name__}")
        return otherwise

    def drained(self, seconds: float, consumers: int) -> bool:
        """Wait until the queue is drained, and print how much is left.

        Returns False if its length has not changed for `seconds`, or if the query failed.
        """
        self.ask("", self._client.ping, None)  # an own queue is not asked how much is left
        least: int | None = None
        deadline, tell_at = time.monotonic() + seconds, time.monotonic() + TELL_SECONDS
        while backlog := self.ask("how much is left could not be counted", self._backlog, -1):
            if backlog < 0:
                return False
            if time.monotonic() > tell_at:
                tell_at += TELL_SECONDS
                print(f"draining: {backlog:,} to go", file=sys.stderr, flush=True)
            if least is None or backlog < least:
                least, deadline = backlog, time.monotonic() + seconds
                self._headway()
            if time.monotonic() > deadline or not consumers:
                return False
            gevent.sleep(_POLL_SECONDS)
        return True

    def look_inside(self, ledger: Ledger) -> None:
        """Add to the ledger what is left in the queue, and what is pending."""
        codec = LoadContext(self._assignment).codec
        for what, keys in (("remaining", ledger.remaining), ("pending", ledger.pending)):
            for body in self._each(getattr(self._scenario, what)):
                read = codec.read(body)
                if read is None:
                    ledger.corrupt(body)
                else:
                    keys.add(read.key)
        scenario = self._scenario
        if isinstance(scenario, ScenarioWithTrimming):
            what = "how much was trimmed is not known"
            number = self.ask(what, lambda: scenario.trimmed(self._client, self._assignment), 0)
            if number:
                ledger.trimmed = self._trimmed(scenario, ledger, number)

    def look_for_missing(self, ledger: Ledger, seen: Trait) -> Search | None:
        """Search all keys of the run for messages that are missing, and add those found to the ledger.

        Before that the leases run out, and one more consumer of an own queue takes what comes back. What a bound has
        removed is added, too. `seen`: what the commands of the workers have done. Returns what was found; None if
        nothing is missing.
        """
        contract, bounds = Contract.parse(self._scenario.contract), self.bounds
        if bounds and not self.silent and missed_keys(ledger):
            self.ask(_SEARCHED, lambda: bounds.add_trimmed_entries(ledger, seen, bounded=contract.bounded), None)
        if contract.guarantee is Guarantee.FAN_OUT or self.silent or not missing_keys(ledger):
            return None
        scenario, search = self._scenario, MissingSearch(self._scenario, self._assignment)
        silent = SearchResult(gap="the server did not answer")
        result = self.ask(_SEARCHED, lambda: search.search(ledger), silent)
        asked = False
        if result.inside and search.ages_keys and isinstance(scenario, OwnQueue):
            asked = self.ask(_SEARCHED, lambda: search.let_leases_pass(result, seen), False)
            add_recovered(ledger, self._each(scenario.recovered))
            result = self.ask(_SEARCHED, lambda: search.search(ledger), silent)
        if bounds and contract.bounded:
            self.ask(_SEARCHED, lambda: bounds.add_trimmed_elements(ledger, result, seen), None)
        return add_found(ledger, result, seen, asked=asked)

    def look_for_finished(self, ledger: Ledger, search: Search | None) -> Search | None:
        """Search for messages that a consumer of an own queue has acknowledged, and that are pending all the same.

        `search`: what was found before. Returns all that was found.
        """
        if not isinstance(self._scenario, OwnQueue) or self.silent or not finished_keys(ledger):
            return search
        finder = MissingSearch(self._scenario, self._assignment)
        result = self.ask(_SEARCHED, lambda: finder.search_finished(ledger), SearchResult())
        return add_finished(ledger, result, search)

    def _trimmed(self, scenario: ScenarioWithTrimming, ledger: Ledger, number: int) -> BitMap64:
        """Those acknowledged that the stream has no more; none if they are more than the `number` that it trimmed.

        More are missing where something else removed entries, such as a flush.
        """
        codec = LoadContext(self._assignment).codec
        kept = [codec.read(body) for body in self._each(scenario.kept)]
        gone = ledger.acknowledged() - BitMap64([read.key for read in kept if read is not None])
        return gone if len(gone) <= number and not self.failures else BitMap64()

    def check_writable(self) -> None:
        """Add a failure if the server refuses writes, so that consumers can neither receive nor acknowledge."""
        try:
            self._bounded(lambda: self._client.unlink(self._assignment.key("probe")))
        except NoPermissionError:
            return
        except redis.ResponseError as error:
            self.failures.append(f"the server refuses to write at the end of the run ({error})")
        except (_SilentError, redis.RedisError):
            self._give_up()

    def events(self) -> list[str]:
        """Restarts, flushes and evictions since the run began, in words."""
        before, now = self._before, self.ask("", lambda: state(self._client), self._before)
        if now["run_id"] != before["run_id"]:  # and has counted from 0 since then
            before = dict.fromkeys(before, 0)
            return ["the server was restarted during the run", *_grown(before, now)]
        return _grown(before, now)

    def clear(self, keys: RunKeys) -> str:
        """Delete the keys of the run. Returns why that failed, in words, or ""."""
        try:
            self._bounded(lambda: keys.clear(self._client, self._assignment))
        except (_SilentError, redis.RedisError, ServerError) as error:
            why = str(error) or "the server does not answer"
            return f"the keys of the run, {self._assignment.key('*')}, were not deleted: {why}"
        return ""

    def clients_after(self) -> int | None:
        """The number of connected clients; None if the server does not answer."""
        return self.ask("", lambda: connected(self._client), None)

    def _backlog(self) -> int:
        return self._scenario.backlog(self._client, self._assignment)

    def _each(self, bodies: Callable[[redis.Redis, Assignment], Iterator[bytes]]) -> Iterator[bytes]:
        try:
            yield from self._steps(self._bounded(lambda: bodies(self._client, self._assignment)))
        except (_SilentError, redis.ConnectionError, redis.TimeoutError):
            self._give_up()
        except Exception as error:
            self.failures.append(f"what is left in the queue could not be read: {error or type(error).__name__}")

    def _steps(self, steps: Iterator[T]) -> Iterator[T]:
        while (step := self._bounded(lambda: next(steps, None))) is not None:
            yield step

    def _bounded(self, question: Callable[[], T]) -> T:
        if self.silent:
            raise _SilentError
        left = max(self._answered + SILENCE_SECONDS - time.monotonic(), _LEAST_SECONDS)
        with gevent.Timeout(left, _SilentError()):
            answer = question()
        self._answered = time.monotonic()
        return answer

    def _give_up(self) -> None:
        if not self.silent:
            self.silent = True
            self.failures.append("the server did not answer at the end of the run, so what it still has is not known")


#: Seconds between two looks at whether the queue is drained.
_POLL_SECONDS = 0.01

#: Figures of `state` that only grow → what it means if one has grown.
_EVENTS = {
    "flushes": "the server was flushed (FLUSHALL or FLUSHDB) during the run",
    "evicted": "the server evicted keys during the run, as its memory was full",
    "replica": "the server became a replica during the run",
}


def _grown(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [words for name, words in _EVENTS.items() if now[name] > before[name]]


def state(client: redis.Redis) -> Mapping[str, Any]:
    """Returns what shows later that the server was restarted, flushed, made a replica, or evicted keys."""
    told: Mapping[str, Any] = client.info("all")
    return {
        "run_id": told["run_id"],
        "flushes": sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("flushall", "flushdb")),
        "evicted": told.get("evicted_keys", 0),
        "replica": int(told.get("role") == "slave"),
    }


def connected(client: redis.Redis) -> int:
    """Returns the number of clients that are connected to the server."""
    return int(client.info("clients")["connected_clients"])


def described(client: redis.Redis, url: str) -> str:
    """Returns the server's kind and version, how it is reached, and its URL without secrets."""
    told = client.info("server")
    version = f"valkey {told['valkey_version']}" if "valkey_version" in told else f"redis {told['redis_version']}"
    way = "unix socket" if url.startswith("unix:") else "TCP"
    return f"{version}, {way}, {without_secrets(url)}"


def control(url: str, *, patient: bool = False) -> redis.Redis:
    """Returns a client for queries, which can be repeated. A `patient` one retries while the server restarts.

    It has one connection, from the start, so that the clients of the server can be counted.
    """
    retries = {}
    if patient:
        backoff, times = ConstantBackoff(_RETRY_SECONDS), int(SILENCE_SECONDS / _RETRY_SECONDS)
        retries["retry"] = Retry(backoff, times, supported_errors=(redis.ConnectionError,))
    options: dict[str, Any] = {"socket_timeout": SILENCE_SECONDS, "socket_connect_timeout": SILENCE_SECONDS, **retries}
    return Address(url=url).client(protocol=2, single_connection_client=True, **options)
