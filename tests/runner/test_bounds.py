"""What a queue's bound removed is excused under `bounded`, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pytest_redisq.check import AnomalyKind
from pytest_redisq.queues import Stream, StreamGroup
from pytest_redisq.runner import run
from pytest_redisq.servers import Server
from tests.newcomers import Entry
from tests.runner.sample_queues import Plain
from tests.table import bounded

BOUNDED = "at-least-once, bounded"


class DropsTheLast(bounded.CappedList):
    """It does not return the newest message, which no bound can have removed."""

    def get(self, timeout_seconds: float) -> bytes | None:
        body = super().get(timeout_seconds)
        return None if body is not None and b" 399 " in body else body


@pytest.mark.parametrize(
    ("queue", "guarantee"),
    [
        (bounded.CappedList, "at-least-once"),
        (bounded.CappedStreamWithoutIds, "at-least-once"),
        (Stream("s", maxlen=5, approximate=False), "fan-out"),
        (StreamGroup("s", "g", maxlen=5, approximate=False), "at-least-once"),
    ],
    ids=["list", "without ids", "stream", "group"],
)
def test_what_a_bound_removed_is_trimmed_only_if_bounded(server: Server, queue: Any, guarantee: Any) -> None:
    done = run(queue, at=server, producers=4, messages=400)
    lenient, strict = done.verdict(f"{guarantee}, bounded"), done.verdict(guarantee)  # type: ignore[arg-type]
    assert (lenient.outcome, strict.outcome) == ("pass", "fail")
    assert lenient.counts[AnomalyKind.TRIMMED] == strict.totals.acknowledged - strict.totals.delivered > 0


@pytest.mark.parametrize("workers", ["thread", "fork"])
@pytest.mark.parametrize(
    "queue", [bounded.CappedListThatForgets, bounded.CappedStreamThatForgets, bounded.NamelessStreamThatForgets]
)
def test_what_a_consumer_took_and_forgot_is_not_excused(server: Server, queue: Any, workers: Any) -> None:
    """The bound removes so much else that one message more cannot be told from it."""
    verdict = run(queue, at=server, producers=2, messages=400, workers=workers).verdict(BOUNDED)
    assert verdict.outcome == "unknown"
    (reason,) = verdict.reasons
    assert reason.startswith("a consumer was handed messages (")
    assert reason.endswith("that its get did not return, so that it cannot be told whether a bound removed them")


@pytest.mark.parametrize(
    ("queue", "outcome"), [(bounded.CappedReader, "pass"), (bounded.CappedReaderThatForgets, "unknown")]
)
def test_what_a_reader_read_and_forgot_is_not_excused(server: Server, queue: Any, outcome: str) -> None:
    """Also where another reader returns it."""
    verdict = run(queue, at=server, consumers=2, messages=400).verdict("fan-out, bounded")
    assert verdict.outcome == outcome
    forgot = [reason.startswith("a consumer was handed messages (") for reason in verdict.reasons]
    assert forgot == [True] * (outcome == "unknown")


def test_a_stream_that_trimmed_in_an_earlier_run_excuses_no_more_than_it_trims(server: Server) -> None:
    run(bounded.CappedStreamWithoutIds, at=server, messages=400).verify(BOUNDED)
    run(bounded.CappedStreamWithoutIds, at=server, messages=400).verify(BOUNDED)
    verdict = run(bounded.NamelessStreamThatDrops, at=server, messages=400).verdict(BOUNDED)
    assert (verdict.outcome, verdict.counts[AnomalyKind.TRIMMED]) == ("fail", 0)
    assert verdict.counts[AnomalyKind.LOST] > 200


class TrimsByAnother(bounded.CappedStreamWithoutIds):
    """Another client trims the stream."""

    def __init__(self, client: redis.Redis, *, trimmer: redis.Redis) -> None:
        super().__init__(client)
        self.trimmer = trimmer

    def put(self, body: bytes) -> None:
        self.client.xadd("log", {"body": body})
        self.trimmer.xtrim("log", maxlen=50, approximate=False)


@pytest.mark.parametrize(("own", "outcome"), [(True, "pass"), (False, "unknown")])
def test_entries_that_another_client_trimmed_are_not_excused(server: Server, own: bool, outcome: str) -> None:
    with server.client() as other:

        def queue(client: redis.Redis) -> TrimsByAnother:
            return TrimsByAnother(client, trimmer=client if own else other)

        verdict = run(queue, at=server.url, messages=400).verdict(BOUNDED)
    assert verdict.outcome == outcome
    assert ["no worker was seen to trim it" in reason for reason in verdict.reasons] == [True] * (not own)


class DeletesToo(bounded.CappedStreamWithoutIds):
    """Its consumers delete what they have finished."""

    def ack(self, entry: Entry) -> None:
        super().ack(entry)
        self.client.xdel("log", entry.id)


class DeclaresToo(DeletesToo):
    maxlen = 50


@pytest.mark.parametrize(("queue", "outcome"), [(DeclaresToo, "pass"), (DeletesToo, "unknown")])
def test_deleted_entries_need_a_declared_bound(server: Server, queue: Any, outcome: str) -> None:
    verdict = run(queue, at=server, messages=400).verdict(BOUNDED)
    assert verdict.outcome == outcome
    assert ["or XDEL removed them" in reason for reason in verdict.reasons] == [True] * (outcome == "unknown")


class LosesOne(Plain):
    """A list that throws one message away instead of adding it, and then has a client trim a list."""

    def __init__(self, client: redis.Redis, *, trimmer: redis.Redis) -> None:
        super().__init__(client)
        self.trimmer = trimmer

    def put(self, body: bytes) -> None:
        if b" 7 " in body:
            self.trimmer.eval("redis.call('LTRIM', KEYS[1], -5, -1)", 1, "log")
        else:
            super().put(body)


@pytest.mark.parametrize(("own", "outcome"), [(True, "pass"), (False, "unknown")])
def test_a_trim_by_another_client_of_a_shared_server_excuses_nothing(server: Server, own: bool, outcome: str) -> None:
    with server.client() as other:

        def queue(client: redis.Redis) -> LosesOne:
            return LosesOne(client, trimmer=client if own else other)

        done = run(queue, at=server.url, messages=40)
    verdict = done.verdict("at-least-once, bounded")
    assert (verdict.outcome, done.verdict("at-least-once").outcome) == (outcome, "fail")
    reason = "1 missing messages are in no key; the server trimmed lists 1 times during the run, and no worker was seen"
    assert [text.startswith(reason) for text in verdict.reasons] == [True] * (outcome == "unknown")


def test_what_no_bound_can_have_removed_is_lost(server: Server) -> None:
    verdict = run(DropsTheLast, at=server, messages=400).verdict(BOUNDED)
    assert verdict.outcome == "fail"
    assert verdict.counts[AnomalyKind.LOST] == 1
    assert [str(anomaly.message) for anomaly in verdict.anomalies if anomaly.kind is AnomalyKind.LOST] == ["0/399"]
