"""A stage for queues' logic without IO: actors whose commands reach one real server in an order that a test chooses.

An actor is a generator of commands. At each command a test can stop it, drop a reply, or kill it. Blocking commands
behave as in the server: the first command of another actor that adds an element serves a blocked actor. A turn of a
blocked actor lets its timeout pass, on the stage's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis

from pytest_redisq.explore import StepKind
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.steps import RedisCommand, Steps, command
from tests.properties.turns import Turn

#: A run longer than this does not end, in commands.
MAX_COMMANDS = 5_000
_DEADLY = (StepKind.KILL_BEFORE, StepKind.KILL_AFTER)


class Actor:
    """`state` is "alive" until its steps ended ("ended"), raised ("failed": see `error`), or it was "killed"."""

    def __init__(self, name: str, steps: Steps[Any]) -> None:
        self.name = name
        self.state = "alive"
        self.error: BaseException | None = None
        self.result: Any = None
        self._steps = steps
        self.held: RedisCommand | None = None
        self.blocked = False
        self.resume(None)

    def resume(self, reply: Any, error: Exception | None = None) -> None:
        self.blocked = False
        try:
            self.held = self._steps.send(reply) if error is None else self._steps.throw(error)
        except StopIteration as end:
            self.state, self.result, self.held = "ended", end.value, None
        except Exception as failure:
            self.state, self.error, self.held = "failed", failure, None

    def kill(self) -> None:
        self._steps.close()
        self.state, self.held = "killed", None


class Stage:
    """A context manager. `clock` is what actors are to be given for time; each command takes `tick_seconds` of it."""

    def __init__(self, client: redis.Redis, tick_seconds: float = 0.0) -> None:
        self._wire = QueueConnection(client)
        self.now = 1_000.0
        self.tick_seconds = tick_seconds
        self.actors: list[Actor] = []
        self.commands = 0

    def clock(self) -> float:
        return self.now

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.alive():
            actor.kill()
        self._wire.close()

    def actor(self, name: str, steps: Steps[Any]) -> Actor:
        actor = Actor(name, steps)
        self.actors.append(actor)
        return actor

    def alive(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.state == "alive"]

    def play(self, turns: Iterable[Turn]) -> None:
        """Play the turns. Then run the remaining actors to their end, a command at a time in rotation."""
        for turn in turns:
            actor = self.actors[turn.actor % len(self.actors)]
            for last in range(turn.commands - 1, -1, -1):
                self.step(actor, StepKind.RUN if last else turn.mark)
        while alive := self.alive():
            for actor in alive:
                self.step(actor)

    def step(self, actor: Actor, mark: StepKind = StepKind.RUN) -> None:
        """Carry out the command that `actor` holds, as `mark` says. Nothing, where it is not alive."""
        held = actor.held
        if actor.state != "alive" or held is None:
            return
        self.commands += 1
        self.now += self.tick_seconds
        assert self.commands < MAX_COMMANDS, f"no end in sight: {actor.name} holds {held}"
        reply, error = None, None
        if actor.blocked:
            self.now += 1.0 if held.blocks_seconds is None else held.blocks_seconds
        elif mark not in (StepKind.KILL_BEFORE, StepKind.LOSE_REQUEST):
            reply, error = self._carry_out(held)
            if held.blocks_seconds != 0 and reply is None and error is None and mark is StepKind.RUN:
                actor.held, actor.blocked = self._waiting(held), True
                return
        if mark in _DEADLY:
            actor.kill()
        elif mark is StepKind.RUN:
            actor.resume(reply, error)
        else:
            actor.resume(None, redis.ConnectionError("cut by the test"))
        self._serve_the_blocked()

    def _serve_the_blocked(self) -> None:
        for actor in self.actors:
            if actor.blocked and actor.held is not None:
                reply, error = self._carry_out(actor.held)
                if reply is not None or error is not None:
                    actor.resume(reply, error)

    def _waiting(self, held: RedisCommand) -> RedisCommand:
        """As the server remembers it: `$` is what was the last id when the wait began."""
        if "$" not in held.args:
            return held
        key = held.args[list(held.args).index("STREAMS") + 1]
        last = self._wire.call(command("XREVRANGE", key, "+", "-", "COUNT", 1))
        now = last[0][0].decode() if last else "0-0"
        return RedisCommand(tuple(now if arg == "$" else arg for arg in held.args), held.blocks_seconds)

    def ask(self, steps: Steps[Any]) -> Any:
        """Let an actor run alone, to its end."""
        actor = self.actor("alone", steps)
        while actor.state == "alive":
            self.step(actor)
        self.actors.remove(actor)
        if actor.error is not None:
            raise actor.error
        return actor.result

    def _carry_out(self, held: RedisCommand) -> tuple[Any, Exception | None]:
        try:
            if held.blocks_seconds == 0:
                return self._wire.call(held), None
            # In a transaction a blocking command takes what is there, and else does not wait.
            for before in (command("MULTI"), held):
                self._wire.call(before)
            (reply,) = self._wire.call(command("EXEC"))
        except redis.ResponseError as refused:
            return None, refused
        if isinstance(reply, Exception):
            return None, reply
        return reply, None


def errors(actors: Sequence[Actor]) -> list[BaseException]:
    """The exceptions of actors, except those of cut connections."""
    raised = [actor.error for actor in actors if actor.error is not None]
    return [error for error in raised if not isinstance(error, redis.ConnectionError)]
