"""An actor as the user sees it, and its state as the controller keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from pytest_redisq.explore.actor_threads import ActorRunner
from pytest_redisq.explore.schedule import StepKind, letter
from pytest_redisq.terminal import escaped

#: What an actor's function returns.
R = TypeVar("R")


class Actor(Generic[R]):
    """A function, coroutine or program that acts in an execution. Its `result` is known after `world.run()`."""

    def __init__(self, index: int, name: str, *, background: bool, fault_free: bool = False) -> None:
        self.index = index
        self.name: str = escaped(name)
        #: Whether the execution may end while it still waits.
        self.background = background
        #: Whether no fault strikes it.
        self.fault_free = fault_free
        #: The error that ended it, if any.
        self.error: BaseException | None = None
        self.killed = False
        #: Whether it was asked to end, by the fault `term` or `cancel`.
        self.terminated: bool = False
        #: Whether it is an error if it does not end when it is asked to.
        self.must_end: bool = True
        self._result: R | None = None

    def __repr__(self) -> str:
        return f"<Actor {letter(self.index)} {self.name}>"

    @property
    def result(self) -> R:
        """What its function returned; None for an actor that was killed, although the type does not say so.

        Raises what the function raised.
        """
        if self.error:
            raise self.error
        return cast(R, self._result)

    @property
    def leaves(self) -> bool:
        """Whether it was killed, or asked to end."""
        return self.killed or self.terminated

    def end(self, result: R | None, error: BaseException | None) -> None:
        """Note that it has ended, with this result or error."""
        self._result, self.error = result, error


@dataclass(eq=False, slots=True, kw_only=True)
class ActorState:
    """What the controller knows about an actor: its runner, what it does now, and until when it sleeps."""

    actor: Actor[Any]
    runner: ActorRunner
    #: Whether the next execution's actor of the same letter can use its client.
    reuses_client: bool
    status: Literal["running", "sleeping", "idle", "ended"] = "running"
    #: When its sleep or wait ends, in virtual time; None: never.
    deadline: float | None = None
    waits_for: object = None
    started: bool = False
    #: Whether a fault has struck it, so that a connection error is expected.
    faulted: bool = False
    #: Whether a fault has refused a command of it, so that an error reply is expected.
    refused: bool = False
    #: When it is killed, in virtual time, because it was asked to end; None: it was not asked.
    grace_until: float | None = None
    #: Whether it was killed because it had not ended by then, and must have.
    overstayed: bool = False
    #: When it was killed or last interrupted, in real time, and its CPU time then, in seconds.
    killed_at: float | None = None
    cpu_seconds_when_killed: float = 0.0
    #: Its CPU time when the current silence began, in seconds.
    cpu_seconds_at_silence: float = 0.0
    interrupted: bool = False
    #: The commands and replies since time last passed, and how many commands in a row repeated earlier ones.
    seen: set[tuple[tuple[bytes, ...], bytes]] = field(default_factory=set)
    repeats: int = 0

    def can_be_asked(self, kind: StepKind) -> bool:
        """Whether `TERM` or `CANCEL` can ask it to end, and neither has."""
        can = self.runner.can_be_cancelled if kind is StepKind.CANCEL else self.runner.can_be_terminated
        return can and self.status != "ended" and not self.actor.terminated
