"""What a chosen step does: a command goes to the server, a fault strikes, a blocked command wakes, time passes."""

from __future__ import annotations

from pytest_redisq.explore.actor import ActorState
from pytest_redisq.explore.actor_controller import ActorController
from pytest_redisq.explore.command_executor import CommandExecutor
from pytest_redisq.explore.connection_state import HeldCommand
from pytest_redisq.explore.error_replies import ERROR_REPLIES
from pytest_redisq.explore.footprint import ALL, NOTHING, Footprint
from pytest_redisq.explore.key_faults import KEY_FAULTS, struck_footprint
from pytest_redisq.explore.pause_monitor import PAUSE_SECONDS, PauseMonitor
from pytest_redisq.explore.proxied_connection import ProxiedConnection
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import ASKS_TO_END, LASTING, OF_THE_SERVER, TIMERS, Step, StepKind
from pytest_redisq.explore.server_faults import ServerFaults
from pytest_redisq.explore.server_time import ServerTime
from pytest_redisq.explore.trace import ExecutedStep, WokenCommand
from pytest_redisq.explore.virtual_time import time_of_day

_RESUMED = (b"(resumed)",)
_WAIT = (b"(wait)",)


class StepExecutor:
    """Carries out the steps of one execution, and records them in `events`.

    `effect` is what the last step read and wrote, `woken` the actors whose blocked commands it ended.
    """

    def __init__(self, resources: Resources, controller: ActorController, *, undo_writes: bool) -> None:
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._controller = controller
        self._commands = CommandExecutor(resources.proxy, resources.control, lambda: time_of_day(resources.mailbox.now))
        self._server_time = ServerTime(resources.control, resources.keys)
        self._pause_monitor = PauseMonitor()
        self._server_faults = ServerFaults(resources, remembers=undo_writes)
        self.effect: Footprint = NOTHING
        self.woken: tuple[int, ...] = ()
        self.events: list[ExecutedStep] = []

    @property
    def uncounted_steps(self) -> int:
        """How many steps repeated earlier ones during a pause: they do not count against the step limit."""
        return self._pause_monitor.uncounted

    @property
    def uncontrolled(self) -> frozenset[str]:
        """What has gone by the server's own clock."""
        return frozenset(self._commands.clock.uncontrolled)

    def outlast_claims(self) -> None:
        """Make pending entries so old that any claim takes them over."""
        self._server_time.outlast_claims()

    def execute(self, step: Step) -> None:
        """Carry out one step, and record it."""
        if step.kind in TIMERS:
            self._pass_time(step)
        elif step.kind in ASKS_TO_END:
            self._ask_to_end(step)
        else:
            self._execute_command(step)

    def _execute_command(self, step: Step) -> None:
        connection = self._proxy.connection_of(step)
        assert connection is not None
        under_way = connection.held or connection.blocked
        assert under_way is not None
        if step.kind in OF_THE_SERVER:
            self._strike(step)
        elif step.kind is StepKind.NOTICE:
            self._proxy.cut(connection, seen=False)
            self.effect, self.woken = under_way.footprint, ()
        elif step.kind in LASTING:
            is_pause, now = step.kind is StepKind.PAUSE, self._mailbox.now
            self._proxy.pause(connection, now, now + PAUSE_SECONDS, whole_actor=is_pause)
            self._controller.states[step.actor].faulted |= not is_pause
            self.effect, self.woken = under_way.footprint, ()
        elif connection.blocked:
            self._drop(list(self._proxy.of(step.actor)))
            self.effect, self.woken = ALL, ()
        else:
            self._send(step, connection, under_way)
            return
        self.events.append(ExecutedStep(step=step, args=under_way.args))

    def _ask_to_end(self, step: Step) -> None:
        connection, state = self._proxy.connection_of(step), self._controller.states[step.actor]
        under_way = connection and (connection.held or connection.blocked)
        self._controller.ask_to_end(state, step.kind)
        for each in self._proxy.of(step.actor):
            each.enabled = None
        self.effect, self.woken = under_way.footprint if under_way else ALL, ()
        self.events.append(ExecutedStep(step=step, args=under_way.args if under_way else _WAIT))

    def watch_pause(self) -> None:
        """End a pause or a delay when nothing new comes of it any more; called after each step while there is one."""
        event = self.events[-1]
        if event.step.kind in LASTING or event.args == _RESUMED:
            self._pause_monitor.begin(self._mailbox.now)
            return
        self._pause_monitor.note(event.step.actor, event.args, event.reply)
        if self._pause_monitor.is_enough(self._mailbox.now, self._server_time.lease_seconds):
            first = min(self._proxy.delayed, key=lambda connection: (connection.paused_at, connection.actor))
            first.paused_until = self._mailbox.now

    def _strike(self, step: Step) -> None:
        # An actor that is yet to come may have a connection left from the execution before.
        actors = len(self._controller.states)
        self._drop([connection for connection in self._proxy.connections if connection.actor < actors])
        self._server_faults.strike(step.kind, self._mailbox.now)
        self.effect = ALL
        self.woken = tuple(state.actor.index for state in self._controller.states if state.actor.index != step.actor)

    def _drop(self, connections: list[ProxiedConnection]) -> None:
        """Drop these connections. Kill the actors that a fault was to kill after a command that blocks there."""
        self._proxy.disconnect(connections)
        for connection in connections:
            state = self._controller.states[connection.actor]
            state.faulted = True
            if connection.blocked_kind is StepKind.KILL_AFTER:
                self._controller.kill(state)

    def _send(self, step: Step, connection: ProxiedConnection, held: HeldCommand) -> None:
        state = self._controller.states[step.actor]
        state.faulted |= step.kind is not StepKind.RUN
        state.refused |= step.kind in ERROR_REPLIES
        # Set before its connection is cut, so that its code can tell the kill from a connection error.
        state.actor.killed |= step.kind in (StepKind.KILL_BEFORE, StepKind.KILL_AFTER)
        footprint = held.footprint
        if step.kind in KEY_FAULTS:
            footprint = struck_footprint(held)
        if self._server_faults.remembers:
            waiting = [other.blocked.footprint for other in self._proxy.connections if other.blocked]
            self._server_faults.write(self._mailbox.now, [footprint, *waiting])
        reply = self._commands.execute(connection, step.kind)
        missed = self._commands.missed
        if step.kind in KEY_FAULTS and not missed:
            for each in self._controller.states:  # NOGROUP, or what a script says of a key that is gone
                each.refused = True
        blocks = connection.blocked is not None
        if blocks and held.timeout_seconds is not None:
            connection.deadline = self._mailbox.now + held.timeout_seconds
        if step.actor in self._proxy.banned:
            self._controller.kill(state)
        self.effect, woken = self._wake(footprint, connection)
        self.woken = tuple(event.actor for event in woken)
        self._server_time.touch(held.args, self.effect)
        self.events.append(
            ExecutedStep(
                step=step,
                args=held.args,
                reply=reply,
                blocks=blocks,
                woken=woken,
                unread=connection.abandoned,
                missed=missed,
            )
        )
        self._controller.note_repetition(state, held.args, reply)
        self._commands.push_messages()

    def _wake(self, effect: Footprint, actor: ProxiedConnection) -> tuple[Footprint, tuple[WokenCommand, ...]]:
        """The blocked commands that a step has ended, and what they touched together with it."""
        blocked = [
            connection
            for connection in self._proxy.connections
            if connection.blocked and connection is not actor and connection.blocked.footprint.conflicts(effect)
        ]
        if not effect.writes or not blocked:
            return effect, ()
        woken: list[WokenCommand] = []
        for connection, held, reply in self._commands.woken(blocked):
            if connection.actor in self._proxy.banned:
                self._controller.kill(self._controller.states[connection.actor])
            effect |= held.footprint
            woken.append(WokenCommand(actor=connection.actor, args=held.args, reply=reply, unread=connection.abandoned))
        return effect, tuple(woken)

    def _pass_time(self, step: Step) -> None:
        state, connection = self._controller.states[step.actor], self._proxy.connection_of(step)
        sleeping = state.status == "sleeping" or step.connection == 0
        deadline = state.grace_until if step.kind is StepKind.GRACE else state.deadline
        if connection and not sleeping:
            deadline = connection.deadline if connection.paused_until is None else connection.paused_until
        if deadline is not None and deadline > self._mailbox.now:
            self._server_time.advance(deadline - self._mailbox.now)
            self._mailbox.now = deadline
        for other in self._controller.states:
            other.repeats = 0
            other.seen.clear()
        self.effect, self.woken = ALL, ()
        if step.kind is StepKind.GRACE:
            state.overstayed = state.actor.must_end
            self._controller.kill(state)
            self.events.append(ExecutedStep(step=step, args=_WAIT))
        elif sleeping or connection is None:
            self._controller.resume(state)
            self.events.append(ExecutedStep(step=step, args=_WAIT))
        elif connection.paused_until is not None:
            if step.actor in self._proxy.paused:
                self._controller.shift_timers(state, self._mailbox.now - connection.paused_at)
            self._proxy.resume(connection)
            self.events.append(ExecutedStep(step=step, args=_RESUMED))
        else:
            held, reply = self._time_out(connection, state)
            self.events.append(ExecutedStep(step=step, args=held.args, reply=reply))

    def _time_out(self, connection: ProxiedConnection, state: ActorState) -> tuple[HeldCommand, bytes]:
        _, held, reply = self._commands.time_out(connection)
        if connection.actor in self._proxy.banned:
            self._controller.kill(state)
        return held, reply
