"""An actor as the user sees it, and its state as the controller keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast

from pytest_redisq.explore.actor_threads import ActorRunner
from pytest_redisq.explore.schedule import letter
from pytest_redisq.terminal import escaped

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
