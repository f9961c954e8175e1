"""Connections that stay inside a key prefix, whatever kind of client uses them (see prefix.py).

Only a test on somebody's own server needs them: `Address` loads this, and the parser of key rules, when one does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import redis

from pytest_redisq.servers.external import explained
from pytest_redisq.servers.keyspec import Command, parse_commands
from pytest_redisq.servers.prefix import Prefixer

_commands_of: dict[str, Mapping[bytes, Command]] = {}
_lock = threading.Lock()


def kept(pool: Any, prefix: str, seen: set[bytes], *, origin: str, asyncio: bool) -> type:
    """The pool's own kind of connection (TCP, TLS, unix socket), kept inside `prefix`; its keys are added to `seen`.

    `origin` is the URL of the server that is asked what its commands are.
    """
    commands, database = _commands(origin), int(pool.connection_kwargs.get("db") or 0)

    def prefixer() -> Prefixer:
        return Prefixer(prefix, commands, database, seen)

    guard = _AsyncInside if asyncio else _Inside
    return type(f"Inside{pool.connection_class.__name__}", (guard, pool.connection_class), {"prefixer": prefixer})


def _commands(url: str) -> Mapping[bytes, Command]:
    """The key specifications of the server, asked for once a process. In RESP2, whose shape they are parsed from."""
    with _lock:
        if url not in _commands_of:
            with explained(url), redis.Redis.from_url(url, protocol=2, decode_responses=False) as client:
                client.set_response_callback("COMMAND", lambda reply, **_: reply)
                _commands_of[url] = parse_commands(cast(Any, client).execute_command("COMMAND"))
        return _commands_of[url]


# redis-py offers no other place where every command of every kind of client passes (pipelines, locks, scripts and
# blocking calls included) than the connection's class; hence these two inherit, and from a base known at run time only.
class _Inside:
    prefixer: Callable[[], Prefixer]

    def __init__(self, **options: Any) -> None:
        self._prefixer = type(self).prefixer()
        super().__init__(**options)

    def send_command(self, *args: Any, **options: Any) -> None:
        base: Any = super()
        base.connect()  # now, since the greetings of a new connection have replies of their own
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


class _AsyncInside:
    prefixer: Callable[[], Prefixer]

    def __init__(self, **options: Any) -> None:
        self._prefixer = type(self).prefixer()
        super().__init__(**options)

    async def send_command(self, *args: Any, **options: Any) -> None:
        base: Any = super()
        await base.connect()  # as in _Inside
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
