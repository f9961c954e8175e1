"""The explorer finds true races, shrinks them to the schedule that a person finds by hand, and gives no false alarm."""

from __future__ import annotations

import pytest

from pytest_redisq.explore import Exploration, Scenario, explore, replay
from tests.explore import thorough
from tests.explore.leaks import assert_nothing_is_left, footprint
from tests.explore.stories import STORIES, TWINS, Story

pytestmark = thorough.TIME

#: Schedules that a right version must pass, and seeds with which a broken one must fail.
RIGHT_SCHEDULES = thorough.schedules(200)
SEEDS = range(20)

stories = pytest.mark.parametrize("story", [pytest.param(story, id=name) for name, story in STORIES.items()])


def find(story: Story, url: str, seed: int) -> Exploration:
    return explore(story.broken, url=url, schedules=300, seed=seed, faults=story.faults, **story.options)


@stories
def test_a_broken_story_is_found_and_shrunk_on_every_seed(story: Story, url: str) -> None:
    """Within 300 schedules on each of 20 seeds, always down to the minimum."""
    found = {seed: find(story, url, seed).failure for seed in SEEDS}
    schedules = {seed: str(failure.schedule) if failure else "not found" for seed, failure in found.items()}
    assert set(schedules.values()) <= set(story.minimum), schedules


@stories
def test_a_right_story_holds(story: Story, url: str) -> None:
    """The same actors done right, under the same faults: no schedule fails."""
    hold(story.right, url, story.faults)


def hold(scenario: Scenario, url: str, faults: str) -> None:
    """Every schedule, and nothing is left behind."""
    before = footprint(url)
    held = explore(scenario, url=url, schedules=RIGHT_SCHEDULES, seed=1, faults=faults)
    held.verify()
    assert held.schedules == RIGHT_SCHEDULES
    assert_nothing_is_left(url, before)


@pytest.mark.parametrize("twin", [pytest.param(each, id=name) for name, each in TWINS.items()])
def test_what_is_right_raises_no_alarm(twin: tuple[Scenario, str], url: str) -> None:
    """No failure, no deadlock, where waits are long and workers die."""
    hold(twin[0], url, twin[1])


@stories
def test_replays_are_always_the_same(story: Story, url: str) -> None:
    """Twenty replays of the minimum fail twenty times, step for step in the same way."""
    runs = [replay(story.broken, story.minimum[0], url=url) for _ in range(20)]
    assert {tuple(event.shape for event in run.events) for run in runs} == {
        tuple(event.shape for event in runs[0].events)
    }
    assert {type(run.error) for run in runs} == {AssertionError}
    assert {str(run.schedule) for run in runs} == {story.minimum[0]}
