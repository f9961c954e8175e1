"""`.ci/run`, when it is interrupted, ends all that it has started and says that it has failed."""

from __future__ import annotations

import configparser
import fnmatch
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.attack import Attacked
from tests.support import eventually

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not shutil.which("setsid"), reason="needs Linux")

#: Stands in for the tests: in its own session, and deaf to signals, and as a child of a child.
STAND_IN = "trap '' INT TERM; setsid sleep 1000 & sh -c 'sleep 1000 & wait' & echo up; wait"


def _up(attacked: Attacked) -> bool:
    return list(attacked.running().values()).count("sleep 1000") == 2


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_is_interrupted_fails_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    attacked = Attacked(
        tmp_path, [str(ROOT / ".ci" / "run"), "sh", "-c", STAND_IN.replace("trap '' INT TERM; ", "")], ending=ending
    )
    eventually(lambda: _up(attacked))
    attacked.end()
    attacked.has_left_nothing()
    output = attacked.output.read_text()
    assert f"=== FAILED: ended by {ending}" in output
    assert "passed" not in output
    assert attacked.process.returncode == 128 + signal.Signals[ending]


@pytest.mark.slow
def test_what_does_not_end_by_the_signal_is_killed(tmp_path: Path) -> None:
    attacked = Attacked(tmp_path, [str(ROOT / ".ci" / "run"), "sh", "-c", STAND_IN], ending="SIGTERM")
    eventually(lambda: _up(attacked))
    attacked.end()
    attacked.has_left_nothing()


@pytest.mark.parametrize(("script", "code", "word"), [("exit 0", 0, "passed"), ("exit 7", 7, "FAILED, exit code 7")])
def test_a_run_ends_with_the_status_of_its_command(tmp_path: Path, script: str, code: int, word: str) -> None:
    leaves = "setsid sleep 1000 & "
    attacked = Attacked(tmp_path, [str(ROOT / ".ci" / "run"), "sh", "-c", leaves * bool(code) + script])
    assert attacked.process.wait(60) == code
    attacked.has_left_nothing()
    assert f"=== {word}" in attacked.output.read_text()


def test_what_tox_starts_bears_the_mark_by_which_it_is_found() -> None:
    """tox hands on no other variables than those that its configuration names."""
    [mark] = re.findall("^mark=([A-Z]+_)", (ROOT / ".ci" / "supervise").read_text(), re.MULTILINE)
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert any(fnmatch.fnmatch(f"{mark}1_2", each) for each in tox["testenv"]["pass_env"].split())
    assert not [name for name, section in tox.items() if name.startswith("testenv:") and "pass_env" in section]
