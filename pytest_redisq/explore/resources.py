"""The objects that all executions of one exploration share: the proxy, clients, threads, the server's command table.

Creating them for each execution would take longer than the execution.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import redis
import redis.asyncio

from pytest_redisq import interrupts
from pytest_redisq.errors import RedisqError
from pytest_redisq.explore.actor_threads import ActorThread
from pytest_redisq.explore.footprint import CommandTable
from pytest_redisq.explore.mailbox import Mailbox
from pytest_redisq.explore.proxy import Proxy
from pytest_redisq.resp import Value
from pytest_redisq.secret import Url
from pytest_redisq.servers import Address
from pytest_redisq.servers.server_connection import ServerConnection


def patient_client(url: str) -> redis.Redis:
    """A client that waits for each reply as long as the server takes. redis-py 8 would give up after 5 seconds."""
    return redis.Redis.from_url(url, socket_timeout=None)


def patient_async_client(url: str) -> redis.asyncio.Redis:
    """The same for asyncio."""
    return redis.asyncio.Redis.from_url(url, socket_timeout=None)


class Resources:
    """The shared objects of an exploration.

    * `url`: the server and the database to work in.
    * `clean`: empties the database before each execution; default: FLUSHDB.
    * `client`, `async_client`: create a client from a URL, for functions and for coroutines.
    * `prefix`: the prefix that these clients put before each key; default: none.
    """

    def __init__(
        self,
        url: str,
        clean: Callable[[], None] | None = None,
        client: Callable[[str], redis.Redis] = patient_client,
        async_client: Callable[[str], redis.asyncio.Redis] = patient_async_client,
        prefix: str = "",
    ) -> None:
        url = Url(url)
        self.url: Url = url
        #: Where the keys of the actors are, by their full names.
        self.address: Address = Address(url=url, prefix=prefix)
        self._clean = clean
        self._make_client = client
        self.async_client = async_client
        self.control: ServerConnection = ServerConnection.of(url)
        self.commands: CommandTable = CommandTable(self._describe)
        self.mailbox: Mailbox = Mailbox()
        # The controller of each execution sets these: an actor got something, and an actor has reported something.
        self.delivered: Callable[[int], None] = lambda _actor: None
        self.reported: Callable[[], None] = lambda: None
        self.proxy: Proxy = Proxy(
            url, self.commands, self.control, lambda actor: self.delivered(actor), self.mailbox.lock
        )
        self.proxy.watch(self.mailbox.reader, lambda: self.reported())
        self.direct: redis.Redis = client(url)
        #: What actors did that makes an exploration useless, such as a connection past the proxy.
        self.refusals: list[RedisqError] = []
        self._clients: dict[int, redis.Redis] = {}
        self._threads: list[ActorThread] = []
        self._free: list[ActorThread] = []

    def close(self) -> None:
        """Close and end everything."""
        for client in (self.direct, *self._clients.values()):
            client.close()
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.thread.join(1.0)
        self.proxy.close()
        self.control.close()
        self.mailbox.close()

    def _describe(self, name: bytes) -> Value:
        entries = self.control.ask("COMMAND", "INFO", name)
        return entries[0] if isinstance(entries, list) and entries else None

    @property
    def alone(self) -> bool:
        """Whether the whole database is ours."""
        return self._clean is None

    def keys(self) -> Collection[bytes]:
        """The keys in the database, whichever client has set them; none if other programs use the database, too."""
        if not self.alone:
            return ()
        names = self.control.ask("KEYS", "*")
        return [name for name in names if isinstance(name, bytes)] if isinstance(names, list) else []

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
        """Close the actor's client, so that the next execution gets a new one."""
        if actor in self._clients:
            self._clients.pop(actor).close()
        for connection in list(self.proxy.of(actor)):
            self.proxy.cut(connection)

    def free_thread(self) -> ActorThread:
        """A free thread."""
        if not self._free:
            with interrupts.deferred():
                self._free.append(ActorThread())
                self._threads.append(self._free[-1])
        return self._free.pop()

    def release(self, thread: ActorThread) -> None:
        """Take back a thread that has finished."""
        self._free.append(thread)

    def retire(self, thread: ActorThread) -> None:
        """Take back a thread that must not be used again."""
        thread.stop()
