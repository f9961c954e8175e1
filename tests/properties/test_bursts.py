"""Streams: any bursts, with readers that join late, die or resume, and with trimming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.check import Contract, check
from pytest_redisq.explore import StepKind
from pytest_redisq.facade import Redisq
from pytest_redisq.history import Recorder
from pytest_redisq.model import Kind, Message, decode_body, encode_body
from pytest_redisq.properties import Burst, Trim, bursts, trims
from pytest_redisq.queues import Gap, Stream, StreamGroup, stream_group
from pytest_redisq.queues.steps import Steps, command
from pytest_redisq.queues.stream import StreamEndpoint, position
from pytest_redisq.queues.stream_group import StreamGroupEndpoint
from tests.properties.conftest import Staged
from tests.properties.ledger import RUN, Ledger
from tests.properties.stage import Stage, errors
from tests.properties.turns import FAULTS, Turn, turns

pytestmark = pytest.mark.server

KEY = "s"

#: A whole burst in one step of the server, so that its ids share a millisecond and no client reads in between.
_ADD_AT_ONCE = """
local ids = {}
for i = 1, #ARGV do ids[i] = redis.call('XADD', KEYS[1], '*', 'body', ARGV[i]) end
return ids
"""

#: The entries before and after a trim, in one step.
_TRIM = """
local before = redis.call('XRANGE', KEYS[1], '-', '+')
redis.call('XTRIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3])
return {before, redis.call('XRANGE', KEYS[1], '-', '+')}
"""


class Scene:
    """Producers, readers and a trimmer on the stream KEY, and the history of what they do."""

    def __init__(self, stage: Stage, redisq: Redisq) -> None:
        self.stage, self.redisq = stage, redisq
        self.recorder = Recorder()
        self.ids: dict[Message, str] = {}
        self.trimmed: list[str] = []
        self.writing = 0

    def write(self, mine: Sequence[Burst]) -> Steps[None]:
        """One producer's bursts, one after the other."""
        self.writing += 1
        sequence = 0
        try:
            for burst in mine:
                messages = [Message(burst.producer, sequence + number) for number in range(burst.size)]
                sequence += burst.size
                for together in [messages] if burst.at_once else [[message] for message in messages]:
                    token = self.recorder.invoke(f"producer-{burst.producer}", Kind.ENQUEUE, together)
                    added = [encode_body(RUN, message) for message in together]
                    ids = yield command("EVAL", _ADD_AT_ONCE, 1, KEY, *added)
                    names = [each.decode() for each in ids]
                    self.ids.update(zip(together, names, strict=True))
                    self.recorder.ok(token, None, names)
        finally:
            self.writing -= 1

    def trim(self, all_of: Sequence[Trim]) -> Steps[None]:
        for trim in all_of:
            ids = [each.decode() for each, _ in (yield command("XRANGE", KEY, "-", "+"))]
            before, after = yield command("EVAL", _TRIM, 1, KEY, *trim.arguments(ids))
            left = {each for each, _ in after}
            self.trimmed += [each.decode() for each, _ in before if each not in left]

    def read(self, name: str, end: StreamEndpoint, timeout_seconds: float) -> Steps[None]:
        """Read until the producers have ended and nothing more arrives."""
        yield from end.subscribe()
        while True:
            over = self.writing == 0
            token = self.recorder.invoke(name, Kind.DEQUEUE)
            delivery = yield from end.get(0 if over else timeout_seconds)
            if delivery is None:
                self.recorder.ok(token, ())
                if over:
                    return
                continue
            message = decode_body(RUN, delivery.body)
            assert message is not None
            self.recorder.ok(token, (message,), (delivery.id or "",))

    def delivered(self, reader: str) -> list[str]:
        ops = [op for op in self.recorder_history if op.actor == reader and op.kind is Kind.DEQUEUE]
        return [each for op in ops for each in op.ids]

    def judge(self, contract: str) -> Any:
        self.recorder.quiescence(trimmed=self.trimmed)
        self.recorder_history = self.recorder.history()
        return check(self.recorder_history, Contract.parse(contract))


def by_producer(drawn: Sequence[Burst]) -> list[list[Burst]]:
    producers = sorted({burst.producer for burst in drawn})
    return [[burst for burst in drawn if burst.producer == producer] for producer in producers]


@given(drawn=bursts(), order=turns(actors=5), batch=st.sampled_from([1, 2, 100]), wait=st.sampled_from([0, 1.0]))
def test_every_reader_gets_every_entry_of_every_burst(
    staged: Staged, drawn: list[Burst], order: list[Turn], batch: int, wait: float
) -> None:
    """From 0 on or from `$` on, joining early or late: each entry after the start once, in order, and no gap."""
    with staged() as (stage, redisq):
        scene = Scene(stage, redisq)
        for mine in by_producer(drawn):
            stage.actor("producer", scene.write(mine))
        ends = {
            name: StreamEndpoint(Stream(KEY, after=name[-1], batch=batch), stage.clock) for name in ("from 0", "from $")
        }
        readers = [stage.actor(name, scene.read(name, end, wait)) for name, end in ends.items()]
        stage.play(order)
        verdict = scene.judge("fan-out, fifo")
        assert not errors(stage.actors)
        assert verdict.outcome == "pass", verdict
        added, late = sorted(scene.ids.values(), key=position), scene.delivered("from $")
        assert scene.delivered("from 0") == added
        assert late == added[len(added) - len(late) :]
        assert [stage.ask(end.trimmed()) for end in ends.values()] == [[], []]
        assert [reader.state for reader in readers] == ["ended", "ended"]


@given(drawn=bursts(max_size=8), cut=st.integers(0, 40))
def test_a_reader_that_resumes_from_a_stored_id_goes_on_where_it_was(
    staged: Staged, drawn: list[Burst], cut: int
) -> None:
    with staged() as (stage, redisq):
        scene = Scene(stage, redisq)
        for mine in by_producer(drawn):
            stage.ask(scene.write(mine))
        expected = sorted(scene.ids.values(), key=position)
        cut = min(cut, len(expected))
        seen = take(stage, Stream(KEY, after="0", batch=3), cut)
        seen += take(stage, Stream(KEY, after=seen[-1] if seen else "0"), len(expected) + 1)
        assert seen == expected


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("between", range(4))
def test_a_burst_that_comes_at_any_moment_of_a_wait_is_read_whole(staged: Staged, before: int, between: int) -> None:
    """After so many of the reader's commands the first entry, after some more the others."""
    with staged() as (stage, redisq):
        scene = Scene(stage, redisq)
        end = StreamEndpoint(Stream(KEY), stage.clock)
        stage.ask(end.subscribe())
        writer = stage.actor("producer", scene.write([Burst(producer=0, size=3, at_once=False)]))
        reader = stage.actor("reader", scene.read("reader", end, 1.0))
        for actor, commands in ((reader, before), (writer, 1), (reader, between)):
            for _ in range(commands):
                stage.step(actor)
        stage.play([])
        assert scene.judge("fan-out, fifo").outcome == "pass"
        assert len(scene.delivered("reader")) == 3


def take(stage: Stage, stream: Stream, count: int) -> list[str]:
    """The ids of at most `count` entries that a new reader gets."""
    end, ids = StreamEndpoint(stream, stage.clock), []
    while len(ids) < count and (delivery := stage.ask(end.get(0))) is not None:
        ids.append(delivery.id)
    return ids


@given(
    drawn=bursts(max_bursts=4),
    cuts=st.lists(trims(max_keep=6), min_size=1, max_size=3),
    order=turns(actors=4),
    batch=st.sampled_from([1, 2, 100]),
)
def test_exactly_the_entries_that_were_trimmed_unread_are_reported(
    staged: Staged, drawn: list[Burst], cuts: list[Trim], order: list[Turn], batch: int
) -> None:
    """A reader's entries and those in its gaps are together all entries that were added."""
    with staged() as (stage, redisq):
        scene = Scene(stage, redisq)
        end = StreamEndpoint(Stream(KEY, after="0", batch=batch), stage.clock)
        stage.ask(end.subscribe())
        for mine in by_producer(drawn):
            stage.actor("producer", scene.write(mine))
        stage.actor("trimmer", scene.trim(cuts))
        stage.actor("reader", scene.read("reader", end, 0))
        stage.play(order)
        verdict = scene.judge("fan-out, fifo, bounded")
        assert not errors(stage.actors)
        got, gaps = scene.delivered("reader"), stage.ask(end.trimmed())
        assert verdict.outcome == ("pass" if got else "unknown"), verdict
        missing = [each for each in sorted(scene.ids.values(), key=position) if each not in got]
        assert set(missing) <= set(scene.trimmed)
        assert all(gap.exact for gap in gaps)
        assert sum(gap.entries for gap in gaps) == len(missing)
        assert all(any(inside(each, gap) for gap in gaps) for each in missing)


def inside(entry_id: str, gap: Gap) -> bool:
    before = (2**64, 0) if gap.before_id is None else position(gap.before_id)
    return position(gap.after_id) < position(entry_id) < before


GROUP = StreamGroup(KEY, "g", claim_idle_seconds=30.0, max_deliveries=50)


class Team(Scene):
    """Consumers of the group, each with its own endpoint. Dead consumers leave pending entries."""

    def __init__(self, stage: Stage, redisq: Redisq, queue: StreamGroup = GROUP) -> None:
        super().__init__(stage, redisq)
        self.queue = queue
        self.ledger = Ledger(self.recorder)
        self.acks = self.ledger.acks

    def consume(self, name: str) -> Steps[None]:
        return self.ledger.work(
            name, StreamGroupEndpoint(self.queue, name, self.stage.clock), lambda: self.writing == 0
        )

    def age(self, *whose: bytes) -> Steps[None]:
        """Let the idle time of what they hold pass; without names, of all."""
        for entry_id, holder, *_ in (yield command("XPENDING", KEY, "g", "-", "+", 1000)):
            if whose and holder not in whose:
                continue
            yield command("XCLAIM", KEY, "g", holder, 0, entry_id, "IDLE", 600_000, "JUSTID")


@pytest.mark.parametrize("faults", [FAULTS, (StepKind.LOSE_REQUEST, StepKind.LOSE_REPLY)], ids=["dies", "is cut off"])
@given(drawn=bursts(max_bursts=4, max_size=6), data=st.data())
def test_a_group_loses_nothing_whoever(
    staged: Staged, faults: tuple[StepKind, ...], drawn: list[Burst], data: st.DataObject
) -> None:
    """Each entry is acknowledged once, as the server counts too. Only entries of dead consumers are claimed."""
    with staged() as (stage, redisq):
        team = Team(stage, redisq)
        for mine in by_producer(drawn):
            stage.actor("producer", team.write(mine))
        consumers = [stage.actor(f"c{number}", team.consume(f"c{number}")) for number in range(3)]
        stage.play(data.draw(turns(actors=5, faults=faults, max_turns=16)))
        if any(consumer.state == "killed" for consumer in consumers):
            stage.ask(queue_exists(GROUP, stage))  # all may have died before one of them created it
            stage.ask(team.age())
            stage.ask(team.consume("rescuer"))
        assert not errors(stage.actors)
        assert max(team.acks.values(), default=1) == 1
        agree_at_quiescence(redisq)
        verdict = team.judge("effectively-once")
        tried = verdict.totals.acknowledged and verdict.totals.delivered  # a fault may have struck every message
        assert verdict.outcome == ("pass" if tried else "unknown"), verdict


@given(drawn=bursts(max_bursts=4, max_size=4), order=turns(actors=5, max_turns=16, max_commands=12))
def test_in_a_group_of_the_living_nothing_comes_twice(staged: Staged, drawn: list[Burst], order: list[Turn]) -> None:
    """With slow consumers: on their clocks every command takes longer than a claim's idle time."""
    with staged(tick_seconds=GROUP.claim_idle_seconds) as (stage, redisq):
        team = Team(stage, redisq)
        stage.ask(queue_exists(GROUP, stage))
        for mine in by_producer(drawn):
            stage.actor("producer", team.write(mine))
        for number in range(3):
            stage.actor(f"c{number}", team.consume(f"c{number}"))
        stage.play(order)
        verdict = team.judge("at-most-once")
        assert not errors(stage.actors)
        assert verdict.outcome == "pass", verdict
        assert set(team.acks.values()) <= {1}
        assert len(team.acks) == len(team.ids)


@given(drawn=bursts(producers=1, max_bursts=3), page=st.integers(1, 3), held=st.integers(0, 30))
def test_all_that_a_dead_consumer_held_is_claimed_at_once(
    staged: Staged, drawn: list[Burst], page: int, held: int
) -> None:
    """With any number of pages of the pending list, and any entries of living consumers before them."""
    with staged() as (stage, redisq), pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_group, "_PAGE", page)
        team = Team(stage, redisq)
        stage.ask(team.write(drawn))
        living = StreamGroupEndpoint(GROUP, "living", stage.clock)
        held = sum(stage.ask(living.get(0)) is not None for _ in range(held))
        victim = StreamGroupEndpoint(GROUP, "victim", stage.clock)
        while stage.ask(victim.get(0)) is not None:
            pass
        stage.ask(team.age(b"victim"))
        stage.ask(team.consume("heir"))
        assert len(team.acks) == len(team.ids) - held


def test_a_consumer_that_lost_a_reply_is_given_the_entry_at_once(staged: Staged) -> None:
    """For the reply of each of its commands; no other consumer has to claim the entry."""
    at, struck = 0, True
    while struck:
        with staged() as (stage, redisq):
            stage.ask(Team(stage, redisq).write([Burst(producer=0, size=1, at_once=True)]))
            end = StreamGroupEndpoint(GROUP, "c", stage.clock)
            reader = stage.actor("c", end.get(0))
            for _ in range(at):
                stage.step(reader)
            struck = reader.state == "alive"
            stage.step(reader, StepKind.LOSE_REPLY)
            assert (stage.ask(end.get(0)) if struck else reader.result) is not None
        at += 1
    assert at > 2


def agree_at_quiescence(redisq: Redisq) -> None:
    """The server's own counts say the same: all read, nothing pending."""
    if not redisq.client.exists(KEY):  # all died before one of them created it
        return
    (group,) = redisq.client.xinfo_groups(KEY)  # type: ignore[misc]
    assert group["pending"] == 0
    assert redisq.client.xpending(KEY, "g")["pending"] == 0  # type: ignore[index]
    assert group["last-delivered-id"] == redisq.client.xinfo_stream(KEY)["last-generated-id"]  # type: ignore[index]


@given(deaths=st.integers(1, 5), limit=st.integers(1, 4))
def test_a_poisonous_entry_is_handed_out_as_often_as_is_allowed_and_then_parked(
    staged: Staged, deaths: int, limit: int
) -> None:
    queue = StreamGroup(KEY, "g", claim_idle_seconds=30.0, max_deliveries=limit)
    with staged() as (stage, redisq):
        team = Team(stage, redisq, queue)
        stage.ask(team.write([Burst(producer=0, size=1, at_once=True)]))
        counts = []
        for death in range(deaths):
            stage.ask(team.age() if death else queue_exists(queue, stage))
            delivery = stage.ask(StreamGroupEndpoint(queue, f"victim-{death}", stage.clock).get(0))
            counts += [] if delivery is None else [delivery.delivery_count]
        assert counts == list(range(1, min(deaths, limit) + 1))
        parked = redisq.client.xrange(redisq.key("s:dead:{s}"))
        assert len(parked) == (deaths > limit)  # type: ignore[arg-type]
        assert redisq.client.xpending(KEY, "g")["pending"] == (deaths <= limit)  # type: ignore[index]


def queue_exists(queue: StreamGroup, stage: Stage) -> Steps[None]:
    yield from StreamGroupEndpoint(queue, "founder", stage.clock).subscribe()
