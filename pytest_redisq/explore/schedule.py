"""What a schedule is, how it is written, and which steps can be chosen: the vocabulary of the explorer's pure core.

A schedule is the sequence of choices of one execution. Each step is written as the capital letter of its actor, then
the number of the actor's connection unless it is the first (0: a timer of its own), then a small letter unless
the command simply runs (see `StepKind`):

>>> str(Schedule.parse("AAB2BrA"))
'AAB2BrA'

Law: a schedule names choices, never times, values or keys, so that it stays valid when libraries change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from pytest_redisq.explore.footprint import NOTHING, Footprint
from pytest_redisq.faults import AnyFaults, FaultName, faults_for, strikes_server

#: As many as there are letters.
MAX_ACTORS = 26


class StepKind(StrEnum):
    """What a step does. All kinds are faults and count as such, except `RUN`, `NOTICE`, `GRACE`, and `TIME` when no
    actor can run.
    """

    RUN = ""
    #: Time passes: a blocking command's timeout, or a sleep, ends.
    TIME = "t"
    #: The server notices that the client of a blocked command has closed its connection.
    NOTICE = "n"
    #: The connection is cut before the command reached the server.
    LOSE_REQUEST = "q"
    #: The command takes effect, then the connection is cut before any of its reply came back.
    LOSE_REPLY = "r"
    #: The command takes effect, then the connection is cut in the middle of its reply.
    CUT_REPLY = "c"
    #: The actor is killed before the command reached the server.
    KILL_BEFORE = "k"
    #: The command takes effect, then the actor is killed before it sees the reply.
    KILL_AFTER = "x"
    #: The actor is asked to end before the command, or while it waits: SIGTERM, cancellation, or its `stop`.
    TERM = "e"
    #: The actor, a coroutine, is cancelled before the command, or while it waits.
    CANCEL = "a"
    #: The time that an actor has to end after `TERM` is over: it is killed.
    GRACE = "z"
    #: All scripts that the server has cached are forgotten just before the command.
    FLUSH_SCRIPTS = "f"
    #: The server drops all connections of the actor (CLIENT KILL), blocked ones too, before the command.
    DISCONNECT = "d"
    #: The actor is paused before the command until every lease has run out.
    PAUSE = "p"
    #: The command is delayed until every lease has run out; its actor goes on.
    DELAY = "l"
    #: The command gets an error reply, and has no effect.
    OOM = "m"
    READONLY = "y"
    LOADING = "g"
    NOSCRIPT = "b"
    MOVED = "v"
    #: A key of the command is evicted just before it.
    EVICT = "i"
    #: The command's consumer group is destroyed just before it.
    GROUP_GONE = "u"
    #: The server restarts before the command, which is lost: its data survive, its connections and scripts do not.
    RESTART = "s"
    #: The same without persistence: it comes back empty.
    RESTART_EMPTY = "w"
    #: The same, and a replica that lacks the last write takes over.
    FAILOVER = "o"


#: Faults after which an actor takes no more messages.
ENDS_ACTOR = frozenset([StepKind.KILL_BEFORE, StepKind.KILL_AFTER, StepKind.TERM, StepKind.CANCEL])

#: Faults that ask an actor to end, whatever it waits for.
ASKS_TO_END = frozenset([StepKind.TERM, StepKind.CANCEL])

#: Faults that last: the command stays where it is, and goes on later.
LASTING = frozenset([StepKind.PAUSE, StepKind.DELAY])

#: What strikes no command.
NO_FAULTS = frozenset([StepKind.RUN, StepKind.TIME, StepKind.NOTICE, StepKind.GRACE])

#: By these time passes.
TIMERS = frozenset([StepKind.TIME, StepKind.GRACE])

#: Faults of the server, which strike all actors.
OF_THE_SERVER = frozenset([StepKind.RESTART, StepKind.RESTART_EMPTY, StepKind.FAILOVER])

#: Faults after which an actor is told that a script is unknown.
FORGETS_SCRIPTS = OF_THE_SERVER | {StepKind.FLUSH_SCRIPTS, StepKind.NOSCRIPT}


#: The kinds of steps that each fault of the catalogue stands for.
_KINDS_OF: dict[FaultName, tuple[StepKind, ...]] = {
    "lost-request": (StepKind.LOSE_REQUEST,),
    "lost-reply": (StepKind.LOSE_REPLY,),
    "cut-reply": (StepKind.CUT_REPLY,),
    "drop": (StepKind.DISCONNECT,),
    "kill": (StepKind.KILL_BEFORE, StepKind.KILL_AFTER),
    "kill-before": (StepKind.KILL_BEFORE,),
    "kill-after": (StepKind.KILL_AFTER,),
    "term": (StepKind.TERM,),
    "cancel": (StepKind.CANCEL,),
    "pause": (StepKind.PAUSE,),
    "delay": (StepKind.DELAY,),
    "timeout": (StepKind.TIME,),
    "oom": (StepKind.OOM,),
    "readonly": (StepKind.READONLY,),
    "loading": (StepKind.LOADING,),
    "noscript": (StepKind.NOSCRIPT,),
    "moved": (StepKind.MOVED,),
    "evict": (StepKind.EVICT,),
    "group-gone": (StepKind.GROUP_GONE,),
    "restart": (StepKind.RESTART,),
    "restart-empty": (StepKind.RESTART_EMPTY,),
    "failover": (StepKind.FAILOVER,),
    "script-flush": (StepKind.FLUSH_SCRIPTS,),
}


def fault_name(kind: StepKind) -> str:
    """The fault of the catalogue that is this kind of step and no other; the kind's own name if there is none."""
    return next((name for name, kinds in _KINDS_OF.items() if kinds == (kind,)), kind.name.lower())


def letter(actor: int) -> str:
    """The name of the `actor`-th actor, from 0."""
    return chr(ord("A") + actor)


class Step(NamedTuple):
    """One choice: the actor (from 0), what happens, and which of the actor's connections (from 1)."""

    actor: int
    kind: StepKind = StepKind.RUN
    connection: int = 1

    def __str__(self) -> str:
        return f"{letter(self.actor)}{self.connection if self.connection != 1 else ''}{self.kind}"


_STEP = re.compile(r"([A-Z])([0-9]*)([a-z]?)")
_KINDS = {kind.value: kind for kind in StepKind}


class Schedule(tuple[Step, ...]):
    """The choices of one execution, in order. After its end the default choices follow (see `run_on`)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that `text` is; blanks, commas and dots are only there to be read by people.

        >>> Schedule.parse("A B2t").faults
        0
        >>> Schedule.parse("A!")
        Traceback (most recent call last):
        ...
        ValueError: not a schedule: 'A!' has '!' at position 2, where an actor's letter (A to Z) was expected
        """
        steps: list[Step] = []
        at = 0
        while at < len(text):
            if text[at] in " ,.\n":
                at += 1
                continue
            found = _STEP.match(text, at)
            if found is None:
                where = f"{text!r} has {text[at]!r} at position {at + 1}"
                raise ValueError(f"not a schedule: {where}, where an actor's letter (A to Z) was expected")
            name, connection, kind = found.groups()
            if kind not in _KINDS:
                known = ", ".join(
                    f"{item.value} ({item.name.lower().replace('_', ' ')})" for item in StepKind if item.value
                )
                raise ValueError(f"not a schedule: {text!r} has the unknown step kind {kind!r}; the kinds are {known}")
            steps.append(Step(ord(name) - ord("A"), _KINDS[kind], int(connection or 1)))
            at = found.end()
        return cls(steps)

    def __str__(self) -> str:
        return "".join(map(str, self))

    @property
    def faults(self) -> int:
        """How many steps are faults; time that passes is not one."""
        return sum(step.kind not in NO_FAULTS for step in self)

    @property
    def switches(self) -> int:
        """How often the actor changes from one step to the next."""
        return sum(one.actor != two.actor for one, two in pairwise(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnabledStep:
    """A command that can go next, or (with another `kind`) a wait that can end, or be struck by a fault."""

    actor: int
    connection: int = 1
    kind: StepKind = StepKind.RUN
    footprint: Footprint
    #: Which faults may strike it; each counts as one of the execution's faults.
    faults: tuple[StepKind, ...] = ()

    #: The step without a fault.
    step: Step = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Step(self.actor, self.kind, self.connection))

    def faulty(self) -> list[Step]:
        """The steps that choose it with a fault."""
        kinds = (kind for kind in self.faults if kind not in (StepKind.TIME, self.kind))
        return [Step(self.actor, kind, self.connection) for kind in kinds]

    def allows(self, step: Step) -> bool:
        """Whether `step` is one of the ways to choose it."""
        if step == self.step:
            return True
        return self.actor == step.actor and self.connection == step.connection and step.kind in self.faults


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicePoint:
    """A moment at which a step must be chosen: every actor holds a command, is blocked, sleeps or has ended.

    * `position`: how many steps came before.
    * `enabled_steps`: never empty; they cost no fault.
    * `early`: waits that could end although an actor can run, or be struck; each costs a fault.
    * `previous`: the actor of the step before.
    * `effect`, `woken`: what that step touched, and the actors whose blocked commands it ended.
    """

    position: int
    enabled_steps: tuple[EnabledStep, ...]
    early: tuple[EnabledStep, ...] = ()
    previous: int | None = None
    effect: Footprint = NOTHING
    woken: tuple[int, ...] = ()

    def enabled_step(self, step: Step) -> EnabledStep | None:
        """The enabled step that `step` chooses; None if it cannot be chosen here."""
        for enabled in self.enabled_steps:
            if enabled.allows(step):
                return enabled
        return next((enabled for enabled in self.early if enabled.allows(step)), None)

    def sends(self, step: Step) -> bool:
        """Whether `step` is a command, with or without a fault, and not the end of a wait."""
        enabled = self.enabled_step(step)
        return enabled is not None and enabled.kind is StepKind.RUN

    def costs(self, step: Step) -> bool:
        """Whether `step` costs a fault."""
        return all(enabled.step != step for enabled in self.enabled_steps)


def run_on(point: ChoicePoint) -> Step:
    """The default choice: the actor of the previous step goes on; if it cannot, the first actor by letter does."""
    for enabled in point.enabled_steps:
        if enabled.actor == point.previous:
            return enabled.step
    return point.enabled_steps[0].step


def kinds_by_actor(faults: AnyFaults) -> dict[str, frozenset[StepKind]]:
    """Per actor's name or letter (`""`: all actors) the kinds of faults that may strike it.

    `faults`: as `faults_for("explore", …)` takes them. `kill:B` strikes only B. A fault of the server
    may come at a command of any actor.

    >>> kinds_by_actor("lost-reply, kill-after:B") == {"": {StepKind.LOSE_REPLY}, "B": {StepKind.KILL_AFTER}}
    True
    """
    allowed: dict[str, frozenset[StepKind]] = {}
    for fault in faults_for("explore", faults):
        actor = "" if strikes_server(fault) else fault.target
        allowed[actor] = allowed.get(actor, frozenset()) | frozenset(_KINDS_OF[fault.name])
    return allowed
