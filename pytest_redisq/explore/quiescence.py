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
from pytest_redisq.explore.actor_processes import ProcessRunner
from pytest_redisq.explore.actor_threads import (
    ActorEnded,
    ActorReport,
    ActorRunner,
    ActorSleeps,
    EventLoopIdle,
    EventLoopRunner,
    EventSet,
)
from pytest_redisq.explore.resources import Resources
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

    def __init__(self, index: int, name: str, *, background: bool, fault_free: bool = False) -> None:
        self.index = index
        self.name = escaped(name)
        #: Whether the run may end while it still waits for work.
        self.background = background
        #: Whether no fault meets it.
        self.fault_free = fault_free
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
class ActorState:
    """An actor at work."""

    actor: Actor[Any]
    runner: ActorRunner
    #: Whether its client can serve the next run's actor of the same letter.
    reuses_client: bool
    status: Literal["running", "sleeping", "idle", "ended"] = "running"
    #: When its sleep or wait ends, on the schedule's clock; None: never.
    deadline: float | None = None
    waits_for: object = None
    started: bool = False
    #: Whether a fault has met it, so that a connection error is no surprise.
    faulted: bool = False
    #: When it was killed or last interrupted, and what it had computed by then, in seconds.
    killed_at: float | None = None
    cpu_seconds_when_killed: float = 0.0
    #: What it had computed when all fell silent, in seconds.
    cpu_seconds_at_silence: float = 0.0
    interrupted: bool = False
    #: What it has sent and got since time passed, and how often it did nothing new since anybody did something new.
    seen: set[tuple[tuple[bytes, ...], bytes]] = field(default_factory=set)
    repeats: int = 0


class ActorController:
    """All seats of a run."""

    def __init__(self, resources: Resources, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._resources = resources
        self._reports: list[ActorReport] = []
        self._running: set[int] = set()
        self.actor_states: list[ActorState] = []
        resources.delivered = self._delivered
        resources.reported = self._reported

    def start(self, actor_states: list[ActorState]) -> None:
        """Let these actors begin, one after the other, and come to their first commands.

        Processes begin together: while they take their time, nobody else's, by the real clock, should run out.
        """
        for actor_state in sorted(
            actor_states, key=lambda actor_state: not isinstance(actor_state.runner, ProcessRunner)
        ):
            actor_state.started = True
            self._running.add(actor_state.actor.index)
            actor_state.runner.start()
            if not isinstance(actor_state.runner, ProcessRunner):
                self.settle()
        self.settle()

    def resume(self, actor_state: ActorState) -> None:
        """End its sleep or wait."""
        actor_state.status, actor_state.deadline, actor_state.waits_for = "running", None, None
        self._running.add(actor_state.actor.index)
        with self._mailbox.lock:
            actor_state.runner.generation += 1
        actor_state.runner.wake()

    def paused_seconds(self, actor_state: ActorState, seconds: float) -> None:
        """It knew nothing of so much time: its own timers go on where they were."""
        if actor_state.deadline is not None:
            actor_state.deadline += seconds
        actor_state.runner.paused_seconds += seconds

    def kill(self, actor_state: ActorState) -> None:
        """Nothing that it does reaches the server any more, and its code is made to end."""
        self._proxy.ban(actor_state.actor.index)
        if actor_state.status != "ended" and actor_state.killed_at is None:
            actor_state.actor.killed = True
            self._give_time_to_die(actor_state)
            actor_state.status = "running"
            self._running.add(actor_state.actor.index)
            actor_state.runner.kill()

    def _give_time_to_die(self, actor_state: ActorState) -> None:
        actor_state.killed_at, actor_state.cpu_seconds_when_killed = time.monotonic(), actor_state.runner.cpu_seconds()

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
                if self._quiet(self.actor_states[index], silent=not happened):
                    self._running.discard(index)
            # One that was killed may go on knocking at the door: that is no sign of life.
            if happened and not self._proxy.banned:
                silent_since = None
            elif self._running:
                if silent_since is None:
                    silent_since = time.monotonic()
                    self._look_at_clocks()
                self._lose_patience(silent_since)

    def note_repetition(self, actor_state: ActorState, args: tuple[bytes, ...], reply: bytes) -> None:
        """Keep in mind what it has sent and got, to know whether it only polls."""
        if isinstance(
            actor_state.runner, ProcessRunner
        ):  # whose clock is the real one: polling, it may tell another date each time
            args = tuple(_NUMBER.sub(b"#", arg) for arg in args)
        if (args, reply) in actor_state.seen:
            actor_state.repeats += 1
            return
        # All may look again, but what they have seen stays seen: two who poll would take each other for news for ever.
        for other in self.actor_states:
            other.repeats = 0
        actor_state.seen.add((args, reply))

    def waiting(self, actor_state: ActorState) -> str:
        """Who it is, and what it waits for."""
        blocked = [
            command_text(connection.blocked.args)
            for connection in self._proxy.of(actor_state.actor.index)
            if connection.blocked
        ]
        what = f"is blocked in {', '.join(blocked)}" if blocked else "waits for something inside the program"
        return f"  {letter(actor_state.actor.index)} ({actor_state.actor.name}) {what}"

    def busy_with(self, actor_state: ActorState) -> str:
        """Who it is, and whether it polls, goes on, or waits."""
        if not any(connection.held for connection in self._proxy.of(actor_state.actor.index)):
            return self.waiting(actor_state)
        polls = "polls: it sends again what it has sent, and gets the same replies"
        what = polls if actor_state.repeats >= POLLING_AFTER else "goes on"
        return f"  {letter(actor_state.actor.index)} ({actor_state.actor.name}) {what}"

    def is_active(self, *, to_the_last: bool) -> bool:
        """Whether somebody who has a command at the server does something else meanwhile, as one that polls sockets.

        Asked before time passes, and (`to_the_last`) before everybody is said to wait for nothing.
        """
        believed = [
            actor_state for actor_state in self.actor_states if actor_state.started and actor_state.status == "running"
        ]
        if not believed:
            return False
        patient = to_the_last and any(map(self._may_wait_inside, believed))
        until = time.monotonic() + (_LAST_SECONDS if patient else _STILL_SECONDS)
        while not self._proxy.poll(_STILL_SECONDS):
            if time.monotonic() >= until and not any(actor_state.runner.busy() for actor_state in believed):
                return False
        self._running.update(actor_state.actor.index for actor_state in believed)
        self.settle()
        return True

    def _may_wait_inside(self, actor_state: ActorState) -> bool:
        subscribed = any(
            connection.state.subscribed or connection.raw for connection in self._proxy.of(actor_state.actor.index)
        )
        return subscribed or isinstance(actor_state.runner, ProcessRunner)

    def _delivered(self, index: int) -> None:
        # The last of a connection that an actor of the run before has left may come once this run has begun.
        if index >= len(self.actor_states) or not self.actor_states[index].started:
            return
        actor_state = self.actor_states[index]
        actor_state.runner.generation += 1
        if actor_state.status == "idle":
            actor_state.status, actor_state.deadline = "running", None
        if actor_state.status == "running":
            self._running.add(index)

    def _reported(self) -> None:
        self._reports.extend(self._mailbox.drain())

    def _quiet(self, actor_state: ActorState, *, silent: bool) -> bool:
        if actor_state.status != "running":
            return True
        if isinstance(actor_state.runner, EventLoopRunner) or actor_state.killed_at is not None:
            return False
        unseen = isinstance(actor_state.runner, ProcessRunner)
        for connection in self._proxy.connections:
            if connection.actor != actor_state.actor.index:
                continue
            # Nobody waits for the reply to SUBSCRIBE, or for messages, without doing anything else meanwhile.
            waits = not unseen and (connection.blocked or (connection.held and not connection.held.subscribes))
            may_wait = connection.held or connection.blocked or connection.state.subscribed or connection.raw
            if waits or (silent and may_wait and not actor_state.runner.busy()):
                return True
        return False

    def _take(self, report: ActorReport) -> None:
        match report:
            case ActorEnded():
                actor_state = self.actor_states[report.actor]
                actor_state.status, actor_state.deadline = "ended", None
                actor_state.actor.end(actor_state.runner.result, actor_state.runner.error)
            case ActorSleeps():
                self._sleep(self.actor_states[report.actor], report)
            case EventLoopIdle():
                while self._proxy.poll(0):  # what it has sent before it said so
                    pass
                actor_state = self.actor_states[report.actor]
                if (
                    report.generation == actor_state.runner.generation
                    and actor_state.status == "running"
                    and not actor_state.runner.killed
                ):
                    actor_state.status = "idle"
                    actor_state.deadline = None if report.seconds is None else self._mailbox.now + report.seconds
            case EventSet():
                for actor_state in self.actor_states:
                    if actor_state.status == "sleeping" and actor_state.waits_for is report.event:
                        self.resume(actor_state)

    def _sleep(self, actor_state: ActorState, report: ActorSleeps) -> None:
        if actor_state.killed_at is not None:
            return
        actor_state.status, actor_state.waits_for = "sleeping", report.event
        actor_state.deadline = None if report.seconds is None else self._mailbox.now + report.seconds
        if report.seconds == 0 or (report.event and report.event.is_set()):
            self.resume(actor_state)

    def _lose_patience(self, silent_since: float) -> None:
        now = time.monotonic()
        actor_states = [self.actor_states[index] for index in sorted(self._running)]
        for actor_state in actor_states:
            if actor_state.killed_at is not None and actor_state.runner.should_interrupt(
                now - actor_state.killed_at, actor_state.runner.cpu_seconds() - actor_state.cpu_seconds_when_killed
            ):
                self._interrupt(actor_state)
        if now < silent_since + self._patience_seconds:
            return
        elapsed = now - silent_since
        computing = [
            actor_state for actor_state in actor_states if self._has_computed(actor_state) > _COMPUTING_SHARE * elapsed
        ]
        if not computing or elapsed > _COMPUTING * self._patience_seconds:
            self._running.clear()
            raise StuckError(self._stuck(actor_states, computing, elapsed))

    def _look_at_clocks(self) -> None:
        for index in self._running:
            self.actor_states[index].cpu_seconds_at_silence = self.actor_states[index].runner.cpu_seconds()

    def _has_computed(self, actor_state: ActorState) -> float:
        return actor_state.runner.cpu_seconds() - actor_state.cpu_seconds_at_silence

    def _stuck(self, actor_states: list[ActorState], computing: list[ActorState], elapsed: float) -> str:
        places = "".join(
            f"{letter(actor_state.actor.index)} ({actor_state.actor.name}) "
            + (
                f"has computed for {self._has_computed(actor_state):.1f} s of them"
                if actor_state in computing
                else "waits"
            )
            + f", and is at\n{actor_state.runner.worker.where()}"
            for actor_state in actor_states
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

    def _interrupt(self, actor_state: ActorState) -> None:
        """Again and again: what it interrupts may swallow it, as a destructor does."""
        actor_state.interrupted = True
        self._give_time_to_die(actor_state)
        if actor_state.runner.worker.thread.is_alive():
            actor_state.runner.worker.interrupt()
        else:
            self._take(ActorEnded(actor_state.actor.index))

    def close(self) -> None:
        """End all actors that are left, and leave nothing that a next run would find in another state."""
        try:
            for actor_state in self.actor_states:
                if actor_state.started and actor_state.status != "ended":
                    self.kill(actor_state)
            self.settle()
        finally:
            for actor_state in self.actor_states:
                self._put_away(actor_state)
            self._proxy.banned.clear()
            self._proxy.scripts.reset()
            self._mailbox.drain()
            self._mailbox.now = 0.0

    def _put_away(self, actor_state: ActorState) -> None:
        connections = list(self._proxy.of(actor_state.actor.index))
        tidy = all(
            connection.state.reusable and not (connection.held or connection.blocked or connection.queue)
            for connection in connections
        )
        disturbed = actor_state.actor.killed or actor_state.actor.error or actor_state.faulted
        if actor_state.started and not (
            actor_state.reuses_client and tidy and actor_state.status == "ended" and not disturbed
        ):
            self._resources.drop_client(actor_state.actor.index)
        for connection in connections:
            connection.number, connection.enabled = 0, None
        if actor_state.interrupted or (actor_state.started and actor_state.status != "ended"):
            self._resources.retire(actor_state.runner.worker)
        else:
            self._resources.release(actor_state.runner.worker)
