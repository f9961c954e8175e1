"""The keyword arguments that the fixture passes on are those of the functions that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import pytest

from pytest_redisq import Redisq, World, explore, keywords, queues, run
from pytest_redisq.load.locust_process import LoadRun
from pytest_redisq.options import Settings
from pytest_redisq.properties import conformance

#: Each TypedDict by what takes its keys, less what the fixture gives itself.
PASSED_ON: dict[type, tuple[Any, set[str]]] = {
    keywords.RunKeywords: (run, {"queue", "at", "server"}),
    keywords.ExploreKeywords: (explore.explore, {"scenario", "url", "clean", "prefix"}),
    keywords.ReplayKeywords: (explore.replay, {"scenario", "schedule", "url", "clean", "prefix"}),
    keywords.QueueKeywords: (explore.queue_scenario, {"queue", "contract"}),
    keywords.LoadKeywords: (LoadRun, {"scenario", "url", "own_server", "shared_server"}),
    keywords.StreamKeywords: (queues.Stream, {"key"}),
    keywords.StreamGroupKeywords: (queues.StreamGroup, {"key", "group"}),
    keywords.DrainKeywords: (queues.drain, {"client", "key"}),
    keywords.DrainToFileKeywords: (queues.drain_to_file, {"client", "key", "path"}),
}


@pytest.mark.parametrize("kind", PASSED_ON, ids=lambda kind: kind.__name__)
def test_the_keywords_are_those_of_what_takes_them(kind: type) -> None:
    takes, given = PASSED_ON[kind]
    parameters = inspect.signature(takes).parameters
    assert _names(kind) == parameters.keys() - given


def test_the_settings_of_a_server_are_those_of_the_options() -> None:
    assert _names(keywords.ServerKeywords) == {each.name for each in fields(Settings)} - {"origin", "replay", "strict"}


def _names(kind: Any) -> set[str]:
    return set(kind.__optional_keys__ | kind.__required_keys__)


CALLS: list[tuple[Callable[..., object], Mapping[str, object], str]] = [
    (Redisq.run, {"producer": 2}, r"redisq\.run\(\) has no argument 'producer'\. Did you mean 'producers'\?"),
    (Redisq.explore, {"shedules": 2}, r"redisq\.explore\(\) has no argument 'shedules'\. Did you mean 'schedules'\?"),
    (Redisq.load, {"second": 2}, r"redisq\.load\(\) has no argument 'second'\. Did you mean 'seconds'\?"),
    (Redisq.stream, {"maxlength": 2}, r"redisq\.stream\(\) has no argument 'maxlength'\. Did you mean 'maxlen'\?"),
    (Redisq.drain, {"chunks": 2}, r"redisq\.drain\(\) has no argument 'chunks'\. Did you mean 'chunk'\?"),
]


@pytest.mark.parametrize(("call", "options", "words"), CALLS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_misspelt_keyword_is_told_with_the_one_meant(
    redisq: Redisq, call: Callable[..., object], options: Mapping[str, object], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        call(redisq, "jobs", **options)


def _scenario(world: World) -> None:
    world.run()


def test_replay_and_conformance_tell_it_too(redisq: Redisq) -> None:
    with pytest.raises(TypeError, match="Did you mean 'max_steps'"):
        redisq.replay(_scenario, "A", max_step=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Did you mean 'messages'"):
        conformance(object, contract="at-most-once", message=3)  # type: ignore[call-arg]


def test_a_setting_of_a_queue_needs_its_contract(redisq: Redisq) -> None:
    with pytest.raises(TypeError, match="producers is for a queue, and needs its contract"):
        redisq.explore(_scenario, producers=2)  # type: ignore[call-overload]
