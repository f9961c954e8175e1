"""The address of a namespace, and the clients that connect to it and stay inside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_redisq.options import check_url
from pytest_redisq.secret import Url, hide
from pytest_redisq.servers.external import explained


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The URL of a namespace and its key prefix. It can be pickled.

    * `url`: the URL of the server, with the namespace's database.
    * `prefix`: clients of this address put it before every key (see prefix.py); default: none.
    * `seen`: the keys that clients in this process have used. They are deleted by name.
    """

    url: str
    prefix: str = ""
    seen: set[bytes] = field(default_factory=set, compare=False, repr=False)
    #: The URL for reading the command table, if `url` leads through a proxy. Empty: `url` itself.
    origin: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", Url(self.url))
        object.__setattr__(self, "origin", Url(self.origin))

    def through(self, url: str) -> Address:
        """The same namespace through the proxy at `url`. The new address shares `seen` with this one."""
        return Address(url=url, prefix=self.prefix, seen=self.seen, origin=self.origin or self.url)

    def client(self, **options: Any) -> redis.Redis:
        """A new client without socket timeout and without retries, so that it neither loses nor duplicates messages.

        A socket timeout shorter than a blocking pop loses elements. A retry after a lost reply runs a command twice.
        Both happen silently. `options`: those of `redis.Redis`; they take precedence. The caller closes the client.
        """
        single = bool(options.pop("single_connection_client", False))
        given, options = options, _defaults(Retry(NoBackoff(), 0)) | options
        with explained(self.url):
            check_url(self.url)
            pool = redis.ConnectionPool.from_url(self.url, **options)
        pool.connection_kwargs |= given  # they also override the URL
        hide(pool.connection_kwargs)
        self._confine(pool, asyncio=False)
        client = redis.Redis(connection_pool=pool, single_connection_client=single)
        client.auto_close_connection_pool = True
        return client

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """The same for asyncio. Close it (`aclose`) in the event loop that used it."""
        single = bool(options.pop("single_connection_client", False))
        given, options = options, _defaults(AsyncRetry(NoBackoff(), 0)) | options
        with explained(self.url):
            check_url(self.url)
            pool = redis.asyncio.ConnectionPool.from_url(self.url, **options)
        pool.connection_kwargs |= given  # they also override the URL
        hide(pool.connection_kwargs)
        self._confine(pool, asyncio=True)
        client = redis.asyncio.Redis(connection_pool=pool, single_connection_client=single)
        client.auto_close_connection_pool = True
        return client

    def __reduce__(self) -> tuple[Callable[..., Address], tuple[str, str, str]]:
        return _address, (self.url, self.prefix, self.origin)

    def _confine(self, pool: Any, *, asyncio: bool) -> None:
        """Make the pool's connections add the prefix, if there is one. Most runs have none, and skip the import."""
        if self.prefix:
            from pytest_redisq.servers.namespaced_connection import namespaced_connection_class

            origin = self.origin or self.url
            pool.connection_class = namespaced_connection_class(
                pool, self.prefix, self.seen, origin=origin, asyncio=asyncio
            )


def _address(url: str, prefix: str, origin: str) -> Address:
    return Address(url=url, prefix=prefix, origin=origin)


def _defaults(retry: Any) -> dict[str, Any]:
    return {"socket_timeout": None, "retry": retry, "decode_responses": False}
