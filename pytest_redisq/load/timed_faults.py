"""Faults that strike a load run at a given time."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import redis

from pytest_redisq import interrupts
from pytest_redisq.children import children_of
from pytest_redisq.errors import RedisqError
from pytest_redisq.faults import AnyFaults, Fault, faults_for
from pytest_redisq.history import FaultRecord
from pytest_redisq.load.closed_connections import facts_before, with_reason
from pytest_redisq.load.locust_process import LoadReport, LoadRun, under_way
from pytest_redisq.load.results.exit_status import EXIT_BROKEN, EXIT_UNKNOWN
from pytest_redisq.servers import Server

#: What the names of the clients of a load run begin with (see `Assignment.client_name`).
_CLIENTS = "redisq-load-"
#: How often is looked whether the run has begun, in seconds.
_POLL_SECONDS = 0.02


class FaultSchedule:
    """Strikes on time, counted from when `begun` is true, from a thread, and notes what it did."""

    def __init__(
        self,
        faults: Sequence[Fault],
        server: Server,
        locust_pid: int,
        *,
        begun: Callable[[], bool] = lambda: True,
        note_strike: Callable[[FaultRecord], None] = lambda _record: None,
    ) -> None:
        self._faults = sorted(faults, key=_at_seconds)
        self._server = server
        self._locust_pid = locust_pid
        self._begun = begun
        self._note_strike = note_strike
        self._over = threading.Event()
        self._began = time.monotonic()
        self.struck: list[str] = []
        self._records: list[FaultRecord] = []

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """The faults strike while the block runs; what they did is undone when it ends."""
        thread = threading.Thread(target=self._strike_all, name="redisq-load-faults")
        with interrupts.cleared_up() as held:
            with interrupts.deferred():
                thread.start()
                held.callback(self._heal, thread)
            yield

    def _heal(self, thread: threading.Thread) -> None:
        self._over.set()
        thread.join()
        if self._faults and self._server.kind != "url":
            self._server.revive()

    def told_by(self, report: LoadReport) -> LoadReport:
        """The report with what was done. It is *unknown* if a fault struck nothing, unless the contract is broken."""
        void, code = self._void(), report.status
        verdict = {**report.told["verdict"], "faults": [dataclasses.asdict(record) for record in self._records]}
        if void:
            code = code if code == EXIT_BROKEN else EXIT_UNKNOWN
            verdict["reasons"] = [*void, *verdict["reasons"]]
        if void and verdict["outcome"] == "pass":
            verdict |= {"outcome": "unknown", "line": f"{verdict['contract']} unknown: {void[0]}"}
        told = {**report.told, "exit_code": code, "verdict": verdict, "faults": self.struck}
        return replace(report, status=code, told=told, output=report.output + self.lines())

    def lines(self) -> str:
        """What was done, a line each, and why that proves nothing if it does."""
        return "".join(f"fault: {line}\n" for line in self.struck) + "".join(
            f"unknown: {reason}\n" for reason in self._void()
        )

    def _void(self) -> list[str]:
        """Why faults prove nothing, in words."""
        return [record.void for record in self._records if record.void]

    def _strike_all(self) -> None:
        while self._faults and not self._begun() and not self._over.wait(_POLL_SECONDS):
            pass
        self._began = time.monotonic()
        for fault in self._faults:
            if self._over.wait(max(0.0, self._began + _at_seconds(fault) - time.monotonic())):
                self._miss(fault, "never struck", "the run had ended", began=False)
                continue
            at_ns = time.time_ns()
            try:
                self._note_strike(FaultRecord(fault=str(fault), at_ns=at_ns))
                self._strike(fault)
                for each_ns in (at_ns, time.time_ns()):
                    self._note_strike(FaultRecord(fault=str(fault), at_ns=each_ns, struck=1))
            except (RedisqError, OSError) as error:
                self._miss(fault, "failed", str(error))
                with contextlib.suppress(RedisqError):  # the disk is full
                    self._note_strike(FaultRecord(fault=str(fault)))

    def _strike(self, fault: Fault) -> None:
        match fault.where:
            case "pause:server":
                self._server.pause()
                self._note(fault, "the server was paused")
                self._over.wait(fault.for_seconds)
                self._server.resume()
                self._note(fault, "the server was resumed")
            case "kill:server":
                self._server.kill()
                self._note(fault, "the server was killed")
                self._over.wait(fault.for_seconds)
                self._server.restart()
                self._note(fault, "the server was started again")
            case "restart:server":
                self._server.restart()
                self._note(fault, "the server was shut down and started again")
            case "drop:connections":
                closed = self._drop()
                self._note(fault, f"{closed} connections were closed by the server", struck=closed)
            case "kill:process":
                self._note(fault, self._kill_worker())
            case "kill:consumers":
                with self._server.client() as client:
                    self._connections(client)
                for process in [self._locust_pid, *self._workers()]:
                    os.kill(process, signal.SIGUSR1)  # see `locust_worker.KILL_CONSUMERS`
                self._note(fault, "each consumer was killed with a reply unread, and another took its place")
            case _:
                raise AssertionError(fault)  # `faults_for` has refused it

    def _drop(self) -> int:
        with self._server.client() as client:
            return sum(int(client.client_kill_filter(_id=each)) for each in self._connections(client))

    def _connections(self, client: redis.Redis) -> list[str]:
        """The ids of the run's connections, where there are any."""
        ours = [each["id"] for each in client.client_list() if each.get("name", "").startswith(_CLIENTS)]
        if not ours:
            raise RedisqError("the run has no named connection (connections of an own queue have no name of redisq)")
        return ours

    def _kill_worker(self) -> str:
        workers = self._workers()
        if not workers:
            raise RedisqError("the run has only one process; give --processes 2 or more")
        os.kill(workers[-1], signal.SIGKILL)
        return f"worker process {workers[-1]} was killed"

    def _workers(self) -> list[int]:
        try:
            return children_of(self._locust_pid)
        except OSError as error:
            raise RedisqError(f"the worker processes cannot be found, as there is no /proc here ({error})") from error

    def _miss(self, fault: Fault, how: str, why: str, *, began: bool = True) -> None:
        self._note(fault, why, struck=0, told=f"{fault} {how}: {why}", began=began)

    def _note(self, fault: Fault, words: str, *, struck: int = 1, told: str = "", began: bool = True) -> None:
        self.struck.append(f"{time.monotonic() - self._began:.1f} s: {told or words}")
        at_ns = time.monotonic_ns() if began else None
        self._records.append(FaultRecord(fault=str(fault), words=words, at_ns=at_ns, struck=struck))


def run_struck(load: LoadRun, server: Server, faults: AnyFaults) -> LoadReport:
    """Runs `load` to its end while `faults`, as `faults_for("load", …)` takes them, strike `server`.

    Returns its report, with what was done, and when, under "faults". Errors: LoadError as with `run`, ValueError for
    what a load run cannot do.
    """
    parsed, before = faults_for("load", faults), facts_before(server)
    with interrupts.not_replaced(), under_way(load, output=subprocess.PIPE) as running:
        schedule = FaultSchedule(
            parsed, server, running.process.pid, begun=running.begun, note_strike=running.note_strike
        )
        with schedule.at_work():
            report = running.wait()
    report = schedule.told_by(report)
    return report if parsed else with_reason(report, server, before)  # a fault that closes connections says so itself


def _at_seconds(fault: Fault) -> float:
    return fault.at_seconds or 0.0
