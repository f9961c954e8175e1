"""Strikes a run with its faults, and heals what has to be healed.

Each fault strikes once, when the consumers have received `after_messages` messages in all. It is healed before the
run's end is judged. What was done, and when, becomes part of the history.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import redis

from pytest_redisq.errors import TrafficError
from pytest_redisq.faults import Fault, strikes_server
from pytest_redisq.history import FaultRecord
from pytest_redisq.servers import Server

Moment = Literal["receiving", "holding"]


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


def check_faults(faults: Sequence[Fault], *, messages: int, server: Server | None, external: bool) -> None:
    """Raises ValueError for a fault that cannot strike this run. `external`: the consumers are external commands."""
    for fault in faults:
        if external and fault.name == "kill-holding":
            raise ValueError(
                f"{fault} cannot strike a command: only the command knows when it holds a message. "
                "What to do: use kill:consumer, which kills it at any moment. What it has written by then is done"
            )
        if not _threshold(fault) < messages:
            raise ValueError(f"{fault} would never strike: it must come after fewer messages than messages={messages}")
        if strikes_server(fault) and (server is None or server.kind == "url"):
            raise ValueError(
                f"{fault} needs a server that redisq started. "
                "What to do: mark the test with @pytest.mark.redisq_dedicated, or pass a Server as `at` or `server`"
            )


class FaultInjector:
    """Strikes when it is time. `step` is called every few milliseconds, from one thread.

    `external`: the consumers are external commands, which are killed at once, at any moment of what they do.
    """

    def __init__(self, faults: Sequence[Fault], target: FaultTarget, *, external: bool = False) -> None:
        self._waiting = sorted(faults, key=_threshold)
        self._target = target
        self._external = external
        self._healing: list[tuple[int, Fault]] = []
        self._struck: list[FaultRecord] = []

    @property
    def struck(self) -> tuple[FaultRecord, ...]:
        return tuple(self._struck)

    @property
    def last_ns(self) -> int:
        """When a fault last struck or was healed; 0: never."""
        return max((record.at_ns or 0 for record in self._struck), default=0)

    @property
    def healing(self) -> bool:
        """Whether a fault is under way that is to be healed."""
        return bool(self._healing)

    def step(self) -> None:
        while self._waiting and _threshold(self._waiting[0]) <= self._target.received():
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

    def missed(self) -> tuple[FaultRecord, ...]:
        """The faults that never struck."""
        words = f"{self._target.received()} messages were received"
        return tuple(FaultRecord(fault=str(fault), words=words) for fault in self._waiting)

    def _strike(self, fault: Fault) -> None:
        match fault.where:
            case "kill:consumer":
                self._kill_consumer("receiving", fault)
            case "kill-holding:consumer":
                self._kill_consumer("holding", fault)
            case "kill:server":
                self._target.server().kill()
                self._tell(fault, "the server was killed")
                self._heal_after(fault)
            case "restart:server":
                self._tell(fault, "the server was shut down")
                self._target.server().restart()
                self._tell(fault, "the server was started again")
            case "pause:server":
                self._target.server().pause()
                self._tell(fault, "the server was paused")
                self._heal_after(fault)
            case "drop:connections":
                closed = self._drop()
                self._tell(fault, f"{closed} connections of workers were closed by the server", struck=closed)
            case _:
                raise AssertionError(fault)  # `faults_for` has refused it

    def _kill_consumer(self, moment: Moment, fault: Fault) -> None:
        name = self._target.kill_consumer(moment, replace=fault.for_seconds != math.inf)
        death = "was killed" if self._external else f"was to die {moment} its next message"
        words = f"{name} {death}" if name else "no consumer left to kill"
        self._tell(fault, words, struck=int(bool(name)), killed=(name,) if name else ())

    def _heal(self, fault: Fault) -> None:
        if fault.name == "pause":
            self._target.server().resume()
            self._tell(fault, "the server was resumed")
        else:
            self._target.server().restart()
            self._tell(fault, "the server was started again")

    def _heal_after(self, fault: Fault) -> None:
        self._healing.append((self._target.now_ns() + int(fault.for_seconds * 1e9), fault))

    def _drop(self) -> int:
        control, prefix = self._target.control(), self._target.client_names()
        try:
            clients = control.client_list()
            ids = [client["id"] for client in clients if client.get("name", "").startswith(prefix)]
            return sum(int(control.client_kill_filter(_id=each)) for each in ids)
        except redis.ResponseError as error:
            raise TrafficError(f"drop:connections needs the right to CLIENT LIST and CLIENT KILL: {error}") from error

    def _tell(self, fault: Fault, words: str, *, struck: int = 1, killed: tuple[str, ...] = ()) -> None:
        record = FaultRecord(fault=str(fault), words=words, at_ns=self._target.now_ns(), struck=struck, killed=killed)
        self._struck.append(record)


def _threshold(fault: Fault) -> int:
    return fault.after_messages or 0
