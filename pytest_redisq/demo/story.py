"""What a story is: a queue that many have written, shown broken on a real server, and the version that holds."""

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

#: Schedules under which a right version has to hold, and within which a broken one has to be caught.
SCHEDULES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where an attempt is played: a server, a clean namespace of it, and an empty folder.

    `run` marks the bodies of this attempt, so that a message of another one is never taken for one of its own.
    """

    server: Server
    namespace: Namespace
    folder: Path
    run: str

    @property
    def client(self) -> redis.Redis:
        """The namespace's client, for whoever sets up and looks on."""
        return self.namespace.client

    def connect(self, name: str | None = None) -> redis.Redis:
        """An actor's own client, called `name` in CLIENT LIST. The caller closes it."""
        return self.namespace.new_client(client_name=name)

    def key(self, name: str) -> str:
        """The name of a key in the namespace."""
        return self.namespace.key(name)

    def bodies(self, producer: int, sequences: Iterable[int]) -> tuple[list[Message], list[bytes]]:
        """Messages of `producer`, and the bodies that carry them."""
        messages = [Message(producer, sequence) for sequence in sequences]
        return messages, [encode_body(self.run, message) for message in messages]

    def read(self, bodies: Iterable[bytes]) -> list[Message]:
        """The messages that bodies carry; `UNREADABLE` for what nobody of this attempt has written."""
        return [decode_body(self.run, body) or UNREADABLE for body in bodies]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one version of a story: the verdict on its history, and the evidence, a line each.

    Where a schedule was found under which it fails: that, and the run as a table.
    """

    verdict: Verdict
    evidence: tuple[str, ...] = ()
    schedule: str = ""
    table: str = ""


def explored(
    stage: Stage, scenario: Callable[[World], Verdict], contract: Contract, said: str, *, faults: ExploreFaults = ()
) -> Attempt:
    """Hunt for a schedule under which `scenario` raises `DeliveryError`; what breaks there is judged by `contract`.

    If there is none, the verdict is that of the last run, as good as any.
    """
    verdicts: list[Verdict] = []
    exploration = explore(
        lambda world: verdicts.append(scenario(world)),
        schedules=SCHEDULES,
        faults=faults,
        **exploration_arguments(stage.namespace),
    )
    failure = exploration.failure
    if failure is None:
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
    """A queue as somebody wrote it: what it does, in a line, and how it is played."""

    title: str
    play: Callable[[Stage], Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`broken` must fail its contract, `fixed` must pass the same one."""

    id: str
    title: str
    broken: Version
    fixed: Version
