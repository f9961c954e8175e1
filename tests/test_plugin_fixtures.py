"""The fixtures, in the kinds of tests and under the plugins that people use them with."""

from __future__ import annotations

import os
import stat

import pytest
import redis

from pytest_redisq.check import Contract, check
from pytest_redisq.history import read_history
from pytest_redisq.servers import Server
from tests.inner import ONE_TEST, InnerRuns
from tests.support import eventually, local_kind

SAME_KEYS = """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_same_names(redisq_client, redisq_server, number):
    assert redisq_client.keys() == []
    for _ in range(5):
        redisq_client.incr("counter")
        redisq_client.rpush("list", number)
    assert redisq_client.get("counter") == b"5"
    assert set(redisq_client.lrange("list", 0, -1)) == {{str(number).encode()}}
    print("server", redisq_server.info("server")["run_id"])
"""


def run_ids(result: pytest.RunResult) -> set[str]:
    return {line.split()[1] for line in result.outlines if line.startswith("server ")}


@pytest.mark.parametrize(
    ("tests", "workers"), [(20, 2), pytest.param(200, 8, marks=[pytest.mark.slow, pytest.mark.server])]
)
def test_tests_with_the_same_key_names_do_not_meet(inner: InnerRuns, tests: int, workers: int) -> None:
    """One server for all xdist workers, and one line about it."""
    inner.file("test_same.py", SAME_KEYS.format(tests=tests))
    result = inner.run("-n", str(workers), "-rP", plugins=("xdist",))
    result.assert_outcomes(passed=tests)
    assert len(run_ids(result)) == 1
    assert len([line for line in result.outlines if line.startswith("redisq: ")]) == 1


@pytest.mark.parametrize("dist", ["loadscope", "loadfile", "worksteal", "each"])
def test_every_way_of_distribution_works(inner: InnerRuns, dist: str) -> None:
    inner.file("test_same.py", SAME_KEYS.format(tests=4))
    result = inner.run("-n", "2", "--dist", dist, "-rP", plugins=("xdist",))
    result.assert_outcomes(passed=8 if dist == "each" else 4)
    assert len(run_ids(result)) == 1


def test_a_fork_for_each_test_shares_the_server(inner: InnerRuns) -> None:
    """As pytest-forked does it: each test's fixtures are set up and torn down in a child, which ends by os._exit."""
    inner.file(
        "conftest.py",
        """
import os, pytest, sys
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        failed = [report for report in reports if not report.passed]
        for report in failed:
            os.write(2, report.longreprtext.encode())
        run_id = "".join(report.capstdout for report in reports)
        os.write(writing, run_id.encode())
        sys.stdout.flush()
        os._exit(bool(failed))
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    print()
    print(text)
    print("child of", item.name, "ended with", status)
    return True
""",
    )
    inner.file("test_same.py", SAME_KEYS.format(tests=6))
    result = inner.run("-s")
    result.stdout.fnmatch_lines([f"child of test_same_names?{number}? ended with 0" for number in range(6)])
    assert len(run_ids(result)) == 1


def test_unittest_classes_can_use_it(inner: InnerRuns) -> None:
    inner.file(
        "test_case.py",
        """
import unittest, pytest

@pytest.fixture
def client_on_class(request, redisq_client):
    request.cls.client = redisq_client

@pytest.mark.usefixtures("client_on_class")
class TestCase(unittest.TestCase):
    def test_one(self):
        self.assertEqual(self.client.incr("n"), 1)

    def test_two(self):
        self.assertEqual(self.client.incr("n"), 1)

class TestAsync(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def client(self, redisq_async_client):
        self.client = redisq_async_client

    async def test_three(self):
        self.assertEqual(await self.client.incr("n"), 1)
""",
    )
    inner.run().assert_outcomes(passed=3)


ASYNC = """
import asyncio, gc, pytest
{mark}

{backend}

@pytest.fixture
def busy(redisq_async_client):
    yield redisq_async_client
    gc.collect()

async def test_one(redisq_async_client):
    assert await redisq_async_client.incr("n") == 1

async def test_two(busy, redisq_async_client):
    assert await busy.incr("n") == 1
    async with busy.pipeline() as pipe:
        assert await pipe.incr("n").incr("n").execute() == [2, 3]
    async with busy.pubsub() as pubsub:
        await pubsub.subscribe("channel")
    assert await asyncio.gather(busy.blpop("none", 0.02), busy.blpop("none", 0.02)) == [None, None]

def test_three():
    gc.collect()
"""
ANYIO = "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


@pytest.mark.parametrize(
    ("plugin", "options", "mark", "backend"),
    [
        pytest.param("pytest_asyncio.plugin", (), "pytestmark = pytest.mark.asyncio", "", id="strict"),
        pytest.param("pytest_asyncio.plugin", ("-o", "asyncio_mode=auto"), "", "", id="auto"),
        pytest.param(
            "pytest_asyncio.plugin", (), "pytestmark = pytest.mark.asyncio(loop_scope='session')", "", id="session loop"
        ),
        pytest.param("anyio.pytest_plugin", (), "pytestmark = pytest.mark.anyio", ANYIO, id="anyio"),
    ],
)
def test_async_tests_have_a_client_that_closes_itself(
    inner: InnerRuns, plugin: str, options: tuple[str, ...], mark: str, backend: str
) -> None:
    """Warnings are errors in the inner run, those about unclosed connections and sockets included."""
    # A sync test may not bear pytest-asyncio's mark, so that one stands before the async ones only.
    body = ASYNC.format(mark="", backend=backend)
    if mark:
        body = body.replace("async def test_", f"@{mark.removeprefix('pytestmark = ')}\nasync def test_")
    inner.file("test_async.py", body)
    inner.file("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n" if "asyncio" in plugin else "")
    inner.run(*options, plugins=(plugin,)).assert_outcomes(passed=3)


@pytest.mark.server
def test_a_marked_test_has_a_server_of_its_own(inner: InnerRuns) -> None:
    inner.file(
        "test_dedicated.py",
        """
import pytest

@pytest.mark.redisq_dedicated(persistence="aof", server_args=["maxmemory 50mb"])
def test_dedicated(redisq, redisq_client):
    redisq_client.set("a", 1)
    redisq.server.restart()
    assert redisq_client.get("a") == b"1"
    assert redisq.server.config("maxmemory") == str(50 * 2**20)

def test_shared(redisq, redisq_server):
    assert redisq.server is redisq_server
    assert redisq.server.config("maxmemory") == "0"
""",
    )
    inner.run().assert_outcomes(passed=2)


def test_servers_started_by_hand_end_with_the_run(inner: InnerRuns) -> None:
    inner.file(
        "test_start.py",
        """
import pytest

@pytest.fixture(scope="module")
def small(redisq_start):
    server = redisq_start(server_args=["maxmemory 50mb"])
    yield server
    server.stop()

def test_small(small):
    assert small.config("maxmemory") == str(50 * 2**20)

def test_another(redisq_start):
    print("url", redisq_start().url)
""",
    )
    result = inner.run("-rP")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("redisq: *")  # no test used the shared server
    url = next(line.split()[1] for line in result.outlines if line.startswith("url "))
    assert not answers(url)


def test_mistyped_settings_of_a_server_are_named(inner: InnerRuns) -> None:
    inner.file(
        "test_mistyped.py",
        """
import pytest

def test_start(redisq_start):
    redisq_start(persistance="aof")

@pytest.mark.redisq_dedicated(server="dokcer")
def test_marked(redisq_client):
    pass

@pytest.mark.redisq_dedicated("aof")
def test_unnamed(redisq_client):
    pass
""",
    )
    result = inner.run()
    result.assert_outcomes(failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "redisq_dedicated(server=…): 'dokcer' is not a server. Did you mean 'docker'?*",
            "redisq_dedicated('aof'): name the setting, as in persistence='aof'.",
            "redisq_start() has no argument 'persistance'. Did you mean 'persistence'?*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_session_namespace_outlives_tests_and_meets_none(inner: InnerRuns) -> None:
    inner.file(
        "test_session.py",
        """
import pytest

@pytest.fixture(scope="session")
def filled(redisq_session):
    redisq_session.client.set("kept", 1)
    return redisq_session.client

@pytest.mark.parametrize("number", range(9))
def test_kept(filled, redisq_client, number):
    assert redisq_client.keys() == []
    redisq_client.set("kept", 2)
    assert filled.get("kept") == b"1"
""",
    )
    inner.run().assert_outcomes(passed=9)


def test_a_fixture_asked_for_late_starts_the_server_late(inner: InnerRuns) -> None:
    inner.file("test_late.py", "def test_late(request): assert request.getfixturevalue('redisq_client').ping()")
    inner.run().assert_outcomes(passed=1)


def test_a_server_that_dies_at_boot_is_tried_once_and_told_to_every_test(inner: InnerRuns) -> None:
    """One short text each, with the server's own last words, and no traceback."""
    binary = inner.file(
        "dying-server", f"#!/bin/sh\necho tried >>{inner.path}/tries\necho the disk is on fire\nexit 3\n"
    )
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    inner.file("test_one.py", ONE_TEST + "def test_two(redisq):\n    pass\n\ndef test_plain():\n    pass\n")
    result = inner.run(f"--redisq-binary={binary}", environ={"REDISQ_SERVER": None})
    result.assert_outcomes(errors=2, passed=1)
    text = result.stdout.str()
    assert "redisq: no server: The server died at boot: " in text
    assert text.count("the disk is on fire") == 2
    assert "Traceback" not in text
    assert "site-packages" not in text
    assert (inner.path / "tries").read_text() == "tried\n"


def test_the_servers_log_is_shown_where_it_may_tell_more(inner: InnerRuns) -> None:
    inner.file(
        "test_log.py",
        """
import pytest

@pytest.mark.redisq_dedicated
def test_hung_up(redisq):
    redisq.client.ping()
    redisq.server.kill()
    redisq.client.ping()

def test_plain_failure(redisq):
    assert redisq.client.get("a") == b"1"
""",
    )
    result = inner.run()
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("redisq: the end of the server's log") == 1
    result.stdout.fnmatch_lines(["*Ready to accept connections*"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_somebody_elses_server_keeps_what_it_had(
    inner: InnerRuns, redisq_start: object, workers: tuple[str, ...]
) -> None:
    """Keys of the same names as the tests use, before and after, byte for byte, and none of ours is left."""
    server = redisq_start(server=local_kind())  # type: ignore[operator]
    assert isinstance(server, Server)
    with server.client() as theirs:
        theirs.set("counter", 77)
        theirs.rpush("list", "theirs")
        theirs.set("other", "theirs", ex=1000)
        before = {key: theirs.dump(key) for key in theirs.scan_iter()}
        inner.file("test_same.py", SAME_KEYS.format(tests=4))
        result = inner.run(*workers, "--redisq-server", server.url, plugins=("xdist",) if workers else ())
        result.assert_outcomes(passed=4)
        result.stdout.fnmatch_lines("redisq: * url, redis://:[*][*][*]@* (--redisq-server)")
        assert {key: theirs.dump(key) for key in theirs.scan_iter()} == before
    server.stop()


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_an_interrupted_run_leaves_no_server(inner: InnerRuns, workers: tuple[str, ...]) -> None:
    """Ctrl-C in the middle of a test."""
    inner.file(
        "test_interrupted.py",
        f"""
import os, signal

def test_interrupted(redisq):
    with open("url", "w") as file:
        file.write(redisq.url)
    os.kill(os.getppid() if {bool(workers)} else os.getpid(), signal.SIGINT)
    redisq.client.blpop("nothing", 20)
""",
    )
    result = inner.run(*workers, plugins=("xdist",) if workers else ())
    assert result.ret == pytest.ExitCode.INTERRUPTED
    url = (inner.path / "url").read_text()
    eventually(lambda: not answers(url), seconds=5)


def answers(url: str) -> bool:
    client = redis.Redis.from_url(url, retry=None)
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
    finally:
        client.connection_pool.disconnect()


def test_options_reach_xdist_workers_from_every_source(inner: InnerRuns) -> None:
    inner.file("test_config.py", "def test_config(redisq_server): assert redisq_server.config('timeout') == '77'")
    inner.file("pytest.ini", "[pytest]\nredisq_server_args =\n    timeout 77\n")
    assert "REDISQ_SERVER_ARGS" not in os.environ
    inner.run("-n", "1", plugins=("xdist",)).assert_outcomes(passed=1)
    inner.run("-n", "1", "--redisq-server-arg=timeout 78", plugins=("xdist",)).assert_outcomes(failed=1)


def test_a_broken_contract_leaves_its_history(inner: InnerRuns) -> None:
    """In the folder of what failed, and it can be judged again."""
    inner.file(
        "test_lossy.py",
        """
def lose(client, body):
    pass

def take(client, timeout_seconds):
    return client.lpop("jobs")

def test_lossy(redisq):
    redisq.run((lose, take), messages=10, settle_seconds=0.1).verify("at-least-once")
""",
    )
    result = inner.run()
    result.assert_outcomes(failed=1)
    history = inner.path / ".redisq" / "test_lossy.py-test_lossy.jsonl"
    result.stdout.fnmatch_lines([f"Check it again: redisq check *{history.name} CONTRACT"])
    assert check(read_history(history), Contract.parse("at-least-once")).counts["lost"] == 10


def test_records_of_worker_processes_are_in_the_report_of_a_test_that_fails(inner: InnerRuns) -> None:
    """The place of the handlers of its own process."""
    inner.file(
        "test_talks.py",
        """
import logging

class Talks:
    def __init__(self, client):
        self.client = client

    def put(self, body):
        logging.getLogger("talks").warning("one is put")
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds):
        return self.client.lpop("jobs")

def test_talks(redisq):
    redisq.run(Talks, producers=2, consumers=1, messages=6, workers="process").verify("at-least-once")
    raise AssertionError("it fails for another reason")
""",
    )
    result = inner.run()
    result.assert_outcomes(failed=1)
    section = result.stdout.str().partition("Captured log call")[2]
    assert section.count("WARNING  talks:test_talks.py:9 one is put") == 6
