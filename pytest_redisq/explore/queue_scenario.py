"""Producers and consumers as actors, with everything that they do on the record, for the judge of all histories.

Law: a message counts as lost only if nobody gets it even after everybody has ended, no fault strikes any more and every
lease has run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import redis

from pytest_redisq.check import AnyContract, Verdict, check, contract_of
from pytest_redisq.check.contract import Guarantee
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore.quiescence import Actor
from pytest_redisq.explore.schedule import MAX_ACTORS, letter
from pytest_redisq.explore.virtual_time import RecordClock
from pytest_redisq.history import History, Recorder
from pytest_redisq.model import UNREADABLE, Kind, Message, Outcome, decode_body, encode_body
from pytest_redisq.queues import Stopped
from pytest_redisq.report import explain

if TYPE_CHECKING:
    from pytest_redisq.explore.world import World

_T = TypeVar("_T")

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

#: What is to be done on a queue, yielded by those who work with it, and what comes of it, sent back: `_drive` does it
#: in a thread, `_drive_async` in an event loop.
_Steps: TypeAlias = Generator[Callable[[], Any], Any, _T]


@dataclass(frozen=True, slots=True)
class QueueSide:
    """How an actor gets its end of a queue, to put or to get, out of its own client; and whether of coroutines."""

    open: Callable[[Any], Any]
    is_async: bool

    def sleep(self, seconds: float) -> Any:
        """To be awaited where it is of coroutines."""
        return asyncio.sleep(seconds) if self.is_async else time.sleep(seconds)


class DeliveryRecorder:
    """What the producers and consumers of one run have done."""

    def __init__(self, world: World) -> None:
        self._world = world
        # By the steps chosen, not the events: what a step gives an actor may reach it before the event is on the list.
        self._stamps = RecordClock(lambda: round(world.now * 1e9) + len(world.choices) * _STEP_NS, MAX_ACTORS, _STEP_NS)
        self._record = Recorder(self._stamps)
        #: After how many steps an op began or ended whose time counts, by the contract, against other actors' ops.
        self.compared_at = -1
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

        def produce(client: Any, me: Actor[None]) -> _Steps[None]:
            try:
                if after_seconds is not None:
                    yield lambda: side.sleep(after_seconds)
                yield from _closing(end := side.open(client), self._produce(end, me, number, messages))
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
        self._world.run()
        if agreed.guarantee is not Guarantee.FAN_OUT:
            for _, side in self._taken:
                self._actor(self._recovery_consumer(side), "recovery", side, fault_free=True)
            self._world.run()
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
        """Whether a fault has met all producers before they had sent anything: as they opened the queue, say."""
        faults = sum(point.costs(step) for point, step in self._world.choices)
        return faults > 0 and verdict.outcome == "unknown" and not verdict.totals.attempted

    def _look_for_detours(self, history: History) -> None:
        """`RedisqError` if a message was put or got by an actor of which no command has passed by the schedule."""
        seen = {_name(self._world.actors[event.step.actor]) for event in self._world.events}
        for op in history:
            if op.messages and op.outcome is Outcome.OK and op.actor not in seen:
                raise RedisqError(
                    f"{op.actor} did the {op.kind} of a message, and none of its commands passed by the schedule, so "
                    "that there was nothing to explore. What to do: have the queue send its commands by the client "
                    "that it is given, not by one of its own."
                )

    def _actor(
        self, work: Callable[[Any, Actor[None]], _Steps[None]], name: str, side: QueueSide, *, fault_free: bool = False
    ) -> Actor[None]:
        def act(client: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            _drive(work(client, actor))

        async def act_async(client: Any) -> None:
            __tracebackhide__ = True
            self._stamps.place = actor.index
            await _drive_async(work(client, actor), _awaited)

        # The actor's code asks whether it has been killed; it does not run before the actor is there to be asked.
        actor: Actor[None] = self._world.actor(act_async if side.is_async else act, name=name, fault_free=fault_free)
        return actor

    def _recovery_consumer(self, side: QueueSide) -> Callable[[Any, Actor[None]], _Steps[None]]:
        def recover(client: Any, me: Actor[None]) -> _Steps[None]:
            yield lambda: side.sleep(LEASES_SECONDS)
            yield from self._take_all(side, client, me)

        return recover

    def _take_all(self, side: QueueSide, client: Any, me: Actor[None]) -> _Steps[None]:
        return _closing(end := side.open(client), self._consume(end, me))

    def _produce(self, end: Any, me: Actor[None], number: int, messages: int) -> _Steps[None]:
        for sequence in range(messages):
            message = Message(number, sequence)
            token = self._record.invoke(_name(me), Kind.ENQUEUE, (message,))
            done, answer = yield from self._call(lambda: end.put(encode_body(_RUN, message)), token, me)  # noqa: B023
            if done:
                self._record.ok(token, None, _ids(answer))

    def _consume(self, end: Any, me: Actor[None]) -> _Steps[None]:
        while True:
            token = self._record.invoke(_name(me), Kind.DEQUEUE)
            self._note_time()
            try:
                wait_seconds = PATIENT_SECONDS if self._world.paused else WAIT_SECONDS
                done, delivery = yield from self._call(lambda: end.get(wait_seconds), token, me)  # noqa: B023
            except Stopped:
                self._record.ok(token, ())
                return
            if done and delivery is None:
                self._record.ok(token, ())
                if not self._producing and not self._world.paused:
                    return
            elif done:
                yield from self._received(end, me, token, delivery)

    def _received(self, end: Any, me: Actor[None], token: int, delivery: Any) -> _Steps[None]:
        body, ids = _body(delivery), _ids(getattr(delivery, "id", None))
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
            self.compared_at = len(self._world.choices)

    def _call(self, call: Callable[[], Any], token: int, me: Actor[None]) -> _Steps[tuple[bool, Any]]:
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

        def ask(end: Any) -> _Steps[None]:
            told.extend((yield getattr(end, what, list)))

        if not side.is_async:
            end = side.open(self._world.redis)
            _drive(_closing(end, ask(end)))
            return told

        async def tell() -> None:
            async with self._world.async_redis() as client:
                end = side.open(client)
                await _drive_async(_closing(end, ask(end)), _awaited)

        # In a thread of its own: the scenario may be run by an event loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, tell()).result()
        return told


def queue_scenario(
    queue: Any,
    contract: AnyContract,
    *,
    producers: int = 1,
    consumers: int = 2,
    messages: int = 3,
    is_async: bool | None = None,
) -> Any:
    """The scenario in which so many producers and consumers send so many messages, in all, through the queue.

    `queue` and `is_async` as for `World.producer`. Raises `TypeError` for what is no queue, `ValueError` for what is no
    contract.
    """
    agreed = contract_of(contract)
    for verb in ("put", "get"):
        queue_side(queue, verb, is_async)

    def scenario(world: World) -> None:
        __tracebackhide__ = True
        for number in range(producers):
            world.producer(queue, messages // producers + (number < messages % producers), is_async=is_async)
        for _ in range(consumers):
            world.consumer(queue, is_async=is_async)
        world.verify(agreed)

    return scenario


def queue_side(queue: Any, verb: str, is_async: bool | None) -> QueueSide:
    """The half of a queue that has `verb` ("put" or "get").

    Raises `TypeError` for what is no queue, or is one whose commands would not pass by the schedule.
    """
    function: Any = None
    if isinstance(queue, tuple) and len(queue) == 2 and all(map(callable, queue)):
        function = queue[verb == "get"]
        opener: Callable[[Any], Any] = lambda client: _FunctionEndpoint(function, client, verb)  # noqa: E731
    elif callable(getattr(queue, "bind", None)) and not isinstance(queue, type):
        opener = queue.bind
    elif callable(queue):
        function, opener = getattr(queue, verb, None), queue
    else:
        raise TypeError(
            f"{queue!r} cannot be explored: each actor needs an end of it on a client of its own. Give an object with "
            "bind(client), a function of a client (a class, say) that makes an object with put(body), "
            "get(timeout_seconds) and perhaps ack(delivery), or a pair (produce, consume) of functions of a client."
        )
    return QueueSide(opener, inspect.iscoroutinefunction(function) if is_async is None else is_async)


class _FunctionEndpoint:
    """One of a pair of functions, with the actor's client."""

    def __init__(self, function: Callable[..., Any], client: Any, verb: str) -> None:
        setattr(self, verb, lambda value: function(client, value))


def _closing(end: Any, steps: _Steps[None]) -> _Steps[None]:
    """`steps`, after which the end is closed; but not where they are left lying and nobody could do it."""
    __tracebackhide__ = True
    close = getattr(end, "close", None)
    closed = [close] if callable(close) else []
    try:
        yield from steps
    except GeneratorExit:
        raise
    except BaseException:
        yield from closed
        raise
    yield from closed


def _drive(steps: _Steps[None]) -> None:
    """In a thread: as nothing is ever awaited, the first step of the coroutine is all of it."""
    __tracebackhide__ = True
    with contextlib.suppress(StopIteration):
        _drive_async(steps, _given).send(None)


async def _drive_async(steps: _Steps[None], answer_of: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    """`answer_of` makes an answer of what an act gives."""
    __tracebackhide__ = True
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            act = steps.throw(error) if error else steps.send(answer)
        except StopIteration:
            return
        finally:
            error = None
        try:
            answer = await answer_of(act())
        except BaseException as raised:
            error = raised


async def _awaited(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _given(answer: Any) -> Any:
    if not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise TypeError(f"{answer!r} is to be awaited, and nobody would: say is_async=True of this queue.")


def _name(actor: Actor[None]) -> str:
    return f"{letter(actor.index)} {actor.name}"


def _body(delivery: Any) -> bytes:
    body = delivery if isinstance(delivery, (bytes, str)) else getattr(delivery, "body", None)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    raise TypeError(f"get() returned {delivery!r}: it is to return None, the body, or an object with a `body`")


def _ids(answer: Any) -> tuple[str, ...]:
    """The id that a queue gives to a message; a number (such as a list's length) is none."""
    if isinstance(answer, bytes):
        return (answer.decode(),)
    return (answer,) if isinstance(answer, str) else ()
