"""Settings of a scenario's own, as they are typed."""

from __future__ import annotations

import pytest

from pytest_redisq.load.scenarios import BlpopWorkers, ListDrain, LrangePayload
from pytest_redisq.load.scenarios.scenario_settings import settings_of, with_settings


def test_they_replace_the_defaults_and_leave_the_rest() -> None:
    scenario = with_settings(LrangePayload(), ["elements=1_000_000", " chunk=10", "contract=fan-out,bounded"])
    assert scenario == LrangePayload(elements=1_000_000, chunk=10, contract="fan-out, bounded")


def test_what_has_options_of_its_own_is_none() -> None:
    assert settings_of(BlpopWorkers()) == {"contract": "effectively-once", "queues": 1}
    assert settings_of(object()) == {}


@pytest.mark.parametrize(
    ("setting", "lesson"),
    [
        ("elemnts=5", r"no setting 'elemnts'\. Did you mean 'elements'.* elements=10000, chunk=0"),
        ("elements=many", "'elements=many': give a whole number, as in elements=1_000_000"),
        ("contract=exactly-once", "no queue delivers exactly once"),
        ("producers=3", "no setting 'producers'"),
    ],
)
def test_a_mistake_teaches(setting: str, lesson: str) -> None:
    with pytest.raises(ValueError, match=lesson):
        with_settings(LrangePayload(), [setting])


@pytest.mark.parametrize(
    ("scenario", "setting"), [(BlpopWorkers(), "queues=0"), (ListDrain(), "chunk=0"), (LrangePayload(), "elements=0")]
)
def test_none_is_too_few_where_there_must_be_one(scenario: object, setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting}: give at least 1"):
        with_settings(scenario, [setting])
