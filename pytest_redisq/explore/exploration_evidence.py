"""What the executions of an exploration showed: the evidence that its result rests on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

from pytest_redisq.explore.execution import Execution
from pytest_redisq.explore.schedule import StepKind, fault_name, letter
from pytest_redisq.explore.trace import command_text
from pytest_redisq.terminal import fit

#: The actor, how many steps it had taken before, and the kind of fault.
FaultPlace: TypeAlias = tuple[int, int, StepKind]

#: The most places that are named where a fault did not strike, and the most columns of their commands.
_NAMED, _COMMAND_COLUMNS = 3, 40


_NO_ACTOR = (
    "the scenario has no actor, so there is nothing to schedule: create actors with world.actor(…), "
    "world.producer(…) or world.consumer(…), and call world.run()"
)
_NO_COMMAND = (
    "went through the proxy, so no schedule can change anything: let each actor use the client or the URL that "
    "it is given"
)


@dataclass(slots=True, kw_only=True)
class ExplorationEvidence:
    """Counts over all executions.

    * `faults_asked`: whether faults were to strike. `given`: how many schedules were given, which are not searched.
    * `executions`: how many were counted.
    * `actors`: the names of all actors. `active`: of those that sent a command.
    * `places`: where a fault could strike. `struck`: where one did. `commands`: of each actor, by how many steps it had
      taken before, as far as they were seen first.
    * `uncontrolled`: what went by the server's own clock.
    * `judged`: verdicts. `acknowledged`, `delivered`: the messages of all of them.
    """

    faults_asked: bool = False
    given: int = 0
    executions: int = 0
    actors: set[str] = field(default_factory=set)
    active: set[str] = field(default_factory=set)
    places: set[FaultPlace] = field(default_factory=set)
    struck: set[FaultPlace] = field(default_factory=set)
    commands: dict[tuple[int, int], str] = field(default_factory=dict)
    uncontrolled: set[str] = field(default_factory=set)
    judged: int = 0
    acknowledged: int = 0
    delivered: int = 0

    def add(self, execution: Execution) -> None:
        """Count one execution."""
        self.executions += 1
        self.actors.update(execution.names)
        self.uncontrolled |= execution.uncontrolled
        self.active.update(execution.names[event.step.actor] for event in execution.events)
        for verdict in execution.verdicts:
            self.judged += 1
            self.acknowledged += verdict.totals.acknowledged
            self.delivered += verdict.totals.delivered
        if self.faults_asked:
            self._add_places(execution)

    def _add_places(self, execution: Execution) -> None:
        taken: Counter[int] = Counter()
        for (point, step), event in zip(execution.choices, execution.events, strict=False):
            if (step.actor, taken[step.actor]) not in self.commands:
                command = fit(command_text(event.args), _COMMAND_COLUMNS)
                name = f"{letter(step.actor)} {execution.names[step.actor]}"
                place = f"step {taken[step.actor] + 1} of {name} ({command})"
                self.commands[step.actor, taken[step.actor]] = place
            for enabled in (*point.enabled_steps, *point.early):
                if enabled.faults:
                    before = taken[enabled.actor]
                    self.places.update((enabled.actor, before, kind) for kind in enabled.faults)
            if point.costs(step) and not event.missed:
                self.struck.add((step.actor, taken[step.actor], step.kind))
            taken[step.actor] += 1

    def reasons(self) -> list[str]:
        """Why the exploration proves nothing; empty if it proves something."""
        if not self.actors:
            return [_NO_ACTOR]
        if not self.active:
            return [f"no command of {', '.join(sorted(self.actors))} {_NO_COMMAND}"]
        reasons = []
        if self.judged and not self.delivered:
            reasons.append("no message was delivered in any schedule")
        if self.faults_asked and not self.struck and self.executions > self.given:
            reasons.append("no fault struck in any schedule: allow more schedules, or other faults")
        return reasons

    def _where_struck(self) -> str:
        """Such as "kill-before struck at 4 of 5 places (never at step 2 of B worker (LPOP jobs))"."""
        said = []
        for kind in sorted({kind for _, _, kind in self.places}, key=fault_name):
            places = sorted(place for place in self.places if place[2] is kind)
            missed = [place for place in places if place not in self.struck]
            text = f"{fault_name(kind)} struck at {len(places) - len(missed):,} of {len(places):,} places"
            named = [self.commands[actor, taken] for actor, taken, _ in missed if (actor, taken) in self.commands]
            if named:
                more = f" and {len(missed) - _NAMED:,} more" if len(missed) > _NAMED else ""
                text += f" (never at {', '.join(named[:_NAMED])}{more})"
            said.append(text)
        return ", ".join(said)

    def __str__(self) -> str:
        parts = []
        if self.judged:
            parts.append(f"{self.acknowledged:,} messages acknowledged, {self.delivered:,} delivered")
        if self.places:
            parts.append(self._where_struck())
        if silent := sorted(self.actors - self.active):
            parts.append(f"{', '.join(silent)} sent no command")
        if self.uncontrolled:
            parts.append(f"not controlled: {', '.join(sorted(self.uncontrolled))}")
        return "; ".join(parts)
