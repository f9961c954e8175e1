"""The API of a scenario: it creates actors, producers and consumers, runs them, and judges what they did."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, overload

import redis
import redis.asyncio
from redis.asyncio import Redis as AsyncRedis

from pytest_redisq.check import AnyContract, Verdict
from pytest_redisq.explore.actor import Actor, R
from pytest_redisq.explore.actor_factory import ActorFactory
from pytest_redisq.explore.actor_processes import StartMethod
from pytest_redisq.explore.delivery_recorder import DeliveryRecorder
from pytest_redisq.explore.execution_loop import ExecutionLoop
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import ChoicePoint, Step


class World:
    """What a scenario is given: `redis` goes straight to the server, actors go through the proxy."""

    def __init__(self, resources: Resources, loop: ExecutionLoop) -> None:
        self._resources = resources
        self._loop = loop
        self._factory = ActorFactory(resources, loop.controller)
        self._recorder = DeliveryRecorder(resources, self._factory, loop)

    @property
    def redis(self) -> redis.Redis:
        """A client straight to the server, for setting up and for looking at what is left."""
        return self._resources.direct

    def async_redis(self) -> AsyncRedis:
        """The same for coroutines, a new one; whoever has it closes it."""
        return self._resources.async_client(self._resources.url)

    @property
    def actors(self) -> tuple[Actor[Any], ...]:
        """All actors so far, in order of their letters."""
        return self._loop.actors

    @property
    def choices(self) -> list[tuple[ChoicePoint, Step]]:
        """The steps chosen so far, each with what could be chosen."""
        return self._loop.choices

    @property
    def now(self) -> float:
        """Seconds of virtual time since the execution began."""
        return self._loop.now

    @overload
    def actor(
        self,
        function: Callable[..., Coroutine[Any, Any, R]],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[R]: ...

    @overload
    def actor(
        self,
        function: Callable[..., R],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[R]: ...

    def actor(
        self,
        function: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
    ) -> Actor[Any]:
        """Somebody who will do `function(client, *args)` in the next `run`, with a client (a coroutine function: an
        asyncio client) or, as it `gets`, a URL. A `background` actor need not end: the run does when all others have.
        One that is `fault_free` meets no fault: who clears up, say. In a `process` of its own, which multiprocessing
        makes by that method, it gets a URL; killed, it is by SIGKILL.
        """
        return self._factory.function(
            function, args, name=name, gets=gets, background=background, fault_free=fault_free, process=process
        )

    def process(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        background: bool = False,
    ) -> Actor[subprocess.CompletedProcess[bytes]]:
        """A program that will run in the next `run`: `{url}` in its arguments, and REDIS_URL in its environment (which
        `env` adds to), lead through the proxy. Its result is a `subprocess.CompletedProcess`; killed, it is by SIGKILL.
        """
        return self._factory.program(command, env=env, name=name, background=background)

    def producer(
        self,
        queue: Any,
        messages: int,
        *,
        name: str = "producer",
        after_seconds: float | None = None,
        is_async: bool | None = None,
    ) -> Actor[None]:
        """An actor that puts so many messages into `queue`, on the record that `verify` judges.

        It begins after so many seconds of the schedule's time, which passes only when nobody can act: when all
        consumers wait, say.

        A queue is an object with `bind(client)`, a function of a client that makes one, or a pair of functions
        `(produce(client, body), consume(client, timeout_seconds))`. `is_async`: it is one of coroutine functions, and
        gets an asyncio client (None: as the functions, or the methods of a class, say themselves).
        """
        return self._recorder.producer(queue, messages, name, after_seconds, is_async)

    def consumer(self, queue: Any, *, name: str = "consumer", is_async: bool | None = None) -> Actor[None]:
        """An actor that takes what comes out of `queue`, and acknowledges it where the queue has that."""
        return self._recorder.consumer(queue, name, is_async)

    def verify(self, contract: AnyContract) -> Verdict:
        """Run, let an heir take over what the dead held, and judge what all producers and consumers did.

        Raises `DeliveryError` with the whole explanation if the contract is broken.
        """
        __tracebackhide__ = True
        return self._recorder.verdict(contract)

    def run(self) -> None:
        """Let all actors act until they have ended, as the schedule says.

        Raises what an actor raised (unless a fault explains it), `DeadlockError`, `EndlessError`, `StuckError`.
        """
        __tracebackhide__ = True
        self._loop.run()
