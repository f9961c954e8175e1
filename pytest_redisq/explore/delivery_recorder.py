"""Producers and consumers as actors, whose operations are recorded for the checker.

Law: a message counts as lost only if no consumer gets it even after all actors have ended, no fault strikes any more
and every lease has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_redisq.check import AnyContract, Verdict, check, contract_of
from pytest_redisq.check.contract import Guarantee
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import id_of, message_of
from pytest_redisq.endpoint.outcomes import outcome_of
from pytest_redisq.endpoint.workload import ReceivedMessage
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore.actor import Actor
from pytest_redisq.explore.actor_factory import ActorFactory
from pytest_redisq.explore.execution_loop import ExecutionLoop
from pytest_redisq.explore.queue_side import QueueSide, queue_side
from pytest_redisq.explore.queue_steps import QueueSteps, closing, drive, drive_async
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import MAX_ACTORS, letter
from pytest_redisq.explore.virtual_time import RecordClock
from pytest_redisq.history import History, Recorder
from pytest_redisq.model import UNREADABLE, Kind, Message, Outcome, decode_body, encode_body
from pytest_redisq.queues import Stopped
from pytest_redisq.report import explain

#: Seconds of virtual time that a consumer waits for a message, before it checks whether all producers have ended.
WAIT_SECONDS = 1.0


#: The same while an actor is paused: longer, so that the consumers do not poll all the time.
PATIENT_SECONDS = 15.0


#: Seconds of virtual time after which every lease has run out.
LEASES_SECONDS = 3_600.0


#: Nanoseconds that a step takes in the history. Virtual time itself does not pass while an actor can act.
_STEP_NS = 1_000_000


#: The run id in message bodies: the same in all executions, so that their commands are the same.
_RUN = "x"


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
        #: Each queue that a consumer gets from, as it was given, with its side.
        self._taken: list[tuple[Any, QueueSide]] = []
        #: By the actor's index: counts the commands of its client.
        self._fences: dict[int, Fence] = {}

    def producer(
        self, queue: Any, messages: int, name: str, after_seconds: float | None, is_async: bool | None
    ) -> Actor[None]:
        """An actor that puts `messages` messages into the queue; parameters as for `World.producer`."""
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
        """An actor that gets messages from the queue, and acknowledges them, until all producers have ended."""
        side = queue_side(queue, "get", is_async)
        if not any(known is queue and other.is_async is side.is_async for known, other in self._taken):
            self._taken.append((queue, side))
        return self._actor(lambda client, me: self._take_all(side, client, me), name, side)

    def verdict(self, contract: AnyContract) -> Verdict:
        """Run all actors, then a recovery consumer for each queue, and judge the history.

        Readers of a fan-out do not take over from each other, so they get no recovery consumer. Raises `DeliveryError`
        if the contract is broken or the verdict is unknown.
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
        self._loop.verdicts.append(verdict)
        if verdict.outcome != "pass" and not self._nothing_was_tried(verdict):
            broken = [anomaly.message for anomaly in verdict.anomalies if agreed.forbids(anomaly.kind)]
            bodies = frozenset(encode_body(_RUN, message) for message in broken if message != UNREADABLE)
            raise DeliveryError(explain(verdict), history=history, bodies=bodies)
        return verdict

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
        work: Callable[[Any, Actor[None]], QueueSteps[None]],
        name: str,
        side: QueueSide,
        *,
        fault_free: bool = False,
    ) -> Actor[None]:
        def act(client: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            self._count_commands(client, actor)
            drive(work(client, actor))

        async def act_async(client: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            self._count_commands(client, actor)
            await drive_async(work(client, actor))

        # The actor's code refers to `actor`, and runs only after it exists.
        actor: Actor[None] = self._factory.function(
            act_async if side.is_async else act, name=name, fault_free=fault_free
        )
        return actor

    def _count_commands(self, client: Any, actor: Actor[None]) -> None:
        self._fences[actor.index] = Fence()
        self._fences[actor.index].guard(client)

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
                self._record.ok(token, None, _ids(id_of(answer)))

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
            received = message_of(delivery) if done else None
            if done and received is None:
                self._record.ok(token, ())
                if not self._producing and not self._loop.paused:
                    return
            elif received is not None:
                yield from self._received(end, me, token, received)

    def _received(self, end: Any, me: Actor[None], token: int, received: ReceivedMessage) -> QueueSteps[None]:
        ids = _ids(received.id)
        message = decode_body(_RUN, received.body)
        self._note_time()
        self._record.ok(token, (message or UNREADABLE,), ids, error="" if message else repr(received.body[:60]))
        if message is None or not callable(getattr(end, "ack", None)):
            return
        token = self._record.invoke(_name(me), Kind.ACK, (message,))
        done, answer = yield from self._call(lambda: end.ack(received.delivery), token, me)
        if done and answer is False:
            self._record.fail(token, "the message was no longer its own")
        elif done:
            self._record.ok(token, None, ids)

    def _note_time(self) -> None:
        if self._compares:
            self._loop.note_recorded()

    def _call(self, call: Callable[[], Any], token: int, me: Actor[None]) -> QueueSteps[tuple[bool, Any]]:
        """Return whether the call came back, and its result. Otherwise record the outcome that its error stands for.

        A killed actor raises its connection error: its operation never ends on the record.
        """
        __tracebackhide__ = True
        fence = self._fences[me.index]
        fence.commands = 0
        try:
            return True, (yield call)
        except Exception as error:
            outcome = outcome_of(error, commands=fence.commands)
            if outcome is None or (outcome is Outcome.INFO and me.killed):
                raise
            record_end = self._record.fail if outcome is Outcome.FAIL else self._record.info
            record_end(token, f"{type(error).__name__}: {error}")
        return False, None

    def _inside(self, what: str) -> list[Message]:
        """Our messages that the queue lists as `remaining` or `pending`; none if it cannot list them."""
        bodies = [body for _, side in self._taken for body in self._listed(side, what)]
        return [message for body in bodies if (message := decode_body(_RUN, body)) is not None]

    def _listed(self, side: QueueSide, what: str) -> list[bytes]:
        listed: list[bytes] = []

        def ask(end: Any) -> QueueSteps[None]:
            listed.extend((yield getattr(end, what, list)))

        if not side.is_async:
            end = side.open(self._resources.direct)
            drive(closing(end, ask(end)))
            return listed

        async def list_bodies() -> None:
            async with self._resources.async_client(self._resources.url) as client:
                end = side.open(client)
                await drive_async(closing(end, ask(end)))

        # In a thread of its own: an event loop may be running the scenario.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, list_bodies()).result()
        return listed


def _ids(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _name(actor: Actor[None]) -> str:
    return f"{letter(actor.index)} {actor.name}"
