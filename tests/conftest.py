"""The rules of this project's own test suite.

* A test that needs a kind of server says so by a marker of that name. Where the kind is missing, the test is skipped,
  and the last lines say loudly what was not tested; with CI set nothing is skipped, so it fails.
* A run leaves nothing behind: no process that it started, no container, no temporary folder. Should it, the run fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from multiprocessing.util import Finalize
from pathlib import Path

import docker
import pytest
import redis

from pytest_redisq.options import Settings, environment, resolve
from pytest_redisq.servers import Server, start
from pytest_redisq.servers.docker import LABEL
from tests.inner import InnerRuns
from tests.support import IMAGE, KINDS, eventually, missing

#: How long what belongs to a run may take to be gone after its end, in seconds.
GONE_SECONDS = 2.0

TEMPORARY = pytest.StashKey[Path]()


@pytest.fixture(params=[pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in KINDS])
def backend(request: pytest.FixtureRequest) -> str:
    """Each kind of server that we start ourselves: "process", "embedded", "docker"."""
    return str(request.param)


@pytest.fixture
def any_server_settings(backend: str) -> Settings:
    """The settings of a server of each kind."""
    return Settings(server=backend, image=IMAGE if backend == "docker" else None)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server that REDISQ_SERVER names, for one file of tests alone: such a test may set limits on connections."""
    server = start(resolve([environment(os.environ)]))
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client of `server`, whose database is empty."""
    with server.client() as client:
        client.flushdb()
        yield client


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> InnerRuns:
    """pytest runs in a folder of their own, with this plugin and no other."""
    return InnerRuns(pytester, monkeypatch)


def pytest_configure(config: pytest.Config) -> None:
    # A run that was started in the background ignores SIGINT and SIGQUIT, one under nohup SIGHUP, and every process
    # that a test starts would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        return
    # Every process of this run, xdist workers too, makes its temporary files in one place, and carries its name.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    place = config.stash[TEMPORARY] = Path(tempfile.mkdtemp(prefix="rq-"))
    os.environ["TMPDIR"] = str(place)
    tempfile.tempdir = None
    # After multiprocessing's own folder, which lives in it to the very end and has priority -100.
    Finalize(None, shutil.rmtree, args=[place], kwargs={"ignore_errors": True}, exitpriority=-200)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI"):
        return
    chosen = {os.environ.get("REDISQ_SERVER", "")}
    for item in items:
        for kind in KINDS:
            if (kind in chosen or item.get_closest_marker(kind)) and (why := missing(kind)):
                item.add_marker(pytest.mark.skip(reason=f"NOT TESTED on {kind}: {why}"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    yield
    place = session.config.stash.get(TEMPORARY, None)
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if place is None or terminal is None:
        return
    for line in not_tested(terminal.stats.get("skipped", [])):
        terminal.write_line(line, yellow=True, bold=True)
    try:
        eventually(lambda: not left_behind(place), GONE_SECONDS)
    except AssertionError:
        for what in left_behind(place):
            terminal.write_line(f"LEFT BEHIND {GONE_SECONDS} s after the last test: {what}", red=True, bold=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def not_tested(skipped: list[pytest.TestReport]) -> list[str]:
    """Which kinds of server are missing, and how many tests that cost."""
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    missed = Counter(reason.removeprefix("Skipped: ") for reason in reasons if "NOT TESTED" in reason)
    return [f"{reason}: {count} tests skipped" for reason, count in sorted(missed.items())]


def left_behind(place: Path) -> list[str]:
    """What a run with this temporary folder has left: processes (if there is /proc), containers, folders."""
    folders = [f"folder {path} with {_names(path)}" for path in sorted(place.glob("redisq*"))]
    return [*processes(place), *containers(place), *folders]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # gone by now, or a file
        return []


def containers(place: Path) -> list[str]:
    if missing("docker"):
        return []
    with contextlib.closing(docker.from_env()) as client:
        ours = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
        return [f"container {each.name}" for each in ours if each.labels[LABEL].startswith(f"{place}/")]


def processes(place: Path) -> list[str]:
    mark, found = f"TMPDIR={place}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes().split(b"\0")
            ours = int(entry.name) != os.getpid() and any(
                each == mark or each.startswith(mark + b"/") for each in variables
            )
        except OSError:  # it has ended, or belongs to another user
            continue
        command = b" ".join(words).decode(errors="replace").strip()
        # multiprocessing's own servants live as long as this process, which made them.
        if ours and command and not ("from multiprocessing" in command or "/pymp-" in command):
            found.append(f"process {entry.name}: {command[:160]}")
    return found
