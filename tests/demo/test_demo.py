"""Each story's broken version is caught and its right version passes, on whichever server is asked for."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pytest_redisq.check import AnomalyKind
from pytest_redisq.demo import STORIES, Act, as_json, play, screen
from pytest_redisq.demo.story import Stage, Story
from pytest_redisq.explore import Schedule
from pytest_redisq.servers import Server
from pytest_redisq.servers.namespace import Namespaces

pytestmark = pytest.mark.server

#: What each broken version must be caught for; more may be found beside it.
CAUGHT = {
    "S1": {AnomalyKind.LOST, AnomalyKind.CLONED},
    "S2": {AnomalyKind.LOST},
    "S3": {AnomalyKind.LOST},
    "S4": {AnomalyKind.INDETERMINATE},
}


@pytest.fixture
def stage(server: Server, tmp_path: Path) -> Iterator[Stage]:
    namespaces = Namespaces(server)
    with namespaces.namespace() as namespace:
        yield Stage(server=server, namespace=namespace, folder=tmp_path, run=secrets.token_hex(3))
    namespaces.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.id)
def test_the_broken_version_is_caught(story: Story, stage: Stage) -> None:
    verdict = story.broken.play(stage).verdict
    found = {kind for kind, count in verdict.counts.items() if count}
    assert verdict.outcome == "fail"
    assert found >= CAUGHT[story.id]


@pytest.mark.parametrize("story", [STORIES[0], STORIES[1], STORIES[3]], ids=lambda story: story.id)
def test_what_is_caught_is_shown_as_a_schedule_of_few_commands(story: Story, stage: Stage) -> None:
    """With the table of its run."""
    attempt = story.broken.play(stage)
    assert len(Schedule.parse(attempt.schedule)) <= 12
    assert 4 <= sum("│" in line for line in attempt.table.splitlines()) <= 1 + len(Schedule.parse(attempt.schedule))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.id)
def test_the_right_version_passes(story: Story, stage: Stage) -> None:
    verdict = story.fixed.play(stage).verdict
    assert verdict.outcome == "pass", verdict.counts


def test_the_causes_of_closed_connections_are_named(stage: Stage) -> None:
    """S1 says, in the server's own words, what ended each connection."""
    overflow, eviction, _ = STORIES[0].broken.play(stage).evidence
    assert "Connection closed by server. Cause: output buffer limit" in overflow
    assert "Connection closed by server. Cause: client eviction" in eviction


def _mislabelled(story: Story) -> Story:
    """A story whose broken version is right: nothing is there to be caught."""
    return Story(id=story.id, title=story.title, broken=story.fixed, fixed=story.fixed)


def test_a_demo_that_catches_nothing_does_not_pass(server: Server) -> None:
    """The demo's own saboteur."""
    acts = [event for event in play(server, [_mislabelled(STORIES[1])]) if isinstance(event, Act)]
    assert [act.as_it_should for act in acts] == [False, True]


def test_the_record_is_what_was_played(server: Server) -> None:
    acts = [event for event in play(server, STORIES[1:2]) if isinstance(event, Act)]
    record = as_json(server, acts)
    assert record["server"] == server.header()
    stories: Any = record["stories"]
    (story,) = stories
    assert story["id"] == "S2"
    assert story["broken"]["verdict"] == "fail"
    assert story["broken"]["anomalies"] == {"lost": 2}
    assert Schedule.parse(story["schedule"]).faults == 0
    assert story["fixed"]["verdict"] == "pass"
    assert story["fixed"]["anomalies"] == {}


def test_the_screen_tells_each_act_and_sums_up(server: Server) -> None:
    text = io.StringIO()
    acts = screen.show(Console(file=text, width=100), server, STORIES[1:2])
    assert len(acts) == 2
    assert "broken: a loop of XREAD BLOCK … STREAMS s $" in text.getvalue()
    assert "✓ caught fan-out: fail, 2 lost" in text.getvalue()
    assert "✓ holds fan-out: pass" in text.getvalue()
