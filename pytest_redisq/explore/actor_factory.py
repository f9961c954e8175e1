"""Makes the actors of an execution: functions in threads, coroutines in event loops, programs and processes."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from pytest_redisq.explore.actor import Actor, ActorState
from pytest_redisq.explore.actor_controller import ActorController
from pytest_redisq.explore.actor_event_loops import EventLoopRunner
from pytest_redisq.explore.actor_processes import FunctionRunner, ProgramRunner, StartMethod
from pytest_redisq.explore.actor_threads import ActorRunner, ThreadRunner
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import MAX_ACTORS
from pytest_redisq.faults import RESERVED_TARGETS


class ActorFactory:
    """Makes actors of one execution, each with its runner, and hands them to `controller`."""

    def __init__(self, resources: Resources, controller: ActorController) -> None:
        self._resources = resources
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._controller = controller

    def function(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        *,
        name: str | None = None,
        gets: Literal["client", "url"] = "client",
        background: bool = False,
        fault_free: bool = False,
        process: StartMethod | None = None,
        after_seconds: float = 0.0,
        stop: Callable[[], object] | None = None,
    ) -> Actor[Any]:
        """An actor that calls `function(client, *args)`, or `function(url, *args)`; parameters as for `World.actor`.

        Raises `ValueError` for a start method that does not exist, a client or a virtual wait for another process, a
        `stop` that would not be called, or a name that faults use for something else.
        """
        _check_start(process, gets, after_seconds, stop)
        index = self._next_index()
        named = _checked_name(name) or str(getattr(function, "__name__", function))
        if after_seconds:
            function = _starting_late(function, after_seconds)
        actor: Actor[Any] = Actor(index, named, background=background, fault_free=fault_free)
        is_async = inspect.iscoroutinefunction(function)
        runner: ActorRunner
        thread = self._resources.free_thread()
        if process:
            url = self._proxy.url(index, tcp=True)
            runner = FunctionRunner(self._mailbox, index, thread, process, function, url, *args)
        elif is_async:
            coroutine = self._coroutine(index, function, args, gets)
            runner = EventLoopRunner(
                self._mailbox, index, thread, coroutine, stop, commands=lambda: self._proxy.unanswered(index)
            )
        else:
            call = self._call(index, function, args, gets)
            runner = ThreadRunner(self._mailbox, index, thread, call, self._proxy.serves, stop)
        self._controller.states.append(
            ActorState(actor=actor, runner=runner, reuses_client=gets == "client" and not is_async)
        )
        return actor

    def program(
        self, command: Sequence[str], *, env: Mapping[str, str] | None, name: str | None, background: bool
    ) -> Actor[subprocess.CompletedProcess[bytes]]:
        """An actor that runs a program; parameters as for `World.process`."""
        index = self._next_index()
        url = self._proxy.url(index, tcp=True)
        actor: Actor[subprocess.CompletedProcess[bytes]] = Actor(
            index, _checked_name(name) or os.path.basename(command[0]), background=background
        )
        runner = ProgramRunner(
            self._mailbox,
            index,
            self._resources.free_thread(),
            [word.replace("{url}", url) for word in command],
            {**os.environ, **(env or {}), "REDIS_URL": url},
        )
        self._controller.states.append(ActorState(actor=actor, runner=runner, reuses_client=False))
        return actor

    def _next_index(self) -> int:
        index = len(self._controller.states)
        if index >= MAX_ACTORS:
            raise ValueError(f"at most {MAX_ACTORS} actors, one per letter")
        return index

    def _call(self, index: int, function: Callable[..., Any], args: tuple[Any, ...], gets: str) -> Callable[[], Any]:
        if gets == "url":
            return lambda: function(self._proxy.url(index, tcp=True), *args)
        return lambda: function(self._resources.client(index), *args)

    def _coroutine(self, index: int, function: Callable[..., Any], args: tuple[Any, ...], gets: str) -> Any:
        url = self._proxy.url(index, tcp=gets == "url")

        async def with_client() -> Any:
            if gets == "url":
                return await function(url, *args)
            client = self._resources.async_client(url)
            try:
                return await function(client, *args)
            finally:
                await client.aclose()

        return with_client


def _starting_late(function: Callable[..., Any], after_seconds: float) -> Callable[..., Any]:
    """`function`, which waits first, in virtual time."""
    if inspect.iscoroutinefunction(function):

        async def wait_and_await(*args: Any) -> Any:
            await asyncio.sleep(after_seconds)
            return await function(*args)

        return wait_and_await

    def wait_and_call(*args: Any) -> Any:
        time.sleep(after_seconds)
        return function(*args)

    return wait_and_call


def _check_start(
    process: StartMethod | None,
    gets: str,
    after_seconds: float,
    stop: Callable[[], object] | None,
) -> None:
    """Raise ValueError for parameters of an actor that do not fit together."""
    if process and process not in get_args(StartMethod):
        raise ValueError(f"process={process!r}: the start method of a process is {' or '.join(get_args(StartMethod))}")
    if process and gets != "url":
        raise ValueError(f'process="{process}" needs gets="url": a client cannot be passed to another process')
    if after_seconds < 0 or (after_seconds and process):
        why = "a process has the real clock: call time.sleep in its function" if process else "it must not be negative"
        raise ValueError(f"after_seconds={after_seconds:g}: {why}")
    if stop and process:
        raise ValueError("stop= is called in this process: the function's own process gets SIGTERM")


def _checked_name(name: str | None) -> str | None:
    """Returns `name`. Raises ValueError for a word with another meaning in faults."""
    if name in RESERVED_TARGETS:
        raise ValueError(
            f"name={name!r}: give the actor another name, because in a fault {name!r} has another meaning. Such words "
            f"are {', '.join(RESERVED_TARGETS)}"
        )
    return name
