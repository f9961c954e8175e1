"""The API of a scenario: it creates actors, producers and consumers, runs them, and judges what they did."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

import redis
import redis.asyncio
from redis.asyncio import Redis as AsyncRedis

from pytest_redisq.check import AnyContract, Verdict
from pytest_redisq.endpoint.forms import Gets, check_work
from pytest_redisq.endpoint.jobs import Work
from pytest_redisq.explore.actor import Actor, R
from pytest_redisq.explore.actor_factory import ActorFactory
from pytest_redisq.explore.actor_processes import StartMethod
from pytest_redisq.explore.delivery_recorder import DeliveryRecorder
from pytest_redisq.explore.execution_loop import ExecutionLoop
from pytest_redisq.explore.queue_side import queue_side
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import ChoicePoint, Step


class ActorOptions(TypedDict, total=False):
    """The keywords of `World.actor`."""

    name: str | None
    gets: Literal["client", "url"]
    background: bool
    fault_free: bool
    process: StartMethod | None
    after_seconds: float
    stop: Callable[[], object] | None


class World:
    """The API of a scenario. `redis` connects directly to the server; the clients of actors connect to the proxy."""

    def __init__(self, resources: Resources, loop: ExecutionLoop) -> None:
        self._resources = resources
        self._loop = loop
        self._factory = ActorFactory(resources, loop.controller)
        self._recorder = DeliveryRecorder(resources, self._factory, loop)

    @property
    def redis(self) -> redis.Redis:
        """A client connected directly to the server, to set up data and to read it afterwards."""
        return self._resources.direct

    def async_redis(self) -> AsyncRedis:
        """A new asyncio client connected directly to the server. The caller closes it."""
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
        self, function: Callable[..., Coroutine[Any, Any, R]], *args: Any, **options: Unpack[ActorOptions]
    ) -> Actor[R]: ...

    @overload
    def actor(self, function: Callable[..., R], *args: Any, **options: Unpack[ActorOptions]) -> Actor[R]: ...

    def actor(
        self,
        function: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
        after_seconds: float = 0.0,
        stop: Callable[[], object] | None = None,
    ) -> Actor[Any]:
        """Create an actor that calls `function(client, *args)` in the next `run`.

        * `function`: a function, or a coroutine function, which gets an asyncio client.
        * `args`: its further arguments.
        * `name`: the actor's name in tables and in faults (`kill:NAME`); default: the function's name.
        * `gets`: "client", or "url" to pass a URL in place of the client.
        * `background`: the execution may end while this actor still waits; default False.
        * `fault_free`: no fault strikes this actor, such as one that cleans up; default False.
        * `process`: run the function in a process of its own, started by multiprocessing with this method ("spawn" or
          "forkserver"). Needs `gets="url"`. A fault kills the process with SIGKILL.
        * `after_seconds`: how long to wait first, in virtual time, so that the actor starts late; not with `process`;
          default 0. Virtual time passes only when no actor can act.
        * `stop`: called without arguments when the fault `term` asks the actor to end, as a signal handler would be: it
          sets a flag or an event, and sends no command. Default: a coroutine is cancelled, and `term` does not strike
          another function. Not with `process`, which gets SIGTERM.

        Returns the actor, whose `result` is known after `run`. Raises `ValueError` for arguments that do not fit
        together, and for more than 26 actors.
        """
        return self._factory.function(
            function,
            args,
            name=name,
            gets=gets,
            background=background,
            fault_free=fault_free,
            process=process,
            after_seconds=after_seconds,
            stop=stop,
        )

    def process(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        background: bool = False,
    ) -> Actor[subprocess.CompletedProcess[bytes]]:
        """Create an actor that runs a program in the next `run`.

        * `command`: the program and its arguments; `{url}` in an argument becomes the URL of the proxy.
        * `env`: variables added to the environment, which also has the URL as REDIS_URL.
        * `name`: the actor's name; default: the program's file name.
        * `background`: the execution may end while the program still waits; default False.

        Returns the actor, whose `result` is a `subprocess.CompletedProcess`. A fault kills the program with SIGKILL.
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
        gets: Gets = "client",
    ) -> Actor[None]:
        """Create an actor that puts messages into `queue`. `verify` judges what happens to them.

        * `queue`: an object with `bind(client)`, a function of a client that returns such an object, or a pair of
          functions `(produce(client, body), consume(client, timeout_seconds))`.
        * `messages`: how many.
        * `name`: the actor's name; default "producer".
        * `after_seconds`: how long to wait first, in virtual time; default: no wait. Virtual time passes only when no
          actor can act, such as when all consumers wait.
        * `is_async`: whether the queue's functions are coroutine functions, which get an asyncio client; default:
          detected from the functions, or from the methods of a class.
        * `gets`: "client", or "url" to call the queue's class or functions with a URL in place of a client.

        Errors: TypeError for an object that is no queue, and for a form that cannot be explored: an object that all
        actors would share, and an external command.
        """
        side = queue_side(queue, is_producer=True, is_async=is_async, gets=gets)
        return self._recorder.producer(side, messages, name, after_seconds)

    def consumer(
        self,
        queue: Any,
        *,
        name: str = "consumer",
        is_async: bool | None = None,
        gets: Gets = "client",
        work: Work = 0.0,
    ) -> Actor[None]:
        """Create an actor that gets messages from `queue`, and acknowledges them if the queue has `ack`.

        It ends when it gets no message, all producers have ended, and no consumer is at work on a message. Parameters
        as for `producer`, and

        * `work`: what it does with each message before it acknowledges it: seconds of virtual time, or a function of
          the `Message` that may raise. Work that raises has failed, and the message is not acknowledged; default 0.
        """
        side = queue_side(queue, is_producer=False, is_async=is_async, gets=gets)
        check_work(work, is_async=side.is_async)
        return self._recorder.consumer(side, name, work)

    def verify(self, contract: AnyContract) -> Verdict:
        """Run all actors, let a recovery consumer take over what killed consumers still held, and judge the result.

        `contract`: such as "at-least-once, fifo". Returns the verdict. Raises `DeliveryError`, with the explanation, if
        the contract is broken or the verdict is unknown.
        """
        __tracebackhide__ = True
        return self._recorder.verdict(contract)

    def run(self) -> None:
        """Run all new actors until they have ended, in the order of the schedule.

        Raises what an actor raised, unless a fault explains it; `DeadlockError`, `EndlessError`, `StuckError`.
        """
        __tracebackhide__ = True
        self._recorder.run_actors()
