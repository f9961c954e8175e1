"""2 s after any end of a command, at any moment, no process that it started runs, and its TMPDIR is empty.

ATTACKS says how often each ending is tried at each moment (1), for a thorough run with `-m slow`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack import CLOSED_TERMINAL, ENDINGS, Attacked
from tests.support import eventually, local_kind

TIMES = int(os.environ.get("ATTACKS", "1"))
#: A moment must come within so many seconds.
_MOMENT_SECONDS = 60.0

Attack = Callable[..., Attacked]
Moment = Callable[[Attacked], object]

_MODULE = [sys.executable, "-m", "pytest_redisq"]
_LOAD = [*_MODULE, "load", "drain-to-file", "--time", "60s", "--processes", "2", "--rate", "1000"]
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_suite.py"]

_SUITE = """
import os, pathlib, signal, sys, time
import pytest, redis
from pytest_redisq import Command

def mark_and_wait():
    pathlib.Path(os.environ["ATTACKED"], f"up-{os.getpid()}").touch()
    time.sleep(1000)

class Queue:
    def __init__(self, client):
        self.client = client
    def put(self, body):
        self.client.rpush("jobs", body)
    def get(self, wait_seconds):
        mark_and_wait()

@pytest.mark.parametrize("workers", ["fork", "spawn", "forkserver", "pool", "executor"])
def test_run(redisq, workers):
    redisq.run(Queue, producers=1, consumers=2, messages=10, workers=workers)

PROGRAM = "import test_suite; test_suite.mark_and_wait()"

def test_commands(redisq):
    consumer = Command(["sh", "-c", f"{sys.executable} -c '{PROGRAM}' & wait"])
    redisq.run((lambda client, body: None, consumer), consumers=2, messages=10)

def wait_in_process(url):
    redis.from_url(url).ping()
    mark_and_wait()

@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_explore(redisq, method):
    def scenario(world):
        world.actor(wait_in_process, gets="url", process=method)
        world.process([sys.executable, "-c", PROGRAM])
        world.run()
    redisq.explore(scenario)

def test_kept():
    mark_and_wait()
"""

_KEPT = {
    "test_regressions.py": "from pytest_redisq.regressions import regressions\ntest_it = regressions(__file__)\n",
    "kept.toml": 'name = "kept"\nwhy = "w"\nverdict = "holds"\ntest = "test_suite.py::test_kept"\nschedule = "A"\n',
}


@pytest.fixture
def attack() -> Iterator[Attack]:
    """Start a command that is going to be ended that way; nothing of it outlives the test."""
    started: list[Attacked] = []
    folder = Path(tempfile.mkdtemp(prefix="a-"))  # a short path, since a unix socket's may have a hundred characters

    def start(command: list[str], ending: str) -> Attacked:
        for name, text in {"test_suite.py": _SUITE, **_KEPT}.items():
            (folder / name).write_text(text)
        (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        server = os.environ.get("REDISQ_SERVER") or local_kind()
        started.append(Attacked(folder, command, ending=ending, REDISQ_SERVER=server, PYTHONPATH=str(folder)))
        return started[-1]

    yield start
    for attacked in started:
        attacked.kill()
        attacked.process.wait()
    shutil.rmtree(folder)


def _carry_out(attacked: Attacked, moment: Moment) -> None:
    def there() -> object:
        assert attacked.process.poll() is None, attacked.output.read_text()
        return moment(attacked)

    eventually(there, _MOMENT_SECONDS)
    attacked.end()
    attacked.has_left_nothing()


def _file(pattern: str, count: int = 1) -> Moment:
    return lambda attacked: len(list(attacked.temporary.glob(pattern))) >= count


def _processes(word: str, count: int) -> Moment:
    return lambda attacked: attacked.count(word) >= count


def _tests_up(count: int = 2) -> Moment:
    return lambda attacked: len(list(attacked.temporary.parent.glob("up-*"))) >= count


LOAD: dict[str, Moment] = {
    "its server starts": _file("redisq-*/data"),  # before that, for a moment, there is no supervisor: see ARCHITECTURE
    "Locust starts": _processes("locust", 1),
    "Locust has forked": _processes("locust", 3),
    "it runs": _file("redisq-*/load-*/report.json.begun"),
}
DEMO: dict[str, Moment] = {
    "its server starts": _file("redisq-*/data"),  # before that, for a moment, there is no supervisor: see ARCHITECTURE
    "it explores": _file("redisq-*/explore-*"),
    "its processes log": _file("redisq-*/demo-*/round-*/app.log.1"),
}
RUNS = ["run[fork]", "run[spawn]", "run[forkserver]", "run[pool]", "run[executor]", "commands"]
EXPLORATIONS = ["explore[spawn]", "explore[forkserver]"]

_every_ending = pytest.mark.parametrize("ending", ENDINGS)
_times = pytest.mark.parametrize("time", range(TIMES))


@pytest.mark.parametrize("ending", ["SIGKILL", CLOSED_TERMINAL])
def test_a_load_run(attack: Attack, ending: str) -> None:
    _carry_out(attack(_LOAD, ending), LOAD["it runs"])


def test_a_demo(attack: Attack) -> None:
    _carry_out(attack([*_MODULE, "demo"], "SIGKILL"), DEMO["its processes log"])


@pytest.mark.parametrize("test", [RUNS[0], RUNS[-1], EXPLORATIONS[0]])
def test_a_test(attack: Attack, test: str) -> None:
    _carry_out(attack([*_PYTEST, "-k", f"test_{test}"], "SIGKILL"), _tests_up())


def test_a_regression_that_is_a_test(attack: Attack) -> None:
    _carry_out(attack([*_PYTEST[:-1], "test_regressions.py"], "SIGKILL"), _tests_up(1))


@pytest.mark.nightly
@_times
@_every_ending
@pytest.mark.parametrize("moment", LOAD)
def test_a_load_run_at_any_moment(attack: Attack, moment: str, ending: str, time: int) -> None:  # noqa: ARG001
    _carry_out(attack(_LOAD, ending), LOAD[moment])


@pytest.mark.nightly
@_times
@_every_ending
@pytest.mark.parametrize("moment", DEMO)
def test_a_demo_at_any_moment(attack: Attack, moment: str, ending: str, time: int) -> None:  # noqa: ARG001
    _carry_out(attack([*_MODULE, "demo"], ending), DEMO[moment])


@pytest.mark.nightly
@_times
@_every_ending
@pytest.mark.parametrize("test", [*RUNS, *EXPLORATIONS])
def test_a_test_of_any_kind(attack: Attack, test: str, ending: str, time: int) -> None:  # noqa: ARG001
    _carry_out(attack([*_PYTEST, "-k", f"test_{test}"], ending), _tests_up())


@pytest.mark.nightly
@_times
@_every_ending
@pytest.mark.parametrize("test", [RUNS[0], RUNS[-1], EXPLORATIONS[0]])
def test_a_test_in_an_xdist_worker(attack: Attack, test: str, ending: str, time: int) -> None:  # noqa: ARG001
    _carry_out(attack([*_PYTEST, "-n", "1", "-k", f"test_{test}"], ending), _tests_up())
