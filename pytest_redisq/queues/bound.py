"""A queue that is bound to a client: drives the logic of every queue, in a sync and an asyncio version.

A bound queue has two connections: `get` may block on one, and everything else uses the other. So `ack`, `put` and
`stop` never wait for a blocked pop, and CLIENT UNBLOCK on the second connection can end the pop.

`stop` loses no message, because it never cuts off a pop:

- `stop` sets a flag. Then it unblocks the popping connection, by its current CLIENT ID, until the pop has returned.
- If an element was already on its way, the pop returns it, and `get` delivers it. Only the next `get` raises `Stopped`.
- The worker publishes the client id before it checks the flag. So either it sees the flag, or `stop` sees the id.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any, Protocol, TypeVar

import redis
import redis.asyncio
from redis.exceptions import RedisError

from pytest_redisq import interrupts
from pytest_redisq.queues.connection import AsyncQueueConnection, QueueConnection
from pytest_redisq.queues.protocol import Delivery, Gap, Stopped
from pytest_redisq.queues.steps import QueueLogic, RedisCommand, Steps, command, run, run_async

T = TypeVar("T")

#: Seconds between two attempts to unblock a pop: it may not have been blocked yet at the first attempt.
_UNBLOCK_AGAIN_SECONDS = 0.002


class QueueDescription(Protocol):
    """A queue without a client. It can be pickled; `bind` connects it to a client."""

    def bind(self, client: Any, /, worker: str | None = None) -> Any: ...


def _itself(description: QueueDescription) -> QueueDescription:
    return description


def _stopped(description: QueueDescription) -> Stopped:
    return Stopped(f"stop() was called on {description!r} of this worker; get() returns no more messages")


class BoundQueue:
    """A queue that is bound to a client, for one worker. A context manager; its end calls `close`.

    It opens two connections of its own, with the client's address and credentials. One thread calls `get`; any thread
    may call `put`, `ack` and `stop`. After a fork, call `bind` in the new process. A pickled bound queue is its
    description without the client: call `bind` in the other process.
    """

    def __init__(self, description: QueueDescription, logic: QueueLogic, client: redis.Redis) -> None:
        self.description = description
        self._logic = logic
        self._client = client
        self._take = QueueConnection(client)
        self._talk = QueueConnection(client)
        self._getting = threading.RLock()  # Ctrl-C may leave it locked
        self._stopping = False
        self._blocked_id: int | None = None
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._starting = threading.RLock()  # a signal handler may start a thread while its own thread starts one

    def put(self, body: bytes) -> str | None:
        """Add a message; returns its id if the queue has ids, else None.

        After a connection error it is unknown whether the message was added.
        """
        return self._drive(self._logic.put(body), self._talk)

    def subscribe(self) -> None:
        """Subscribe now: all messages put after this call are received. By default the first `get` subscribes."""
        self._drive(self._logic.subscribe(), self._talk)

    def get(self, timeout_seconds: float | None = None) -> Delivery | None:
        """The next message; None if none came in time. Raises `Stopped` after `stop`.

        `timeout_seconds`: None (the default) waits without limit, 0 does not wait. After a connection or timeout
        error it is unknown whether a message was taken; the next call opens a new connection.
        """
        with self._getting:
            if self._stopping:
                raise _stopped(self.description)
            if self._logic.beat_seconds is not None and not self._threads:
                self._start(self._beat_until_closed)
            delivery = self._drive(self._logic.get(timeout_seconds), self._take)
            if delivery is None and self._stopping:
                raise _stopped(self.description)
            return delivery

    def ack(self, delivery: Delivery) -> bool:
        """Acknowledge a message: its work is done. False if it was no longer this worker's."""
        return self._drive(self._logic.ack(delivery), self._talk)

    def give_back(self, delivery: Delivery) -> None:
        """Return a message whose work was not done, so that a consumer gets it again."""
        self._drive(self._logic.give_back(delivery), self._talk)

    def recover(self) -> int:
        """Return the messages that dead workers held to the queue; returns their number."""
        return self._drive(self._logic.recover(), self._talk)

    def remaining(self) -> list[bytes]:
        """The bodies that are not delivered yet."""
        return self._drive(self._logic.remaining(), self._talk)

    def pending(self) -> list[bytes]:
        """The bodies that are delivered, and neither acknowledged nor given back."""
        return self._drive(self._logic.pending(), self._talk)

    def trimmed(self) -> list[Gap]:
        """The gaps of this reader so far: entries that were trimmed before it read them."""
        return self._drive(self._logic.trimmed(), self._talk)

    def stop(self) -> None:
        """Make a blocked `get` return its message or raise `Stopped` at once; later calls of `get` raise `Stopped`.

        Returns at once. May be called from any thread and from a signal handler.
        """
        self._stopping = True
        if self._blocked_id is not None:
            self._start(self._unblock)

    def bind(self, client: Any, /, worker: str | None = None) -> Any:
        """The same queue as another worker, on `client`."""
        return self.description.bind(client, worker)

    def close(self) -> None:
        """Stop, sign off this worker, and release its threads and connections."""
        if self._getting.acquire(blocking=False):  # no other thread is in `get`, and Ctrl-C may have ended this one's
            self._blocked_id = None
            self._getting.release()
        self.stop()
        with interrupts.deferred():
            self._closed.set()
        with self._starting:  # a later start sees that the queue is closed
            threads = self._threads.copy()
        for thread in threads:
            thread.join()
        self._take.close()
        with contextlib.suppress(
            RedisError, RuntimeError
        ):  # a dead server or a forked copy: then the heartbeat expires
            self._drive(self._logic.leave(), self._talk)
        self._talk.close()

    def __enter__(self) -> BoundQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.description,)

    def __repr__(self) -> str:
        return f"{self.description!r}.bind({self._client!r})"

    def _drive(self, steps: Steps[T], connection: QueueConnection) -> T:
        return run(
            steps, lambda step: connection.call(step) if step.blocks_seconds == 0 else self._block(step, connection)
        )

    def _block(self, step: RedisCommand, connection: QueueConnection) -> Any:
        self._blocked_id = connection.connect()
        try:
            if self._stopping:
                raise _stopped(self.description)
            return connection.call(step)
        finally:
            self._blocked_id = None

    def _start(self, work: Any) -> None:
        with self._starting:
            if not self._closed.is_set():
                thread = threading.Thread(target=work, name=f"redisq-{work.__name__}", daemon=True)
                interrupts.start(thread)
                self._threads.append(thread)

    def _unblock(self) -> None:
        while (client_id := self._blocked_id) is not None:
            try:
                self._talk.call(command("CLIENT UNBLOCK", client_id))
            except RedisError:  # the server does not answer, or refuses the command: the pop must still end
                self._take.abort()
            time.sleep(_UNBLOCK_AGAIN_SECONDS)

    def _beat_until_closed(self) -> None:
        while not self._closed.wait(self._logic.beat_seconds):
            with contextlib.suppress(RedisError):  # the next beat may succeed; `get` reports the error
                self._drive(self._logic.beat(), self._talk)


class AsyncBoundQueue:
    """`BoundQueue` for asyncio. One task calls `get`; any task of the same loop may call `put`, `ack` and `stop`.

    A `get` that is cancelled, for example by `asyncio.timeout`, ends as with `stop`, never in the middle of a reply. If
    a message had arrived, the next `get` returns it; if there is none, `close` gives it back.
    """

    def __init__(self, description: QueueDescription, logic: QueueLogic, client: redis.asyncio.Redis) -> None:
        self.description = description
        self._logic = logic
        self._client = client
        self._take = AsyncQueueConnection(client)
        self._talk = AsyncQueueConnection(client)
        self._getting = asyncio.Lock()
        self._stopping = False
        self._interrupted = False
        self._blocked_id: int | None = None
        self._left = asyncio.Event()
        self._under_way: asyncio.Task[Delivery | None] | None = None
        self._beating: asyncio.Task[None] | None = None

    async def put(self, body: bytes) -> str | None:
        return await self._drive(self._logic.put(body), self._talk)

    async def subscribe(self) -> None:
        await self._drive(self._logic.subscribe(), self._talk)

    async def get(self, timeout_seconds: float | None = None) -> Delivery | None:
        async with self._getting:
            kept = await self._settle()
            if kept is not None:
                return kept
            if self._stopping:
                raise _stopped(self.description)
            if self._logic.beat_seconds is not None and self._beating is None:
                self._beating = asyncio.create_task(self._beat_until_closed())
            self._under_way = asyncio.create_task(self._drive(self._logic.get(timeout_seconds), self._take))
            try:
                await asyncio.wait([self._under_way])
            except asyncio.CancelledError:
                self._interrupted = True
                await self._unblock()
                raise
            delivery = self._result()
            if delivery is None and self._stopping:
                raise _stopped(self.description)
            return delivery

    async def ack(self, delivery: Delivery) -> bool:
        return await self._drive(self._logic.ack(delivery), self._talk)

    async def give_back(self, delivery: Delivery) -> None:
        await self._drive(self._logic.give_back(delivery), self._talk)

    async def recover(self) -> int:
        return await self._drive(self._logic.recover(), self._talk)

    async def remaining(self) -> list[bytes]:
        return await self._drive(self._logic.remaining(), self._talk)

    async def pending(self) -> list[bytes]:
        return await self._drive(self._logic.pending(), self._talk)

    async def trimmed(self) -> list[Gap]:
        return await self._drive(self._logic.trimmed(), self._talk)

    async def stop(self) -> None:
        """Make a blocked `get` return its message or raise `Stopped`; returns when it is no longer blocked."""
        self._stopping = True
        await self._unblock()

    def bind(self, client: Any, /, worker: str | None = None) -> Any:
        return self.description.bind(client, worker)

    async def close(self) -> None:
        """Stop, sign off this worker, and close its connections, also if this call is cancelled."""
        self._stopping = True
        try:
            if self._beating is not None:
                self._beating.cancel()
                await asyncio.wait([self._beating])
            with contextlib.suppress(RedisError, Stopped):
                kept = await self._settle()
                if kept is not None:
                    await self._drive(self._logic.give_back(kept), self._talk)
        finally:
            await self._take.close()
            try:
                with contextlib.suppress(RedisError):
                    await self._drive(self._logic.leave(), self._talk)
            finally:
                await self._talk.close()

    async def __aenter__(self) -> AsyncBoundQueue:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.description,)

    def __repr__(self) -> str:
        return f"{self.description!r}.bind({self._client!r})"

    async def _settle(self) -> Delivery | None:
        """Finish a `get` that was cancelled. Returns the message that it had taken, or None."""
        if self._under_way is None:
            return None
        self._interrupted = True
        await self._unblock()
        await asyncio.wait([self._under_way])
        self._interrupted = False
        try:
            return self._result()
        except Stopped:
            return None

    def _result(self) -> Delivery | None:
        assert self._under_way is not None
        task, self._under_way = self._under_way, None
        return task.result()

    async def _drive(self, steps: Steps[T], connection: AsyncQueueConnection) -> T:
        return await run_async(
            steps, lambda step: connection.call(step) if step.blocks_seconds == 0 else self._block(step, connection)
        )

    async def _block(self, step: RedisCommand, connection: AsyncQueueConnection) -> Any:
        self._left.clear()
        self._blocked_id = await connection.connect()
        try:
            if self._stopping or self._interrupted:
                raise _stopped(self.description)
            return await connection.call(step)
        finally:
            self._blocked_id = None
            self._left.set()

    async def _unblock(self) -> None:
        while (client_id := self._blocked_id) is not None:
            try:
                await self._talk.call(command("CLIENT UNBLOCK", client_id))
            except RedisError:
                await self._take.abort()
            with contextlib.suppress(TimeoutError):
                # Not asyncio.wait_for, which before Python 3.12 loses a cancellation, and so a Ctrl-C, in a race.
                async with asyncio.timeout(_UNBLOCK_AGAIN_SECONDS):
                    await self._left.wait()

    async def _beat_until_closed(self) -> None:
        while self._logic.beat_seconds is not None:
            await asyncio.sleep(self._logic.beat_seconds)
            with contextlib.suppress(RedisError):
                await self._drive(self._logic.beat(), self._talk)


def attach(description: QueueDescription, logic: QueueLogic, client: Any) -> Any:
    """Returns the bound queue: sync for a redis.Redis, async for a redis.asyncio.Redis."""
    if isinstance(client, redis.asyncio.Redis):
        return AsyncBoundQueue(description, logic, client)
    return BoundQueue(description, logic, client)
