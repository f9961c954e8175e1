"""Namespaces: each test has an isolated part of a server that it shares with other tests.

On a server that redisq started, a namespace is a logical database that no other process uses. It is emptied before each
test. On the user's own server it is a key prefix, and only the test's own keys are deleted, by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio

from pytest_redisq.errors import ServerError
from pytest_redisq.secret import Url
from pytest_redisq.servers.address import Address
from pytest_redisq.servers.external import KEY_PREFIX, explained
from pytest_redisq.servers.key_lease import KeyLease
from pytest_redisq.servers.server import Server
from pytest_redisq.servers.supervisor import Supervisor

#: Databases that the tests of a process use in turn, so that code left running by one test cannot write into the next.
ROTATION = 4
#: The most keys deleted by one command.
_BATCH = 500


class Namespace:
    """The part of a server that belongs to one test. `client` and `url` reach it; `key` makes key names for it."""

    def __init__(self, address: Address, client: redis.Redis) -> None:
        self.address = address
        self.client = client

    @property
    def url(self) -> str:
        """The URL for other programs. On the user's own server they must use key names made by `key`."""
        return self.address.url

    @property
    def prefix(self) -> str:
        """The prefix of the keys here; empty on a server that redisq started, where the test has a whole database."""
        return self.address.prefix

    def key(self, name: str) -> str:
        """The full name of the key `name` in this namespace, for any client. The key is deleted with the namespace.

        Clients of the namespace accept both forms as the same key.
        """
        key = self.prefix + name.removeprefix(self.prefix)
        if self.prefix:
            self.address.seen.add(key.encode())
        return key

    def new_client(self, **options: Any) -> redis.Redis:
        """Another client of this namespace, with connections of its own. The caller closes it."""
        return self.address.client(**options)

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """An asyncio client of this namespace. The caller closes it, in the loop that used it."""
        return self.address.async_client(**options)

    def clean(self) -> None:
        """Delete all keys of this namespace: FLUSHDB of its database, or UNLINK of its keys by name."""
        with explained(self.url):
            if not self.prefix:
                self.client.flushdb()
            elif self.address.seen:
                keys = list(self.address.seen)
                for start in range(0, len(keys), _BATCH):
                    self.client.unlink(*keys[start : start + _BATCH])
                self.address.seen.clear()


def _to_stderr(text: str) -> None:
    print(f"redisq: {text}", file=sys.stderr)


class Namespaces:
    """Creates namespaces of `server` for the tests of this process, one after the other or nested.

    `tell`: called with notes about keys on the user's own server, such as keys that an earlier run had left there.
    """

    def __init__(self, server: Server, tell: Callable[[str], None] = _to_stderr) -> None:
        self._server = server
        self._tell = tell
        self._claims: list[int] = []
        self._free: list[Namespace] = []
        self._lease: KeyLease | None = None
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def namespace(self) -> Iterator[Namespace]:
        """An empty namespace for one test."""
        namespace = self._by_database() if self._server.supervisor else self._by_prefix()
        try:
            yield namespace
        finally:
            if namespace.prefix:
                namespace.clean()
                namespace.client.close()
            else:
                self._free.append(namespace)

    def close(self) -> None:
        """Release all namespaces. On the user's own server, also delete the keys below the prefix that SCAN finds."""
        for namespace in self._free:
            namespace.client.close()
        self._free.clear()
        while self._claims:
            os.close(self._claims.pop())
        lease, self._lease = self._lease, None
        if lease is not None:
            self._tell_all(lease.close())

    def _by_database(self) -> Namespace:
        if len(self._claims) < ROTATION or not self._free:
            namespace = self._claim(self._server.supervisor)
        else:
            namespace = self._free.pop(0)
        if self._server.paused:  # it would not raise an error but block the command
            self._server.revive()
        try:
            namespace.clean()
        except ServerError:
            self._server.revive()
            namespace.clean()
        return namespace

    def _claim(self, supervisor: Supervisor | None) -> Namespace:
        """A namespace in a database that this process reserves with a file lock."""
        assert supervisor, "only servers that redisq started have databases to reserve"
        databases = int(self._server.config("databases"))
        for number in range(1, databases):
            claim = _lock(supervisor.directory / f"database.{number}")
            if claim is not None:
                self._claims.append(claim)
                address = Address(url=_with_database(self._server.url, number))
                return Namespace(address, address.client())
        raise ServerError(
            f"Other processes of this run use all {databases} databases of this server.\n"
            "What to do: leave 'databases' out of --redisq-server-arg, or run with fewer workers."
        )

    def _by_prefix(self) -> Namespace:
        if self._lease is None:
            lease = KeyLease(self._server.url, f"{KEY_PREFIX}{secrets.token_hex(8)}:")
            self._tell_all(lease.take())
            self._lease = lease
        self._lease.ensure_cleaner()
        address = Address(url=self._server.url, prefix=f"{self._lease.prefix}{next(self._numbers)}:")
        return Namespace(address, address.client())

    def _tell_all(self, texts: list[str]) -> None:
        for text in texts:
            self._tell(text)


def _lock(path: Path) -> int | None:
    """Lock `path`; returns the descriptor that holds the lock, or None if another process holds it."""
    claim = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(claim)
        return None
    return claim


def _with_database(url: str, number: int) -> str:
    """The URL with another database, for a server that redisq started (always TCP).

    >>> _with_database("redis://:secret@127.0.0.1:6379/0", 3)
    'redis://:***@127.0.0.1:6379/3'
    """
    return Url(urlsplit(url)._replace(path=f"/{number}").geturl())
