"""Where the actors of a run are: each at a seat, and what it is doing as far as it can be known from outside.

Law of quiescence: `settle` returns only when every actor that lives holds a command, is blocked in the server (which
was asked), sleeps, waits, or has ended; then nothing happens until somebody is chosen.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from pytest_redisq.errors import RedisqError
from pytest_redisq.explore.actors import Body, Ended, EventSet, Idle, LoopBody, Report, Sleeps
from pytest_redisq.explore.bench import Bench
from pytest_redisq.explore.processes import ProcessBody
from pytest_redisq.explore.schedule import letter
from pytest_redisq.explore.trace import command_text
from pytest_redisq.terminal import escaped

#: After so many commands that it has sent before, with the replies of before, an actor is polling: others go first.
POLLING_AFTER = 3
_NUMBER = re.compile(rb"[0-9]+")
#: How long an actor may neither act nor compute before the run is given up, in seconds.
PATIENCE_SECONDS = 10.0
#: How much longer, if it computes.
_COMPUTING = 6
#: Who has had this share of the time on a processor computes; one that waits has next to nothing.
_COMPUTING_SHARE = 0.02
#: How long a subscriber, or another program, must be silent to be believed to wait, in seconds.
_SILENCE_SECONDS = 0.005
#: How long nothing must come from those who are blocked in the server before time passes, in seconds.
_STILL_SECONDS = 0.001
#: And how long before it is called a deadlock, where somebody may wait for a thread or a program, in seconds.
_LAST_SECONDS = 1.0


class StuckError(RedisqError):
    """An actor neither sends a command nor sleeps nor ends."""


#: What an actor's function returns.
R = TypeVar("R")


class Actor(Generic[R]):
    """A function, coroutine or program that acts in a run. Its result is known after `world.run()`."""

    def __init__(self, index: int, name: str, *, background: bool, spared: bool = False) -> None:
        self.index = index
        self.name = escaped(name)
        #: Whether the run may end while it still waits for work.
        self.background = background
        #: Whether no fault meets it.
        self.spared = spared
        #: What ended it, other than its own return.
        self.error: BaseException | None = None
        self.killed = False
        self._result: R | None = None

    def __repr__(self) -> str:
        return f"<Actor {letter(self.index)} {self.name}>"

    @property
    def result(self) -> R:
        """What its function returned. An actor that was killed has None, which its type leaves out.

        Raises what the function raised.
        """
        if self.error:
            raise self.error
        return cast(R, self._result)

    def end(self, result: R | None, error: BaseException | None) -> None:
        """It is through."""
        self._result, self.error = result, error


@dataclass(eq=False, slots=True, kw_only=True)
class Seat:
    """An actor at work."""

    actor: Actor[Any]
    body: Body
    #: Whether its client can serve the next run's actor of the same letter.
    reuses_client: bool
    state: Literal["running", "sleeping", "idle", "ended"] = "running"
    #: When its sleep or wait ends, on the schedule's clock; None: never.
    deadline: float | None = None
    waits_for: object = None
    started: bool = False
    #: Whether a fault has met it, so that a connection error is no surprise.
    faulted: bool = False
    #: When it was killed or last interrupted, and what it had computed by then, in seconds.
    doomed_at: float | None = None
    doomed_computed: float = 0.0
    #: What it had computed when all fell silent, in seconds.
    computed: float = 0.0
    interrupted: bool = False
    #: What it has sent and got since time passed, and how often it did nothing new since anybody did something new.
    seen: set[tuple[tuple[bytes, ...], bytes]] = field(default_factory=set)
    repeats: int = 0


class Floor:
    """All seats of a run."""

    def __init__(self, bench: Bench, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._proxy = bench.proxy
        self._rim = bench.rim
        self._bench = bench
        self._reports: list[Report] = []
        self._running: set[int] = set()
        self.seats: list[Seat] = []
        bench.delivered = self._delivered
        bench.reported = self._reported

    def start(self, seats: list[Seat]) -> None:
        """Let these actors begin, one after the other, and come to their first commands.

        Processes begin together: while they take their time, nobody else's, by the real clock, should run out.
        """
        for seat in sorted(seats, key=lambda seat: not isinstance(seat.body, ProcessBody)):
            seat.started = True
            self._running.add(seat.actor.index)
            seat.body.start()
            if not isinstance(seat.body, ProcessBody):
                self.settle()
        self.settle()

    def resume(self, seat: Seat) -> None:
        """End its sleep or wait."""
        seat.state, seat.deadline, seat.waits_for = "running", None, None
        self._running.add(seat.actor.index)
        with self._rim.lock:
            seat.body.generation += 1
        seat.body.wake()

    def stood_still(self, seat: Seat, seconds: float) -> None:
        """It knew nothing of so much time: its own timers go on where they were."""
        if seat.deadline is not None:
            seat.deadline += seconds
        seat.body.stood_still += seconds

    def kill(self, seat: Seat) -> None:
        """Nothing that it does reaches the server any more, and its code is made to end."""
        self._proxy.ban(seat.actor.index)
        if seat.state != "ended" and seat.doomed_at is None:
            seat.actor.killed = True
            self._give_time_to_die(seat)
            seat.state = "running"
            self._running.add(seat.actor.index)
            seat.body.doom()

    def _give_time_to_die(self, seat: Seat) -> None:
        seat.doomed_at, seat.doomed_computed = time.monotonic(), seat.body.computed_seconds()

    def settle(self) -> None:
        """Wait until everybody is quiet.

        Raises `StuckError`.
        """
        silent_since = None
        self._proxy.flush()
        while self._running:
            happened = self._proxy.poll(_SILENCE_SECONDS)
            while self._reports:
                self._take(self._reports.pop(0))
            for index in tuple(self._running):
                if self._quiet(self.seats[index], silent=not happened):
                    self._running.discard(index)
            # One that was killed may go on knocking at the door: that is no sign of life.
            if happened and not self._proxy.banned:
                silent_since = None
            elif self._running:
                if silent_since is None:
                    silent_since = time.monotonic()
                    self._look_at_clocks()
                self._lose_patience(silent_since)

    def note_repetition(self, seat: Seat, args: tuple[bytes, ...], reply: bytes) -> None:
        """Keep in mind what it has sent and got, to know whether it only polls."""
        if isinstance(
            seat.body, ProcessBody
        ):  # whose clock is the real one: polling, it may tell another date each time
            args = tuple(_NUMBER.sub(b"#", arg) for arg in args)
        if (args, reply) in seat.seen:
            seat.repeats += 1
            return
        # All may look again, but what they have seen stays seen: two who poll would take each other for news for ever.
        for other in self.seats:
            other.repeats = 0
        seat.seen.add((args, reply))

    def waiting(self, seat: Seat) -> str:
        """Who it is, and what it waits for."""
        blocked = [
            command_text(channel.blocked.args) for channel in self._proxy.of(seat.actor.index) if channel.blocked
        ]
        what = f"is blocked in {', '.join(blocked)}" if blocked else "waits for something inside the program"
        return f"  {letter(seat.actor.index)} ({seat.actor.name}) {what}"

    def busy_with(self, seat: Seat) -> str:
        """Who it is, and whether it polls, goes on, or waits."""
        if not any(channel.held for channel in self._proxy.of(seat.actor.index)):
            return self.waiting(seat)
        polls = "polls: it sends again what it has sent, and gets the same replies"
        what = polls if seat.repeats >= POLLING_AFTER else "goes on"
        return f"  {letter(seat.actor.index)} ({seat.actor.name}) {what}"

    def stirs(self, *, to_the_last: bool) -> bool:
        """Whether somebody who has a command at the server does something else meanwhile, as one that polls sockets.

        Asked before time passes, and (`to_the_last`) before everybody is said to wait for nothing.
        """
        believed = [seat for seat in self.seats if seat.started and seat.state == "running"]
        if not believed:
            return False
        patient = to_the_last and any(map(self._may_wait_inside, believed))
        until = time.monotonic() + (_LAST_SECONDS if patient else _STILL_SECONDS)
        while not self._proxy.poll(_STILL_SECONDS):
            if time.monotonic() >= until and not any(seat.body.busy() for seat in believed):
                return False
        self._running.update(seat.actor.index for seat in believed)
        self.settle()
        return True

    def _may_wait_inside(self, seat: Seat) -> bool:
        subscribed = any(channel.session.subscribed or channel.raw for channel in self._proxy.of(seat.actor.index))
        return subscribed or isinstance(seat.body, ProcessBody)

    def _delivered(self, index: int) -> None:
        # The last of a connection that an actor of the run before has left may come once this run has begun.
        if index >= len(self.seats) or not self.seats[index].started:
            return
        seat = self.seats[index]
        seat.body.generation += 1
        if seat.state == "idle":
            seat.state, seat.deadline = "running", None
        if seat.state == "running":
            self._running.add(index)

    def _reported(self) -> None:
        self._reports.extend(self._rim.drain())

    def _quiet(self, seat: Seat, *, silent: bool) -> bool:
        if seat.state != "running":
            return True
        if isinstance(seat.body, LoopBody) or seat.doomed_at is not None:
            return False
        unseen = isinstance(seat.body, ProcessBody)
        for channel in self._proxy.channels:
            if channel.actor != seat.actor.index:
                continue
            # Nobody waits for the reply to SUBSCRIBE, or for messages, without doing anything else meanwhile.
            waits = not unseen and (channel.blocked or (channel.held and not channel.held.subscribes))
            may_wait = channel.held or channel.blocked or channel.session.subscribed or channel.raw
            if waits or (silent and may_wait and not seat.body.busy()):
                return True
        return False

    def _take(self, report: Report) -> None:
        match report:
            case Ended():
                seat = self.seats[report.actor]
                seat.state, seat.deadline = "ended", None
                seat.actor.end(seat.body.result, seat.body.error)
            case Sleeps():
                self._sleep(self.seats[report.actor], report)
            case Idle():
                while self._proxy.poll(0):  # what it has sent before it said so
                    pass
                seat = self.seats[report.actor]
                if report.generation == seat.body.generation and seat.state == "running" and not seat.body.doomed:
                    seat.state = "idle"
                    seat.deadline = None if report.seconds is None else self._rim.now + report.seconds
            case EventSet():
                for seat in self.seats:
                    if seat.state == "sleeping" and seat.waits_for is report.event:
                        self.resume(seat)

    def _sleep(self, seat: Seat, report: Sleeps) -> None:
        if seat.doomed_at is not None:
            return
        seat.state, seat.waits_for = "sleeping", report.event
        seat.deadline = None if report.seconds is None else self._rim.now + report.seconds
        if report.seconds == 0 or (report.event and report.event.is_set()):
            self.resume(seat)

    def _lose_patience(self, silent_since: float) -> None:
        now = time.monotonic()
        seats = [self.seats[index] for index in sorted(self._running)]
        for seat in seats:
            if seat.doomed_at is not None and seat.body.outstays(
                now - seat.doomed_at, seat.body.computed_seconds() - seat.doomed_computed
            ):
                self._interrupt(seat)
        if now < silent_since + self._patience_seconds:
            return
        elapsed = now - silent_since
        computing = [seat for seat in seats if self._has_computed(seat) > _COMPUTING_SHARE * elapsed]
        if not computing or elapsed > _COMPUTING * self._patience_seconds:
            self._running.clear()
            raise StuckError(self._stuck(seats, computing, elapsed))

    def _look_at_clocks(self) -> None:
        for index in self._running:
            self.seats[index].computed = self.seats[index].body.computed_seconds()

    def _has_computed(self, seat: Seat) -> float:
        return seat.body.computed_seconds() - seat.computed

    def _stuck(self, seats: list[Seat], computing: list[Seat], elapsed: float) -> str:
        places = "".join(
            f"{letter(seat.actor.index)} ({seat.actor.name}) "
            + (f"has computed for {self._has_computed(seat):.1f} s of them" if seat in computing else "waits")
            + f", and is at\n{seat.body.worker.where()}"
            for seat in seats
        )
        cure = (
            "shorten what the actor computes, or see whether it ends at all; or give it more patience_seconds."
            if computing
            else "let actors wait for each other through Redis, threading.Event or sleep; a lock, a queue.Queue or "
            "other input cannot be seen from here."
        )
        return (
            f"Nothing has come for {elapsed:.1f} s from an actor that neither holds a command nor sleeps nor has "
            f"ended.\n{places}What to do: {cure}"
        )

    def _interrupt(self, seat: Seat) -> None:
        """Again and again: what it interrupts may swallow it, as a destructor does."""
        seat.interrupted = True
        self._give_time_to_die(seat)
        if seat.body.worker.thread.is_alive():
            seat.body.worker.interrupt()
        else:
            self._take(Ended(seat.actor.index))

    def close(self) -> None:
        """End all actors that are left, and leave nothing that a next run would find in another state."""
        try:
            for seat in self.seats:
                if seat.started and seat.state != "ended":
                    self.kill(seat)
            self.settle()
        finally:
            for seat in self.seats:
                self._put_away(seat)
            self._proxy.banned.clear()
            self._proxy.scripts.reset()
            self._rim.drain()
            self._rim.now = 0.0

    def _put_away(self, seat: Seat) -> None:
        channels = list(self._proxy.of(seat.actor.index))
        tidy = all(
            channel.session.reusable and not (channel.held or channel.blocked or channel.queue) for channel in channels
        )
        disturbed = seat.actor.killed or seat.actor.error or seat.faulted
        if seat.started and not (seat.reuses_client and tidy and seat.state == "ended" and not disturbed):
            self._bench.drop_client(seat.actor.index)
        for channel in channels:
            channel.lane, channel.option = 0, None
        if seat.interrupted or (seat.started and seat.state != "ended"):
            self._bench.retire(seat.body.worker)
        else:
            self._bench.release(seat.body.worker)
