"""A pytest run's messages on keys on the user's own server: deleted keys, and missing permissions."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pytest_redisq.servers import Server, start
from pytest_redisq.servers.key_lease import REGISTRY
from tests.inner import InnerRuns
from tests.support import local

SUITE = """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_one(redisq, n):
    redisq.client.set("a", n)
"""
LEFT = "redisq:0123456789abcdef:"


@pytest.fixture
def theirs() -> Iterator[Server]:
    """The user's own server, on which a run that crashed has left keys; its lease has run out."""
    server = start(local())
    with server.client() as client:
        client.hset(REGISTRY % 0, LEFT, "process 1 on somewhere")
        client.rpush(f"{LEFT}0:jobs", "a")
        client.set("jobs", "theirs")
    yield server
    server.stop()


@pytest.mark.parametrize("options", [(), ("-q",), ("-v",), ("-n", "2")], ids=["plain", "quiet", "verbose", "xdist"])
def test_a_run_names_once_what_it_deletes(inner: InnerRuns, theirs: Server, options: tuple[str, ...]) -> None:
    inner.file("test_suite.py", SUITE)
    plugins = ("xdist",) if "-n" in options else ()
    result = inner.run(*options, plugins=plugins, environ={"REDISQ_SERVER": theirs.url})
    result.assert_outcomes(passed=4)
    said = f"redisq: Deleted 1 keys {LEFT}*, left by process 1 on somewhere, whose lease has expired."
    assert result.outlines.count(said) == 1, str(result.stdout)
    with theirs.client() as client:
        assert client.keys() == [b"jobs"]


def test_a_user_who_may_not_scan_is_told_without_a_traceback(inner: InnerRuns, theirs: Server) -> None:
    with theirs.client() as client:
        client.acl_setuser("bob", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-scan"])
    inner.file("test_suite.py", SUITE)
    result = inner.run(environ={"REDISQ_SERVER": f"redis://bob:any@127.0.0.1:{urlsplit(theirs.url).port}/0"})
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*forbids commands for deleting redisq's keys: *'scan'*", "*+scan*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_server_that_was_emptied_meanwhile_is_told_at_the_end(inner: InnerRuns, theirs: Server) -> None:
    inner.file("test_suite.py", "def test_one(redisq, redisq_server):\n    redisq_server.client().flushall()\n")
    result = inner.run(environ={"REDISQ_SERVER": theirs.url})
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["redisq: The lease on the keys redisq:* had expired: *or it was flushed*"])
