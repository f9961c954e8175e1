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
from pytest_redisq.explore.actors import Body, LoopBody, ThreadBody
from pytest_redisq.explore.ageing import Ageing
from pytest_redisq.explore.bench import Bench
from pytest_redisq.explore.delivery import Books
from pytest_redisq.explore.exhaustive import Effect
from pytest_redisq.explore.floor import PATIENCE_SECONDS, POLLING_AFTER, Actor, Floor, R, Seat
from pytest_redisq.explore.footprint import ALL, NOTHING, ON_RECORD, Footprint
from pytest_redisq.explore.outage import Outage
from pytest_redisq.explore.processes import FunctionBody, ProgramBody, StartMethod
from pytest_redisq.explore.proxy import Channel
from pytest_redisq.explore.schedule import MAX_ACTORS, OF_THE_SERVER, Mark, Option, Point, Step, letter
from pytest_redisq.explore.search import Chooser
from pytest_redisq.explore.session import Held
from pytest_redisq.explore.standstill import PAUSE_SECONDS, Standstill
from pytest_redisq.explore.trace import Event, Woken, command_text

#: Deadlines that are closer to each other than this are the same, in seconds.
_SAME_SECONDS = 1e-6
_RESUMED = (b"(resumed)",)


class DeadlockError(AssertionError):
    """Everybody waits for somebody, and nothing can come any more."""


class EndlessError(RedisqError):
    """A run does not come to an end within its bound of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may do: the faults that may meet each actor (`""`: any), how many of them, how many steps, and for how
    long nothing may come from an actor.
    """

    faults: dict[str, frozenset[Mark]]
    max_faults: int
    max_steps: int
    patience_seconds: float = PATIENCE_SECONDS


class World:
    """What a scenario is given: `redis` goes straight to the server, actors go through the proxy."""

    def __init__(self, bench: Bench, chooser: Chooser, limits: Limits) -> None:
        self._bench = bench
        self._proxy = bench.proxy
        self._rim = bench.rim
        self._floor = Floor(bench, patience_seconds=limits.patience_seconds)
        self._chooser = chooser
        self._limits = limits
        self._budget = limits.max_faults
        self._ageing = Ageing(bench.control)
        self._standstill = Standstill()
        self._outage = Outage(bench, remembers=any(Mark.FAILOVER in marks for marks in limits.faults.values()))
        self._effect = NOTHING
        self._woken: tuple[int, ...] = ()
        self._books: Books | None = None
        #: What was chosen, and what happened, so far.
        self.choices: list[tuple[Point, Step]] = []
        self.events: list[Event] = []

    @property
    def redis(self) -> redis.Redis:
        """A client straight to the server, for setting up and for looking at what is left."""
        return self._bench.direct

    def async_redis(self) -> AsyncRedis:
        """The same for coroutines, a new one; whoever has it closes it."""
        return self._bench.async_client(self._bench.url)

    @property
    def actors(self) -> tuple[Actor[Any], ...]:
        """All actors so far, in order of their letters."""
        return tuple(seat.actor for seat in self._floor.seats)

    @overload
    def actor(
        self,
        function: Callable[..., Coroutine[Any, Any, R]],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        spared: bool = False,
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
        spared: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[R]: ...
    def actor(
        self,
        function: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        spared: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[Any]:
        """Somebody who will do `function(client, *args)` in the next `run`, with a client (a coroutine function: an
        asyncio client) or, as it `gets`, a URL. A `background` actor need not end: the run does when all others have.
        One that is `spared` meets no fault: who clears up, say. In a `process` of its own, which multiprocessing makes
        by that method, it gets a URL; killed, it is by SIGKILL.
        """
        if process and process not in get_args(StartMethod):
            raise ValueError(f"process={process!r}: an actor's process is made by {' or '.join(get_args(StartMethod))}")
        if process and gets != "url":
            raise ValueError(f'process="{process}" wants gets="url": a client cannot be taken to another process')
        index = self._next_index()
        named = name or str(getattr(function, "__name__", function))
        actor: Actor[Any] = Actor(index, named, background=background, spared=spared)
        is_async = inspect.iscoroutinefunction(function)
        body: Body
        if process:
            url = self._proxy.url(index, tcp=True)
            body = FunctionBody(self._rim, index, self._bench.worker(), process, function, url, *args)
        elif is_async:
            body = LoopBody(self._rim, index, self._bench.worker(), self._coroutine(index, function, args, gets))
        else:
            body = ThreadBody(self._rim, index, self._bench.worker(), self._call(index, function, args, gets))
        self._floor.seats.append(Seat(actor=actor, body=body, reuses_client=gets == "client" and not is_async))
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
        body = ProgramBody(
            self._rim,
            index,
            self._bench.worker(),
            [word.replace("{url}", url) for word in command],
            {**os.environ, **(env or {}), "REDIS_URL": url},
        )
        self._floor.seats.append(Seat(actor=actor, body=body, reuses_client=False))
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
    def _deliveries(self) -> Books:
        if self._books is None:
            self._books = Books(self)
        return self._books

    @property
    def paused(self) -> bool:
        """Whether an actor stands still, for the schedule has paused it."""
        return bool(self._proxy.frozen)

    @property
    def now(self) -> float:
        """Seconds of the schedule's time since the run began."""
        return self._rim.now

    def _next_index(self) -> int:
        index = len(self._floor.seats)
        if index >= MAX_ACTORS:
            raise ValueError(f"at most {MAX_ACTORS} actors, one per letter")
        return index

    def _call(self, index: int, function: Callable[..., Any], args: tuple[Any, ...], gets: str) -> Callable[[], Any]:
        if gets == "url":
            return lambda: function(self._proxy.url(index, tcp=True), *args)
        return lambda: function(self._bench.client(index), *args)

    def _coroutine(self, index: int, function: Callable[..., Any], args: tuple[Any, ...], gets: str) -> Any:
        url = self._proxy.url(index, tcp=gets == "url")

        async def with_client() -> Any:
            if gets == "url":
                return await function(url, *args)
            client = self._bench.async_client(url)
            try:
                return await function(client, *args)
            finally:
                await client.aclose()

        return with_client

    @property
    def last(self) -> Effect:
        """What the last step did, as far as it has been seen."""
        if self._books and self._books.compared_at == len(self.choices):
            return Effect(self._effect | ON_RECORD, self._woken)
        return Effect(self._effect, self._woken)

    def run(self) -> None:
        """Let all actors act until they have ended, as the schedule says.

        Raises what an actor raised (unless a fault explains it), `DeadlockError`, `EndlessError`, `StuckError`.
        """
        __tracebackhide__ = True
        self._floor.start([seat for seat in self._floor.seats if not seat.started])
        while point := self._point():
            if len(self.choices) - self._standstill.uncounted >= self._limits.max_steps:
                raise EndlessError(self._endless())
            step = self._chooser.choose(point)
            self.choices.append((point, step))
            if step.mark is Mark.TIME:
                self._pass_time(step)
            else:
                self._execute(step)
            self._budget -= point.costs(step)
            self._floor.settle()
            if self._proxy.frozen:
                self._watch_pause(self.events[-1])
        for seat in self._floor.seats:
            if seat.state != "ended":
                self._floor.kill(seat)
        self._floor.settle()

    def check_that_all_acted(self) -> None:
        """Raises `RedisqError` for actors whom no `run` has let act: the scenario would hold whatever they do."""
        __tracebackhide__ = True
        if idle := [seat.actor.name for seat in self._floor.seats if not seat.started]:
            raise RedisqError(f"The scenario ended before these had acted: {', '.join(idle)}. Call world.run() in it.")

    def close(self) -> None:
        """End what is left of the run."""
        self._floor.close()

    # -- who may act -------------------------------------------------------------------------------------------------

    def _point(self) -> Point | None:
        """The next choice; None when there is none to make any more."""
        __tracebackhide__ = True
        self._raise_errors()
        held = [channel for channel in self._proxy.channels if channel.held]
        if self._only_background_left() and all(
            self._floor.seats[each.actor].repeats >= POLLING_AFTER for each in held
        ):
            return None
        options, early = self._options(held)
        if all(option.mark is Mark.TIME for option in options) and self._floor.stirs(to_the_last=not options):
            return self._point()
        if not options:
            self._bury()
            return self._point()
        last = self.last
        return Point(
            position=len(self.choices),
            options=options,
            early=early,
            previous=self.choices[-1][1].actor if self.choices else None,
            effect=last.footprint,
            woken=last.woken,
        )

    def _options(self, held: list[Channel]) -> tuple[tuple[Option, ...], tuple[Option, ...]]:
        """What can be chosen for nothing, and which waits could end early, as a fault.

        Those who only poll must let the others go first, and if there are none, let time pass.
        """
        seats = self._floor.seats
        if self._proxy.frozen:
            held = [channel for channel in held if channel.actor not in self._proxy.frozen]
        ready = [channel for channel in held if seats[channel.actor].repeats < POLLING_AFTER]
        waits = self._waits()
        if ready:
            limit = self._rim.now + _SAME_SECONDS
            due = tuple(option for deadline, option in waits if deadline <= limit)
            early = [option for deadline, option in waits if deadline > limit and self._may_be(Mark.TIME, option.actor)]
            return self._commands(ready) + due, tuple(_early(option, Mark.TIME) for option in early) + self._cuttable()
        if waits:
            soonest = waits[0][0] + _SAME_SECONDS
            return tuple(option for deadline, option in waits if deadline <= soonest), ()
        return self._commands(held), ()

    def _commands(self, channels: list[Channel]) -> tuple[Option, ...]:
        for channel in channels:
            if not channel.lane:
                channel.lane = self._free_lane(channel.actor)
            if channel.option is None or (channel.option.faults and self._budget <= 0):
                channel.option = self._option(channel)
        options = [channel.option for channel in channels if channel.option]
        return tuple(sorted(options, key=_place) if len(options) > 1 else options)

    def _free_lane(self, index: int) -> int:
        """The lowest number that none of the actor's connections has: one that replaces a lost one takes its place."""
        taken = {channel.lane for channel in self._proxy.of(index)}
        return next(lane for lane in range(1, len(taken) + 2) if lane not in taken)

    def _option(self, channel: Channel) -> Option:
        assert channel.held
        marks = sorted(self._marks(channel.actor) - {Mark.TIME}) if self._budget > 0 else ()
        return Option(actor=channel.actor, lane=channel.lane, footprint=channel.held.footprint, faults=tuple(marks))

    def _may_be(self, mark: Mark, actor: int) -> bool:
        return self._budget > 0 and mark in self._marks(actor)

    def _cuttable(self) -> tuple[Option, ...]:
        """Those who wait in the server, where it may drop them."""
        waits = [_wait(channel.actor, channel.lane) for channel in self._proxy.channels if channel.blocked]
        return tuple(_early(wait, Mark.DISCONNECT) for wait in waits if self._may_be(Mark.DISCONNECT, wait.actor))

    def _marks(self, index: int) -> frozenset[Mark]:
        faults = self._limits.faults
        if not faults or self._floor.seats[index].actor.spared:
            return frozenset()
        names = ("", letter(index), self._floor.seats[index].actor.name)
        return frozenset().union(*(faults.get(name, ()) for name in names))

    def _waits(self) -> list[tuple[float, Option]]:
        """Who waits for time to pass, and until when, the soonest first."""
        waits: list[tuple[float, Option]] = []
        for seat in self._floor.seats:
            if seat.deadline is not None and seat.state in ("sleeping", "idle"):
                waits.append((seat.deadline, _wait(seat.actor.index, 1 if seat.state == "sleeping" else 0)))
        for channel in self._proxy.channels:
            if channel.paused_until is not None:
                waits.append((channel.paused_until, _wait(channel.actor, channel.lane)))
            if channel.deadline is not None and channel.blocked:
                waits.append((channel.deadline, _wait(channel.actor, channel.lane)))
        if self._proxy.frozen:
            waits = [wait for wait in waits if self._goes_on(wait[1])]
        return sorted(waits, key=lambda wait: (wait[0], _place(wait[1]))) if waits else waits

    def _goes_on(self, wait: Option) -> bool:
        """Whether the end of a wait is that of a pause, or nobody who is paused waits."""
        channel = self._channel(wait.step)
        return wait.actor not in self._proxy.frozen or (channel is not None and channel.paused_until is not None)

    def _only_background_left(self) -> bool:
        return all(seat.state == "ended" or seat.actor.background for seat in self._floor.seats)

    def _bury(self) -> None:
        """Actors that are to die of what they are blocked in, and wait for it in vain, die now.

        Raises `DeadlockError` where there are none: nothing can go on.
        """
        __tracebackhide__ = True
        dying = {channel.actor for channel in self._proxy.channels if channel.fate is Mark.KILL_AFTER}
        if not dying:
            lines = [self._floor.waiting(seat) for seat in self._floor.seats if seat.state != "ended"]
            raise DeadlockError("everybody waits, and nothing can come any more:\n" + "\n".join(lines))
        for index in dying:
            self._floor.kill(self._floor.seats[index])
        self._floor.settle()

    def _endless(self) -> str:
        last = ", ".join(command_text(event.args) for event in self.events[-4:])
        counts = Counter(step.actor for _, step in self.choices)
        alive = [seat for seat in self._floor.seats if seat.state != "ended"]
        actors = "\n".join(f"{self._floor.busy_with(seat)} ({counts[seat.actor.index]} steps)" for seat in alive)
        return (
            f"The run has not ended after {self._limits.max_steps} steps; the last were: {last}.\n{actors}\n"
            "What to do: give the actors an end (one that serves others can be background=True), or raise max_steps."
        )

    def _raise_errors(self) -> None:
        __tracebackhide__ = True
        for seat in self._floor.seats:
            error = None if seat.actor.killed else seat.actor.error  # what it does when it is dead is not done
            if error and not (seat.faulted and isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError))):
                raise error

    # -- what a choice does ------------------------------------------------------------------------------------------

    def _execute(self, step: Step) -> None:
        channel = self._channel(step)
        assert channel is not None
        under_way = channel.held or channel.blocked
        assert under_way is not None
        if step.mark in OF_THE_SERVER:
            self._strike(step)
        elif step.mark is Mark.PAUSE:
            self._proxy.freeze(channel, self._rim.now, self._rim.now + PAUSE_SECONDS)
            self._effect, self._woken = under_way.footprint, ()
        elif channel.blocked:
            self._drop(list(self._proxy.of(step.actor)))
            self._effect, self._woken = ALL, ()
        else:
            self._send(step, channel, under_way)
            return
        self.events.append(Event(step=step, args=under_way.args))

    def _watch_pause(self, event: Event) -> None:
        """End a pause when nothing new comes of it any more."""
        if event.step.mark is Mark.PAUSE or event.args == _RESUMED:
            self._standstill.begin(self._rim.now)
            return
        self._standstill.note(event.step.actor, event.args, event.reply)
        if self._standstill.is_enough(self._rim.now, self._ageing.lease_seconds):
            paused = [channel for channel in self._proxy.channels if channel.paused_until is not None]
            first = min(paused, key=lambda channel: (channel.paused_at, channel.actor))
            first.paused_until = self._rim.now

    def _strike(self, step: Step) -> None:
        self._drop(list(self._proxy.channels))
        self._outage.strike(step.mark, self._rim.now)
        self._effect = ALL
        self._woken = tuple(seat.actor.index for seat in self._floor.seats if seat.actor.index != step.actor)

    def _drop(self, channels: list[Channel]) -> None:
        """These connections go, and with them who was to die of what he waits for there."""
        self._proxy.disconnect(channels)
        for channel in channels:
            seat = self._floor.seats[channel.actor]
            seat.faulted = True
            if channel.fate is Mark.KILL_AFTER:
                self._floor.kill(seat)

    def _send(self, step: Step, channel: Channel, held: Held) -> None:
        seat = self._floor.seats[step.actor]
        seat.faulted |= step.mark is not Mark.RUN
        # Before its connection is cut: so its code can tell its death from an error that it has to live with.
        seat.actor.killed |= step.mark in (Mark.KILL_BEFORE, Mark.KILL_AFTER)
        if self._outage.remembers:
            waiting = [other.blocked.footprint for other in self._proxy.channels if other.blocked]
            self._outage.write(self._rim.now, [held.footprint, *waiting])
        reply = self._proxy.execute(channel, step.mark)
        blocks = channel.blocked is not None
        if blocks and held.timeout_seconds is not None:
            channel.deadline = self._rim.now + held.timeout_seconds
        if step.actor in self._proxy.banned:
            self._floor.kill(seat)
        self._effect, woken = self._wake(held.footprint, channel)
        self._woken = tuple(event.actor for event in woken)
        self._ageing.touch(held.args, self._effect)
        self.events.append(Event(step=step, args=held.args, reply=reply, blocks=blocks, woken=woken))
        self._floor.note_repetition(seat, held.args, reply)
        self._proxy.push_messages()

    def _channel(self, step: Step) -> Channel | None:
        for channel in self._proxy.channels:
            if channel.actor == step.actor and channel.lane == step.lane:
                return channel
        return None

    def _wake(self, effect: Footprint, actor: Channel) -> tuple[Footprint, tuple[Woken, ...]]:
        """Those whose blocked commands a step has ended, and what it touched together with them."""
        blocked = [
            channel
            for channel in self._proxy.channels
            if channel.blocked and channel is not actor and channel.blocked.footprint.conflicts(effect)
        ]
        if not effect.writes or not blocked:
            return effect, ()
        woken: list[Woken] = []
        for channel, held, reply in self._proxy.woken(blocked):
            if channel.actor in self._proxy.banned:
                self._floor.kill(self._floor.seats[channel.actor])
            effect |= held.footprint
            woken.append(Woken(actor=channel.actor, args=held.args, reply=reply))
        return effect, tuple(woken)

    def _pass_time(self, step: Step) -> None:
        seat, channel = self._floor.seats[step.actor], self._channel(step)
        sleeping = seat.state == "sleeping" or step.lane == 0
        deadline = seat.deadline
        if channel and not sleeping:
            deadline = channel.deadline if channel.paused_until is None else channel.paused_until
        if deadline is not None and deadline > self._rim.now:
            self._ageing.advance(deadline - self._rim.now)
            self._rim.now = deadline
        for other in self._floor.seats:
            other.repeats = 0
            other.seen.clear()
        self._effect, self._woken = ALL, ()
        if sleeping or channel is None:
            self._floor.resume(seat)
            self.events.append(Event(step=step, args=(b"(wait)",)))
        elif channel.paused_until is not None:
            self._floor.stood_still(seat, self._rim.now - channel.paused_at)
            self._proxy.thaw(channel)
            self.events.append(Event(step=step, args=_RESUMED))
        else:
            held, reply = self._time_out(channel, seat)
            self.events.append(Event(step=step, args=held.args, reply=reply))

    def _time_out(self, channel: Channel, seat: Seat) -> tuple[Held, bytes]:
        _, held, reply = self._proxy.time_out(channel)
        if channel.actor in self._proxy.banned:
            self._floor.kill(seat)
        return held, reply


def _place(option: Option) -> tuple[int, int]:
    return option.actor, option.lane


def _wait(index: int, lane: int) -> Option:
    return Option(actor=index, lane=lane, mark=Mark.TIME, footprint=ALL)


def _early(wait: Option, mark: Mark) -> Option:
    return Option(actor=wait.actor, lane=wait.lane, mark=mark, footprint=ALL, faults=(mark,))
