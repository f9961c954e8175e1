"""Namespaced connections: they put a key prefix before every key, for any kind of client (see prefix.py).

Only tests on the user's own server need them. `Address` imports this module, and the parser of key rules, only then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import redis

from pytest_redisq.servers.external import explained
from pytest_redisq.servers.keyspec import CommandSpec, parse_commands
from pytest_redisq.servers.prefix import Prefixer

_commands_of: dict[str, Mapping[bytes, CommandSpec]] = {}
_lock = threading.Lock()


def namespaced_connection_class(pool: Any, prefix: str, seen: set[bytes], *, origin: str, asyncio: bool) -> type:
    """A subclass of the pool's connection class (TCP, TLS, unix socket) that keeps every command inside `prefix`.

    * `seen`: a set that gets the keys of its commands.
    * `origin`: the URL of the server whose COMMAND reply gives the positions of keys.
    * `asyncio`: whether it is an asyncio pool.
    """
    commands, database = _commands(origin), int(pool.connection_kwargs.get("db") or 0)

    def prefixer() -> Prefixer:
        return Prefixer(prefix, commands, database, seen)

    namespaced = _AsyncNamespacedConnection if asyncio else _NamespacedConnection
    return type(
        f"Namespaced{pool.connection_class.__name__}", (namespaced, pool.connection_class), {"prefixer": prefixer}
    )


def _commands(url: str) -> Mapping[bytes, CommandSpec]:
    """The key specifications of the server, read once in a process, in the shape of RESP2."""
    with _lock:
        if url not in _commands_of:
            with explained(url), redis.Redis.from_url(url, protocol=2, decode_responses=False) as client:
                client.set_response_callback("COMMAND", lambda reply, **_: reply)
                _commands_of[url] = parse_commands(cast(Any, client).execute_command("COMMAND"))
        return _commands_of[url]


# In redis-py, only the connection class sees every command of every kind of client, including pipelines, locks, scripts
# and blocking calls. So these two classes inherit, from a base that is known only at run time.
class _NamespacedConnection:
    prefixer: Callable[[], Prefixer]

    def __init__(self, **options: Any) -> None:
        self._prefixer = type(self).prefixer()
        super().__init__(**options)

    def send_command(self, *args: Any, **options: Any) -> None:
        base: Any = super()
        base.connect()  # now: the first commands of a new connection have replies, too
        base.send_command(*self._prefixer.send(args), **options)

    def pack_commands(self, commands: Any) -> Any:
        base: Any = super()
        return base.pack_commands([self._prefixer.send(args) for args in commands])

    def read_response(self, *args: Any, **options: Any) -> Any:
        base: Any = super()
        try:
            reply = base.read_response(*args, **options)
        except redis.ResponseError:
            self._prefixer.fail()
            raise
        return self._prefixer.receive(reply)

    def disconnect(self, *args: Any, **options: Any) -> None:
        base: Any = super()
        self._prefixer.reset()
        base.disconnect(*args, **options)


class _AsyncNamespacedConnection:
    prefixer: Callable[[], Prefixer]

    def __init__(self, **options: Any) -> None:
        self._prefixer = type(self).prefixer()
        super().__init__(**options)

    async def send_command(self, *args: Any, **options: Any) -> None:
        base: Any = super()
        await base.connect()  # as in _NamespacedConnection
        await base.send_command(*self._prefixer.send(args), **options)

    def pack_commands(self, commands: Any) -> Any:
        base: Any = super()
        return base.pack_commands([self._prefixer.send(args) for args in commands])

    async def read_response(self, *args: Any, **options: Any) -> Any:
        base: Any = super()
        try:
            reply = await base.read_response(*args, **options)
        except redis.ResponseError:
            self._prefixer.fail()
            raise
        return self._prefixer.receive(reply)

    async def disconnect(self, *args: Any, **options: Any) -> None:
        base: Any = super()
        self._prefixer.reset()
        await base.disconnect(*args, **options)
