"""The rules of tests/conftest.py, held to on little suites of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import docker
import pytest

pytestmark = pytest.mark.slow  # what is left behind is given two seconds to go

LEAVES_A_PROCESS = """
from subprocess import DEVNULL, Popen
def test_leaves_a_process():
    Popen(["sleep", "60"], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
"""

LEAVES_A_FOLDER = """
import tempfile
def test_leaves_a_folder():
    tempfile.mkdtemp(prefix="redisq-")
"""

LEAVES_A_CONTAINER = """
import contextlib, docker, tempfile
from pytest_redisq.servers.docker import LABEL
from tests.support import IMAGE
def test_leaves_a_container():
    with contextlib.closing(docker.from_env()) as client:
        client.containers.create(IMAGE, labels={LABEL: tempfile.gettempdir() + "/redisq-0"})
"""

TIDIES_UP = """
import subprocess, tempfile
def test_tidies_up():
    with tempfile.TemporaryDirectory(prefix="redisq-"):
        subprocess.run(["sleep", "0.01"], start_new_session=True, check=True)
"""

NEEDS_A_PROCESS = """
import pytest
@pytest.mark.process
def test_needs_a_server_on_path():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty suite under this project's rules, as a contributor's laptop sees it."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("REDISQ_SERVER", raising=False)
    pytester.makeini("[pytest]\naddopts = -p tests.conftest -p no:asyncio\nmarkers = process\n")
    return pytester


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_leaves_something_behind_fails_and_names_it(suite: pytest.Pytester, workers: int) -> None:
    suite.makepyfile(LEAVES_A_PROCESS + LEAVES_A_FOLDER)
    result = suite.runpytest_subprocess("-n", str(workers))
    for process in re.findall(r"LEFT BEHIND .* process (\d+): sleep 60", result.stdout.str()):
        os.kill(int(process), signal.SIGKILL)
    result.stdout.fnmatch_lines(["LEFT BEHIND * process *: sleep 60", "LEFT BEHIND * folder */redisq-*"])
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.docker
def test_a_container_left_behind_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile(LEAVES_A_CONTAINER)
    result = suite.runpytest_subprocess()
    with contextlib.closing(docker.from_env()) as client:
        for name in re.findall(r"LEFT BEHIND .* container (\w+)", result.stdout.str()):
            client.containers.get(name).remove(force=True)
    result.stdout.fnmatch_lines(["LEFT BEHIND * container *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_run_that_tidies_up_passes(suite: pytest.Pytester) -> None:
    suite.makepyfile(TIDIES_UP)
    result = suite.runpytest_subprocess()
    result.stdout.no_fnmatch_line("LEFT BEHIND*")
    assert result.ret == pytest.ExitCode.OK


def test_a_missing_server_skips_its_tests_and_says_so_loudly(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(suite.path))
    suite.makepyfile(NEEDS_A_PROCESS)
    result = suite.runpytest_subprocess()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["NOT TESTED on process: * on PATH*: 1 tests skipped"])


def test_in_ci_a_missing_server_skips_nothing(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(suite.path))
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(NEEDS_A_PROCESS)
    suite.runpytest_subprocess().assert_outcomes(passed=1)
