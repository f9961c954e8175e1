"""Producers and consumers as actors, whose operations are recorded for the checker.

Law: a message counts as lost only if no consumer gets it even after all actors have ended, no fault strikes any more
and every lease has run out.
"""

from __future__ import annotations

import asyncio
import math
import time
from itertools import count
from typing import Any

from pytest_redisq.check import (
    AnomalyKind,
    AnyContract,
    Guarantee,
    Verdict,
    check,
    contract_of,
    delivers,
    missing_messages,
)
from pytest_redisq.check.column_evidence import ColumnEvidence
from pytest_redisq.endpoint.drivers import drive, drive_async
from pytest_redisq.endpoint.forms import QueueEndpoint
from pytest_redisq.endpoint.jobs import Work
from pytest_redisq.endpoint.operation_record import HistoryRecord
from pytest_redisq.endpoint.workload import Steps, WorkerState, WorkloadContext, consume, produce
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore.actor import Actor
from pytest_redisq.explore.actor_factory import ActorFactory
from pytest_redisq.explore.actor_threads import ActorKilled
from pytest_redisq.explore.bound_trace import bounds_of, returned_by, traits_of_all
from pytest_redisq.explore.execution_loop import EndlessError, ExecutionLoop
from pytest_redisq.explore.idle_gets import IdleGets
from pytest_redisq.explore.last_commands import last_commands
from pytest_redisq.explore.liveness_exam import LOOK_SECONDS, ExaminedConsumer, LivenessExam
from pytest_redisq.explore.queue_listing import finished_and_pending, listed_bodies
from pytest_redisq.explore.queue_side import QueueSide
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import MAX_ACTORS, letter
from pytest_redisq.explore.trace import error_replies
from pytest_redisq.explore.virtual_time import RecordClock
from pytest_redisq.history import History, Recorder
from pytest_redisq.model import UNREADABLE, Message, Outcome, decode_body, encode_body
from pytest_redisq.report import error_lines, explain
from pytest_redisq.search import (
    LEASES_SECONDS,
    NamespaceSearch,
    SearchResult,
    declared_bound,
    late_group_notes,
    marked_messages,
)

#: Seconds of virtual time that a consumer waits for a message, before it checks whether all producers have ended.
WAIT_SECONDS = 1.0

#: The same while an actor is paused: longer, so that the consumers do not poll all the time.
PATIENT_SECONDS = 15.0

#: Nanoseconds that a step takes in the history. Virtual time itself does not pass while an actor can act.
_STEP_NS = 1_000_000

#: The run id in message bodies: the same in all executions, so that their commands are the same.
_RUN = "x"
_FIND = marked_messages(_RUN)


class DeliveryRecorder:
    """Makes the producers and consumers of one execution, and records their operations."""

    def __init__(self, resources: Resources, factory: ActorFactory, loop: ExecutionLoop) -> None:
        self._resources = resources
        self._factory = factory
        self._loop = loop
        # Counted by choices, not events: an actor may get a reply before the event is appended.
        self._stamps = RecordClock(lambda: round(loop.now * 1e9) + len(loop.choices) * _STEP_NS, MAX_ACTORS, _STEP_NS)
        self._record = Recorder(self._stamps)
        self._compares = True
        self._producers = 0
        self._producing = 0
        #: The side of each queue that a consumer gets from, and that a producer puts to.
        self._taken: list[QueueSide] = []
        self._given: list[QueueSide] = []
        #: The exam that the contract asks for; None if it does not.
        self.exam: LivenessExam | None = None
        self._holders: list[_ActorContext] = []

    def wait_seconds(self, consumer: _ActorContext) -> float:
        """What this consumer passes to `get` now, in seconds of virtual time."""
        waits = self._loop.paused or (self.exam is None and self._others_work(consumer))
        return PATIENT_SECONDS if waits else WAIT_SECONDS

    def may_get(self, consumer: _ActorContext) -> bool:
        """Whether messages may still come to this consumer: a producer or another consumer is at work, an actor is
        paused, or consumers are asked.
        """
        asked = self.exam is not None and not self.exam.finished
        return self._putting() or asked or self._others_work(consumer)

    def _putting(self) -> bool:
        return self._producing > 0 or self._loop.paused

    def _others_work(self, consumer: _ActorContext) -> bool:
        """Whether another consumer holds a message, and time has passed since it received it: its lease may run out."""
        return any(holder.at_work() for holder in self._holders if holder is not consumer)

    def producer(self, side: QueueSide, messages: int, name: str, after_seconds: float | None) -> Actor[None]:
        """An actor that puts `messages` messages into the queue; parameters as for `World.producer`."""
        number, self._producers = self._producers, self._producers + 1
        self._producing += 1
        self._given.append(side)
        return self._actor(side, name, messages=messages, number=number, after_seconds=after_seconds or 0.0)

    def consumer(self, side: QueueSide, name: str, work: Work) -> Actor[None]:
        """An actor that gets messages from the queue, and acknowledges them, until all producers have ended."""
        if not any(known.queue is side.queue and known.is_async is side.is_async for known in self._taken):
            self._taken.append(side)
        return self._actor(side, name, work=work)

    def verdict(self, contract: AnyContract) -> Verdict:
        """Run all actors, then a recovery consumer for each queue, and judge the history.

        Readers of a fan-out do not take over from each other, so they get no recovery consumer. Raises `DeliveryError`
        if the contract is broken or the verdict is unknown.
        """
        __tracebackhide__ = True
        agreed = contract_of(contract)
        self._compares = agreed.fifo and agreed.guarantee is not Guarantee.FAN_OUT
        if agreed.live_seconds is not None and self._loop.may_strike:
            self._examine(agreed.live_seconds)
        self.run_actors()
        recovers = agreed.guarantee is not Guarantee.FAN_OUT
        if recovers:
            self._loop.outlast_claims()
            self._recover(LEASES_SECONDS)
        history = self._settled(recovers=recovers, searches=agreed.forbids(AnomalyKind.LOST))
        if self.exam:
            history, agreed = self.exam.graded(history, agreed, _STEP_NS)
        self._look_for_detours(history)
        verdict = check(history, agreed)
        self._loop.verdicts.append(verdict)
        if verdict.outcome != "pass" and not self._nothing_was_tried(verdict):
            broken = [anomaly.message for anomaly in verdict.anomalies if agreed.forbids(anomaly.kind)]
            bodies = frozenset(encode_body(_RUN, message) for message in broken if message != UNREADABLE)
            schedule = last_commands(self._loop.events, [actor.name for actor in self._loop.actors], broken, _RUN)
            raise DeliveryError("\n".join([explain(verdict), *schedule]), history=history, bodies=bodies)
        return verdict

    def _examine(self, live_seconds: float) -> None:
        """Add the producer that asks the consumers of the first queue for a sign of life."""
        side = next((side for side in self._given for taken in self._taken if side.queue is taken.queue), None)
        if side is None:
            return
        probe = self._actor(side, "probe", fault_free=True)
        record = HistoryRecord(self._record, _name(probe), _RUN, producer=self._producers)
        self.exam = LivenessExam(record, self._loop, live_seconds, self._putting)

    def run_actors(self) -> None:
        """Run the new actors. An execution that does not end tells the errors of operations, or else of commands."""
        __tracebackhide__ = True
        try:
            self._loop.run()
        except EndlessError as endless:
            errors = ColumnEvidence(self._record.history()).errors()
            first = [f"{errors[0].times:,} × {errors[0].operation}: {errors[0].text}"] if errors else []
            told = error_lines(errors or error_replies(self._loop.events))
            raise EndlessError("\n".join([*first, str(endless), *told])) from None

    def _recover(self, after_seconds: float) -> None:
        """Have a recovery consumer of each queue take over what crashed consumers still held."""
        __tracebackhide__ = True
        for side in self._taken:
            self._actor(side, "recovery", after_seconds=after_seconds, fault_free=True)
        self.run_actors()

    def _settled(self, *, recovers: bool, searches: bool) -> History:
        """Record the quiescence, and return the history.

        * `recovers`: whether consumers take over from each other.
        * `searches`: whether missing messages are looked for in the server's keys. A contract that allows losses does
          not need that.
        """
        __tracebackhide__ = True
        search = NamespaceSearch(self._resources.address, _FIND)
        history, result = self._looked(search, recovers=recovers, searches=searches)
        if recovers and result.inside and result.timers:
            # Scripts go by the server's time of day, which is not the schedule's: what they wrote is still to come. So
            # is the end of a time to live that is longer than the recovery has waited.
            search.let_leases_pass(result)
            self._recover(0.0)
            history, _ = self._looked(search, recovers=recovers, searches=searches)
        return history

    def _looked(self, search: NamespaceSearch, *, recovers: bool, searches: bool) -> tuple[History, SearchResult]:
        """Record the quiescence with what was found. A reader's own position decides whether it gets what is there."""
        remaining, pending = self._inside()
        pending += finished_and_pending(search, self._record.history(), self._loop.events).difference(pending)
        self._record.quiescence(remaining=remaining, pending=pending)
        history = self._record.history()
        missing = missing_messages(history)
        if not searches or not (missing or remaining or pending):
            return history, SearchResult()
        result = search.search({*missing, *remaining, *pending})
        keeps = [bound for side in self._taken if (bound := declared_bound(side.queue)) is not None]
        returned = {actor.index: returned_by(_name(actor), history) for actor in self._loop.actors}
        removed = bounds_of(search, _FIND, self._loop.events, keeps, returned).removed(history, result)
        found = result.found & missing if recovers else frozenset()
        seen = traits_of_all(self._loop.events)
        stuck = found & result.out_of_reach(seen) if delivers(history) else frozenset()
        self._record.quiescence(
            remaining=[*remaining, *sorted(found - stuck)],
            pending=[*pending, *sorted(stuck)],
            trimmed=removed.ids,
            trimmed_messages=removed.messages,
            trim_doubt=removed.doubt,
            search=result.record,
            notes=[*late_group_notes(history, result, seen), *result.idle_notes(seen)],
        )
        return self._record.history(), result

    def _nothing_was_tried(self, verdict: Verdict) -> bool:
        """Whether this schedule alone proves nothing: no message was delivered, as each reader joined late, or a fault
        kept every message from its way.

        Such a schedule breaks nothing. If all are such, the exploration is unknown. Where no put was acknowledged
        although no fault struck, this verdict is.
        """
        faults = sum(point.costs(step) for point, step in self._loop.choices)
        totals = verdict.totals
        excused = (
            not (totals.acknowledged and totals.delivered) if faults else totals.acknowledged > totals.delivered == 0
        )
        return verdict.outcome == "unknown" and excused and not totals.remaining

    def _look_for_detours(self, history: History) -> None:
        """Check that the messages went through the proxy.

        Raises `RedisqError` if an actor put or got a message and none of its commands reached the proxy.
        """
        seen = {_name(self._loop.actors[event.step.actor]) for event in self._loop.events}
        for op in history:
            if op.messages and op.outcome is Outcome.OK and op.actor not in seen:
                raise RedisqError(
                    f"{op.actor} did the {op.kind} of a message, but none of its commands went through the proxy, so "
                    "no schedule can change anything. What to do: let the queue use the client that it is given, not "
                    "one of its own."
                )

    def _actor(
        self,
        side: QueueSide,
        name: str,
        *,
        messages: int = 0,
        number: int = 0,
        after_seconds: float = 0.0,
        fault_free: bool = False,
        work: Work = 0.0,
    ) -> Actor[None]:
        """An actor that waits, opens its side of the queue, and puts, or gets until it is over."""

        def steps(endpoint: QueueEndpoint) -> Steps:
            if side.is_producer and fault_free:
                assert self.exam is not None
                return produce(count(), self.exam, endpoint)
            record = HistoryRecord(self._record, _name(actor), _RUN, producer=number)
            examined = not side.is_producer and not fault_free
            context = _ActorContext(self, self._loop, actor, record, work, examined=examined)
            self._holders.append(context)
            return produce(range(messages), context, endpoint) if side.is_producer else consume(context, endpoint)

        def act(given: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            try:
                if after_seconds:
                    time.sleep(after_seconds)
                endpoint = side.open(given)
                try:
                    drive(steps(endpoint), endpoint.perform)
                finally:
                    endpoint.close()
            finally:
                self._producing -= side.is_producer and not fault_free

        async def act_async(given: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            try:
                if after_seconds:
                    await asyncio.sleep(after_seconds)
                endpoint = side.open(given)
                try:
                    await drive_async(steps(endpoint), endpoint.perform_async)
                finally:
                    await endpoint.close_async()
            finally:
                self._producing -= side.is_producer and not fault_free

        # The actor's code refers to `actor`, and runs only after it exists.
        actor: Actor[None] = self._factory.function(
            act_async if side.is_async else act, name=name, fault_free=fault_free, gets=side.gets, stop=lambda: None
        )
        actor.must_end = False  # it finishes its message, however long that takes
        return actor

    def note_time(self) -> None:
        """An operation begins or ends now, and other actors' may be compared with it."""
        if self._compares:
            self._loop.note_recorded()

    def _inside(self) -> list[list[Message]]:
        """Our messages that the queues list as `remaining`, and as `pending`; none where a queue cannot list them."""
        listed: list[list[Message]] = [[], []]
        for side in self._taken:
            for messages, bodies in zip(listed, listed_bodies(side, self._resources), strict=True):
                messages += [message for body in bodies if (message := decode_body(_RUN, body)) is not None]
        return listed


class _ActorContext(WorkloadContext):
    """The context of a producer or consumer that is an actor."""

    #: The schedule decides when an actor goes on.
    backoff_seconds: tuple[float, float] = (0.0, 0.0)
    slice_seconds: float = LOOK_SECONDS
    #: The sleep of a consumer at work is one step of the schedule.
    work_slice_seconds: float = math.inf

    def __init__(
        self,
        recorder: DeliveryRecorder,
        loop: ExecutionLoop,
        actor: Actor[None],
        record: HistoryRecord,
        work: Work,
        *,
        examined: bool,
    ) -> None:
        super().__init__(record, work)
        self._recorder = recorder
        self._loop = loop
        self._actor = actor
        self._examined: ExaminedConsumer | None = recorder.exam.examine(actor) if recorder.exam and examined else None
        self._idle_gets = IdleGets()
        self._held_since: float | None = None
        self._finished_at: int | None = None

    @property
    def wait_seconds(self) -> float:
        return self._recorder.wait_seconds(self)

    def over(self, *, idle: bool) -> bool:
        return self._actor.terminated or (idle and not self._recorder.may_get(self))

    def held_seconds(self) -> float:
        return LOOK_SECONDS if self._examined and self._examined.held else 0.0

    def check_alive(self) -> None:
        """An operation of a killed actor never ends on the record."""
        if self._actor.killed:
            raise ActorKilled

    def enter(self, state: WorkerState) -> None:
        if state is WorkerState.GETTING:
            self._recorder.note_time()
            if self._examined:
                self._examined.asks()

    def received(self) -> None:
        self._recorder.note_time()
        if self._examined:
            self._examined.took()
        self._held_since, self._finished_at = self._loop.now, None

    def handled(self) -> None:
        self._finished_at = len(self._loop.choices)

    def idle(self) -> None:
        self._idle_gets.note(len(self._loop.choices))

    def at_work(self) -> bool:
        """Whether it holds a message that it received earlier in virtual time.

        It counts as at work until the end of the step in which it finished: another actor may ask in the same step.
        """
        ended = self._actor.killed or self._loop.controller.states[self._actor.index].status == "ended"
        if self._held_since is None or ended or self._finished_at not in (None, len(self._loop.choices)):
            return False
        return self._loop.now > self._held_since


def _name(actor: Actor[None]) -> str:
    return f"{letter(actor.index)} {actor.name}"
