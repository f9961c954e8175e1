"""fault_places.py: faults strike where an actor does something new, more often than where it polls."""

from __future__ import annotations

import random
import time
from typing import Any

from pytest_redisq.explore import World, explore
from pytest_redisq.explore.footprint import Footprint
from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, Step, StepKind
from pytest_redisq.explore.schedulers.fault_places import FaultPlaces
from pytest_redisq.explore.trace import ExecutedStep, WokenCommand

NOTHING = Footprint(reads=frozenset(), writes=frozenset())
NIL, ONE = b"$-1\r\n", b"$1\r\n1\r\n"


def learnt(*steps: tuple[int, bytes, bytes]) -> FaultPlaces:
    """From an execution with these steps: the actor, its command, the reply."""
    choices, events = [], []
    for at, (actor, command, reply) in enumerate(steps):
        enabled = EnabledStep(actor=actor, footprint=NOTHING, faults=(StepKind.KILL_BEFORE,))
        choices.append((ChoicePoint(position=at, enabled_steps=(enabled,)), Step(actor)))
        events.append(ExecutedStep(step=Step(actor), args=(command,), reply=reply))
    places = FaultPlaces()
    places.learn(choices, events)
    return places


def test_a_poll_is_a_place_and_no_news() -> None:
    """Per actor: what another one has done before is news if this one does it."""
    places = learnt((0, b"LPOP", NIL), (0, b"LPOP", NIL), (1, b"LPOP", NIL), (0, b"LPOP", ONE), (0, b"LPOP", NIL))
    assert set(places.every) == {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)}
    assert set(places.news) == {(0, 0), (1, 0), (0, 2)}


def test_a_blocked_command_brings_its_news_when_it_is_woken() -> None:
    places = learnt((0, b"BLPOP", b""), (0, b"BLPOP", b""), (1, b"RPUSH", ONE))
    assert (0, 1) not in places.news
    woken = WokenCommand(actor=0, args=(b"BLPOP",), reply=ONE)
    push = ExecutedStep(step=Step(1), args=(b"RPUSH",), reply=ONE, woken=(woken,))
    enabled = EnabledStep(actor=1, footprint=NOTHING, faults=(StepKind.KILL_BEFORE,))
    blocks = EnabledStep(actor=0, footprint=NOTHING, faults=(StepKind.KILL_BEFORE,))
    choices = [(ChoicePoint(position=at, enabled_steps=(blocks,)), Step(0)) for at in range(2)]
    choices.append((ChoicePoint(position=2, enabled_steps=(enabled,)), Step(1)))
    poll = ExecutedStep(step=Step(0), args=(b"BLPOP",), blocks=True)
    places.learn(choices, [poll, poll, push])
    assert (0, 1) in places.news


def test_no_place_is_drawn_again_before_all_are_and_polls_seldom() -> None:
    places = learnt(*[(0, b"GET", NIL)] * 90, *[(0, b"GET", b":%d\r\n" % number) for number in range(9)])
    drawn = [places.draw(random.Random(number)) for number in range(40)]
    news = [place for place in drawn if place in places.news]
    assert 20 < len(news) < 40
    assert set(news) == set(places.news)


def test_a_place_that_each_execution_has_reached_is_drawn_until_a_fault_has_struck() -> None:
    """So that few schedules are enough for one to strike."""
    places = learnt((0, b"SET", NIL), (0, b"GET", ONE), (1, b"GET", ONE), (1, b"INCR", ONE))
    enabled = EnabledStep(actor=0, footprint=NOTHING, faults=(StepKind.KILL_BEFORE,))
    point = ChoicePoint(position=0, enabled_steps=(enabled,))
    places.learn([(point, Step(0))], [])
    assert {places.draw(random.Random(number)) for number in range(9)} == {(0, 0)}
    places.learn([(point, Step(0, StepKind.KILL_BEFORE))], [])
    assert {places.draw(random.Random(number)) for number in range(9)} > {(0, 1), (1, 1)}


def reap(client: Any) -> None:
    """Looks, and finds nothing, until the job is done."""
    for _ in range(15):
        client.get("clock")
        client.zrangebyscore("due", 0, 10)
        if client.get("done"):
            return
        time.sleep(2)


def work(client: Any) -> None:
    """A kill between RPOP and HSET loses the job."""
    for _ in range(10):
        client.get("stop")
        if job := client.rpop("jobs"):
            client.hset("unacked", job, 1)
            client.incr("done")
            return
        time.sleep(3)


def put_late(client: Any) -> None:
    client.lpush("jobs", "a")


def late_job(world: World) -> None:
    world.actor(reap)
    world.actor(work)
    world.actor(put_late, after_seconds=10, fault_free=True)
    world.run()
    assert world.redis.get("done") or world.redis.llen("jobs") or world.redis.exists("unacked")


def test_the_places_that_matter_are_found_among_many_polls(url: str) -> None:
    """Two of about fifty. Drawn evenly, it took 369 schedules for these seeds, and not 212."""
    found = [explore(late_job, url=url, seed=seed, faults="kill", shrink_seconds=0).failure for seed in range(10)]
    numbers = [failure.number for failure in found if failure and failure.number is not None]
    assert len(numbers) == 10
    assert sum(numbers) < 300, numbers
