"""One connection of an actor, and the state that the proxy keeps for it."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field

from pytest_redisq.explore.connection_state import ConnectionState, HeldCommand
from pytest_redisq.explore.schedule import EnabledStep, StepKind
from pytest_redisq.explore.server_connection import ServerConnection
from pytest_redisq.resp import Request, RequestParser, UnparsedBytes


@dataclass(eq=False, slots=True)
class ProxiedConnection:
    """One connection of an actor, and ours to the server behind it."""

    actor: int
    client: socket.socket
    server: ServerConnection
    state: ConnectionState
    requests: RequestParser = field(default_factory=RequestParser)
    queue: deque[Request | UnparsedBytes] = field(default_factory=deque)
    #: The command that waits to be chosen.
    held: HeldCommand | None = None
    #: The command that waits in the server, and what will happen to its reply.
    blocked: HeldCommand | None = None
    blocked_kind: StepKind = StepKind.RUN
    #: When its time is up, on the schedule's clock; None: never.
    deadline: float | None = None
    #: When its actor, which stands still before the held command, goes on, on the same clock; None: it does not.
    paused_until: float | None = None
    #: Since when it has stood still.
    paused_at: float = 0.0
    #: Its number among its actor's connections in this run, from 1; 0: it has not held a command yet.
    number: int = 0
    #: `held` as an option of the schedule, while nothing about it has changed.
    enabled: EnabledStep | None = None
    raw: bool = False
    unsent: bytes = b""
    open: bool = True
