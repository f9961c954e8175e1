"""A toy server without any IO, to judge the explorer's pure core on: programs are generators that yield commands.

Commands: ("get", key), ("set", key, value), ("push", key, value), ("pop", key), ("bpop", key), ("sleep",).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_redisq.explore.equivalence import StepEffect
from pytest_redisq.explore.footprint import ALL, NOTHING, Footprint
from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, Schedule, Step, StepKind
from pytest_redisq.explore.schedulers.scheduler import Scheduler

Program = Callable[[], Generator[tuple[Any, ...], Any, Any]]
_WRITES = {"set", "push", "pop", "bpop"}


@dataclass
class Actor:
    generator: Generator[tuple[Any, ...], Any, Any]
    held: tuple[Any, ...] | None = None
    blocked: str | None = None
    seen: list[Any] = field(default_factory=list)
    result: Any = None


@dataclass
class Run:
    """The result of one run. `key` is the same for runs that differ only in the order of independent steps."""

    choices: list[tuple[ChoicePoint, Step]]
    results: list[Any]
    stored: dict[str, Any]
    key: frozenset[Any]
    deadlock: bool
    last: StepEffect

    @property
    def schedule(self) -> Schedule:
        return Schedule(step for _, step in self.choices)

    @property
    def shown(self) -> Schedule:
        return self.schedule

    @property
    def outcome(self) -> tuple[str, str]:
        return repr(self.results), repr(sorted(self.stored.items()))


class Toy:
    """Runs programs under a chooser."""

    def __init__(self, programs: Sequence[Program], faults: Sequence[StepKind] = (), max_faults: int = 0) -> None:
        self.programs = programs
        self.faults = tuple(faults)
        self.max_faults = max_faults

    def run(self, scheduler: Scheduler) -> Run:
        self.stored: dict[str, Any] = {}
        self.actors = [Actor(program()) for program in self.programs]
        self.budget = self.max_faults
        for actor in self.actors:
            self._advance(actor, None)
        choices: list[tuple[ChoicePoint, Step]] = []
        events: list[tuple[Any, Footprint, frozenset[int]]] = []
        previous, effect, woken = None, NOTHING, ()
        while enabled_steps := self._enabled_steps():
            point = ChoicePoint(
                position=len(choices), enabled_steps=enabled_steps, previous=previous, effect=effect, woken=tuple(woken)
            )
            step = scheduler.choose(point)
            choices.append((point, step))
            self.budget -= point.costs(step)
            name = (step, sum(other == step for _, other in choices))
            effect, woken = self._execute(step)
            previous = step.actor
            events.append((name, effect, frozenset([step.actor, *woken])))
        return Run(
            choices,
            [actor.result for actor in self.actors],
            self.stored,
            frozenset(
                (one[0], two[0])
                for at, two in enumerate(events)
                for one in events[:at]
                if one[2] & two[2] or one[1].conflicts(two[1])
            )
            | frozenset(event[0] for event in events),
            any(actor.blocked for actor in self.actors),
            StepEffect(effect, tuple(woken)),
        )

    def _advance(self, actor: Actor, reply: Any) -> None:
        actor.blocked = None
        actor.seen.append(reply)
        try:
            actor.held = actor.generator.send(reply)
        except StopIteration as end:
            actor.held, actor.result = None, end.value

    def _footprint(self, command: tuple[Any, ...]) -> Footprint:
        if command[0] == "sleep":
            return ALL
        keys = frozenset([command[1].encode()])
        return Footprint(writes=keys) if command[0] in _WRITES else Footprint(reads=keys)

    def _enabled_steps(self) -> tuple[EnabledStep, ...]:
        faults = self.faults if self.budget else ()
        held = [(at, actor.held) for at, actor in enumerate(self.actors) if actor.held and not actor.blocked]
        awake = [(at, command) for at, command in held if command[0] != "sleep"]
        if awake:
            return tuple(
                EnabledStep(actor=at, footprint=self._footprint(command), faults=faults) for at, command in awake
            )
        return tuple(EnabledStep(actor=at, kind=StepKind.TIME, footprint=ALL) for at, _ in held)

    def _execute(self, step: Step) -> tuple[Footprint, list[int]]:
        actor = self.actors[step.actor]
        command = actor.held
        assert command
        effect = self._footprint(command)
        woken: list[int] = []
        reply: Any = None
        if step.kind is not StepKind.KILL_BEFORE:
            match command:
                case ("get", key):
                    reply = self.stored.get(key)
                case ("set", key, value):
                    self.stored[key] = value
                case ("push", key, value):
                    self.stored.setdefault(key, []).append(value)
                    woken = self._wake(key)
                case ("pop", key):
                    reply = self.stored[key].pop(0) if self.stored.get(key) else None
                case ("bpop", key):
                    if not self.stored.get(key) and step.kind is StepKind.RUN:
                        actor.blocked = key
                        return effect, woken
                    reply = self.stored[key].pop(0) if self.stored.get(key) else None
        if step.kind in (StepKind.KILL_BEFORE, StepKind.KILL_AFTER):
            actor.held = None
            actor.generator.close()
        else:
            self._advance(actor, reply)
        return effect, woken

    def _wake(self, key: str) -> list[int]:
        for at, actor in enumerate(self.actors):
            if actor.blocked == key:
                self._advance(actor, self.stored[key].pop(0))
                return [at]
        return []
