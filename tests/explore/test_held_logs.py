"""held_logs.py: of all executions only the one that is shown is in the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_redisq.explore import StuckError, World, explore, replay
from pytest_redisq.explore.held_logs import logs_held_back, write

LOGGER = logging.getLogger("worker")


@pytest.fixture
def file() -> Iterator[io.StringIO]:
    """What a handler of the program writes."""
    handler = logging.StreamHandler(io.StringIO())
    LOGGER.addHandler(handler)
    yield handler.stream
    LOGGER.removeHandler(handler)


def add_one(client: Any) -> None:
    value = int(client.get("n") or 0)
    LOGGER.warning("read %s", value)
    client.set("n", value + 1)


def scenario(world: World) -> None:
    world.actor(add_one)
    world.actor(add_one)
    world.run()
    if world.redis.get("n") != b"2":
        try:
            raise AssertionError("lost")
        except AssertionError:
            LOGGER.exception("failed")
            raise


def test_only_what_the_failure_logs_is_written(url: str, file: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """By the program's handlers and by pytest's, with tracebacks."""
    assert explore(scenario, url=url).failure
    assert caplog.messages == ["read 0", "read 0", "failed"]
    lines = file.getvalue().splitlines()
    assert lines[:4] == ["read 0", "read 0", "failed", "Traceback (most recent call last):"]
    assert lines[-1] == "AssertionError: lost"
    assert caplog.text.count("AssertionError: lost") == 1


def test_what_holds_logs_nothing_and_a_replay_all(
    url: str, file: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    LOGGER.warning("before")
    replay(scenario, "AABB", url=url)
    assert explore(scenario, url=url, schedules=1).failure is None
    assert caplog.messages == ["before", "read 0", "read 1"] == file.getvalue().splitlines()


def test_what_a_refused_execution_logs_is_written(url: str, caplog: pytest.LogCaptureFixture) -> None:
    def stuck(_: World) -> None:
        LOGGER.warning("begins")
        raise StuckError("by itself")

    with pytest.raises(StuckError):
        explore(stuck, url=url)
    assert caplog.messages == ["begins"]


def test_a_scenario_sees_what_it_logs(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """In each execution what this one has logged so far."""

    def looking(world: World) -> None:
        world.actor(add_one)
        world.run()
        assert caplog.messages == ["read 0"]
        caplog.clear()
        LOGGER.warning("cleared")
        assert caplog.text.endswith("cleared\n")

    explore(looking, url=url, schedules=5).verify()
    assert caplog.text == ""


def test_a_record_is_written_as_it_was(file: io.StringIO) -> None:
    """Although its arguments change later."""
    changing = ["first"]
    with logs_held_back() as held:
        LOGGER.warning("%s", changing)
        changing[0] = "later"
        assert file.getvalue() == ""
    write(held)
    assert file.getvalue() == "['first']\n"
