"""What may go wrong during a run, on purpose, and when: plain data, and the one interpreter that makes it so.

Every fault strikes once, when the consumers have received `after_messages` messages in all, and is healed before the
run's end is judged. What was done, and when, is told to whoever reads the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, assert_never

import redis

from pytest_redisq.errors import TrafficError
from pytest_redisq.servers import Server

Moment = Literal["receiving", "holding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KillConsumer:
    """One consumer dies with the next message that it gets in its hands (or at once, if no more come).

    A process dies by SIGKILL. A thread or task is cut off from the server and does nothing any more. `moment` says
    when: "receiving", as the message leaves the queue, before anybody has seen it: the dequeue never ends; "holding",
    after the dequeue has ended and before the message is acknowledged. With `replace`, a new consumer starts at once.
    """

    after_messages: int
    moment: Moment = "receiving"
    replace: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class KillServer:
    """The server is killed by SIGKILL and started again after `down_seconds`; without persistence, it is then empty."""

    after_messages: int
    down_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartServer:
    """The server shuts down in good order and starts again; without persistence, it is then empty."""

    after_messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseServer:
    """The server stands still for so many seconds (SIGSTOP), connections and all."""

    after_messages: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DropConnections:
    """The server closes every connection of the run's workers, and of nobody else (CLIENT KILL)."""

    after_messages: int


Fault: TypeAlias = KillConsumer | KillServer | RestartServer | PauseServer | DropConnections


class FaultEvent(NamedTuple):
    """A fault that came to pass, or part of one, `at_ns` of the history's clock."""

    at_ns: int
    words: str


class FaultTarget(Protocol):
    """What a run lets its faults do."""

    def received(self) -> int:
        """How many messages the consumers have received."""

    def now_ns(self) -> int: ...

    def server(self) -> Server:
        """The server, for faults of its own."""

    def control(self) -> redis.Redis:
        """A client that is no worker's."""

    def client_names(self) -> str:
        """What the names of the workers' clients begin with."""

    def kill_consumer(self, moment: Moment, *, replace: bool) -> str:
        """Order the death of some consumer; its name, or "" if none is left."""


def check_faults(faults: Sequence[Fault], *, messages: int, server: Server | None) -> None:
    """Raises ValueError for a fault that cannot come to pass, TypeError for what is none."""
    for fault in faults:
        if not isinstance(fault, Fault):
            raise TypeError(f"{fault!r} is no fault; the faults are {', '.join(kind.__name__ for kind in _KINDS)}")
        if not 0 <= fault.after_messages < messages:
            raise ValueError(
                f"{fault} would never strike: after_messages is to be at least 0 and less than messages={messages}"
            )
        if isinstance(fault, (KillServer, RestartServer, PauseServer)) and (server is None or server.how == "url"):
            raise ValueError(
                f"{fault} needs a server that redisq started. "
                "What to do: mark the test with @pytest.mark.redisq_dedicated, or pass a Server as `at` or `server`"
            )


_KINDS = (KillConsumer, KillServer, RestartServer, PauseServer, DropConnections)


class FaultInjector:
    """Strikes when it is time. `step` is called every few milliseconds, from one thread."""

    def __init__(self, faults: Sequence[Fault], target: FaultTarget) -> None:
        self._waiting = sorted(faults, key=_threshold)
        self._target = target
        self._healing: list[tuple[int, KillServer | PauseServer]] = []
        self._struck: list[FaultEvent] = []

    @property
    def struck(self) -> tuple[FaultEvent, ...]:
        return tuple(self._struck)

    def step(self) -> None:
        while self._waiting and self._waiting[0].after_messages <= self._target.received():
            self._strike(self._waiting.pop(0))
        for item in list(self._healing):
            due_ns, fault = item
            if self._target.now_ns() >= due_ns:
                self._healing.remove(item)
                self._heal(fault)

    def heal(self) -> None:
        """Undo at once what has not been undone."""
        while self._healing:
            self._heal(self._healing.pop()[1])

    def missed(self) -> tuple[str, ...]:
        """The faults that never struck, in words."""
        return tuple(
            f"{fault} never struck: {self._target.received()} messages were received" for fault in self._waiting
        )

    def _strike(self, fault: Fault) -> None:
        match fault:
            case KillConsumer():
                name = self._target.kill_consumer(fault.moment, replace=fault.replace)
                self._tell(f"{name} was to die {fault.moment} its next message" if name else "no consumer left to kill")
            case KillServer():
                self._target.server().kill()
                self._tell("the server was killed")
                self._heal_after(fault, fault.down_seconds)
            case RestartServer():
                self._tell("the server was shut down")
                self._target.server().restart()
                self._tell("the server was started again")
            case PauseServer():
                self._target.server().pause()
                self._tell("the server was paused")
                self._heal_after(fault, fault.seconds)
            case DropConnections():
                self._tell(f"{self._drop()} connections of workers were closed by the server")
            case _:
                assert_never(fault)

    def _heal(self, fault: KillServer | PauseServer) -> None:
        match fault:
            case KillServer():
                self._target.server().restart()
                self._tell("the server was started again")
            case PauseServer():
                self._target.server().resume()
                self._tell("the server was resumed")
            case _:
                assert_never(fault)

    def _heal_after(self, fault: KillServer | PauseServer, seconds: float) -> None:
        self._healing.append((self._target.now_ns() + int(seconds * 1e9), fault))

    def _drop(self) -> int:
        control, prefix = self._target.control(), self._target.client_names()
        try:
            clients = control.client_list()
            ids = [client["id"] for client in clients if client.get("name", "").startswith(prefix)]
            return sum(int(control.client_kill_filter(_id=each)) for each in ids)
        except redis.ResponseError as error:
            raise TrafficError(f"DropConnections needs the right to CLIENT LIST and CLIENT KILL: {error}") from error

    def _tell(self, words: str) -> None:
        self._struck.append(FaultEvent(self._target.now_ns(), words))


def _threshold(fault: Fault) -> int:
    return fault.after_messages
