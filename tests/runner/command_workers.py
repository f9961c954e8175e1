"""Consumers as command lines: `python command_workers.py KIND URL`. Another one takes over what a killed one held."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import redis


def say(body: bytes | None) -> None:
    print(json.dumps(None if body is None else body.decode()), flush=True)


def wait() -> None:
    say(None)
    time.sleep(0.01)


def reliable(client: Any) -> None:
    """The correct twin: it removes a message only once it has written that the message was received."""
    body = (
        client.lmove("jobs:held", "jobs:held", "LEFT", "LEFT") if client.set("jobs:look", 1, nx=True, px=50) else None
    )
    body = body or client.blmove("jobs", "jobs:held", 0.1, "LEFT", "RIGHT")
    if body is None:
        wait()
    else:
        say(body)
        client.lrem("jobs:held", 1, body)


def hasty(client: Any) -> None:
    """Removes ten messages at once, and then writes what it has received."""
    bodies = client.lpop("jobs", 10)
    if not bodies:
        wait()
    for body in bodies or ():
        time.sleep(0.003)
        say(body)


def ahead(client: Any) -> None:
    """Writes faster than it is read: what it has written when it is killed still lies in the pipe."""
    bodies = client.lrange("jobs", 0, 99)
    if not bodies:
        wait()
        return
    sys.stdout.write("".join(json.dumps(body.decode()) + "\n" for body in bodies))
    sys.stdout.flush()
    client.ltrim("jobs", len(bodies), -1)


KINDS = {"reliable": reliable, "hasty": hasty, "ahead": ahead}


def main(kind: str, url: str) -> None:
    client = redis.Redis.from_url(url, socket_timeout=None)
    os.set_blocking(0, False)
    while sys.stdin.buffer.read(1) != b"":
        KINDS[kind](client)


if __name__ == "__main__":
    main(*sys.argv[1:])
