"""One judge: the same events, recorded in the columns of a run and in the bitmaps of a load run, have one verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from pytest_redisq.check import AnomalyKind, Contract, Guarantee, Knowledge, Verdict, check
from pytest_redisq.history import History, Quiescence
from pytest_redisq.load.bitmap_evidence import BitmapEvidence
from pytest_redisq.load.codec import BodyCodec, key_of
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.model import UNREADABLE, Kind, Message, Op, Outcome

CONTRACTS = [
    "at-most-once",
    "at-least-once",
    "at-least-once, bounded",
    "at-least-once, fifo",
    "effectively-once",
    "effectively-once, fifo",
    "fan-out",
    "fan-out, bounded",
    "fan-out, fifo",
]
OUTCOMES = st.sampled_from([Outcome.OK] * 6 + [Outcome.FAIL, Outcome.INFO])


@dataclass
class Event:
    """An op as it is being generated; `ended` is 0 for one that never ends."""

    actor: str
    kind: Kind
    invoked: int
    ended: int = 0
    outcome: Outcome = Outcome.INFO
    messages: list[Message] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def op(self) -> Op:
        return Op(
            actor=self.actor,
            kind=self.kind,
            outcome=self.outcome,
            messages=tuple(self.messages),
            ids=tuple(self.ids),
            invoked_ns=self.invoked,
            ended_ns=self.ended or None,
        )


@dataclass
class Run:
    """The events, and the state at the end."""

    named: bool
    acks: bool
    #: Whether consumers have work, which may fail.
    works: bool = False
    events: list[Event] = field(default_factory=list)
    attempted: dict[str, int] = field(default_factory=dict)
    given: dict[Message, str] = field(default_factory=dict)
    invoked: dict[Message, int] = field(default_factory=dict)
    end: Quiescence = field(default_factory=lambda: Quiescence(at_ns=10**6))

    def sent(self) -> list[Message]:
        return [Message(int(name[1]), at) for name, number in self.attempted.items() for at in range(number)]

    def history(self) -> History:
        return History.of([event.op() for event in self.events], self.end)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Producers that send in turn, consumers that get and acknowledge whatever they like, all interleaved."""
    run = Run(named=draw(st.booleans()), acks=draw(st.booleans()), works=draw(st.booleans()))
    never = draw(st.integers(0, 3))  # one message of the first producer is never delivered, but may be acknowledged
    busy: dict[str, Event] = {}
    got: dict[str, list[Message]] = {}
    for moment in range(1, draw(st.integers(2, 40))):
        actor = draw(st.sampled_from(["p0", "p1", "c0", "c1", "c2"]))
        if actor in busy:
            event = busy.pop(actor)
            event.ended, event.outcome = moment, draw(OUTCOMES)
            _end(draw, run, event, got, never)
            continue
        event = busy[actor] = Event(actor, Kind.ENQUEUE if actor[0] == "p" else Kind.DEQUEUE, moment)
        if event.kind is Kind.ENQUEUE:
            event.messages = [Message(int(actor[1]), run.attempted.get(actor, 0))]
            run.attempted[actor] = event.messages[0].sequence + 1
            run.invoked[event.messages[0]] = moment
        elif run.works and draw(st.integers(0, 3)) == 0 and got.get(actor):
            event.kind, event.messages = Kind.WORK, [got[actor][-1]]
        elif run.acks and draw(st.booleans()):
            mine = [*dict.fromkeys(got.get(actor, [])), *[Message(0, never)] * (draw(st.integers(0, 5)) == 0)]
            if mine:
                event.kind, event.messages = Kind.ACK, [draw(st.sampled_from(mine))]
        run.events.append(event)
    sent = run.sent()
    inside = st.lists(st.sampled_from(sent), max_size=2, unique=True) if sent else st.just([])
    run.end = Quiescence(
        at_ns=10**6,
        drained=draw(st.integers(0, 7)) > 0,
        remaining=tuple(draw(inside)) if draw(st.integers(0, 3)) == 0 else (),
        pending=tuple(draw(inside)),
        trimmed=tuple(draw(st.lists(st.sampled_from(sorted(run.given.values())), max_size=2)) if run.given else ()),
    )
    return run


def _end(draw: st.DrawFn, run: Run, event: Event, got: dict[str, list[Message]], never: int) -> None:
    """Ids of a stream rise; a message that a actor sent twice has a second one right behind the first."""
    if event.kind is Kind.ENQUEUE and event.outcome is Outcome.OK and run.named:
        event.ids = [f"{event.ended}-0"]
        run.given[event.messages[0]] = event.ids[0]
    if event.kind is not Kind.DEQUEUE or event.outcome is not Outcome.OK:
        return
    known = [message for message in run.sent() if message != Message(0, never)]
    strange = [Message(7, 0), *[UNREADABLE] * (not run.named)]
    for _ in range(draw(st.integers(0, 3))):
        pool = strange if not known or draw(st.integers(0, 15)) == 0 else known
        message = draw(st.sampled_from(pool))
        if message in event.messages and message != UNREADABLE:
            continue
        event.messages.append(message)
        if message.producer >= 0:
            got.setdefault(event.actor, []).append(message)
        if run.named:
            own = run.given.get(message, f"{run.invoked.get(message, 900)}-0")
            others = [own] * 6 + [own.replace("-0", "-1")] + sorted(run.given.values())[:1]
            event.ids.append(draw(st.sampled_from(others)))


def _key(message: Message) -> bytes:
    return key_of(*message).to_bytes(8, "little")


class Recorded:
    """The run as a load run records it: consumers in one or two processes, `flushes` after which books are written."""

    def __init__(self, run: Run, *, fan_out: bool, split: bool, flushes: Sequence[int]) -> None:
        self._run = run
        self._fan_out = fan_out
        self._ledgers = [Ledger(), Ledger()] if split else [Ledger()]
        self._buffers: dict[str, DeliveryBuffer] = {}
        self._highest: dict[str, tuple[int, int]] = {}
        self._asked: dict[int, int] = {}
        self._widest = max(
            (len(each.messages) for each in run.events if each.kind is Kind.DEQUEUE and each.outcome is Outcome.OK),
            default=1,
        )
        moments = sorted(
            [(event.invoked, False, at) for at, event in enumerate(run.events)]
            + [(event.ended or 10**5, True, at) for at, event in enumerate(run.events)]
        )
        for number, (_, ended, at) in enumerate(moments):
            (self._end if ended else self._invoke)(run.events[at])
            if number in flushes:
                for buffer in self._buffers.values():
                    buffer.flush()

    def _buffer(self, consumer: str) -> DeliveryBuffer:
        place = int(consumer[1]) % len(self._ledgers)
        name = consumer if self._fan_out else str(place)
        if name not in self._buffers:
            ids = Knowledge.UNRECORDED if self._run.named else Knowledge.ABSENT
            acks = Knowledge.RECORDED if self._run.acks or self._run.works else Knowledge.ABSENT
            polls = Knowledge.RECORDED if self._run.named else Knowledge.ABSENT
            coverage = Coverage(ids=ids, acks=acks, polls=polls).ordered(True)
            reader = consumer if self._fan_out else ""
            self._buffers[name] = DeliveryBuffer(self._ledgers[place], BodyCodec(1), reader=reader, coverage=coverage)
        return self._buffers[name]

    def _invoke(self, event: Event) -> None:
        if event.kind is Kind.ENQUEUE:
            self._ledgers[0].attempt(event.messages[0].producer)
        elif event.kind is Kind.DEQUEUE:
            self._asked[id(event)] = self._buffer(event.actor).ask(event.actor)

    def _end(self, event: Event) -> None:
        ok = event.outcome is Outcome.OK
        if event.kind is Kind.ENQUEUE:
            if not ok:
                book = self._ledgers[0].fail if event.outcome is Outcome.FAIL else self._ledgers[0].forget
                book(*event.messages[0])
            return
        if event.kind in (Kind.ACK, Kind.WORK) and self._fan_out:
            return  # an ack makes no reader, and fan-out has no acks
        buffer = self._buffer(event.actor)
        if event.kind is Kind.ACK:
            keys = [*map(_key, event.messages)]
            if event.outcome is Outcome.FAIL:
                buffer.fail(event.actor, keys, ack=True)
            else:
                (buffer.ack if ok else buffer.ack_failed)(keys)
        elif event.kind is Kind.WORK:
            if event.outcome is Outcome.FAIL:
                buffer.fail(event.actor, [*map(_key, event.messages)], ack=False)
        elif event.outcome is Outcome.INFO:
            mine = [each for each in self._run.events if each.actor == event.actor and each.outcome is Outcome.OK]
            widest = max(
                (len(each.messages) for each in mine if each.kind is Kind.DEQUEUE and each.messages), default=1
            )
            buffer.lose(widest if self._fan_out else max(self._widest, 1))
        elif event.messages:
            start = len(buffer.keys)
            whole = [message for message in event.messages if message != UNREADABLE]
            buffer.keys += map(_key, whole)
            for _ in range(len(event.messages) - len(whole)):
                self._ledgers[0].corrupt(b"garbled")
            buffer.took(event.actor, self._asked[id(event)], start)
            self._poll(event, buffer)

    def _poll(self, event: Event, buffer: DeliveryBuffer) -> None:
        for message, identity in zip(event.messages, event.ids, strict=False):
            milliseconds, _, number = identity.partition("-")
            here = (int(milliseconds), int(number))
            if here <= self._highest.get(event.actor, (-1, 0)):
                buffer.go_back([_key(message)])
            self._highest[event.actor] = max(here, self._highest.get(event.actor, here))

    def evidence(self) -> BitmapEvidence:
        for buffer in self._buffers.values():
            buffer.settle()
        merged, end = Ledger(), self._run.end
        for ledger in self._ledgers:
            merged.merge(Ledger.load(ledger.dump()))
        merged.remaining = BitMap64(key_of(*message) for message in end.remaining)
        merged.pending = BitMap64(key_of(*message) for message in end.pending)
        thrown = [message for message, identity in self._run.given.items() if identity in end.trimmed]
        merged.trimmed = BitMap64(key_of(*message) for message in thrown)
        return BitmapEvidence(merged, unsettled=[] if end.drained else ["the queue had not been drained"])


def agree(columns: Verdict, bitmaps: Verdict) -> None:
    """One verdict, or a law that is named as not judged, and then no pass for a contract that needs it."""
    contract, left_out = columns.contract, set(bitmaps.not_judged)
    if AnomalyKind.LOST in left_out:  # what may be late-join is not excused either
        left_out.add(AnomalyKind.INDETERMINATE)
    if columns.counts[AnomalyKind.WRONG_ID] and contract.guarantee is Guarantee.FAN_OUT:
        # The id of an entry gives its place in the stream, and so the entries that a reader must get.
        left_out |= {AnomalyKind.LOST, AnomalyKind.INDETERMINATE, AnomalyKind.LATE_JOIN, AnomalyKind.POLL_SKIP}
    assert not columns.not_judged
    for kind in AnomalyKind:
        assert kind in left_out or bitmaps.counts[kind] == columns.counts[kind], (kind, columns, bitmaps)
    if any(map(contract.needs, bitmaps.not_judged)):
        assert bitmaps.outcome in ("unknown", columns.outcome)
        assert bitmaps.outcome != "pass"
        return
    broken = {kind for kind in AnomalyKind if columns.counts[kind] and contract.forbids(kind)}
    assert bitmaps.outcome == columns.outcome or (broken and broken <= left_out), (columns, bitmaps)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(runs(), st.booleans(), st.lists(st.integers(0, 80), max_size=4))
def test_the_same_events_have_one_verdict_however_they_were_recorded(run: Run, split: bool, flushes: list[int]) -> None:
    for text in CONTRACTS:
        contract = Contract.parse(text)
        fan_out = contract.guarantee is Guarantee.FAN_OUT
        evidence = Recorded(run, fan_out=fan_out, split=split, flushes=flushes).evidence()
        agree(check(run.history(), contract), check(evidence, contract))


def _by_one_consumer(*deliveries: int, acked: Sequence[int]) -> Run:
    """A consumer gets these messages of the only producer; `acked` are the places of the deliveries that it acks."""
    run = Run(named=True, acks=True, attempted={"p0": 2})
    moments = iter(range(1, 1000))
    for at in range(2):
        message = Message(0, at)
        run.given[message] = f"{at + 1}-0"
        run.events.append(_event("p0", Kind.ENQUEUE, moments, message, run))
    for at, sequence in enumerate(deliveries):
        run.events.append(_event("c0", Kind.DEQUEUE, moments, Message(0, sequence), run))
        if at in acked:
            run.events.append(_event("c0", Kind.ACK, moments, Message(0, sequence), run))
    return run


def _event(actor: str, kind: Kind, moments: Iterator[int], message: Message, run: Run) -> Event:
    ids = [run.given[message]] if kind is not Kind.ACK else []
    return Event(actor, kind, next(moments), next(moments), Outcome.OK, [message], ids)


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize(
    ("contract", "deliveries", "acked", "columns", "bitmaps", "left_out"),
    [
        ("effectively-once", [0, 1, 1], [], "pass", "unknown", {"wrong-id", "cloned"}),
        ("at-least-once", [0, 1], [0], "fail", "fail", {"wrong-id"}),
        ("at-least-once", [0, 1, 0], [0, 1, 2], "fail", "unknown", {"wrong-id", "cloned", "false-ack"}),
        ("at-least-once", [0, 1, 0], [1, 2], "pass", "pass", {"wrong-id", "cloned"}),
        ("at-least-once", [0, 1], [0, 1], "pass", "pass", {"wrong-id"}),
    ],
    ids=["again under the same id", "ended holding it", "again after its ack", "again before its ack", "once"],
)
def test_what_load_cannot_tell_it_names(
    flush: bool,
    contract: str,
    deliveries: list[int],
    acked: list[int],
    columns: str,
    bitmaps: str,
    left_out: set[str],
) -> None:
    """`flush`: what came is booked after each event, so that an ack and a delivery are not booked together."""
    run = _by_one_consumer(*deliveries, acked=acked)
    bitmaps_of = Recorded(run, fan_out=False, split=False, flushes=range(100) if flush else [])
    one, other = (check(each, Contract.parse(contract)) for each in (run.history(), bitmaps_of.evidence()))
    assert (one.outcome, other.outcome) == (columns, bitmaps)
    assert set(other.not_judged) == left_out
    agree(one, other)
