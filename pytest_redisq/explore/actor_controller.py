"""Starts, resumes and kills the actors of one execution, and waits until all of them are quiet.

Law of quiescence: `settle` returns only when every living actor holds a command, is blocked in the server (which was
asked), sleeps, waits, or has ended. Nothing happens then until a step is chosen.
"""

from __future__ import annotations

import re
import time

from pytest_redisq.errors import RedisqError
from pytest_redisq.explore.actor import ActorState
from pytest_redisq.explore.actor_event_loops import EventLoopRunner
from pytest_redisq.explore.actor_processes import ProcessRunner
from pytest_redisq.explore.actor_threads import ThreadRunner
from pytest_redisq.explore.blocked_loops import BlockedLoops
from pytest_redisq.explore.mailbox import ActorEnded, ActorIdle, ActorReport, ActorSleeps, EventSet
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import StepKind, letter
from pytest_redisq.explore.trace import command_text

#: An actor that repeats this many commands and gets the same replies is polling; other actors then run first.
POLLING_AFTER = 3


_NUMBER = re.compile(rb"[0-9]+")


#: Seconds after which an actor that neither acts nor computes ends the exploration.
PATIENCE_SECONDS = 10.0


#: How many times longer an actor may take that computes.
_COMPUTING = 6


#: An actor that used at least this share of a CPU is computing; a waiting actor uses almost none.
_COMPUTING_SHARE = 0.02


#: Seconds of virtual time that an actor has to end after it was asked to.
GRACE_SECONDS = 30.0


#: Seconds of silence after which a subscriber or a program counts as waiting.
_SILENCE_SECONDS = 0.005


#: Seconds of silence from all blocked actors before virtual time advances.
_STILL_SECONDS = 0.001


#: Seconds of silence before a deadlock is reported, if an actor may wait for a thread or a program.
_LAST_SECONDS = 1.0


class StuckError(RedisqError):
    """An actor neither sends a command nor sleeps nor ends."""


class ActorController:
    """The actors of one execution, in `states` by their number."""

    def __init__(self, resources: Resources, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._resources = resources
        self._reports: list[ActorReport] = []
        self._running: set[int] = set()
        self._blocked_loops = BlockedLoops()
        self.states: list[ActorState] = []
        resources.delivered = self._delivered
        resources.reported = self._reported

    def start(self, states: list[ActorState]) -> None:
        """Start these actors, one after the other, and wait until each has come to its first command.

        Processes start together, because they start slowly and their sleeps take real time.
        """
        __tracebackhide__ = True
        for state in sorted(states, key=lambda state: not isinstance(state.runner, ProcessRunner)):
            state.started = True
            self._running.add(state.actor.index)
            state.runner.start()
            if not isinstance(state.runner, ProcessRunner):
                self.settle()
        self.settle()

    def resume(self, state: ActorState) -> None:
        """End the actor's sleep or wait."""
        state.status, state.deadline, state.waits_for = "running", None, None
        self._running.add(state.actor.index)
        with self._mailbox.lock:
            state.runner.generation += 1
        state.runner.wake()

    def shift_timers(self, state: ActorState, seconds: float) -> None:
        """Move the actor's own timers by the time for which it was paused."""
        if state.deadline is not None:
            state.deadline += seconds
        state.runner.paused_seconds += seconds

    def kill(self, state: ActorState) -> None:
        """Close the actor's connections for good, and make its code end."""
        self._proxy.ban(state.actor.index)
        if state.status != "ended" and state.killed_at is None:
            state.actor.killed = True
            self._give_time_to_die(state)
            state.status = "running"
            self._running.add(state.actor.index)
            state.runner.kill()

    def ask_to_end(self, state: ActorState, kind: StepKind) -> None:
        """Ask the actor to end: now and here (`CANCEL`), or within `GRACE_SECONDS` (`TERM`)."""
        state.actor.terminated = True
        if kind is StepKind.TERM:
            state.grace_until = self._mailbox.now + GRACE_SECONDS
        if not isinstance(state.runner, ThreadRunner):  # a thread goes on only if an event is set
            state.status, state.deadline = "running", None
            self._running.add(state.actor.index)
            with self._mailbox.lock:
                state.runner.generation += 1
        if kind is StepKind.TERM:
            state.runner.terminate()
        else:
            state.runner.cancel()
        self._read_all()
        while self._reports:
            self._take(self._reports.pop(0))

    def _give_time_to_die(self, state: ActorState) -> None:
        state.killed_at, state.cpu_seconds_when_killed = time.monotonic(), state.runner.cpu_seconds()

    def settle(self) -> None:
        """Wait until all actors are quiet.

        Raises `StuckError`.
        """
        __tracebackhide__ = True
        silent_since = None
        self._proxy.flush()
        while self._running:
            happened = self._proxy.poll(_SILENCE_SECONDS)
            while self._reports:
                self._take(self._reports.pop(0))
            for index in tuple(self._running):
                if self._quiet(self.states[index], silent=not happened):
                    self._running.discard(index)
            # A killed actor may try to connect again and again; that does not count as activity.
            if happened and not self._proxy.banned:
                silent_since = None
            elif self._running:
                if silent_since is None:
                    silent_since = time.monotonic()
                    self._look_at_clocks()
                    self._blocked_loops.forget()
                self._refuse_blocked_loops()
                self._lose_patience(silent_since)

    def note_repetition(self, state: ActorState, args: tuple[bytes, ...], reply: bytes) -> None:
        """Remember a command and its reply, to detect an actor that only polls."""
        if isinstance(
            state.runner, ProcessRunner
        ):  # it has the real clock, so a polling command may contain a different date each time
            args = tuple(_NUMBER.sub(b"#", arg) for arg in args)
        if (args, reply) in state.seen:
            state.repeats += 1
            return
        # Reset the counts, but keep what was seen: two polling actors would reset each other forever.
        for other in self.states:
            other.repeats = 0
        state.seen.add((args, reply))

    def waiting(self, state: ActorState) -> str:
        """A line that says what the actor waits for."""
        blocked = [
            command_text(connection.blocked.args)
            for connection in self._proxy.of(state.actor.index)
            if connection.blocked and not connection.abandoned
        ]
        what = f"is blocked in {', '.join(blocked)}" if blocked else "waits for something inside the program"
        return f"  {letter(state.actor.index)} ({state.actor.name}) {what}"

    def busy_with(self, state: ActorState) -> str:
        """A line that says whether the actor polls, goes on, or waits."""
        if not any(connection.held for connection in self._proxy.of(state.actor.index)):
            return self.waiting(state)
        polls = "polls: it sends again what it has sent, and gets the same replies"
        what = polls if state.repeats >= POLLING_AFTER else "goes on"
        return f"  {letter(state.actor.index)} ({state.actor.name}) {what}"

    def is_active(self, *, to_the_last: bool) -> bool:
        """Whether an actor with a command at the server does something else in the meantime, as one that polls
        sockets does.

        Called before time passes, and (`to_the_last`) before a deadlock is reported.
        """
        believed = [state for state in self.states if state.started and state.status == "running"]
        streaming = any(each.raw and self.states[each.actor].status == "idle" for each in self._proxy.connections)
        if not believed and not streaming:
            return False
        patient = streaming or (to_the_last and any(map(self._may_wait_inside, believed)))
        until = time.monotonic() + (_LAST_SECONDS if patient else _STILL_SECONDS)
        while not self._proxy.poll(_STILL_SECONDS):
            if time.monotonic() >= until and not any(state.runner.busy() for state in believed):
                return False
        self._running.update(state.actor.index for state in believed)
        self.settle()
        return True

    def _may_wait_inside(self, state: ActorState) -> bool:
        subscribed = any(
            connection.state.subscribed or connection.raw for connection in self._proxy.of(state.actor.index)
        )
        return subscribed or isinstance(state.runner, ProcessRunner)

    def _delivered(self, index: int) -> None:
        # A connection of the previous execution may still deliver after this one has begun.
        if index >= len(self.states) or not self.states[index].started:
            return
        state = self.states[index]
        state.runner.generation += 1
        if state.status == "idle":
            state.status, state.deadline = "running", None
        if state.status == "running":
            self._running.add(index)

    def _reported(self) -> None:
        self._reports.extend(self._mailbox.drain())

    def _quiet(self, state: ActorState, *, silent: bool) -> bool:
        if state.status != "running":
            return True
        if isinstance(state.runner, EventLoopRunner) or state.killed_at is not None:
            return False
        unseen = isinstance(state.runner, ProcessRunner) or (
            isinstance(state.runner, ThreadRunner) and state.runner.reports_waits
        )
        for connection in self._proxy.connections:
            if connection.actor != state.actor.index or connection.abandoned:
                continue
            # A client that has sent SUBSCRIBE, or waits for messages, may still do other things.
            waits = not unseen and (connection.blocked or (connection.held and not connection.held.subscribes))
            may_wait = connection.held or connection.blocked or connection.state.subscribed or connection.raw
            if waits or (silent and may_wait and not state.runner.busy()):
                return True
        return False

    def _take(self, report: ActorReport) -> None:
        match report:
            case ActorEnded():
                self._read_all()
                state = self.states[report.actor]
                state.status, state.deadline = "ended", None
                state.actor.end(state.runner.result, state.runner.error)
            case ActorSleeps():
                self._sleep(self.states[report.actor], report)
            case ActorIdle():
                self._read_all()
                state = self.states[report.actor]
                if (
                    report.generation == state.runner.generation
                    and state.status == "running"
                    and not state.runner.killed
                ):
                    state.status = "idle"
                    state.deadline = None if report.seconds is None else self._mailbox.now + report.seconds
            case EventSet():
                for state in self.states:
                    if state.status == "sleeping" and state.waits_for is report.event:
                        self.resume(state)

    def _read_all(self) -> None:
        """Read what actors have sent, and which connections they have closed, before their report."""
        while self._proxy.poll(0):
            pass

    def _sleep(self, state: ActorState, report: ActorSleeps) -> None:
        if state.killed_at is not None:
            return
        state.status, state.waits_for = "sleeping", report.event
        state.deadline = None if report.seconds is None else self._mailbox.now + report.seconds
        if report.seconds == 0 or (report.event and report.event.is_set()):
            self.resume(state)

    def _refuse_blocked_loops(self) -> None:
        __tracebackhide__ = True
        for state in [self.states[index] for index in self._running if self.states[index].killed_at is None]:
            waits = any(connection.held or connection.blocked for connection in self._proxy.of(state.actor.index))
            if refusal := self._blocked_loops.look(state, awaits_reply=waits):
                self._running.clear()
                raise StuckError(refusal)

    def _lose_patience(self, silent_since: float) -> None:
        __tracebackhide__ = True
        now = time.monotonic()
        states = [self.states[index] for index in sorted(self._running)]
        for state in states:
            if state.killed_at is not None and state.runner.should_interrupt(
                now - state.killed_at, state.runner.cpu_seconds() - state.cpu_seconds_when_killed
            ):
                self._interrupt(state)
        if now < silent_since + self._patience_seconds:
            return
        elapsed = now - silent_since
        computing = [state for state in states if self._has_computed(state) > _COMPUTING_SHARE * elapsed]
        if not computing or elapsed > _COMPUTING * self._patience_seconds:
            self._running.clear()
            raise StuckError(self._stuck(states, computing, elapsed))

    def _look_at_clocks(self) -> None:
        for index in self._running:
            self.states[index].cpu_seconds_at_silence = self.states[index].runner.cpu_seconds()

    def _has_computed(self, state: ActorState) -> float:
        return state.runner.cpu_seconds() - state.cpu_seconds_at_silence

    def _stuck(self, states: list[ActorState], computing: list[ActorState], elapsed: float) -> str:
        places = "".join(
            f"{letter(state.actor.index)} ({state.actor.name}) "
            + (f"has computed for {self._has_computed(state):.1f} s of them" if state in computing else "waits")
            + f", and is at\n{state.runner.actor_thread.where()}"
            for state in states
        )
        cure = (
            "shorten the computation, check that it ends, or pass more patience_seconds."
            if computing
            else "let actors wait for each other through Redis, threading.Event or sleep. The explorer cannot see a "
            "lock, a queue.Queue or other input."
        )
        return (
            f"An actor has been silent for {elapsed:.1f} s, and neither holds a command nor sleeps nor has "
            f"ended.\n{places}What to do: {cure}"
        )

    def _interrupt(self, state: ActorState) -> None:
        """Interrupt the actor's thread. Called repeatedly: the interrupted code, such as a destructor, may swallow
        the error. After the first time it has the usual time: a second error would stop it from closing its event loop.
        """
        state.interrupted = True
        state.runner.exit_seconds = type(state.runner).exit_seconds
        self._give_time_to_die(state)
        if state.runner.actor_thread.thread.is_alive():
            state.runner.actor_thread.interrupt()
        else:
            self._take(ActorEnded(state.actor.index))

    def close(self) -> None:
        """End the actors that are left, and reset what the next execution uses again."""
        try:
            for state in self.states:
                if state.started and state.status != "ended":
                    self.kill(state)
            self.settle()
        finally:
            self._proxy.notice()
            for state in self.states:
                self._put_away(state)
            self._proxy.banned.clear()
            self._proxy.scripts.reset()
            self._mailbox.drain()
            self._mailbox.now = 0.0

    def _put_away(self, state: ActorState) -> None:
        connections = list(self._proxy.of(state.actor.index))
        tidy = all(
            connection.state.reusable and not (connection.held or connection.blocked or connection.queue)
            for connection in connections
        )
        disturbed = state.actor.killed or state.actor.error or state.faulted
        if state.started and not (state.reuses_client and tidy and state.status == "ended" and not disturbed):
            self._resources.drop_client(state.actor.index)
        for connection in connections:
            connection.number, connection.enabled = 0, None
        if state.interrupted or (state.started and state.status != "ended"):
            self._resources.retire(state.runner.actor_thread)
        else:
            self._resources.release(state.runner.actor_thread)
