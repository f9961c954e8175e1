"""One run of a scenario: its actors, and the loop that lets one of them act at a time.

Law of time: it passes only when nobody holds a command (or, as a fault, sooner), and then to the next deadline; what
the server ages by its own clock, expiring keys and idle pending entries, ages along.
"""

from __future__ import annotations

import inspect
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import redis
import redis.asyncio
from redis.asyncio import Redis as AsyncRedis

from pytest_redisq.check import AnyContract, Verdict
from pytest_redisq.errors import RedisqError
from pytest_redisq.explore.actor_processes import FunctionRunner, ProgramRunner, StartMethod
from pytest_redisq.explore.actor_threads import ActorRunner, EventLoopRunner, ThreadRunner
from pytest_redisq.explore.connection_state import HeldCommand
from pytest_redisq.explore.exhaustive_scheduler import StepEffect
from pytest_redisq.explore.footprint import ALL, NOTHING, ON_RECORD, Footprint
from pytest_redisq.explore.pause_monitor import PAUSE_SECONDS, PauseMonitor
from pytest_redisq.explore.proxy import ProxiedConnection
from pytest_redisq.explore.queue_scenario import DeliveryRecorder
from pytest_redisq.explore.quiescence import PATIENCE_SECONDS, POLLING_AFTER, Actor, ActorController, ActorState, R
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import MAX_ACTORS, OF_THE_SERVER, ChoicePoint, EnabledStep, Step, StepKind, letter
from pytest_redisq.explore.schedulers_all import Scheduler
from pytest_redisq.explore.server_faults import ServerFaults
from pytest_redisq.explore.server_time import ServerTime
from pytest_redisq.explore.trace import ExecutedStep, WokenCommand, command_text

#: Deadlines that are closer to each other than this are the same, in seconds.
_SAME_SECONDS = 1e-6
_RESUMED = (b"(resumed)",)


class DeadlockError(AssertionError):
    """Everybody waits for somebody, and nothing can come any more."""


class EndlessError(RedisqError):
    """A run does not come to an end within its bound of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLimits:
    """What a run may do: the faults that may meet each actor (`""`: any), how many of them, how many steps, and for how
    long nothing may come from an actor.
    """

    faults: dict[str, frozenset[StepKind]]
    max_faults: int
    max_steps: int
    patience_seconds: float = PATIENCE_SECONDS


class World:
    """What a scenario is given: `redis` goes straight to the server, actors go through the proxy."""

    def __init__(self, resources: Resources, scheduler: Scheduler, limits: ExecutionLimits) -> None:
        self._resources = resources
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._controller = ActorController(resources, patience_seconds=limits.patience_seconds)
        self._scheduler = scheduler
        self._limits = limits
        self._budget = limits.max_faults
        self._server_time = ServerTime(resources.control)
        self._pause_monitor = PauseMonitor()
        self._server_faults = ServerFaults(
            resources, remembers=any(StepKind.FAILOVER in kinds for kinds in limits.faults.values())
        )
        self._effect = NOTHING
        self._woken: tuple[int, ...] = ()
        self._recorder: DeliveryRecorder | None = None
        #: What was chosen, and what happened, so far.
        self.choices: list[tuple[ChoicePoint, Step]] = []
        self.events: list[ExecutedStep] = []

    @property
    def redis(self) -> redis.Redis:
        """A client straight to the server, for setting up and for looking at what is left."""
        return self._resources.direct

    def async_redis(self) -> AsyncRedis:
        """The same for coroutines, a new one; whoever has it closes it."""
        return self._resources.async_client(self._resources.url)

    @property
    def actors(self) -> tuple[Actor[Any], ...]:
        """All actors so far, in order of their letters."""
        return tuple(actor_state.actor for actor_state in self._controller.actor_states)

    @overload
    def actor(
        self,
        function: Callable[..., Coroutine[Any, Any, R]],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[R]: ...
    @overload
    def actor(
        self,
        function: Callable[..., R],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[R]: ...
    def actor(
        self,
        function: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[Any]:
        """Somebody who will do `function(client, *args)` in the next `run`, with a client (a coroutine function: an
        asyncio client) or, as it `gets`, a URL. A `background` actor need not end: the run does when all others have.
        One that is `fault_free` meets no fault: who clears up, say. In a `process` of its own, which multiprocessing
        makes by that method, it gets a URL; killed, it is by SIGKILL.
        """
        if process and process not in get_args(StartMethod):
            raise ValueError(f"process={process!r}: an actor's process is made by {' or '.join(get_args(StartMethod))}")
        if process and gets != "url":
            raise ValueError(f'process="{process}" wants gets="url": a client cannot be taken to another process')
        index = self._next_index()
        named = name or str(getattr(function, "__name__", function))
        actor: Actor[Any] = Actor(index, named, background=background, fault_free=fault_free)
        is_async = inspect.iscoroutinefunction(function)
        runner: ActorRunner
        if process:
            url = self._proxy.url(index, tcp=True)
            runner = FunctionRunner(self._mailbox, index, self._resources.worker(), process, function, url, *args)
        elif is_async:
            runner = EventLoopRunner(
                self._mailbox, index, self._resources.worker(), self._coroutine(index, function, args, gets)
            )
        else:
            runner = ThreadRunner(
                self._mailbox, index, self._resources.worker(), self._call(index, function, args, gets)
            )
        self._controller.actor_states.append(
            ActorState(actor=actor, runner=runner, reuses_client=gets == "client" and not is_async)
        )
        return actor

    def process(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        background: bool = False,
    ) -> Actor[subprocess.CompletedProcess[bytes]]:
        """A program that will run in the next `run`: `{url}` in its arguments, and REDIS_URL in its environment (which
        `env` adds to), lead through the proxy. Its result is a `subprocess.CompletedProcess`; killed, it is by SIGKILL.
        """
        index = self._next_index()
        url = self._proxy.url(index, tcp=True)
        actor: Actor[subprocess.CompletedProcess[bytes]] = Actor(
            index, name or os.path.basename(command[0]), background=background
        )
        runner = ProgramRunner(
            self._mailbox,
            index,
            self._resources.worker(),
            [word.replace("{url}", url) for word in command],
            {**os.environ, **(env or {}), "REDIS_URL": url},
        )
        self._controller.actor_states.append(ActorState(actor=actor, runner=runner, reuses_client=False))
        return actor

    def producer(
        self,
        queue: Any,
        messages: int,
        *,
        name: str = "producer",
        after_seconds: float | None = None,
        is_async: bool | None = None,
    ) -> Actor[None]:
        """An actor that puts so many messages into `queue`, on the record that `verify` judges.

        It begins after so many seconds of the schedule's time, which passes only when nobody can act: when all
        consumers wait, say.

        A queue is an object with `bind(client)`, a function of a client that makes one, or a pair of functions
        `(produce(client, body), consume(client, timeout_seconds))`. `is_async`: it is one of coroutine functions, and
        gets an asyncio client (None: as the functions, or the methods of a class, say themselves).
        """
        return self._deliveries.producer(queue, messages, name, after_seconds, is_async)

    def consumer(self, queue: Any, *, name: str = "consumer", is_async: bool | None = None) -> Actor[None]:
        """An actor that takes what comes out of `queue`, and acknowledges it where the queue has that."""
        return self._deliveries.consumer(queue, name, is_async)

    def verify(self, contract: AnyContract) -> Verdict:
        """Run, let an heir take over what the dead held, and judge what all producers and consumers did.

        Raises `DeliveryError` with the whole explanation if the contract is broken.
        """
        __tracebackhide__ = True
        return self._deliveries.verdict(contract)

    @property
    def _deliveries(self) -> DeliveryRecorder:
        if self._recorder is None:
            self._recorder = DeliveryRecorder(self)
        return self._recorder

    @property
    def paused(self) -> bool:
        """Whether an actor stands still, for the schedule has paused it."""
        return bool(self._proxy.paused)

    @property
    def now(self) -> float:
        """Seconds of the schedule's time since the run began."""
        return self._mailbox.now

    def _next_index(self) -> int:
        index = len(self._controller.actor_states)
        if index >= MAX_ACTORS:
            raise ValueError(f"at most {MAX_ACTORS} actors, one per letter")
        return index

    def _call(self, index: int, function: Callable[..., Any], args: tuple[Any, ...], gets: str) -> Callable[[], Any]:
        if gets == "url":
            return lambda: function(self._proxy.url(index, tcp=True), *args)
        return lambda: function(self._resources.client(index), *args)

    def _coroutine(self, index: int, function: Callable[..., Any], args: tuple[Any, ...], gets: str) -> Any:
        url = self._proxy.url(index, tcp=gets == "url")

        async def with_client() -> Any:
            if gets == "url":
                return await function(url, *args)
            client = self._resources.async_client(url)
            try:
                return await function(client, *args)
            finally:
                await client.aclose()

        return with_client

    @property
    def last(self) -> StepEffect:
        """What the last step did, as far as it has been seen."""
        if self._recorder and self._recorder.compared_at == len(self.choices):
            return StepEffect(self._effect | ON_RECORD, self._woken)
        return StepEffect(self._effect, self._woken)

    def run(self) -> None:
        """Let all actors act until they have ended, as the schedule says.

        Raises what an actor raised (unless a fault explains it), `DeadlockError`, `EndlessError`, `StuckError`.
        """
        __tracebackhide__ = True
        self._controller.start(
            [actor_state for actor_state in self._controller.actor_states if not actor_state.started]
        )
        while point := self._point():
            if len(self.choices) - self._pause_monitor.uncounted >= self._limits.max_steps:
                raise EndlessError(self._endless())
            step = self._scheduler.choose(point)
            self.choices.append((point, step))
            if step.kind is StepKind.TIME:
                self._pass_time(step)
            else:
                self._execute(step)
            self._budget -= point.costs(step)
            self._controller.settle()
            if self._proxy.paused:
                self._watch_pause(self.events[-1])
        for actor_state in self._controller.actor_states:
            if actor_state.status != "ended":
                self._controller.kill(actor_state)
        self._controller.settle()

    def check_that_all_acted(self) -> None:
        """Raises `RedisqError` for actors whom no `run` has let act: the scenario would hold whatever they do."""
        __tracebackhide__ = True
        if idle := [actor_state.actor.name for actor_state in self._controller.actor_states if not actor_state.started]:
            raise RedisqError(f"The scenario ended before these had acted: {', '.join(idle)}. Call world.run() in it.")

    def close(self) -> None:
        """End what is left of the run."""
        self._controller.close()

    # -- who may act -------------------------------------------------------------------------------------------------

    def _point(self) -> ChoicePoint | None:
        """The next choice; None when there is none to make any more."""
        __tracebackhide__ = True
        self._raise_errors()
        held = [connection for connection in self._proxy.connections if connection.held]
        if self._only_background_left() and all(
            self._controller.actor_states[each.actor].repeats >= POLLING_AFTER for each in held
        ):
            return None
        enabled_steps, early = self._enabled_steps(held)
        if all(enabled.kind is StepKind.TIME for enabled in enabled_steps) and self._controller.is_active(
            to_the_last=not enabled_steps
        ):
            return self._point()
        if not enabled_steps:
            self._kill_deadlocked()
            return self._point()
        last = self.last
        return ChoicePoint(
            position=len(self.choices),
            enabled_steps=enabled_steps,
            early=early,
            previous=self.choices[-1][1].actor if self.choices else None,
            effect=last.footprint,
            woken=last.woken,
        )

    def _enabled_steps(self, held: list[ProxiedConnection]) -> tuple[tuple[EnabledStep, ...], tuple[EnabledStep, ...]]:
        """What can be chosen for nothing, and which waits could end early, as a fault.

        Those who only poll must let the others go first, and if there are none, let time pass.
        """
        actor_states = self._controller.actor_states
        if self._proxy.paused:
            held = [connection for connection in held if connection.actor not in self._proxy.paused]
        ready = [connection for connection in held if actor_states[connection.actor].repeats < POLLING_AFTER]
        waits = self._waits()
        if ready:
            limit = self._mailbox.now + _SAME_SECONDS
            due = tuple(enabled for deadline, enabled in waits if deadline <= limit)
            early = [
                enabled
                for deadline, enabled in waits
                if deadline > limit and self._may_be(StepKind.TIME, enabled.actor)
            ]
            return self._commands(ready) + due, tuple(
                _early(enabled, StepKind.TIME) for enabled in early
            ) + self._cuttable()
        if waits:
            soonest = waits[0][0] + _SAME_SECONDS
            return tuple(enabled for deadline, enabled in waits if deadline <= soonest), ()
        return self._commands(held), ()

    def _commands(self, connections: list[ProxiedConnection]) -> tuple[EnabledStep, ...]:
        for connection in connections:
            if not connection.number:
                connection.number = self._free_connection_number(connection.actor)
            if connection.enabled is None or (connection.enabled.faults and self._budget <= 0):
                connection.enabled = self._enabled_step(connection)
        enabled_steps = [connection.enabled for connection in connections if connection.enabled]
        return tuple(sorted(enabled_steps, key=_place) if len(enabled_steps) > 1 else enabled_steps)

    def _free_connection_number(self, index: int) -> int:
        """The lowest number that none of the actor's connections has: one that replaces a lost one takes its place."""
        taken = {connection.number for connection in self._proxy.of(index)}
        return next(connection for connection in range(1, len(taken) + 2) if connection not in taken)

    def _enabled_step(self, connection: ProxiedConnection) -> EnabledStep:
        assert connection.held
        kinds = sorted(self._kinds(connection.actor) - {StepKind.TIME}) if self._budget > 0 else ()
        return EnabledStep(
            actor=connection.actor,
            connection=connection.number,
            footprint=connection.held.footprint,
            faults=tuple(kinds),
        )

    def _may_be(self, kind: StepKind, actor: int) -> bool:
        return self._budget > 0 and kind in self._kinds(actor)

    def _cuttable(self) -> tuple[EnabledStep, ...]:
        """Those who wait in the server, where it may drop them."""
        waits = [
            _wait(connection.actor, connection.number) for connection in self._proxy.connections if connection.blocked
        ]
        return tuple(
            _early(wait, StepKind.DISCONNECT) for wait in waits if self._may_be(StepKind.DISCONNECT, wait.actor)
        )

    def _kinds(self, index: int) -> frozenset[StepKind]:
        faults = self._limits.faults
        if not faults or self._controller.actor_states[index].actor.fault_free:
            return frozenset()
        names = ("", letter(index), self._controller.actor_states[index].actor.name)
        return frozenset().union(*(faults.get(name, ()) for name in names))

    def _waits(self) -> list[tuple[float, EnabledStep]]:
        """Who waits for time to pass, and until when, the soonest first."""
        waits: list[tuple[float, EnabledStep]] = []
        for actor_state in self._controller.actor_states:
            if actor_state.deadline is not None and actor_state.status in ("sleeping", "idle"):
                waits.append(
                    (actor_state.deadline, _wait(actor_state.actor.index, 1 if actor_state.status == "sleeping" else 0))
                )
        for connection in self._proxy.connections:
            if connection.paused_until is not None:
                waits.append((connection.paused_until, _wait(connection.actor, connection.number)))
            if connection.deadline is not None and connection.blocked:
                waits.append((connection.deadline, _wait(connection.actor, connection.number)))
        if self._proxy.paused:
            waits = [wait for wait in waits if self._goes_on(wait[1])]
        return sorted(waits, key=lambda wait: (wait[0], _place(wait[1]))) if waits else waits

    def _goes_on(self, wait: EnabledStep) -> bool:
        """Whether the end of a wait is that of a pause, or nobody who is paused waits."""
        connection = self._connection(wait.step)
        return wait.actor not in self._proxy.paused or (connection is not None and connection.paused_until is not None)

    def _only_background_left(self) -> bool:
        return all(
            actor_state.status == "ended" or actor_state.actor.background
            for actor_state in self._controller.actor_states
        )

    def _kill_deadlocked(self) -> None:
        """Actors that are to die of what they are blocked in, and wait for it in vain, die now.

        Raises `DeadlockError` where there are none: nothing can go on.
        """
        __tracebackhide__ = True
        dying = {
            connection.actor for connection in self._proxy.connections if connection.blocked_kind is StepKind.KILL_AFTER
        }
        if not dying:
            lines = [
                self._controller.waiting(actor_state)
                for actor_state in self._controller.actor_states
                if actor_state.status != "ended"
            ]
            raise DeadlockError("everybody waits, and nothing can come any more:\n" + "\n".join(lines))
        for index in dying:
            self._controller.kill(self._controller.actor_states[index])
        self._controller.settle()

    def _endless(self) -> str:
        last = ", ".join(command_text(event.args) for event in self.events[-4:])
        counts = Counter(step.actor for _, step in self.choices)
        alive = [actor_state for actor_state in self._controller.actor_states if actor_state.status != "ended"]
        actors = "\n".join(
            f"{self._controller.busy_with(actor_state)} ({counts[actor_state.actor.index]} steps)"
            for actor_state in alive
        )
        return (
            f"The run has not ended after {self._limits.max_steps} steps; the last were: {last}.\n{actors}\n"
            "What to do: give the actors an end (one that serves others can be background=True), or raise max_steps."
        )

    def _raise_errors(self) -> None:
        __tracebackhide__ = True
        for actor_state in self._controller.actor_states:
            error = (
                None if actor_state.actor.killed else actor_state.actor.error
            )  # what it does when it is dead is not done
            if error and not (
                actor_state.faulted and isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError))
            ):
                raise error

    # -- what a choice does ------------------------------------------------------------------------------------------

    def _execute(self, step: Step) -> None:
        connection = self._connection(step)
        assert connection is not None
        under_way = connection.held or connection.blocked
        assert under_way is not None
        if step.kind in OF_THE_SERVER:
            self._strike(step)
        elif step.kind is StepKind.PAUSE:
            self._proxy.pause(connection, self._mailbox.now, self._mailbox.now + PAUSE_SECONDS)
            self._effect, self._woken = under_way.footprint, ()
        elif connection.blocked:
            self._drop(list(self._proxy.of(step.actor)))
            self._effect, self._woken = ALL, ()
        else:
            self._send(step, connection, under_way)
            return
        self.events.append(ExecutedStep(step=step, args=under_way.args))

    def _watch_pause(self, event: ExecutedStep) -> None:
        """End a pause when nothing new comes of it any more."""
        if event.step.kind is StepKind.PAUSE or event.args == _RESUMED:
            self._pause_monitor.begin(self._mailbox.now)
            return
        self._pause_monitor.note(event.step.actor, event.args, event.reply)
        if self._pause_monitor.is_enough(self._mailbox.now, self._server_time.lease_seconds):
            paused = [connection for connection in self._proxy.connections if connection.paused_until is not None]
            first = min(paused, key=lambda connection: (connection.paused_at, connection.actor))
            first.paused_until = self._mailbox.now

    def _strike(self, step: Step) -> None:
        self._drop(list(self._proxy.connections))
        self._server_faults.strike(step.kind, self._mailbox.now)
        self._effect = ALL
        self._woken = tuple(
            actor_state.actor.index
            for actor_state in self._controller.actor_states
            if actor_state.actor.index != step.actor
        )

    def _drop(self, connections: list[ProxiedConnection]) -> None:
        """These connections go, and with them who was to die of what he waits for there."""
        self._proxy.disconnect(connections)
        for connection in connections:
            actor_state = self._controller.actor_states[connection.actor]
            actor_state.faulted = True
            if connection.blocked_kind is StepKind.KILL_AFTER:
                self._controller.kill(actor_state)

    def _send(self, step: Step, connection: ProxiedConnection, held: HeldCommand) -> None:
        actor_state = self._controller.actor_states[step.actor]
        actor_state.faulted |= step.kind is not StepKind.RUN
        # Before its connection is cut: so its code can tell its death from an error that it has to live with.
        actor_state.actor.killed |= step.kind in (StepKind.KILL_BEFORE, StepKind.KILL_AFTER)
        if self._server_faults.remembers:
            waiting = [other.blocked.footprint for other in self._proxy.connections if other.blocked]
            self._server_faults.write(self._mailbox.now, [held.footprint, *waiting])
        reply = self._proxy.execute(connection, step.kind)
        blocks = connection.blocked is not None
        if blocks and held.timeout_seconds is not None:
            connection.deadline = self._mailbox.now + held.timeout_seconds
        if step.actor in self._proxy.banned:
            self._controller.kill(actor_state)
        self._effect, woken = self._wake(held.footprint, connection)
        self._woken = tuple(event.actor for event in woken)
        self._server_time.touch(held.args, self._effect)
        self.events.append(ExecutedStep(step=step, args=held.args, reply=reply, blocks=blocks, woken=woken))
        self._controller.note_repetition(actor_state, held.args, reply)
        self._proxy.push_messages()

    def _connection(self, step: Step) -> ProxiedConnection | None:
        for connection in self._proxy.connections:
            if connection.actor == step.actor and connection.number == step.connection:
                return connection
        return None

    def _wake(self, effect: Footprint, actor: ProxiedConnection) -> tuple[Footprint, tuple[WokenCommand, ...]]:
        """Those whose blocked commands a step has ended, and what it touched together with them."""
        blocked = [
            connection
            for connection in self._proxy.connections
            if connection.blocked and connection is not actor and connection.blocked.footprint.conflicts(effect)
        ]
        if not effect.writes or not blocked:
            return effect, ()
        woken: list[WokenCommand] = []
        for connection, held, reply in self._proxy.woken(blocked):
            if connection.actor in self._proxy.banned:
                self._controller.kill(self._controller.actor_states[connection.actor])
            effect |= held.footprint
            woken.append(WokenCommand(actor=connection.actor, args=held.args, reply=reply))
        return effect, tuple(woken)

    def _pass_time(self, step: Step) -> None:
        actor_state, connection = self._controller.actor_states[step.actor], self._connection(step)
        sleeping = actor_state.status == "sleeping" or step.connection == 0
        deadline = actor_state.deadline
        if connection and not sleeping:
            deadline = connection.deadline if connection.paused_until is None else connection.paused_until
        if deadline is not None and deadline > self._mailbox.now:
            self._server_time.advance(deadline - self._mailbox.now)
            self._mailbox.now = deadline
        for other in self._controller.actor_states:
            other.repeats = 0
            other.seen.clear()
        self._effect, self._woken = ALL, ()
        if sleeping or connection is None:
            self._controller.resume(actor_state)
            self.events.append(ExecutedStep(step=step, args=(b"(wait)",)))
        elif connection.paused_until is not None:
            self._controller.paused_seconds(actor_state, self._mailbox.now - connection.paused_at)
            self._proxy.resume(connection)
            self.events.append(ExecutedStep(step=step, args=_RESUMED))
        else:
            held, reply = self._time_out(connection, actor_state)
            self.events.append(ExecutedStep(step=step, args=held.args, reply=reply))

    def _time_out(self, connection: ProxiedConnection, actor_state: ActorState) -> tuple[HeldCommand, bytes]:
        _, held, reply = self._proxy.time_out(connection)
        if connection.actor in self._proxy.banned:
            self._controller.kill(actor_state)
        return held, reply


def _place(enabled: EnabledStep) -> tuple[int, int]:
    return enabled.actor, enabled.connection


def _wait(index: int, connection: int) -> EnabledStep:
    return EnabledStep(actor=index, connection=connection, kind=StepKind.TIME, footprint=ALL)


def _early(wait: EnabledStep, kind: StepKind) -> EnabledStep:
    return EnabledStep(actor=wait.actor, connection=wait.connection, kind=kind, footprint=ALL, faults=(kind,))
