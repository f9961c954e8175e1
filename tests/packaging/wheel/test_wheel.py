"""The built wheel in a clean environment: all of it is there, and it works without the source tree."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest_redisq

SOURCE = Path(__file__).parents[3] / "pytest_redisq"
INSTALLED = Path(pytest_redisq.__file__).parent

USERS_TEST = """
def test_a_list_keeps_what_it_was_given(redisq):
    redisq.client.rpush(redisq.key("jobs"), b"one", b"two")
    assert redisq.client.lrange(redisq.key("jobs"), 0, -1) == [b"one", b"two"]

def test_the_namespace_is_clean(redisq):
    assert redisq.client.llen(redisq.key("jobs")) == 0
"""


def run(*words: str | Path, folder: Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_is_the_installed_one() -> None:
    assert INSTALLED.parent == Path(sysconfig.get_path("purelib"))


def test_the_wheel_has_every_file_of_the_package() -> None:
    written = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert sorted(path for path in written if not (INSTALLED / path).is_file()) == []
    assert (INSTALLED / "py.typed").is_file()


def test_the_extras_are_declared() -> None:
    assert {"all", "embedded", "load"} <= set(metadata.metadata("pytest-redisq").get_all("Provides-Extra") or [])


def test_a_users_test_passes_on_the_server_in_the_wheel(tmp_path: Path) -> None:
    (tmp_path / "test_jobs.py").write_text(USERS_TEST)
    said = run(sys.executable, "-I", "-m", "pytest", "--redisq-server=embedded", "-W", "error", folder=tmp_path)
    assert "redisq: valkey" in said
    assert "2 passed" in said


def test_the_command_line_answers(tmp_path: Path) -> None:
    assert "Usage: redisq" in run(Path(sysconfig.get_path("scripts")) / "redisq", "--help", folder=tmp_path)
