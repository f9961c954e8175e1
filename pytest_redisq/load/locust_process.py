"""Runs Locust as a subprocess, as it patches the process that imports it, and returns the report."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_redisq.children import ChildProcess, session_of
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.history import FaultRecord
from pytest_redisq.load.engine import Engine
from pytest_redisq.load.results.exit_status import EXIT_NOT_RUN, EXIT_UNKNOWN
from pytest_redisq.secret import Url
from pytest_redisq.servers.temporary_folder import explain_full_disk, temporary_folder
from pytest_redisq.spelling import suggest

#: A run has this long, beyond its time, to start, to drain and to be judged, in seconds.
_GRACE_SECONDS = 80.0
#: Room that is kept on the disk for the report, in bytes.
_REPORT_BYTES = 2**18
#: What to say of a run that a signal ended at its start.
ENDED_TOO_SOON = "The run was ended by a signal before it had begun: nothing was tried."
#: Seconds between two looks at whether the run has ended; that a process of Locust may live on after it.
_LOOK_SECONDS, _WORKER_SECONDS = 1.0, 20.0
#: Seconds that a run that does not end may take to print its stacks.
_LAST_WORDS_SECONDS = 5.0
#: Locust itself ends the run after this long, beyond its time, should a worker never begin.
_START_SECONDS = 60.0

_log = logging.getLogger("pytest_redisq")


class LoadError(RedisqError):
    """A load run could not be carried out; the text says why and what to do. `exit_code` is one of `EXITS`."""

    def __init__(self, text: str, exit_code: int = EXIT_NOT_RUN) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRun:
    """A load run to be made. `scenario`: one of `scenarios()`, or the path of a locustfile."""

    scenario: str
    url: str
    seconds: float = 10.0
    engine: Engine = "epoll"
    producers: int | None = None
    consumers: int | None = None
    rate: str = ""
    payload_bytes: int = 100
    pipeline: int = 1
    processes: int = 1
    drain_seconds: float = 30.0
    fail_if: Sequence[str] = ()
    #: Settings of the scenario, each NAME=VALUE, such as "elements=1_000_000".
    settings: Sequence[str] = ()
    #: Whether redisq has started the server and removes it after the run: then the keys need no lease.
    own_server: bool = False
    #: Whether clients of other processes may use that server, such as workers of pytest-xdist.
    shared_server: bool = False
    #: Further arguments for Locust's command line, such as ("--csv", "figures").
    locust: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", Url(self.url))

    def command(self, report: Path) -> list[str]:
        words: list[object] = [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "locust",
            "-f",
            locustfile(self.scenario),
            "--headless",
        ]
        words += ["--produce-seconds", self.seconds, "--run-time", f"{self.seconds + _START_SECONDS:.0f}s"]
        words += ["--loglevel", "WARNING", "--only-summary"]
        words += ["--engine", self.engine, "--payload", self.payload_bytes, "--pipeline", self.pipeline]
        words += ["--drain-seconds", self.drain_seconds, "--redisq-report", report]
        options = {"--producers": self.producers, "--consumers": self.consumers, "--rate": self.rate or None}
        for flag, value in options.items():
            words += [flag, value] if value is not None else []
        for threshold in self.fail_if:
            words += ["--fail-if", threshold]
        for setting in self.settings:
            words += ["--set", setting]
        words += ["--redisq-own-server"] * self.own_server
        words += ["--redisq-shared-server"] * self.shared_server
        if self.processes > 1:
            words += ["--processes", self.processes, *_meeting_place()]
        return [*map(str, words), *self.locust]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What came of a run.

    `status`: 0 (as promised), 1 (contract broken), 2 (threshold missed), 3 (not judged), 4 (a file is missing).
    `asked`: what a caller has asked of the verdict, so that a test that asks nothing can be warned.
    """

    status: int
    told: Mapping[str, Any]
    output: str
    #: Whether a signal came. The run may have come to its end all the same: see `interrupted`.
    stopped: bool = False
    asked: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def exit_code(self) -> int:
        """The `status`, as the command exits with it."""
        self.asked.add("exit_code")
        return self.status

    @property
    def outcome(self) -> str:
        """ "pass", "fail" or "unknown"."""
        self.asked.add("outcome")
        return str(self.told["verdict"]["outcome"])

    @property
    def counts(self) -> Mapping[str, int]:
        """The anomalies found, by name; those not found are left out."""
        self.asked.add("counts")
        found: Mapping[str, int] = self.told["verdict"]["counts"]
        return found

    @property
    def figures(self) -> Mapping[str, float]:
        """As `LoadResult.figures` has them: latencies in microseconds."""
        figures: Mapping[str, float] = self.told["figures"]
        return figures

    @property
    def interrupted(self) -> bool:
        """Whether the run ended before its time, so that it proves nothing and is no baseline."""
        return bool(self.told.get("interrupted", False))

    def verify(self) -> None:
        """Raises DeliveryError, with the output, unless the contract was kept and no threshold was missed."""
        self.asked.add("verify")
        if self.status:
            line = str(self.told["verdict"]["line"])
            point = "; ".join(self.told["missed"]) or line if self.outcome == "pass" else line
            raise DeliveryError(f"{point}\nThe load run ended with exit code {self.exit_code}:\n{self.output}")


def _meeting_place() -> list[object]:
    """Where the processes of one run meet, and no other's: Locust's own port is the same for all runs of a machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where: list[object] = ["--master-host", "127.0.0.1", "--master-port", port]
    return [*where, "--master-bind-host", "127.0.0.1", "--master-bind-port", port]


def begun_file(report: Path) -> Path:
    """What a run makes beside its report when all are connected, and touches while consumers drain the queue."""
    return report.with_name(f"{report.name}.begun")


def strikes_file(report: Path) -> Path:
    """Where the faults of a run are noted, a `FaultRecord` a line, by the process that strikes.

    A fault that is about to strike is noted with its time and `struck` 0. Afterwards its first and its last strike are
    noted, or without a time that it failed.
    """
    return report.with_name(f"{report.name}.strikes")


def read_strikes(report: str | None) -> list[FaultRecord]:
    """What is noted of the faults of the run with this report so far; see `strikes_file`."""
    file = strikes_file(Path(report)) if report else None
    if file is None or not file.exists():
        return []
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [FaultRecord(**{**record, "killed": tuple(record["killed"])}) for record in records]


def fault_state(records: Sequence[FaultRecord]) -> tuple[bool, int]:
    """Returns whether a fault strikes and is not healed yet, and when one was healed last, by the wall clock; 0: never.

    `records`: as `read_strikes` returns them.
    """
    healing = bool(records) and not records[-1].struck and records[-1].at_ns is not None
    return healing, max((record.at_ns for record in records if record.struck and record.at_ns), default=0)


def reserve_file(report: Path) -> Path:
    """What keeps room on the disk for a run's report, until that is written."""
    return report.with_name(f"{report.name}.reserve")


def _report_in(folder: str) -> Path:
    report = Path(folder) / "report.json"
    with explain_full_disk():
        reserve_file(report).write_bytes(bytes(_REPORT_BYTES))
    return report


def scenarios() -> dict[str, Path]:
    """The scenarios supplied, by name."""
    return {path.stem: path for path in sorted(_folder().glob("[!_]*.py"))}


def locustfile(scenario: str) -> Path:
    """The file of that scenario, or the path itself. LoadError if there is neither."""
    if scenario.endswith(".py"):
        if not Path(scenario).is_file():
            raise LoadError(f"There is no locustfile {scenario!r}.")
        return Path(scenario)
    known, name = scenarios(), scenario.replace("-", "_")
    if name not in known:
        raise LoadError(
            f"There is no scenario {scenario!r}.{suggest(name, known)} There are {', '.join(known)}; "
            "or give the path of a locustfile, ending in .py."
        )
    return known[name]


def require_locust() -> None:
    """LoadError if what load needs is not installed."""
    missing = [name for name in ("locust", "hiredis", "hdrh", "pyroaring") if importlib.util.find_spec(name) is None]
    if missing:
        raise LoadError(f"Load needs {', '.join(missing)}: pip install 'pytest-redisq[load]'")


def run(load: LoadRun) -> LoadReport:
    """Run it to its end. LoadError if it ended without a report, or not at all."""
    with under_way(load, output=subprocess.PIPE) as running:
        return running.wait()


class RunningLoad:
    """A run under way."""

    def __init__(self, load: LoadRun, child: ChildProcess, report: Path) -> None:
        self._load = load
        self._child = child
        self._report = report
        #: Whether it was to end before its time; also where it had just come to its end by itself.
        self.stopped: bool = False
        self.process: subprocess.Popen[str] = child.process

    def begun(self) -> bool:
        """Whether all are connected, so that its time counts."""
        return begun_file(self._report).exists()

    def note_strike(self, record: FaultRecord) -> None:
        """Tell the run of a fault that struck it. RedisqError if there is no room for that on the disk."""
        with explain_full_disk(), open(strikes_file(self._report), "a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(record)) + "\n")

    def stop(self) -> None:
        """End it before its time, in good order: what is under way is drained and judged. Once is enough."""
        before, self.stopped = self.stopped, True
        if not before and not self._report.exists():  # Locust stumbles over a signal while it exits
            self.process.send_signal(signal.SIGTERM)

    def wait(self) -> LoadReport:
        """The report, when the run has ended. LoadError if it ends without one, or neither ends nor makes headway."""
        output = self._output()
        if not self._report.exists() and self.stopped and not self.begun():
            raise LoadError(ENDED_TOO_SOON, EXIT_UNKNOWN)
        if not self._report.exists():
            code = self.process.returncode
            raise LoadError(
                f"Locust ended with exit code {code} and without a report.\n{_last(output)}".rstrip(),
                EXIT_NOT_RUN if code == EXIT_NOT_RUN else EXIT_UNKNOWN,
            )
        told = json.loads(self._report.read_text())
        return LoadReport(status=told["exit_code"], told=told, output=output or "", stopped=self.stopped)

    def _output(self) -> str | None:
        patience = self._load.drain_seconds + _GRACE_SECONDS
        give_up = time.monotonic() + self._load.seconds + patience
        ended: float | None = None
        while True:
            try:
                return self.process.communicate(timeout=_LOOK_SECONDS)[0]
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if self.process.poll() is not None or self._report.exists():
                # The rest is a worker that does not end: the master waits for it, or has left it with our pipe.
                ended = ended or now
                if now - ended > _WORKER_SECONDS:
                    _log.warning("A process of Locust did not end with the run, and was killed.")
                    return self._last_words()
            elif now > give_up:
                begun = begun_file(self._report)
                give_up = now + (begun.stat().st_mtime if begun.exists() else 0.0) + patience - time.time()
                if now > give_up:
                    told = f"Locust did not come to an end, and was killed.\n{_last(self._last_words(), lines=400)}"
                    raise LoadError(told.rstrip(), EXIT_UNKNOWN)

    def _last_words(self) -> str:
        """End all its processes; the output, with where the greenlets and threads of each stood (`-X faulthandler`)."""
        for number in (signal.SIGUSR2, signal.SIGABRT):  # the first: see `locust_worker.TELL_STANDS`
            for process in self._processes():
                if _catches(process, number):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.communicate(timeout=_LAST_WORDS_SECONDS)[0] or ""
        self._child.end()
        return self.process.communicate()[0] or ""

    def _processes(self) -> list[int]:
        with contextlib.suppress(OSError):
            return session_of(self.process.pid)
        return [self.process.pid]


def _catches(process: int, number: signal.Signals) -> bool:
    """Whether `process` handles that signal and survives it. False if the system has no /proc."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _last(output: str | None, lines: int = 40) -> str:
    return "\n".join((output or "").splitlines()[-lines:])


@contextlib.contextmanager
def under_way(load: LoadRun, *, output: int | None = None) -> Iterator[RunningLoad]:
    """Start it, in a session of its own so that Ctrl-C reaches it through us alone; it ends with the block."""
    require_locust()
    with tempfile.TemporaryDirectory(prefix="load-", dir=temporary_folder()) as folder:
        report = _report_in(folder)
        child = ChildProcess(
            load.command(report),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            text=True,
            # Not on the command line, where other users of the machine can read its password.
            env=os.environ | {"REDIS_URL": load.url, "TMPDIR": folder},
        )
        try:
            yield RunningLoad(load, child, report)
        finally:
            child.end()  # its workers, too, should the master have died before them
            child.process.wait()
            if child.process.stdout:
                child.process.stdout.close()


@contextlib.contextmanager
def ended_by_signals(running: RunningLoad) -> Iterator[None]:
    """SIGINT and SIGTERM end the run in good order instead of this process."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        running.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _folder() -> Path:
    """The locustfiles: in the package, where it is installed, and beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "loadtests"
    return inside if inside.is_dir() else package.parent / "loadtests"
