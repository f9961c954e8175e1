"""Lists the steps that can be chosen next: held commands, waits that can end, and faults. Executes nothing."""

from __future__ import annotations

from collections.abc import Set

from pytest_redisq.explore.actor_controller import POLLING_AFTER, ActorController
from pytest_redisq.explore.error_replies import can_get
from pytest_redisq.explore.footprint import ALL
from pytest_redisq.explore.key_faults import can_strike
from pytest_redisq.explore.proxied_connection import ProxiedConnection
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import ASKS_TO_END, NO_FAULTS, EnabledStep, StepKind, letter

#: Deadlines that are closer to each other than this are the same, in seconds.
_SAME_SECONDS = 1e-6

#: The faults that strike an actor while it waits.
_STRIKE_WAITS = ASKS_TO_END | {StepKind.DISCONNECT}


class EnabledSteps:
    """Lists the steps that the scheduler may choose from.

    `faults`: per actor's name or letter (`""`: all actors) the faults that may strike it. `budget`: how many faults may
    still happen in this execution; the execution loop counts it down.
    """

    def __init__(
        self, resources: Resources, controller: ActorController, faults: dict[str, frozenset[StepKind]], budget: int
    ) -> None:
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._controller = controller
        self._faults = faults
        self.budget = budget

    def choices(self, held: list[ProxiedConnection]) -> tuple[tuple[EnabledStep, ...], tuple[EnabledStep, ...]]:
        """The steps that cost no fault, and the waits that a fault could end early.

        Actors that only poll come after the others. If all actors poll, time passes first.
        """
        states = self._controller.states
        if self._proxy.delayed:
            held = [each for each in held if each.paused_until is None and each.actor not in self._proxy.paused]
        ready = [connection for connection in held if states[connection.actor].repeats < POLLING_AFTER]
        waits, unnoticed = self._waits(), self._unnoticed()
        if ready or unnoticed:
            limit = self._mailbox.now + _SAME_SECONDS
            due = tuple(enabled for deadline, enabled in waits if deadline <= limit)
            early = [
                enabled
                for deadline, enabled in waits
                if deadline > limit and enabled.kind is StepKind.TIME and self._may_be(StepKind.TIME, enabled.actor)
            ]
            commands = self._commands(ready)
            if unnoticed:
                commands = tuple(sorted([*commands, *unnoticed], key=_place))
            return commands + due, tuple(_early(enabled, StepKind.TIME) for enabled in early) + self._struck_waits()
        if waits:
            soonest = waits[0][0] + _SAME_SECONDS
            return tuple(enabled for deadline, enabled in waits if deadline <= soonest), self._struck_waits(ASKS_TO_END)
        return self._commands(held), ()

    def _commands(self, connections: list[ProxiedConnection]) -> tuple[EnabledStep, ...]:
        for connection in connections:
            if not connection.number:
                connection.number = self._free_connection_number(connection.actor)
            if connection.enabled is None or (connection.enabled.faults and self.budget <= 0):
                connection.enabled = self._enabled_step(connection)
        enabled_steps = [connection.enabled for connection in connections if connection.enabled]
        return tuple(sorted(enabled_steps, key=_place) if len(enabled_steps) > 1 else enabled_steps)

    def _free_connection_number(self, index: int) -> int:
        """The lowest number that none of the actor's connections has: one that replaces a lost one takes its place."""
        taken = {connection.number for connection in self._proxy.of(index)}
        return next(connection for connection in range(1, len(taken) + 2) if connection not in taken)

    def _enabled_step(self, connection: ProxiedConnection) -> EnabledStep:
        assert connection.held
        kinds = sorted(self._kinds(connection.actor) - NO_FAULTS) if self.budget > 0 else []
        kinds = [kind for kind in kinds if can_get(kind, connection.held) and can_strike(kind, connection.held)]
        if connection.abandoned:
            kinds = [kind for kind in kinds if kind is StepKind.LOSE_REQUEST]
        return EnabledStep(
            actor=connection.actor,
            connection=connection.number,
            footprint=connection.held.footprint,
            faults=tuple(kinds),
        )

    def _may_be(self, kind: StepKind, actor: int) -> bool:
        return self.budget > 0 and kind in self._kinds(actor)

    def _struck_waits(self, kinds: Set[StepKind] = _STRIKE_WAITS) -> tuple[EnabledStep, ...]:
        """The waits that a fault may strike, in each of these `kinds`; default: the server drops the connection of a
        blocked command, or the actor is asked to end.
        """
        if self.budget <= 0:
            return ()
        places = {
            (connection.actor, connection.number)
            for connection in self._proxy.connections
            if connection.blocked and not connection.abandoned
        }
        # An actor that only sleeps has no connection at which it could be asked to end.
        sending = {connection.actor for connection in self._proxy.connections if connection.held or connection.blocked}
        places |= {(state.actor.index, 0) for state in self._controller.states if state.actor.index not in sending}
        steps = []
        for actor, connection in sorted(places):
            faults = self._kinds(actor) & kinds
            if not connection:
                faults -= {StepKind.DISCONNECT}
            if faults:
                first, *rest = sorted(faults)
                steps.append(_early(_wait(actor, connection), first, *rest))
        return tuple(steps)

    def _unnoticed(self) -> list[EnabledStep]:
        """The blocked commands whose client has gone: the server notices it, unless it serves them first."""
        return [
            EnabledStep(
                actor=connection.actor,
                connection=connection.number,
                kind=StepKind.NOTICE,
                footprint=connection.blocked.footprint,
            )
            for connection in self._proxy.connections
            if connection.abandoned and connection.blocked
        ]

    def _kinds(self, index: int) -> frozenset[StepKind]:
        faults = self._faults
        if not faults or self._controller.states[index].actor.fault_free:
            return frozenset()
        state = self._controller.states[index]
        kinds = frozenset[StepKind]().union(*(faults.get(name, ()) for name in ("", letter(index), state.actor.name)))
        stands_still = index in self._proxy.paused
        return kinds - {kind for kind in ASKS_TO_END & kinds if stands_still or not state.can_be_asked(kind)}

    def _waits(self) -> list[tuple[float, EnabledStep]]:
        """The waits that end at a time, each with that time, the soonest first."""
        waits: list[tuple[float, EnabledStep]] = []
        for state in self._controller.states:
            if state.deadline is not None and state.status in ("sleeping", "idle"):
                waits.append((state.deadline, _wait(state.actor.index, 1 if state.status == "sleeping" else 0)))
            if state.grace_until is not None and state.status != "ended":
                waits.append((state.grace_until, _wait(state.actor.index, 0, StepKind.GRACE)))
        for connection in self._proxy.connections:
            if connection.paused_until is not None:
                waits.append((connection.paused_until, _wait(connection.actor, connection.number)))
            if connection.deadline is not None and connection.blocked and not connection.abandoned:
                waits.append((connection.deadline, _wait(connection.actor, connection.number)))
        if self._proxy.paused:
            waits = [wait for wait in waits if self._goes_on(wait[1])]
        return sorted(waits, key=lambda wait: (wait[0], _place(wait[1]))) if waits else waits

    def _goes_on(self, wait: EnabledStep) -> bool:
        """Whether a wait can end now: its actor is not paused, or the wait is the pause itself."""
        connection = self._proxy.connection_of(wait.step)
        return wait.actor not in self._proxy.paused or (connection is not None and connection.paused_until is not None)


def _place(enabled: EnabledStep) -> tuple[int, int]:
    return enabled.actor, enabled.connection


def _wait(index: int, connection: int, kind: StepKind = StepKind.TIME) -> EnabledStep:
    return EnabledStep(actor=index, connection=connection, kind=kind, footprint=ALL)


def _early(wait: EnabledStep, kind: StepKind, *others: StepKind) -> EnabledStep:
    return EnabledStep(actor=wait.actor, connection=wait.connection, kind=kind, footprint=ALL, faults=(kind, *others))
