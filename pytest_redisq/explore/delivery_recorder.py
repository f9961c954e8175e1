"""Producers and consumers as actors, whose operations are recorded for the checker.

Law: a message counts as lost only if no consumer gets it even after all actors have ended, no fault strikes any more
and every lease has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from pytest_redisq.check import AnyContract, Verdict, check, contract_of
from pytest_redisq.check.contract import Guarantee
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore.actor import Actor
from pytest_redisq.explore.actor_factory import ActorFactory
from pytest_redisq.explore.execution_loop import ExecutionLoop
from pytest_redisq.explore.queue_side import QueueSide, body_of, ids_of, queue_side
from pytest_redisq.explore.queue_steps import QueueSteps, closing, drive, drive_async
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import MAX_ACTORS, letter
from pytest_redisq.explore.virtual_time import RecordClock
from pytest_redisq.history import History, Recorder
from pytest_redisq.model import UNREADABLE, Kind, Message, Outcome, decode_body, encode_body
from pytest_redisq.queues import Stopped
from pytest_redisq.report import explain

#: How long a consumer waits for a message before it looks whether there will be more, in seconds of the schedule.
WAIT_SECONDS = 1.0


#: The same while somebody stands still, and all others wait for him: not to look all the time.
PATIENT_SECONDS = 15.0


#: By then every lease has run out, in seconds of the schedule.
LEASES_SECONDS = 3_600.0


#: How long a step takes on the record, where time stands still while somebody can act, in nanoseconds.
_STEP_NS = 1_000_000


#: The mark of our bodies: the same in all runs, so that their commands are.
_RUN = "x"


#: After these nobody knows whether the call took effect.
_UNKNOWN = (redis.ConnectionError, redis.TimeoutError, OSError)


class DeliveryRecorder:
    """What the producers and consumers of one run have done."""

    def __init__(self, resources: Resources, factory: ActorFactory, loop: ExecutionLoop) -> None:
        self._resources = resources
        self._factory = factory
        self._loop = loop
        # By the steps chosen, not the events: what a step gives an actor may reach it before the event is on the list.
        self._stamps = RecordClock(lambda: round(loop.now * 1e9) + len(loop.choices) * _STEP_NS, MAX_ACTORS, _STEP_NS)
        self._record = Recorder(self._stamps)
        self._compares = True
        self._producers = 0
        self._producing = 0
        #: By the queue, as it was given.
        self._taken: list[tuple[Any, QueueSide]] = []

    def producer(
        self, queue: Any, messages: int, name: str, after_seconds: float | None, is_async: bool | None
    ) -> Actor[None]:
        """An actor that puts so many messages into the queue."""
        side = queue_side(queue, "put", is_async)
        number, self._producers = self._producers, self._producers + 1
        self._producing += 1

        def produce(client: Any, me: Actor[None]) -> QueueSteps[None]:
            try:
                if after_seconds is not None:
                    yield lambda: side.sleep(after_seconds)
                yield from closing(end := side.open(client), self._produce(end, me, number, messages))
            finally:
                self._producing -= 1

        return self._actor(produce, name, side)

    def consumer(self, queue: Any, name: str, is_async: bool | None) -> Actor[None]:
        """An actor that takes messages out of the queue, and acknowledges them, until there will be no more."""
        side = queue_side(queue, "get", is_async)
        if not any(known is queue and other.is_async is side.is_async for known, other in self._taken):
            self._taken.append((queue, side))
        return self._actor(lambda client, me: self._take_all(side, client, me), name, side)

    def verdict(self, contract: AnyContract) -> Verdict:
        """Let all actors end, have what the dead held taken over, and judge. `DeliveryError` if the contract is broken.

        Readers of a fan-out inherit nothing from each other.
        """
        __tracebackhide__ = True
        agreed = contract_of(contract)
        self._compares = agreed.fifo and agreed.guarantee is not Guarantee.FAN_OUT
        self._loop.run()
        if agreed.guarantee is not Guarantee.FAN_OUT:
            for _, side in self._taken:
                self._actor(self._recovery_consumer(side), "recovery", side, fault_free=True)
            self._loop.run()
        self._record.quiescence(remaining=self._inside("remaining"), pending=self._inside("pending"))
        history = self._record.history()
        self._look_for_detours(history)
        verdict = check(history, agreed)
        if verdict.outcome != "pass" and not self._nothing_was_tried(verdict):
            broken = [anomaly.message for anomaly in verdict.anomalies if agreed.forbids(anomaly.kind)]
            bodies = frozenset(encode_body(_RUN, message) for message in broken if message != UNREADABLE)
            raise DeliveryError(explain(verdict), history=history, bodies=bodies)
        return verdict

    def _nothing_was_tried(self, verdict: Verdict) -> bool:
        """Whether faults kept every producer from sending a message: at the opening of the queue, or at its only put.

        Such a schedule breaks nothing. Without a fault the verdict stays unknown.
        """
        faults = sum(point.costs(step) for point, step in self._loop.choices)
        totals = verdict.totals
        return (
            faults > 0
            and verdict.outcome == "unknown"
            and not (totals.acknowledged or totals.delivered or totals.remaining)
        )

    def _look_for_detours(self, history: History) -> None:
        """`RedisqError` if a message was put or got by an actor of which no command has passed by the schedule."""
        seen = {_name(self._loop.actors[event.step.actor]) for event in self._loop.events}
        for op in history:
            if op.messages and op.outcome is Outcome.OK and op.actor not in seen:
                raise RedisqError(
                    f"{op.actor} did the {op.kind} of a message, and none of its commands passed by the schedule, so "
                    "that there was nothing to explore. What to do: have the queue send its commands by the client "
                    "that it is given, not by one of its own."
                )

    def _actor(
        self,
        work: Callable[[Any, Actor[None]], QueueSteps[None]],
        name: str,
        side: QueueSide,
        *,
        fault_free: bool = False,
    ) -> Actor[None]:
        def act(client: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            drive(work(client, actor))

        async def act_async(client: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            await drive_async(work(client, actor))

        # The actor's code asks whether it has been killed; it does not run before the actor is there to be asked.
        actor: Actor[None] = self._factory.function(
            act_async if side.is_async else act, name=name, fault_free=fault_free
        )
        return actor

    def _recovery_consumer(self, side: QueueSide) -> Callable[[Any, Actor[None]], QueueSteps[None]]:
        def recover(client: Any, me: Actor[None]) -> QueueSteps[None]:
            yield lambda: side.sleep(LEASES_SECONDS)
            yield from self._take_all(side, client, me)

        return recover

    def _take_all(self, side: QueueSide, client: Any, me: Actor[None]) -> QueueSteps[None]:
        return closing(end := side.open(client), self._consume(end, me))

    def _produce(self, end: Any, me: Actor[None], number: int, messages: int) -> QueueSteps[None]:
        for sequence in range(messages):
            message = Message(number, sequence)
            token = self._record.invoke(_name(me), Kind.ENQUEUE, (message,))
            done, answer = yield from self._call(lambda: end.put(encode_body(_RUN, message)), token, me)  # noqa: B023
            if done:
                self._record.ok(token, None, ids_of(answer))

    def _consume(self, end: Any, me: Actor[None]) -> QueueSteps[None]:
        while True:
            token = self._record.invoke(_name(me), Kind.DEQUEUE)
            self._note_time()
            try:
                wait_seconds = PATIENT_SECONDS if self._loop.paused else WAIT_SECONDS
                done, delivery = yield from self._call(lambda: end.get(wait_seconds), token, me)  # noqa: B023
            except Stopped:
                self._record.ok(token, ())
                return
            if done and delivery is None:
                self._record.ok(token, ())
                if not self._producing and not self._loop.paused:
                    return
            elif done:
                yield from self._received(end, me, token, delivery)

    def _received(self, end: Any, me: Actor[None], token: int, delivery: Any) -> QueueSteps[None]:
        body, ids = body_of(delivery), ids_of(getattr(delivery, "id", None))
        message = decode_body(_RUN, body)
        self._note_time()
        self._record.ok(token, (message or UNREADABLE,), ids, error="" if message else repr(body[:60]))
        if message is None or not callable(getattr(end, "ack", None)):
            return
        token = self._record.invoke(_name(me), Kind.ACK, (message,))
        done, answer = yield from self._call(lambda: end.ack(delivery), token, me)
        if done and answer is False:
            self._record.fail(token, "the message was no longer its own")
        elif done:
            self._record.ok(token, None, ids)

    def _note_time(self) -> None:
        if self._compares:
            self._loop.note_recorded()

    def _call(self, call: Callable[[], Any], token: int, me: Actor[None]) -> QueueSteps[tuple[bool, Any]]:
        """Whether the call came back, and with what; else the op has been ended as its error says.

        An actor that was killed does not live to see an error.
        """
        __tracebackhide__ = True
        try:
            return True, (yield call)
        except redis.ResponseError as error:
            self._record.fail(token, f"{type(error).__name__}: {error}")
        except _UNKNOWN as error:
            if me.killed:
                raise
            self._record.info(token, f"{type(error).__name__}: {error}")
        return False, None

    def _inside(self, what: str) -> list[Message]:
        """Our messages among a queue's `remaining` or `pending`, where it can tell."""
        bodies = [body for _, side in self._taken for body in self._told(side, what)]
        return [message for body in bodies if (message := decode_body(_RUN, body)) is not None]

    def _told(self, side: QueueSide, what: str) -> list[bytes]:
        told: list[bytes] = []

        def ask(end: Any) -> QueueSteps[None]:
            told.extend((yield getattr(end, what, list)))

        if not side.is_async:
            end = side.open(self._resources.direct)
            drive(closing(end, ask(end)))
            return told

        async def tell() -> None:
            async with self._resources.async_client(self._resources.url) as client:
                end = side.open(client)
                await drive_async(closing(end, ask(end)))

        # In a thread of its own: the scenario may be run by an event loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, tell()).result()
        return told


def _name(actor: Actor[None]) -> str:
    return f"{letter(actor.index)} {actor.name}"
