"""Each fault strikes in each driver that can do it; the others refuse it. The documentation has the whole catalogue."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import redis
from click.testing import CliRunner

from pytest_redisq import Fault, Redisq, ScheduleError, World
from pytest_redisq.cli import main
from pytest_redisq.explore import StepKind
from pytest_redisq.explore.schedule import kinds_by_actor
from pytest_redisq.faults import (
    CATALOGUE,
    EXPLORE_FAULTS,
    KIT_FAULTS,
    RESERVED_TARGETS,
    Driver,
    FaultName,
    FaultSpec,
    examples,
    faults_for,
)

ROOT = Path(__file__).parents[2]
DRIVERS: tuple[Driver, ...] = get_args(Driver)


def cases(*, able: bool) -> Iterator[Any]:
    """Each line of the catalogue with each driver that can do it, or with each that cannot."""
    for spec in CATALOGUE:
        for driver in DRIVERS:
            if (driver in spec.drivers) is able:
                slow = [pytest.mark.slow] if able and driver == "load" else []
                yield pytest.param(spec, driver, id=f"{driver}-{spec.where}", marks=slow)


@pytest.mark.redisq_dedicated(persistence="aof")
@pytest.mark.parametrize(("spec", "driver"), [*cases(able=True)])
def test_a_fault_strikes(redisq: Redisq, spec: FaultSpec, driver: Driver) -> None:
    fault = spec.example(driver)
    match driver:
        case "run":
            fault = replace(fault, after_messages=20, for_seconds=fault.for_seconds / 10)
            later = replace(fault, after_messages=40)  # at the same moment it might find nothing left to strike
            run = redisq.run(redisq.reliable_list("jobs"), consumers=2, messages=60, faults=[fault, str(later)])
            assert len(run.faults) >= 2
            assert "no consumer left" not in str(run.faults)
            assert not any("struck" in reason for reason in run.verdict("at-least-once").reasons)
        case "explore":
            with pytest.raises(ScheduleError) as failed:
                redisq.explore(that_is_not_struck, faults=fault, schedules=400)
            assert isinstance(failed.value.__cause__, AssertionError)
        case "load":
            fault = replace(fault, at_seconds=0.2, for_seconds=fault.for_seconds / 10)
            report = redisq.load("blpop-workers", seconds=1, consumers=4, processes=2, drain_seconds=2, faults=fault)
            assert report.told["faults"]
            assert not re.search("never struck|failed", str(report.told["faults"]))
            assert report.exit_code != 4


def that_is_not_struck(world: World) -> None:
    """Fails in each schedule that has a fault."""

    def work(client: redis.Redis) -> None:
        with contextlib.suppress(redis.RedisError):
            client.set("one", 1)
            client.evalsha(client.script_load("return 1"), 0)
            client.xgroup_create("stream", "workers", mkstream=True)
            client.xreadgroup("workers", "one", {"stream": ">"})
            client.blpop(["jobs"], 1)

    async def task(client: redis.asyncio.Redis) -> None:
        with contextlib.suppress(redis.RedisError):
            await client.blpop(["jobs"], 1)

    world.actor(work, name="one", stop=lambda: None)
    world.actor(task)
    world.actor(lambda client: client.rpush("jobs", "job"), name="two")
    with contextlib.suppress(redis.ConnectionError):
        world.run()
    assert not any(point.costs(step) for point, step in world.choices)


@pytest.mark.parametrize(("spec", "driver"), [*cases(able=False)])
def test_a_driver_refuses_what_it_cannot_do(redisq: Redisq, spec: FaultSpec, driver: Driver) -> None:
    fault = spec.example(spec.drivers[0])
    words = rf"^{driver} cannot do {re.escape(str(fault))}: .* {driver} can do {re.escape(examples(driver)[0])}, "
    able = rf".*; {spec.drivers[0]} can do .*{re.escape(str(fault))}"
    for given in (fault, str(fault), [str(fault)]):
        with pytest.raises(ValueError, match=words + able):
            start(redisq, driver, given)


def start(redisq: Redisq, driver: Driver, faults: Any) -> None:
    match driver:
        case "run":
            redisq.run(redisq.list("jobs"), faults=faults)
        case "explore":
            redisq.explore(that_is_not_struck, faults=faults)
        case "load":
            redisq.load("blpop-workers", faults=faults)


@pytest.mark.parametrize(
    ("driver", "text", "reason"),
    [
        ("explore", "drop:connections@50", "a schedule has no message count."),
        ("explore", "kill@5s", "a schedule has no seconds."),
        ("explore", "kill:process", "it has no fault kill:process."),
        ("explore", "restart", "it has no fault restart. Did you mean 'restart:server'?"),
        ("run", "kill@5", "it does not say what it strikes. Write kill:consumer or kill:server."),
        ("run", "kill:consumer@5s", "a run counts messages, not seconds. Write @500 for: after 500 messages."),
        ("run", "kill:consmer@5", "it has no fault kill:consmer. Did you mean 'kill:consumer'?"),
        ("run", "kill:consumer@5+1s", "the only duration of kill:consumer is +forever."),
        ("run", "drop:connections@5+1s", "drop:connections takes no duration."),
        ("load", "pause:server@5", "a load run counts seconds, not messages. Write @5s for: after 5 seconds."),
        ("load", "pause:server", "it does not say when. Add @5s for: after 5 seconds."),
        ("load", "pause:server@5s", "pause:server needs a duration. Add +2s for: 2 seconds long."),
        ("load", "kill:server@5s+forever", "kill:server has to end before the run does."),
    ],
)
def test_the_reason_of_a_refusal_is_told(driver: Driver, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"{driver} cannot do {text}: {reason} ")):
        faults_for(driver, text)


@pytest.mark.parametrize("name", RESERVED_TARGETS)
def test_no_actor_has_the_name_of_another_target(redisq: Redisq, name: str) -> None:
    with pytest.raises(ScheduleError, match=f"ValueError: name='{name}': give the actor another name"):
        redisq.explore(lambda world: world.actor(redis.Redis.ping, name=name), schedules=1)


def test_the_names_that_type_checkers_know_are_those_of_the_catalogue() -> None:
    assert set(get_args(FaultName)) == {spec.name for spec in CATALOGUE}
    assert examples("explore") == EXPLORE_FAULTS
    assert set(KIT_FAULTS) < {spec.where for spec in CATALOGUE if "run" in spec.drivers}
    assert {spec.target for spec in CATALOGUE} - {"ACTOR", "consumer"} == set(RESERVED_TARGETS)


def test_each_kind_of_step_but_a_plain_one_is_a_fault_of_explore() -> None:
    """A schedule can be asked for whatever it can have."""
    assert kinds_by_actor(EXPLORE_FAULTS) == {"": set(StepKind) - {StepKind.RUN, StepKind.NOTICE, StepKind.GRACE}}


def page(spec: FaultSpec) -> str:
    """The line of docs/faults.md."""
    given = [f"`{spec.example(driver)}`" if driver in spec.drivers else "–" for driver in DRIVERS]
    duration = {"none": "–", "optional": "`+2s`, if wanted", "required": "`+2s`", "forever": "`+forever`, if wanted"}
    return f"| {' | '.join(given)} | {spec.strikes} | {duration[spec.duration]} | {spec.meaning} |"


def test_the_page_of_faults_has_the_catalogue() -> None:
    lines = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\| (`|–)", line)] == [*map(page, CATALOGUE)]


@pytest.mark.parametrize(
    ("file", "driver"), [("README.md", "run"), ("README.md", "explore"), ("loadtests/README.md", "load")]
)
def test_the_lists_of_the_readmes_have_the_catalogue(file: str, driver: Driver) -> None:
    """Each list follows a marker; times and durations are up to it."""
    text = (ROOT / file).read_text(encoding="utf-8").partition(f"<!-- faults: {driver} -->\n")[2].partition("\n\n")[0]
    text = text.partition("\n* ")[0]
    told = set()
    for word in re.findall(r"`([a-z-]+(?::[a-z]+)?(?:@\w+)?(?:\+\w+)?)`", text):
        with contextlib.suppress(ValueError):
            told.add(Fault.parse(word).where)
    assert told - {"kill:one"} == {spec.where for spec in CATALOGUE if driver in spec.drivers}


def test_the_help_of_load_has_the_catalogue() -> None:
    told = " ".join(CliRunner().invoke(main, ["load", "--help"]).output.split())
    assert f"such as {', '.join(examples('load'))}; repeatable" in told.replace("- ", "-")
