"""failures.py: a stored failure is returned in the next test run."""

from __future__ import annotations

from pathlib import Path

from pytest_redisq.explore import Schedule, ScheduleStore, explore
from tests.explore.stories import STORIES

STORY = STORIES["two drainers"]


def test_a_stored_failure_is_returned_first_by_the_next_store(url: str, tmp_path: Path) -> None:
    """By the next store only: what one store returns never changes."""
    kept = ScheduleStore(tmp_path)
    assert kept.first(STORY.broken) == ()
    kept.keep(STORY.broken, explore(STORY.broken, url=url))
    assert kept.first(STORY.broken) == ()
    assert ScheduleStore(tmp_path).first(STORY.broken) == (Schedule.parse("AABBBA"),)
    kept.keep(STORY.broken, explore(STORY.right, url=url, schedules=2))
    assert ScheduleStore(tmp_path).first(STORY.broken) == ()


def test_a_damaged_file_is_no_hindrance(url: str, tmp_path: Path) -> None:
    ScheduleStore(tmp_path).keep(STORY.broken, explore(STORY.broken, url=url))
    (file,) = tmp_path.glob("*.json")
    for damage in ("{", "[]", '{"schedule": "?"}', "{}"):
        file.write_text(damage)
        assert ScheduleStore(tmp_path).first(STORY.broken) == ()


def test_nowhere_to_keep_is_no_error(url: str, tmp_path: Path) -> None:
    """The failure is not hidden behind one of ours."""
    (tmp_path / "file").touch()
    for nowhere in (None, tmp_path / "file"):
        kept, failed = ScheduleStore(nowhere), explore(STORY.broken, url=url)
        kept.keep(STORY.broken, failed)
        assert failed.picture is None
        assert kept.first(STORY.broken) == ()
