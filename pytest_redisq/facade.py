"""The `redisq` fixture: one object with access to all parts of the package.

It only delegates; the modules below do the work.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, get_args, overload

import redis
import redis.asyncio

from pytest_redisq import explore as explorer
from pytest_redisq import queues, runner
from pytest_redisq.activity_log import ActivityLog, Place
from pytest_redisq.check import AnyContract
from pytest_redisq.errors import RedisqError
from pytest_redisq.faults import AnyFaults, Fault, FaultName, faults_for, strikes_server
from pytest_redisq.keywords import (
    ConformanceKeywords,
    DrainKeywords,
    DrainToFileKeywords,
    ExploreKeywords,
    ExploreQueueKeywords,
    LoadKeywords,
    QueueKeywords,
    ReplayKeywords,
    RunKeywords,
    StreamGroupKeywords,
    StreamKeywords,
    checked,
)
from pytest_redisq.load.locust_process import LoadReport, LoadRun
from pytest_redisq.load.timed_faults import run_struck
from pytest_redisq.runner.fault_injector import Moment
from pytest_redisq.servers import Address, Server
from pytest_redisq.servers.async_client import closing_with_its_loop
from pytest_redisq.servers.namespace import Namespace
from pytest_redisq.spelling import suggest

#: How soon what a dead worker held is given to another, in seconds: a test should not wait half a minute for that.
RECOVERY_SECONDS = 1.0


class Redisq:
    """A private namespace on a real Redis. Its queue and key names never collide with those of other tests.

    A context manager; its end closes the clients that it made.

    `server`: the server that it works on. `namespace`: the test's part of that server. `shared`: whether tests in other
    processes use the server at the same time, so that server faults are refused, by default no. `failure_folder`: where
    failing schedules are stored, by default nowhere. `schedule`: the one schedule that explorations replay, by default
    none. `strict`: whether an exhaustive exploration that its budget cuts short fails, by default no. `tell`: called
    with the progress of an exploration, by default not called. `kit`: `properties.check_conformance`, which this module
    cannot import because it is a layer above. `log`: collects what is done, by default for nothing.
    """

    def __init__(
        self,
        *,
        server: Server,
        namespace: Namespace,
        shared: bool = False,
        failure_folder: Path | None = None,
        schedule: str | None = None,
        strict: bool = False,
        tell: Callable[[str], None] | None = None,
        kit: Callable[..., str] | None = None,
        log: ActivityLog | None = None,
    ) -> None:
        self._server = server
        self._namespace = namespace
        self._shared = shared
        self._failing_schedules = explorer.ScheduleStore(failure_folder)
        self._schedule = schedule
        self._strict = strict
        self._tell = tell
        self._kit = kit
        self._log = log or ActivityLog()
        self._async_client: redis.asyncio.Redis | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Redisq:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.close()

    def __repr__(self) -> str:
        where = f"keys {self._namespace.prefix}*" if self._namespace.prefix else "a database of its own"
        return f"<Redisq: {where} on {self._server.header()}>"

    if not TYPE_CHECKING:  # a type checker would take every misspelt name for one that is there

        def __getattr__(self, name: str) -> Any:
            public = [known for known in dir(type(self)) if not known.startswith("_")]
            raise AttributeError(f"redisq has no {name!r}.{suggest(name, public)} It has: {', '.join(public)}.")

    @property
    def server(self) -> Server:
        """The server, which other tests share: restart or configure it only under `@pytest.mark.redisq_dedicated`."""
        return self._server

    @property
    def client(self) -> redis.Redis:
        """A client of this namespace; replies are bytes."""
        return self._namespace.client

    @property
    def async_client(self) -> redis.asyncio.Redis:
        """An asyncio client of this namespace, for use in any event loop; it is closed automatically."""
        if self._async_client is None:
            self._async_client = self._held.enter_context(closing_with_its_loop(self._namespace.async_client))
        return self._async_client

    @property
    def url(self) -> str:
        """The URL for other clients and programs. On the user's own server they must use key names made by `key`."""
        return self._namespace.url

    @property
    def address(self) -> Address:
        """The address of this namespace: its URL, and the prefix that its clients put before every key."""
        return self._namespace.address

    @contextlib.contextmanager
    def example(self) -> Iterator[Redisq]:
        """Empty this namespace for one example of a property-based test; a fixture is made once for all examples.

        @given(bodies())
        def test_that_it_comes_out(redisq_session, body):
            with redisq_session.example() as redisq: ...
        """
        self._namespace.clean()
        yield self

    def new_client(self, **options: Any) -> redis.Redis:
        """Another client of this namespace, with connections of its own; `options` are those of `redis.Redis`."""
        return self._held.enter_context(contextlib.closing(self._namespace.new_client(**options)))

    def key(self, name: str) -> str:
        """The full key name of `name` in this namespace, for any client and program."""
        return self._namespace.key(name)

    def list(self, name: str, *, urgent: tuple[str, ...] = ()) -> queues.BlockingList:
        """A job queue by RPUSH and BLPOP: at most once.

        `name`: the queue's name in this namespace. `urgent`: keys that are served before it, the most urgent first, by
        default none (see `queues.BlockingList`).
        """
        return queues.BlockingList(self.key(name), urgent=urgent)

    def reliable_list(self, name: str, *, lease_seconds: float = RECOVERY_SECONDS) -> queues.ReliableList:
        """A job queue that recovers the jobs of dead workers: at least once.

        `name`: the queue's name in this namespace. `lease_seconds`: after so many seconds without a heartbeat a worker
        counts as dead, by default 1 (see `queues.ReliableList`).
        """
        return queues.ReliableList(self.key(name), lease_seconds=lease_seconds)

    @overload
    def stream(self, name: str, group: None = None, **options: Unpack[StreamKeywords]) -> queues.Stream: ...
    @overload
    def stream(self, name: str, group: str, **options: Unpack[StreamGroupKeywords]) -> queues.StreamGroup: ...
    def stream(self, name: str, group: str | None = None, **options: Any) -> queues.Stream | queues.StreamGroup:
        """A stream: with `group`, its consumers share the entries; without, every reader gets every entry.

        `name`: the stream's name in this namespace. `group`: the name of the consumer group, by default none.
        `options`: those of `queues.Stream`, or with a group those of `queues.StreamGroup`.
        """
        __tracebackhide__ = True
        checked("redisq.stream", options, StreamKeywords if group is None else StreamGroupKeywords)
        if group is None:
            return queues.Stream(self.key(name), **options)
        return queues.StreamGroup(self.key(name), group, **{"claim_idle_seconds": RECOVERY_SECONDS, **options})

    def drain(self, name: str, **options: Unpack[DrainKeywords]) -> Iterator[Sequence[bytes]]:
        """The elements of a list in chunks, removed as they are used. `options` are those of `queues.drain`."""
        checked("redisq.drain", options, DrainKeywords)
        return queues.drain(self.client, self.key(name), **options)

    def drain_to_file(
        self, name: str, path: str | os.PathLike[str], **options: Unpack[DrainToFileKeywords]
    ) -> queues.Drained:
        """A list appended to a file, each element once. `options` are those of `queues.drain_to_file`."""
        checked("redisq.drain_to_file", options, DrainToFileKeywords)
        return queues.drain_to_file(self.client, self.key(name), path, **options)

    def run(self, queue: Any, **options: Unpack[RunKeywords]) -> runner.Run:
        """Producers and consumers send messages through `queue`, here; `options` are those of `runner.run`.

        redisq.run(redisq.list("jobs"), producers=8, consumers=4, messages=10_000, workers="process").verify(
            "at-most-once, fifo"
        )
        """
        __tracebackhide__ = True
        checked("redisq.run", options, RunKeywords)
        for fault in faults_for("run", options.get("faults", ())):
            self._allowed(fault)
        done = runner.run(queue, at=self._namespace.address, server=self._server, **options)
        self._log.ran(done, Place.of_caller(1))
        return done

    def load(self, scenario: str, *, faults: AnyFaults = (), **options: Unpack[LoadKeywords]) -> LoadReport:
        """A load run of some seconds, in a process of its own (Locust patches the one that it runs in), on this server.

        redisq.load("blpop-workers", seconds=5, consumers=200, fail_if=["BLPOP.p99>50ms"]).verify()

        `scenario` is one of those in loadtests/, or a locustfile's path. `options` are those of
        `load.locust_process.LoadRun`;
        `faults` strike at a time, as "pause:server@2s+3s", "kill:consumers@1s" or a `Fault` (see `faults.CATALOGUE`).
        What the run says of itself is in the report's `figures`, `counts` and `output`. Needs the extra:
        pip install 'pytest-redisq[load]'
        """
        __tracebackhide__ = True
        checked("redisq.load", options, LoadKeywords)
        struck = [self._allowed(fault) for fault in faults_for("load", faults)]
        server = self._server
        ways: dict[str, Any] = {"own_server": server.kind != "url", "shared_server": server.shared}
        given: dict[str, Any] = {"seconds": 3.0} | ways | {**options}
        report = run_struck(LoadRun(scenario=scenario, url=self._namespace.url, **given), server, struck)
        self._log.loaded(report, Place.of_caller(1))
        return report

    @overload
    def explore(
        self, scenario: explorer.Scenario, *, contract: None = None, **options: Unpack[ExploreKeywords]
    ) -> explorer.Exploration: ...
    @overload
    def explore(
        self, scenario: Any, *, contract: AnyContract, **options: Unpack[ExploreQueueKeywords]
    ) -> explorer.Exploration: ...
    def explore(self, scenario: Any, *, contract: AnyContract | None = None, **options: Any) -> explorer.Exploration:
        """Run `scenario(world)` under many schedules of its actors' commands, here, each on an empty namespace.

        def scenario(world):
            one, two = world.actor(take), world.actor(take)
            world.run()
            assert one.result != two.result

        With a `contract` the scenario is a queue, through which producers send messages to consumers:

        redisq.explore(redisq.list("jobs"), contract="at-least-once", producers=1, consumers=2, messages=3)

        or of coroutine functions, with `is_async=True` where that is not to be seen by itself.

        Other `options` are those of `explore.explore`: schedules, seconds, seed, faults, max_faults, exhaustive and
        more. A schedule that failed in the last run of this test is tried first. Inside `@given` give a budget of
        `schedules`.

        Raises `ScheduleError` with the shortest failing schedule, from the scenario's own failure.
        """
        __tracebackhide__ = True
        checked("redisq.explore", options, ExploreQueueKeywords)
        of_the_queue = QueueKeywords.__optional_keys__
        given = {name: options.pop(name) for name in sorted(of_the_queue & options.keys())}
        if contract is not None:
            scenario = explorer.queue_scenario(scenario, contract, **given)
        elif given:
            raise TypeError(
                f"redisq.explore(): {', '.join(given)} is for a queue, and needs its contract=…; a scenario makes its "
                "producers and consumers itself"
            )
        if self._schedule is not None:
            if not _inside_given():
                shared = {name: options[name] for name in ReplayKeywords.__optional_keys__ & options.keys()}
                site: dict[str, Any] = {**explorer.exploration_arguments(self._namespace), **shared}
                return explorer.Exploration.of_replay(explorer.replay(scenario, self._schedule, **site), scenario)
            # Other examples have other steps, so there it is followed as far as it goes.
            options |= {"first": [explorer.Schedule.parse(self._schedule)], "schedules": 1}
        with explorer.progress_line(self._tell) as shown:
            progress = self._failing_schedules.keeping(scenario, options.pop("progress", None) or shown)
            options = {
                "first": self._failing_schedules.first(scenario),
                "progress": progress,
                **explorer.exploration_arguments(self._namespace),
                **options,
            }
            exploration = explorer.explore(scenario, **options)
        self._failing_schedules.keep(scenario, exploration)
        self._log.explored(exploration)
        return exploration.verify(strict=self._strict)

    def replay(
        self, scenario: explorer.Scenario, schedule: str, **options: Unpack[ReplayKeywords]
    ) -> explorer.Execution:
        """Run `scenario(world)` once, under a schedule that `explore` has told; `options`: `explore.replay`.

        Raises what the scenario raises, with the table of the run.
        """
        __tracebackhide__ = True
        checked("redisq.replay", options, ReplayKeywords)
        site: dict[str, Any] = {**explorer.exploration_arguments(self._namespace), **options}
        execution = explorer.replay(scenario, schedule, **site)
        if execution.error is not None:
            execution.error.add_note(f"\n{execution.table()}\n")
            raise execution.error
        return execution

    def conformance(self, queue: Any, *, contract: AnyContract, **options: Unpack[ConformanceKeywords]) -> str:
        """Check every property that `contract` implies for `queue`; returns the table if all of them hold.

        Each property starts with an empty namespace. `options` are those of `pytest_redisq.conformance`, which makes a
        test of each property.

        Raises DeliveryError, with the table and what each broken property has to say. Needs Hypothesis, which is in the
        extra: pip install 'pytest-redisq[property]'
        """
        __tracebackhide__ = True
        if self._kit is None:
            raise RedisqError(
                "this Redisq was made by hand, and without a kit.\n"
                "What to do: use the redisq fixture, or pytest_redisq.properties.check_conformance."
            )
        return self._kit(queue, self, contract=contract, **options)

    def kill_consumer(
        self,
        *,
        after_messages: int | None = None,
        at_seconds: float | None = None,
        moment: Moment = "receiving",
        replace: bool = True,
    ) -> Fault:
        """The fault `kill:consumer` or, with `moment="holding"`, `kill-holding:consumer`, for `run(faults=[…])`.

        * `after_messages`: when, by the messages that all consumers have received.
        * `at_seconds`: when, in seconds since the run began (for `load`); one of the two, as for all faults here.
        * `replace`: whether a new consumer takes the place of the dead one; default: yes.

        Errors: ValueError for another `moment`.
        """
        if moment not in get_args(Moment):
            raise ValueError(
                f"moment={moment!r} must be {' or '.join(get_args(Moment))}.{suggest(moment, get_args(Moment))}"
            )
        name: FaultName = "kill-holding" if moment == "holding" else "kill"
        lasts = 0 if replace else math.inf
        return Fault(name, target="consumer", after_messages=after_messages, at_seconds=at_seconds, for_seconds=lasts)

    def drop_connections(self, *, after_messages: int | None = None, at_seconds: float | None = None) -> Fault:
        """The fault `drop:connections`, for `run` after so many messages received, for `load` at that time."""
        return Fault("drop", target="connections", after_messages=after_messages, at_seconds=at_seconds)

    def kill_server(
        self, *, after_messages: int | None = None, at_seconds: float | None = None, down_seconds: float = 0.0
    ) -> Fault:
        """The fault `kill:server`, for `run` or `load`: the server starts again after `down_seconds`, default 0."""
        return self._server_fault("kill", after_messages, at_seconds, down_seconds)

    def restart_server(self, *, after_messages: int | None = None, at_seconds: float | None = None) -> Fault:
        """The fault `restart:server`, for `run` after so many messages received, for `load` at that time."""
        return self._server_fault("restart", after_messages, at_seconds)

    def pause_server(
        self, *, seconds: float, after_messages: int | None = None, at_seconds: float | None = None
    ) -> Fault:
        """The fault `pause:server`, for `run` or `load`: the server stands still for `seconds`."""
        return self._server_fault("pause", after_messages, at_seconds, seconds)

    def _server_fault(
        self, name: FaultName, after_messages: int | None, at_seconds: float | None, for_seconds: float = 0.0
    ) -> Fault:
        return self._allowed(
            Fault(name, target="server", after_messages=after_messages, at_seconds=at_seconds, for_seconds=for_seconds)
        )

    def _allowed(self, fault: Fault) -> Fault:
        """The fault. RedisqError if it strikes a server that other tests use at the same time."""
        if self._shared and strikes_server(fault):
            raise RedisqError(
                f"{fault} would strike the tests of the other pytest-xdist workers, too, for they share this server.\n"
                "What to do: mark the test with @pytest.mark.redisq_dedicated, and it has a server of its own."
            )
        return fault


def _inside_given() -> bool:
    """Whether this code runs inside a Hypothesis test."""
    hypothesis = sys.modules.get("hypothesis")
    return hypothesis is not None and bool(hypothesis.currently_in_test_context())
