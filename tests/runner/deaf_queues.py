"""Queues some of whose consumers take nothing any more once they have lost a connection; and their correct twins.

The deaf one is consumer-0.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import redis


class Reconnecting:
    """The correct twin: a list, on a client that connects again by itself."""

    def __init__(self, client: Any) -> None:
        self.client = client
        #: Whether this is the worker that becomes deaf, if any does.
        self.prone = str(client.connection_pool.connection_kwargs.get("client_name")).endswith("consumer-0")
        self.connection = self.connected()

    def connected(self) -> tuple[object, int]:
        """Which server this is, and which of its connections: a server that was restarted counts from 1 again."""
        return self.client.info("server")["run_id"], self.client.client_id()

    def put(self, body: bytes) -> None:
        while True:
            with suppress(redis.ConnectionError):
                self.client.rpush("jobs", body)
                return

    def get(self, timeout_seconds: float) -> bytes | None:
        try:
            if self.prone and self.connected() != self.connection:
                return self.get_deaf(timeout_seconds)
            return self.take("jobs", timeout_seconds)
        except redis.ConnectionError:
            return None

    def take(self, key: str, timeout_seconds: float) -> bytes | None:
        found = self.client.blpop(key, timeout_seconds)
        return found[1] if found else None

    def get_deaf(self, timeout_seconds: float) -> bytes | None:
        return self.take("jobs", timeout_seconds)


class Sleeps(Reconnecting):
    """Goes on without asking the server."""

    def get_deaf(self, timeout_seconds: float) -> bytes | None:
        time.sleep(timeout_seconds)
        return None


class AsksElsewhere(Reconnecting):
    """Waits without end, at another key."""

    def get_deaf(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        return self.take("elsewhere", 0)


class Group(Reconnecting):
    """The correct twin of one that swallows errors: a consumer group, made again where it is gone."""

    group = "workers"

    def put(self, body: bytes) -> None:
        while True:
            with suppress(redis.ConnectionError):
                self.client.xadd("jobs", {"body": body})
                return

    def take(self, key: str, timeout_seconds: float) -> bytes | None:
        with suppress(redis.ResponseError):
            self.client.xgroup_create(key, "workers", id="0", mkstream=True)
        try:
            block = int(timeout_seconds * 1000)
            found = self.client.xreadgroup(self.group, f"c{id(self)}", {key: ">"}, count=1, block=block)
        except redis.ResponseError:
            time.sleep(timeout_seconds)
            return None
        if not found:
            return None
        ((name, fields),) = found[key.encode()][0] if isinstance(found, dict) else found[0][1]
        self.client.xack(key, "workers", name)
        return fields[b"body"]


class SwallowsErrors(Group):
    """Polls a group that is gone, and takes the error for an empty queue."""

    def get_deaf(self, timeout_seconds: float) -> bytes | None:
        self.group = "gone"
        return self.take("jobs", timeout_seconds)


class Unlucky(Reconnecting):
    """A healthy consumer that asks rarely, beside one that asks all the time."""

    def take(self, key: str, timeout_seconds: float) -> bytes | None:
        if self.prone:
            time.sleep(timeout_seconds)
        return self.client.lpop(key)
