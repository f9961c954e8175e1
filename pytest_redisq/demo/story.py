"""A story: a common queue design that fails on a real server, and a version that holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import redis

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.errors import DeliveryError
from pytest_redisq.explore import World, exploration_arguments, explore
from pytest_redisq.faults import ExploreFaults
from pytest_redisq.history import History
from pytest_redisq.model import UNREADABLE, Message, decode_body, encode_body
from pytest_redisq.servers import Server
from pytest_redisq.servers.namespace import Namespace

#: Schedules under which a fixed version must hold, and within which a broken one must fail.
SCHEDULES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The resources of one attempt: a server, an empty namespace on it, and an empty folder.

    `run`: the id of this attempt in its message bodies, which tells them from messages of other attempts.
    """

    server: Server
    namespace: Namespace
    folder: Path
    run: str

    @property
    def client(self) -> redis.Redis:
        """The namespace's client, to set up data and to read it."""
        return self.namespace.client

    def connect(self, name: str | None = None) -> redis.Redis:
        """An actor's own client, called `name` in CLIENT LIST. The caller closes it."""
        return self.namespace.new_client(client_name=name)

    def key(self, name: str) -> str:
        """The name of a key in the namespace."""
        return self.namespace.key(name)

    def bodies(self, producer: int, sequences: Iterable[int]) -> tuple[list[Message], list[bytes]]:
        """Messages of `producer`, and their bodies."""
        messages = [Message(producer, sequence) for sequence in sequences]
        return messages, [encode_body(self.run, message) for message in messages]

    def read(self, bodies: Iterable[bytes]) -> list[Message]:
        """The messages in these bodies; `UNREADABLE` for a body that is not of this attempt."""
        return [decode_body(self.run, body) or UNREADABLE for body in bodies]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The result of one version of a story.

    * `verdict`: the verdict on its history.
    * `evidence`: lines of text.
    * `schedule`, `table`: the failing schedule and its steps as a table; empty if none was found.
    """

    verdict: Verdict
    evidence: tuple[str, ...] = ()
    schedule: str = ""
    table: str = ""


def explored(
    stage: Stage, scenario: Callable[[World], Verdict], contract: Contract, said: str, *, faults: ExploreFaults = ()
) -> Attempt:
    """Search for a schedule under which `scenario` raises `DeliveryError`. Its history is judged by `contract`.

    * `scenario`: a function of a `World` that returns a verdict.
    * `said`: what is explored, for the evidence.
    * `faults`: the faults of the search; default: none.

    If no schedule fails, the verdict is that of the last execution.
    """
    verdicts: list[Verdict] = []
    exploration = explore(
        lambda world: verdicts.append(scenario(world)),
        schedules=SCHEDULES,
        faults=faults,
        **exploration_arguments(stage.namespace),
    )
    failure = exploration.failure
    if failure is None or failure.number is None:
        return Attempt(verdict=verdicts[-1], evidence=(f"{said}: {exploration}",))
    if not isinstance(failure.error, DeliveryError) or not isinstance(failure.error.history, History):
        raise failure.error
    found = f"{said}: schedule {failure.number + 1} fails; the shortest like it has {len(failure.schedule)} steps:"
    return Attempt(
        verdict=check(failure.error.history, contract),
        evidence=(found,),
        schedule=str(failure.schedule),
        table=failure.execution.table(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a queue: what it does, in one line, and the function that runs it."""

    title: str
    play: Callable[[Stage], Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`broken` must fail its contract, `fixed` must pass the same one."""

    id: str
    title: str
    broken: Version
    fixed: Version
