"""What all runs of one exploration share: the proxy, clients that are connected, threads, the server's commands.

Making these anew for every run would cost more than the run.
"""

from __future__ import annotations

from collections.abc import Callable

import redis
import redis.asyncio

from pytest_redisq import interrupts
from pytest_redisq.explore.actor_threads import ActorThread
from pytest_redisq.explore.footprint import CommandTable
from pytest_redisq.explore.mailbox import Mailbox
from pytest_redisq.explore.proxy import Proxy
from pytest_redisq.explore.server_connection import ServerConnection
from pytest_redisq.resp import Value
from pytest_redisq.secret import Url


class Resources:
    """`url` leads to the server and the database to work in, which `clean` empties before each run (None: FLUSHDB).

    `client` makes a client from a URL, for actors and for the scenario; `async_client` one for coroutines.
    """

    def __init__(
        self,
        url: str,
        clean: Callable[[], None] | None = None,
        client: Callable[[str], redis.Redis] = redis.Redis.from_url,
        async_client: Callable[[str], redis.asyncio.Redis] = redis.asyncio.Redis.from_url,
    ) -> None:
        self.url = url = Url(url)
        self._clean = clean
        self._make_client = client
        self.async_client = async_client
        self.control = ServerConnection(url)
        self.commands = CommandTable(self._describe)
        self.mailbox = Mailbox()
        # Whoever runs the schedule wants to know what actors were given, and that they have reported something.
        self.delivered: Callable[[int], None] = lambda _actor: None
        self.reported: Callable[[], None] = lambda: None
        self.proxy = Proxy(url, self.commands, self.control, lambda actor: self.delivered(actor), self.mailbox.lock)
        self.proxy.watch(self.mailbox.reader, lambda: self.reported())
        self.direct = client(url)
        self._clients: dict[int, redis.Redis] = {}
        self._workers: list[ActorThread] = []
        self._free: list[ActorThread] = []

    def close(self) -> None:
        """Close and end everything."""
        for client in (self.direct, *self._clients.values()):
            client.close()
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.thread.join(1.0)
        self.proxy.close()
        self.control.close()
        self.mailbox.close()

    def _describe(self, name: bytes) -> Value:
        entries = self.control.ask("COMMAND", "INFO", name)
        return entries[0] if isinstance(entries, list) and entries else None

    @property
    def alone(self) -> bool:
        """Whether all keys of the database are ours."""
        return self._clean is None

    def clean(self) -> None:
        """Empty the database."""
        if self._clean:
            self._clean()
        else:
            self.control.ask("FLUSHDB")

    def client(self, actor: int) -> redis.Redis:
        """A redis-py client through the proxy."""
        if actor not in self._clients:
            self._clients[actor] = self._make_client(self.proxy.url(actor))
        return self._clients[actor]

    def drop_client(self, actor: int) -> None:
        """Give the actor's next run a new client."""
        if actor in self._clients:
            self._clients.pop(actor).close()
        for connection in list(self.proxy.of(actor)):
            self.proxy.cut(connection)

    def worker(self) -> ActorThread:
        """A thread that has nothing to do."""
        if not self._free:
            with interrupts.deferred():
                self._free.append(ActorThread())
                self._workers.append(self._free[-1])
        return self._free.pop()

    def release(self, worker: ActorThread) -> None:
        """Take back a thread that has nothing to do any more."""
        self._free.append(worker)

    def retire(self, worker: ActorThread) -> None:
        """Take back a thread that must not be used again."""
        worker.stop()
