"""The user's own server, given by a URL: a check that it is usable, and error messages that say what to do."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_redisq.errors import ServerError
from pytest_redisq.options import check_url
from pytest_redisq.secret import hide, masked, without_secrets

#: Seconds that the user's own server may take to accept a connection and to answer.
ANSWER_SECONDS = 2.0
#: The prefix of every key that redisq writes on the user's own server.
KEY_PREFIX = "redisq:"


def check(url: str) -> None:
    """Check that the server answers and accepts writes: write one key with redisq's prefix, and delete it.

    Raises ServerError, with the problem of the URL or the server and what to do.
    """
    with explained(url):
        check_url(url)
        client = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        hide(client.connection_pool.connection_kwargs)
        with client, contextlib.closing(client.connection_pool):
            key = f"{KEY_PREFIX}probe:{secrets.token_hex(8)}"
            try:
                client.set(key, b"", px=1000)
            except (TypeError, LookupError) as error:  # such as redis-py's error for ?encoding=nonsense
                raise ValueError(f"an option has an invalid value ({error})") from None
            client.delete(key)


@contextlib.contextmanager
def explained(url: str, *, seconds: float = ANSWER_SECONDS) -> Iterator[None]:
    """Turn errors of redis-py into a ServerError that says what to do.

    * `url`: the server's URL, for the message.
    * `seconds`: the timeout, for the message.
    """
    try:
        yield
    except (redis.RedisError, ValueError, OSError) as error:
        raise ServerError(f"The server at {without_secrets(url)} {_explain(error, seconds)}") from error


def _explain(error: Exception, seconds: float) -> str:
    """What happened and what to do, by the type of the error, then by the server's message."""
    text = masked(str(error))
    match error:
        case redis.AuthenticationError():
            return (
                f"refuses the login: {text}\n"
                "What to do: put the user and the password into the URL, redis://USER:PASSWORD@HOST:PORT/DB "
                "(no USER for the default user; special characters percent-encoded)."
            )
        case redis.exceptions.ReadOnlyError():
            return f"is a read-only replica: {text}\nWhat to do: give the URL of its primary."
        case redis.exceptions.OutOfMemoryError():
            return (
                f"is out of memory: {text}\n"
                "What to do: raise its maxmemory, delete data, or choose another server. redisq deleted nothing."
            )
        case redis.exceptions.NoPermissionError():
            return (
                f"forbids a command that redisq needs: {text}\n"
                "What to do: use an ACL user with that permission, or the default user."
            )
        case redis.BusyLoadingError():
            return "is still loading its data.\nWhat to do: run again later."
        case redis.InvalidResponse():
            return f"does not speak the Redis protocol: {text}\nWhat to do: check the port; another program uses it."
        case redis.TimeoutError():
            return (
                f"did not answer within {seconds:g} s: {text}\n"
                "What to do: check the host and the port, that Redis (and no other program) listens there, "
                "and that both sides use TLS (rediss://), or neither does."
            )
        case redis.ConnectionError() | OSError():
            return _explain_connection(text)
        case ValueError():
            return f"has a wrong URL: {text}\nWhat to do: write redis://USER:PASSWORD@HOST:PORT/DB."
        case _ if "DB index" in text:
            return f"has no such database: {text}\nWhat to do: write a lower number in the URL's path, or none for 0."
        case _:
            return f"refused: {text}\nWhat to do: see the server's documentation for this error."


def _explain_connection(text: str) -> str:
    if "WRONG_VERSION_NUMBER" in text.upper() or "record layer failure" in text:
        return f"does not speak TLS: {text}\nWhat to do: write redis:// instead of rediss://."
    if "CERTIFICATE_VERIFY_FAILED" in text.upper():
        return (
            f"has a certificate that is not trusted here: {text}\n"
            "What to do: add ?ssl_ca_certs=FILE to the URL, or ?ssl_cert_reqs=none for a server that is only for tests."
        )
    if "closed by server" in text or "reset by peer" in text:
        return (
            f"closed the connection at the first command: {text}\n"
            "What to do: check that it is Redis. If it uses TLS, write rediss:// instead of redis://."
        )
    return f"cannot be reached: {text}\nWhat to do: check host, port and socket path, and that the server runs."
