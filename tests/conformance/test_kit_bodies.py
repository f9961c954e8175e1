"""Queues that carry text or JSON only: the kit puts what they take, in each form that a queue can have."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import strategies as st

from pytest_redisq.check import Contract
from pytest_redisq.errors import DeliveryError
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import check_conformance
from pytest_redisq.properties.kit_bodies import kit_bodies
from pytest_redisq.properties.kit_properties import KIT_PROPERTIES
from pytest_redisq.properties.trial import Trial

BY_NAME = {kit_property.name: kit_property for kit_property in KIT_PROPERTIES}


class TextQueue:
    """Carries text inside of JSON."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", json.dumps({"body": body.decode()}))

    def get(self, timeout_seconds: float) -> str | None:
        popped = self.client.blpop("jobs", timeout_seconds)
        return popped and json.loads(popped[1])["body"]


class JsonQueue(TextQueue):
    """Carries JSON values, which come out in other words."""

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", json.dumps({"value": json.loads(body)}))

    def get(self, timeout_seconds: float) -> str | None:
        popped = self.client.blpop("jobs", timeout_seconds)
        return popped and json.dumps(json.loads(popped[1])["value"], indent=1)


class DropsNulls(JsonQueue):
    """What is null in an object does not come out."""

    def put(self, body: bytes) -> None:
        value = json.loads(body)
        if isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if inner is not None}
        super().put(json.dumps(value).encode())


class DropsAccents(TextQueue):
    """What is not ASCII does not come out."""

    def put(self, body: bytes) -> None:
        super().put(body.decode().encode("ascii", "ignore"))


class AsyncJsonQueue:
    """A `JsonQueue` of coroutine functions, with an ack and with what tells what is inside."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush("jobs", json.dumps(json.loads(body)))

    async def get(self, timeout_seconds: float) -> bytes | None:
        taken: bytes | None = await self.client.blmove("jobs", "taken", timeout_seconds, "LEFT", "RIGHT")
        return taken

    async def ack(self, delivery: bytes) -> None:
        await self.client.lrem("taken", 1, delivery)

    async def remaining(self) -> list[bytes]:
        inside: list[bytes] = await self.client.lrange("jobs", 0, -1)
        return inside

    async def pending(self) -> list[bytes]:
        await asyncio.sleep(0)
        held: list[bytes] = await self.client.lrange("taken", 0, -1)
        return held


def push_json(client: Any, body: bytes) -> None:
    client.rpush("jobs", json.dumps(json.loads(body)))


def pop_json(client: Any, timeout_seconds: float) -> bytes | None:
    popped = client.blpop("jobs", timeout_seconds)
    return popped[1] if popped else None


def tried(redisq: Redisq, queue: Any, bodies: Any, *names: str, workers: str = "thread") -> None:
    """Hold `queue` to the properties of these names."""
    trial = Trial(
        queue=queue,
        redisq=redisq,
        contract=Contract.parse("at-most-once"),
        workers=workers,
        fault=None,
        messages=30,
        wait_seconds=0.1,
        settle_seconds=0.5,
        schedules=3,
        bodies=kit_bodies(bodies),
    )
    for name in names:
        with redisq.example():
            BY_NAME[name].holds(trial)


TASKS = st.fixed_dictionaries({"task": st.sampled_from(["mail", "bill"]), "retry": st.none() | st.integers(0, 9)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue", "bodies"),
    [
        (TextQueue, "text"),
        (JsonQueue, "json"),
        (JsonQueue, TASKS),
        (TextQueue, st.text(max_size=5)),
        (TextQueue, st.binary(max_size=5).map(bytes.hex).map(str.encode)),
    ],
    ids=["text", "json", "own json", "own text", "own bytes"],
)
def test_a_queue_is_given_the_bodies_that_it_takes(redisq: Redisq, queue: Any, bodies: Any) -> None:
    tried(redisq, queue, bodies, "bodies", "equal bodies", "stateful", "sharing")


@pytest.mark.parametrize(
    ("saboteur", "bodies"),
    [(DropsNulls, "json"), (DropsNulls, TASKS), (DropsAccents, "text"), (DropsAccents, st.text(max_size=5))],
    ids=["json", "own json", "text", "own text"],
)
def test_a_value_that_changes_on_its_way_is_caught(redisq: Redisq, saboteur: Any, bodies: Any) -> None:
    with pytest.raises(AssertionError, match="went in, and "):
        tried(redisq, saboteur, bodies, "bodies")


@pytest.mark.slow
def test_the_other_forms_of_a_queue_of_json_take_texts_too(redisq: Redisq) -> None:
    names = ("bodies", "backlog", "explored", "sharing")
    tried(redisq, AsyncJsonQueue, "json", *names, "stateful", workers="asyncio")
    tried(redisq, (push_json, pop_json), "json", *names)
    tried(redisq, JsonQueue(redisq.client), "json", "backlog", "sharing")
    tried(redisq, JsonQueue, "json", "sharing", workers="process")


def test_a_queue_of_text_is_told_which_option_says_so(redisq: Redisq) -> None:
    left_out = dict.fromkeys(["backlog", "waiting", "prompt", "stopping", "stateful", "sharing"], "for another test")
    options: dict[str, Any] = {"workers": ("thread",), "faults": (), "schedules": 0, "leave_out": left_out}
    with pytest.raises(DeliveryError, match=r'UnicodeDecodeError: (.|\n)*say so by bodies="text"'):
        check_conformance(TextQueue, redisq, contract="at-most-once", **options)
    table = check_conformance(TextQueue, redisq, contract="at-most-once", bodies="text", **options)
    assert "all 2 hold, 6 left out" in table
    assert "  backlog       left out: for another test" in table


@pytest.mark.parametrize(
    ("given", "words"),
    [("jsn", "Did you mean 'json'"), (b"json", "one of bytes, text, json, or a strategy of Hypothesis")],
)
def test_a_kind_of_bodies_that_there_is_not_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kit_bodies(given)
