"""Exploring as tests do it: `redisq.explore` and `redisq.replay`, what a failure prints, and what is kept of it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.errors import ScheduleError
from pytest_redisq.explore import World
from pytest_redisq.facade import Redisq
from pytest_redisq.servers import Server
from pytest_redisq.servers.address import Address
from pytest_redisq.servers.namespace import Namespace
from tests.explore.stories import STORIES, drain_by_popping, drain_by_trimming, two_drainers

DRAINERS = """
    def drain(client, key):
        length = client.llen(key)
        items = client.lrange(key, 0, length - 1)
        client.ltrim(key, length, -1)
        return items

    def scenario(world):
        world.redis.rpush("jobs", *"ab")
        one, two = world.actor(drain, "jobs"), world.actor(drain, "jobs")
        world.run()
        assert sorted(one.result + two.result) == [b"a", b"b"]
"""

TABLE = [
    "*A drain * B drain",
    "*1 * LLEN jobs → 2*",
    "*2 * LRANGE jobs 0 1 → [[]a b[]] *",
    "*LTRIM jobs 2 -1 → OK",
]


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester


def run(inner: pytest.Pytester, *args: str) -> pytest.RunResult:
    return inner.runpytest_subprocess("-p", "no:randomly", *args)


@pytest.mark.server
def test_a_failure_shows_the_scenarios_own_assert_and_the_table(inner: pytest.Pytester) -> None:
    """No frame of ours, the rewritten assert, a lane per actor, and how to run it alone."""
    inner.makepyfile(test_it=DRAINERS + "\n    def test_it(redisq):\n        redisq.explore(scenario)\n")
    result = run(inner)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*assert sorted(one.result + two.result) == *",
            "E*AssertionError: assert [[]b'a', b'a',*",
            ">*redisq.explore(scenario)",
            "E*ScheduleError: schedule * fails; the shortest like it has 6 steps, 2 switches, 0 faults:",
            *TABLE,
            'E*replay: redisq.replay(scenario, "AABBBA")',
            "*redisq: the schedule*",
            "Run it alone: pytest test_it.py::test_it --redisq-replay AABBBA",
            "As a picture: .redisq/test_it.py-test_it-scenario.schedule.html",
        ]
    )
    assert "explorer.py" not in result.stdout.str()
    assert "world.py" not in result.stdout.str()


def test_a_failure_before_the_first_command_says_how_to_rerun(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_it="""
    def scenario(world):
        world.actor(lambda client: 1 / 0)
        world.run()

    def test_it(redisq):
        redisq.explore(scenario)
"""
    )
    result = run(inner)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*(no command was sent)", "E*ZeroDivisionError: *", "Run it alone: pytest test_it.py::test_it"]
    )


def test_a_replay_raises_the_scenarios_own_failure_with_the_table(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        DRAINERS
        + """
    def test_it(redisq):
        redisq.replay(scenario, "AABBBA")

    def test_that_it_holds_one_after_the_other(redisq):
        assert len(redisq.replay(scenario, "AAABBB").events) == 6
"""
    )
    result = run(inner)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([">*assert sorted(one.result*", "E*AssertionError: assert*", *TABLE])
    assert "explorer.py" not in result.stdout.str()


def test_the_flag_replays_instead_of_searching(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from the environment; in every test selected."""
    inner.makepyfile(DRAINERS + "\n    def test_it(redisq):\n        redisq.explore(scenario, schedules=1)\n")
    failed = run(inner, "--redisq-replay", "AABBBA")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(
        [
            "E*AssertionError: assert [[]b'a', b'a',*",
            "E*ScheduleError: the replayed schedule fails; it has 6 steps, 2 switches, 0 faults:",
            *TABLE,
            'E*replay: redisq.replay(scenario, "AABBBA")',
        ]
    )
    monkeypatch.setenv("REDISQ_REPLAY", "AABBBA")
    run(inner).assert_outcomes(failed=1)
    run(inner, "--redisq-replay", "AAABBB").assert_outcomes(passed=1)


def test_a_schedule_that_is_none_is_refused_at_once(inner: pytest.Pytester) -> None:
    result = run(inner, "--redisq-replay", "aab")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --redisq-replay: 'aab' is not a schedule: write a capital letter for each step*"]
    )


def test_a_replay_that_diverges_names_the_step(inner: pytest.Pytester) -> None:
    inner.makepyfile(DRAINERS + "\n    def test_it(redisq):\n        redisq.explore(scenario)\n")
    result = run(inner, "--redisq-replay", "AABC")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*NondeterminismError: The same schedule went two ways: step 4 should be C, but only A, B can go next.",
            "*3 *│ LLEN jobs → 2",
            "E*What to do: look for input that the schedule does not control: *",
        ]
    )
    assert "explorer.py" not in result.stdout.str()


def test_what_failed_is_tried_first_and_forgotten_once_it_holds(inner: pytest.Pytester) -> None:
    """The budget of one schedule does not find it: what is kept from the run before does, without pytest's cache."""
    test = "\n    def test_it(redisq):\n        redisq.explore(scenario, schedules={})\n"
    inner.makepyfile(test_it=DRAINERS + test.format(200))
    run(inner).assert_outcomes(failed=1)
    (kept,) = Path(inner.path).glob(".redisq/*.schedule.json")
    assert Path(inner.path, ".redisq", ".gitignore").read_text() == "*\n"
    picture = kept.with_suffix(".html")
    assert "replay(scenario, &quot;AABBBA&quot;)" in picture.read_text()
    assert json.loads(kept.read_text())["schedule"] == "AABBBA"
    inner.makepyfile(test_it=DRAINERS + test.format(1))
    again = run(inner, "--cache-clear")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E*ScheduleError: schedule 1 fails*"])
    inner.makepyfile(test_it=DRAINERS.replace("assert", "return") + test.format(1))
    run(inner).assert_outcomes(passed=1)
    assert not kept.exists()
    assert not picture.exists()


def test_nothing_is_stored_if_pytest_stores_nothing(inner: pytest.Pytester) -> None:
    inner.makepyfile(DRAINERS + "\n    def test_it(redisq):\n        redisq.explore(scenario)\n")
    result = run(inner, "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*It is kept*")
    assert not Path(inner.path, ".redisq").exists()


def test_progress_is_shown_on_a_terminal(inner: pytest.Pytester) -> None:
    """On a terminal, with -v; and then the test's own line."""
    inner.makepyfile(
        test_it=DRAINERS.replace("assert", "return") + "\n    def test_it(redisq):\n        redisq.explore(scenario)\n"
    )
    ours, theirs = pty.openpty()
    shown = ""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-v"], stdin=theirs, stdout=theirs, stderr=theirs
    ) as pytest_:
        os.close(theirs)
        with contextlib.suppress(OSError):  # the end of a terminal
            while data := os.read(ours, 4096):
                shown += data.decode(errors="replace")
        os.close(ours)
    assert pytest_.returncode == 0
    assert re.search(r"\rredisq: \d+ schedules, \d+ orders of conflicting commands seen", shown)
    assert re.search(r"test_it.py::test_it .*PASSED", shown)


def test_a_replay_by_flag_is_made_with_the_clients_that_were_asked_for(redisq_server: Server, redisq: Redisq) -> None:
    seen: list[object] = []

    def scenario(world: World) -> None:
        world.redis.set("key", "text")
        actor = world.actor(lambda client: client.get("key"))
        world.run()
        seen.append(actor.result)

    told = Redisq(server=redisq_server, namespace=redisq._namespace, schedule="A")
    told.explore(scenario, client=lambda url: redis.Redis.from_url(url, decode_responses=True), faults="kill")
    assert seen == ["text"]


@pytest.mark.slow
def test_hypothesis_shrinks_the_workload_around_the_schedule(redisq_session: Redisq) -> None:
    """The smallest list of jobs and its shortest schedule, without flakiness."""

    @given(st.lists(st.sampled_from("ab"), min_size=1, max_size=4))
    @settings(max_examples=5, deadline=None, database=None)
    def check(jobs: list[str]) -> None:
        def scenario(world: World) -> None:
            world.redis.rpush("jobs", *jobs)
            one, two = world.actor(drain_by_trimming, "jobs"), world.actor(drain_by_trimming, "jobs")
            world.run()
            assert len(one.result + two.result) == len(jobs)

        redisq_session.explore(scenario, schedules=12)

    with pytest.raises(ScheduleError) as failed:
        check()
    assert failed.value.schedule == "AABBBA"
    assert "LLEN jobs → 1" in str(failed.value)
    assert "jobs=['a']" in "".join(failed.value.__notes__)


@pytest.fixture
def elsewhere(redisq_server: Server) -> Redisq:
    """A namespace by prefix, as on the user's own server."""
    address = Address(url=redisq_server.url, prefix="ours:")
    return Redisq(server=redisq_server, namespace=Namespace(address, address.client()))


@pytest.mark.server
@pytest.mark.parametrize(("kind", "left"), [("o", [b"a"]), ("w", []), ("s", [b"a", b"b"])])
def test_what_befalls_somebodys_own_server_befalls_the_prefix_alone(
    redisq_server: Server, elsewhere: Redisq, kind: str, left: list[bytes]
) -> None:
    """A restart, a failover: our keys are as they would be, and theirs as they were."""

    def push(client: redis.Redis) -> None:
        client.rpush("jobs", "a")
        client.rpush("jobs", "b")
        client.get("x")

    def scenario(world: World) -> None:
        world.actor(push)
        world.run()
        assert world.redis.lrange("jobs", 0, -1) == left

    with redisq_server.client() as theirs, elsewhere.client:
        theirs.rpush("jobs", "precious")
        try:
            elsewhere.replay(scenario, f"AAA{kind}")
            assert theirs.lrange("jobs", 0, -1) == [b"precious"]
        finally:
            elsewhere._namespace.clean()
            theirs.delete("jobs")
        assert list(theirs.scan_iter(match="ours:*")) == []


@pytest.mark.server
def test_somebodys_own_server_is_explored_behind_a_prefix(redisq_server: Server, elsewhere: Redisq) -> None:
    """Existing keys do not change, and no key of redisq is left."""
    with redisq_server.client() as theirs, elsewhere.client:
        theirs.rpush("jobs", "precious")
        try:
            with pytest.raises(ScheduleError):
                elsewhere.explore(STORIES["two drainers"].broken)
            elsewhere.explore(two_drainers(drain_by_popping), schedules=20)
            assert theirs.lrange("jobs", 0, -1) == [b"precious"]
        finally:
            elsewhere._namespace.clean()
            theirs.delete("jobs")
        assert list(theirs.scan_iter(match="ours:*")) == []
