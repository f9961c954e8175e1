"""The lease on the keys of one run on the user's own server: all keys below one random prefix.

The keys of a run are deleted in one of three ways:

- The run deletes its keys when it ends.
- If a signal ended the run, its cleaner (key_cleaner.py), a process that outlives it, deletes them.
- If both were killed at once (the machine crashed, a container was removed), the next run that starts on that database
  deletes them when the lease has expired, and says so.

The lease is a key below the prefix with a time to live. The prefixes in use are fields of one hash, the registry. Only
keys below a prefix that a run has written there are deleted: the form of a key's name alone is not enough. A run that
ends normally leaves neither lease nor registry.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_redisq.errors import ServerError
from pytest_redisq.secret import Url, without_secrets
from pytest_redisq.servers import key_cleaner
from pytest_redisq.servers.external import ANSWER_SECONDS, KEY_PREFIX, explained
from pytest_redisq.servers.supervisor import release_with_all

#: Seconds that a lease lasts after its last renewal. A living run's cleaner renews it six times as often. So it expires
#: only if the machine sleeps, or does not reach the server, for most of an hour.
LEASE_SECONDS = 3600
#: Seconds during which a run that deletes an expired run's keys prevents other runs from doing the same.
_SWEEP_SECONDS = 600
#: The hash of prefixes in use. In a cluster, the text in braces selects its slot.
REGISTRY = KEY_PREFIX + "runs:{%s}"
#: The prefixes that redisq uses and may delete: those of pytest and the demo, and those of load runs.
_OURS = re.compile(rf"{KEY_PREFIX}(?:[0-9a-f]{{16}}|load:\{{[0-9a-f]{{8}}\}}):")
#: Keys looked at by one SCAN, and deleted by one command at most.
_BATCH = 500

_RIGHTS = "get set hset hgetall hdel scan unlink"
# The run is not its parent, so that a test that waits for its children does not get this process. It ignores signals,
# which are meant for the run: it waits for the run's end.
_DETACHED = 'trap "" HUP INT QUIT TERM; exec 4<&0; "$@" <&4 4<&- >/dev/null 2>&1 & echo $!'


class KeyLease:
    """The lease on the keys below one prefix, with its cleaner. Not thread-safe.

    Call `take` before the first key, and at the end `close`, or `leave` to let the cleaner delete the keys.

    * `url`: the server's URL.
    * `prefix`: the prefix.
    * `token`: tells this run's lease from another lease on the same prefix.
    """

    def __init__(self, url: str, prefix: str, *, registry: str = REGISTRY % 0, token: str = "") -> None:
        assert _OURS.fullmatch(prefix), f"{prefix!r} is not a prefix of redisq"
        self.prefix = prefix
        self._url = Url(url)
        self._key = f"{prefix}~lease"
        self._registry = registry
        self._token = token or secrets.token_hex(8)
        self._pipe: int | None = None
        self._process = 0
        #: The cleaner's process id; 0 if there is none.
        self.cleaner: int = 0

    def take(self) -> list[str]:
        """Take the lease, and delete the keys of runs whose lease has expired; returns notes for the user.

        Raises ServerError if the server forbids a necessary command.
        """
        self.ensure_cleaner()  # first, so that a lease always has a cleaner
        try:
            with self._client() as client, self._allowed():
                client.get(self._key)  # this and the next two check that these commands are permitted
                client.unlink(self._key)
                client.scan(match=_pattern(self.prefix), count=1)
                there = self._look(client)
                told = [] if there is None else _sweep(client, there, self._registry)
                client.set(self._key, self._token, ex=LEASE_SECONDS)
                if there is None:
                    told.append(
                        f"The key {self._registry} on this server was not written by redisq, and is not changed. "
                        f"If this machine crashes, the keys {self.prefix}* are not deleted. Rename that key to "
                        "prevent this."
                    )
                else:
                    client.hdel(self._registry, self.prefix)
                    client.hset(self._registry, self.prefix, _who())
        except BaseException:
            with contextlib.suppress(redis.RedisError, OSError, ValueError), self._client() as client:
                client.unlink(self._key)
            self.leave()
            raise
        return told

    def ensure_cleaner(self) -> None:
        """Start the cleaner, or a new one if it was killed. In a forked child, which has no lease, do nothing."""
        if self._process not in (0, os.getpid()) or (self._pipe is not None and not _broken(self._pipe)):
            return
        self.release()
        self._process = os.getpid()
        read_end, self._pipe = os.pipe()
        try:
            program = [sys.executable, "-I", "-S", "-B", key_cleaner.__file__]
            started = subprocess.run(
                ["/bin/sh", "-c", _DETACHED, "redisq-cleaner", *program],
                stdin=read_end,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if self._url not in value},
                check=True,
            )
            self.cleaner = int(started.stdout)
        except (OSError, subprocess.SubprocessError) as error:
            self.release()
            raise ServerError(
                f"The process that deletes redisq's keys after a crash cannot be started: {error}\n"
                "What to do: allow this user more processes or memory, or let redisq start a server of its own "
                "(--redisq-server auto)."
            ) from error
        finally:
            os.close(read_end)
        with contextlib.suppress(OSError):  # it was killed
            os.write(self._pipe, f"{json.dumps(self._orders())}\n".encode())
        release_with_all(self)

    def renew(self) -> None:
        """Renew the lease for LEASE_SECONDS. If it has expired, take it again and mark it as interrupted."""
        with self._client() as client:
            there = _text(client.get(self._key))
            lasting = there.startswith(self._token)
            client.set(self._key, there if lasting else f"{self._token} again", ex=LEASE_SECONDS)
            if not lasting and self._look(client) is not None:
                client.hset(self._registry, self.prefix, _who())

    def clear(self) -> int:
        """Delete the keys below the prefix except the lease; returns how many there were."""
        with self._client() as client:
            return _remove(client, [self.prefix]).total()

    def give_back(self) -> None:
        """Delete the lease, and remove the prefix from the registry."""
        with self._client() as client:
            client.unlink(self._key)
            with contextlib.suppress(redis.ResponseError):  # redisq did not write that key
                client.hdel(self._registry, self.prefix)

    def close(self) -> list[str]:
        """Delete the keys, give the lease back, and end the cleaner; returns notes for the user.

        Raises ServerError if that fails. The cleaner then repeats it for a second.
        """
        if self._process != os.getpid():  # a forked child has no lease
            return []
        try:
            with self._allowed(), self._client() as client:
                lasted = _text(client.get(self._key)) == self._token
                self.clear()
                self.give_back()
        except BaseException as error:
            self.leave()
            if isinstance(error, ServerError):
                raise ServerError(
                    f"{error}\nSome keys {self.prefix}* may be left. The next run on that database deletes them when "
                    "their lease has expired."
                ) from error
            raise
        self._end(key_cleaner.DONE)
        return [] if lasted else [self._interrupted()]

    def leave(self) -> None:
        """Have the cleaner delete the keys now and give the lease back."""
        self._end(key_cleaner.CLEAN)

    def release(self) -> None:
        """Release the lease, as the end of this process does. The cleaner deletes the keys now and again until then."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            os.close(pipe)

    def _end(self, word: str) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # it was killed
                os.write(self._pipe, f"{word}\n".encode())
        self.release()

    def _orders(self) -> dict[str, Any]:
        here, there = Path(__file__).parents[2], Path(redis.__file__).parents[1]
        return {
            "url": self._url,
            "prefix": self.prefix,
            "registry": self._registry,
            "token": self._token,
            "holder": os.getpid(),
            "group": os.getpgrp(),
            "path": [str(here), str(there), *filter(None, sys.path)],
        }

    def _look(self, client: redis.Redis) -> dict[bytes, bytes] | None:
        """The content of the registry; None if redisq did not write it."""
        try:
            there = cast(dict[bytes, bytes], client.hgetall(self._registry))
        except redis.exceptions.NoPermissionError:
            raise
        except redis.ResponseError:  # of another type
            return None
        return there if all(_OURS.fullmatch(_text(prefix)) for prefix in there) else None

    def _client(self) -> redis.Redis:
        """A client with a timeout and without retries. The caller closes it."""
        client = redis.Redis.from_url(
            self._url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
        client.auto_close_connection_pool = True
        return client

    @contextlib.contextmanager
    def _allowed(self) -> Iterator[None]:
        with explained(self._url):
            try:
                yield
            except redis.exceptions.NoPermissionError as error:
                raise ServerError(
                    f"The server at {without_secrets(self._url)} forbids commands for deleting redisq's keys: {error}\n"
                    f"What to do: allow the user {_RIGHTS} on keys {KEY_PREFIX}* "
                    f"(ACL SETUSER NAME ~{KEY_PREFIX}* {' '.join(f'+{right}' for right in _RIGHTS.split())}), "
                    "or let redisq start a server of its own (--redisq-server auto)."
                ) from error

    def _interrupted(self) -> str:
        return (
            f"The lease on the keys {self.prefix}* had expired: this machine slept, the server was not reachable for "
            f"{LEASE_SECONDS // 60} minutes, or it was flushed. Another run may have deleted the keys. "
            "What to do: run failed tests again."
        )


def _sweep(client: redis.Redis, there: dict[bytes, bytes], registry: str) -> list[str]:
    """Delete the keys of the registered runs whose lease has expired; returns notes for the user."""
    token = secrets.token_hex(8)
    left = {
        prefix: _text(owner)
        for prefix, owner in ((_text(each), owner) for each, owner in there.items())
        if client.set(f"{prefix}~lease", token, nx=True, ex=_SWEEP_SECONDS)
    }
    if not left:
        return []
    removed = _remove(client, list(left))
    for prefix in left:
        if _text(client.get(f"{prefix}~lease")) == token:  # its run may have taken the lease again
            client.unlink(f"{prefix}~lease")
            client.hdel(registry, prefix)
    return [
        f"Deleted {removed[prefix]:,} keys {prefix}*, left by {owner}, whose lease has expired."
        for prefix, owner in left.items()
        if removed[prefix]
    ]


def _remove(client: redis.Redis, prefixes: Sequence[str]) -> Counter[str]:
    """Delete all keys below the prefixes except their leases, with one SCAN; returns how many there were of each."""
    pattern = _pattern(prefixes[0]) if len(prefixes) == 1 else _pattern(KEY_PREFIX)
    leases, removed, cursor = {f"{prefix}~lease" for prefix in prefixes}, Counter[str](), 0
    while True:
        cursor, keys = cast(tuple[int, list[bytes]], client.scan(cursor, match=pattern, count=_BATCH))
        for prefix in prefixes:
            ours = [key for key in keys if key.startswith(prefix.encode()) and _text(key) not in leases]
            if ours:
                removed[prefix] += client.unlink(*ours)
        if not cursor:
            return removed


def _pattern(prefix: str) -> str:
    """A pattern for SCAN. No prefix of redisq contains a character with a special meaning there."""
    return f"{prefix}*"


def _who() -> str:
    """A description of this run, for the note of a later run that deletes its keys."""
    return f"process {os.getpid()} on {socket.gethostname()}, begun {time.strftime('%Y-%m-%d %H:%M:%S %z')}"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _broken(pipe: int) -> bool:
    """Whether the pipe has no reader."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))
