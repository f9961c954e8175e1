"""The worker of a run inside Locust: it does what the master's messages say, and sends its results at the end.

Messages, from the master: `redisq-assignment`, `redisq-stop-producing`, `redisq-stop-consuming`. To the master:
`redisq-begun` when all clients are connected, `redisq-produced` when all producers have ended, `redisq-results` (ledger
and figures) when all clients have ended. Without workers, Locust's LocalRunner sends them to itself.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from collections import defaultdict
from typing import Any, cast

import gevent
import redis
from gevent.monkey import get_original
from gevent.util import print_run_info
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import LoadClient, is_own_queue_client
from pytest_redisq.load.engine.epoll_connection import SystemCalls
from pytest_redisq.load.engine.epoll_engine import COLLECT_SECONDS, CONNECT_NS, EpollEngine
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.engine.load_engine import LoadEngine
from pytest_redisq.load.engine.locust_engine import LocustEngine, RequestReporter
from pytest_redisq.load.engine.target import Target
from pytest_redisq.load.locust_run.connection_limits import raise_descriptor_limit
from pytest_redisq.load.locust_run.locust_stats import add_batch, use_microseconds
from pytest_redisq.load.results.histogram import Timings
from pytest_redisq.load.scenarios import Scenario
from pytest_redisq.load.scenarios.scenario_settings import with_settings
from pytest_redisq.resp import encode_command
from pytest_redisq.servers import Address

#: The signal at which a process breaks the connections of all its consumers.
KILL_CONSUMERS = signal.SIGUSR1
#: The signal at which a process prints the stack of each greenlet.
TELL_STANDS = signal.SIGUSR2
#: Seconds between two looks at a condition.
POLL_SECONDS = 0.01
#: Seconds that clients may take to end.
STOP_SECONDS = 20.0
#: If no client has ended for this many seconds, blocked clients are unblocked again: one may have blocked only since.
_UNBLOCK_AGAIN_SECONDS = 0.1
#: Seconds after which a thread lets another one run. Python's default is ten times as much.
SWITCH_SECONDS = 0.0005
#: The unit of `ru_maxrss`, in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class LocustWorker:
    """Runs the clients of this process, for one run after the other."""

    def __init__(self, scenario: Scenario) -> None:
        self._made = self._scenario = scenario
        self._environment: Environment
        self._timings: defaultdict[str, Timings] = defaultdict(Timings.empty)
        self._indexes = {True: 0, False: 0}
        self._begun = False
        self._off = False  # the master has given the run up
        self.assignment: Assignment | None = None
        self._context: LoadContext
        self._engine: LoadEngine
        self._running: Any = None
        self._measured = (0.0, 0)  # CPU time, in seconds, and requests, when all were connected
        self._cost = (0.0, 0)  # of the time since then

    def join(self, environment: Environment) -> None:
        """Take part in the runs of `environment`."""
        use_microseconds()
        self._environment = environment
        runner = environment.runner
        assert runner is not None
        if not isinstance(runner, MasterRunner):
            runner.register_message("redisq-assignment", self._on_assignment)
            runner.register_message("redisq-off", self._on_off)
            runner.register_message("redisq-stop-producing", self._on_stop_producing, concurrent=True)
            runner.register_message("redisq-stop-consuming", self._on_stop_consuming, concurrent=True)
            environment.events.report_to_master.add_listener(self._on_report)  # type: ignore[no-untyped-call]
        # In the master, too: by default these signals end a process.
        gevent.signal_handler(KILL_CONSUMERS, self._kill_consumers)
        gevent.signal_handler(TELL_STANDS, print_run_info, file=sys.stderr)
        if isinstance(runner, WorkerRunner):
            # Ctrl-C reaches every process of a terminal. The master then ends the run in good order.
            signal.signal(signal.SIGINT, _leave_to_the_master)

    # What Locust's users call

    def drive_all(self) -> None:
        """Run all clients of this process in the epoll engine. Returns when all have ended."""
        self._assigned()
        engine = self._engine
        assert isinstance(engine, EpollEngine)
        self._tell_begun()
        self._running = gevent.get_hub().threadpool.spawn(engine.run)
        try:
            while not self._running.ready():
                self._running.wait(COLLECT_SECONDS)
                self._collect()
            self._running.get()
        finally:
            engine.close()
            self._running.wait()
            self._collect()

    def act(self, producing: bool, report: RequestReporter) -> None:
        """Run one client in the locust engine. Returns when it has ended."""
        _, context = self._assigned()
        engine = self._engine
        assert isinstance(engine, LocustEngine)
        self._tell_begun()
        index = self._indexes[producing]
        self._indexes[producing] += 1
        make = self._scenario.producer if producing else self._scenario.consumer
        work = make(context, index)
        if is_own_queue_client(work):
            engine.work_on_own_queue(work, index, report)
        else:
            context.watch(cast(LoadClient, work), self._scenario.contract)
            engine.work(cast(LoadClient, work), index, report)

    def _tell_begun(self) -> None:
        if not self._begun:
            self._begun = True
            gevent.spawn(self._wait_for_all, self._assigned()[0], self._engine)

    def _wait_for_all(self, assignment: Assignment, engine: LoadEngine) -> None:
        """Tell the master when all clients are connected, or after `CONNECT_NS`. Then the run's time begins."""
        began = time.monotonic()
        while not engine.connect_seconds and time.monotonic() - began < CONNECT_NS / 1e9:
            gevent.sleep(POLL_SECONDS)
        self._measured = (time.process_time(), self._requests())
        self._tell("redisq-begun", {"worker": assignment.worker, "seconds": time.monotonic() - began})

    def _assigned(self) -> tuple[Assignment, LoadContext]:
        if self._off:
            raise StopUser
        if self.assignment is None:
            raise RuntimeError("This worker has no assignment from the master: it joined after the run had begun.")
        return self.assignment, self._context

    # Messages

    def _on_assignment(self, msg: Any, **_: Any) -> None:
        raise_descriptor_limit()
        assignment = self.assignment = Assignment.of_message(msg.data)
        self._scenario = with_settings(self._made, assignment.settings)
        context = self._context = LoadContext(assignment)
        self._begun = self._off = False
        self._timings.clear()
        self._indexes = {True: 0, False: 0}
        if assignment.engine == "epoll":
            # So long the epoll engine's thread may have to wait for Locust's when it wakes up.
            sys.setswitchinterval(SWITCH_SECONDS)
            consumers = [self._scenario.consumer(context, index) for index in range(assignment.consumers)]
            producers = [self._scenario.producer(context, index) for index in range(assignment.producers)]
            clients = [cast(LoadClient, each) for each in [*consumers, *producers] if not is_own_queue_client(each)]
            for client in clients:
                context.watch(client, self._scenario.contract)
            self._engine = EpollEngine(
                Target.of(assignment.url, assignment.client_name),
                clients,
                due=assignment.schedule(),
                flush=context.flush,
                native=SystemCalls(
                    socket=get_original("socket", "socket"),
                    epoll=get_original("select", "epoll"),
                    select=get_original("select", "select"),
                ),
            )
        else:
            engine = self._engine = LocustEngine(
                assignment.url,
                assignment.client_name,
                connections=assignment.producers + assignment.consumers,
                due=assignment.schedule(),
                flush=context.flush,
            )
            gevent.spawn(engine.collect_for_ever)

    def _on_off(self, **_: Any) -> None:
        self._off = True

    def _on_stop_producing(self, **_: Any) -> None:
        assignment, context = self._assigned()
        began = time.monotonic()
        cpu_seconds, requests = self._measured
        self._cost = (time.process_time() - cpu_seconds, self._requests() - requests)
        self._engine.stop_producing()
        while self._engine.producing() and time.monotonic() - began < STOP_SECONDS:
            gevent.sleep(POLL_SECONDS)
        self._tell(
            "redisq-produced",
            {"worker": assignment.worker, "sent": context.sent(), "unended": self._engine.producing()},
        )

    def _on_stop_consuming(self, msg: Any, **_: Any) -> None:
        assignment, context = self._assigned()
        began = time.monotonic()
        seconds: float = msg.data["seconds"]
        most, until = -1, began + seconds
        self._engine.stop_consuming()
        with Address(url=assignment.url).client() as client:
            left, look_at = -1, 0.0
            while (consuming := self._engine.consuming()) and time.monotonic() < until:
                if (distinct := context.distinct()) > most:  # what comes meanwhile is received to its end
                    most, until = distinct, time.monotonic() + seconds
                if time.monotonic() >= look_at:
                    if left in (-1, consuming):
                        with (
                            contextlib.suppress(redis.RedisError),  # the next round tries again
                            gevent.Timeout(until - time.monotonic(), redis.TimeoutError()),
                        ):
                            _unblock(client, self._engine.waiting())
                    left, look_at = consuming, time.monotonic() + _UNBLOCK_AGAIN_SECONDS
                gevent.sleep(POLL_SECONDS)
        stopped = time.monotonic() - began
        unended = self._engine.consuming()
        self._end_engine()
        self._tell(
            "redisq-results",
            {
                "worker": assignment.worker,
                "ledger": context.settle().dump(),
                "timings": {name: timings.dump() for name, timings in self._timings.items()},
                "stop_seconds": stopped,
                "connect_seconds": self._engine.connect_seconds,
                "cost": self._cost,
                "served": self._engine.served(),
                "raised": context.errors.dump(),
                "seen": int(context.seen),
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT,
                "unended": unended,
            },
        )

    def _end_engine(self) -> None:
        """Collect the last figures. Requests that the server has not answered have an unknown outcome."""
        engine = self._engine
        if isinstance(engine, LocustEngine):
            engine.collect()
        else:
            if isinstance(engine, EpollEngine) and (engine.consuming() or engine.producing()):
                engine.close()
            began = time.monotonic()
            # Not by `wait`, as in `drive_all`: gevent may forget one of two waiting greenlets.
            while not self._running.ready() and time.monotonic() - began < STOP_SECONDS:
                gevent.sleep(POLL_SECONDS)
        self._collect()

    def _kill_consumers(self) -> None:
        if self.assignment is not None:
            self._engine.kill_consumers()

    def _requests(self) -> int:
        return sum(timings.service.count for timings in self._timings.values())

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        if self.assignment is not None:
            data["redisq"] = self.progress()

    def progress(self) -> dict[str, Any]:
        """What this process has done so far (see `LoadContext.progress`), and how it does.

        * `connecting`: the number of connections that are not ready.
        * `failing`: its `FailureStreak`; None if it has only consumers, and none of them fails.
        * `succeeded_ns`: when an operation succeeded last, by the wall clock; 0: never.
        * `starving`, `received_ns`: the same of its consumers alone, whatever its producers do; None if it has none.
        """
        assert self.assignment is not None
        clients = self.assignment.producers + self.assignment.consumers
        connecting = 0 if self._engine.connect_seconds else clients - self._engine.connected
        failures = self._engine.failures
        return {
            **self._context.progress(),
            "connecting": connecting,
            "failing": failures.streak(self._engine.producing()),
            "succeeded_ns": failures.succeeded_ns,
            "starving": failures.consumer_streak(self._engine.consuming()),
            "received_ns": failures.received_ns,
        }

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        assert self._environment.runner is not None
        self._environment.runner.send_message(kind, data)

    def _collect(self) -> None:
        for_locust = isinstance(self._engine, EpollEngine)  # the locust engine has reported each request as an event
        while self._engine.batches:
            batch = self._engine.batches.popleft()
            batch.add_to(self._timings[batch.name])
            if for_locust:
                add_batch(self._environment.stats, batch)


def _unblock(client: redis.Redis, ids: list[int]) -> None:
    """Unblock these clients in one request with one reply: thousands of replies take as long as the unblocking."""
    if not ids:
        return
    words: list[tuple[str | int, ...]] = [("REPLY", "OFF"), *(("UNBLOCK", each) for each in ids), ("REPLY", "ON")]
    connection: Any = client.connection_pool.make_connection()
    try:
        connection.send_packed_command([b"".join([encode_command(["CLIENT", *each]) for each in words])])
        connection.read_response()
    finally:
        connection.disconnect()


def _leave_to_the_master(*_: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
