"""Traffic: many real producers and consumers against a real server, and the history of what they did."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pytest_redisq.faults import Fault
from pytest_redisq.servers import Address, Server
from pytest_redisq.spelling import suggest
from pytest_redisq.traffic.conduct import Plan, conduct
from pytest_redisq.traffic.ends import Source, check_queue
from pytest_redisq.traffic.foreign import Command
from pytest_redisq.traffic.outcome import Run, Summary
from pytest_redisq.traffic.plan import WORKERS, Bursts, ClientFactory, Pace, Payload, Rate, Workers
from pytest_redisq.traffic.processes import check_picklable

__all__ = ["Bursts", "Command", "Rate", "Run", "Summary", "run"]


def run(
    queue: Any,
    *,
    at: Server | Address | str,
    producers: int = 1,
    consumers: int = 1,
    messages: int = 100,
    workers: Workers = "thread",
    faults: Sequence[Fault] = (),
    server: Server | None = None,
    deadline_seconds: float = 60.0,
    settle_seconds: float = 5.0,
    wait_seconds: float = 0.1,
    payload: Payload = 0,
    pace: Pace | None = None,
    seed: int = 0,
    client: ClientFactory | None = None,
    logs: bool = True,
) -> Run:
    """Send `messages` messages in all, shared out among the producers, through `queue`, and record what happens.

    `queue`: what `pytest_redisq.traffic.ends` lists; each worker has an end of its own, on a client of its own, at `at`
    (made by `client(url)`, if given). `workers` says what producers and consumers are. All begin together; when the
    producers have ended, and nothing more comes, the consumers are stopped; what is then inside is on record.

    `faults` (see `pytest_redisq.faults`) strike on the way; those that concern the server need `server`, or `at` to be
    one. `wait_seconds` is what consumers pass to `get`: a run ends when all of them have waited so long in vain.
    `settle_seconds`: how long after that messages of dead consumers may take to come back. `payload`: so many bytes
    with each message, or a function of the `Message`. `pace`: `Rate`, `Bursts`, or as fast as can be. `seed` chooses
    the victims of faults. `logs`: records of worker processes are logged here.

    Raises `TrafficError` where a worker fails by an error that is neither the network's nor the server's (those are
    recorded, as outcomes) and where the run does not end within `deadline_seconds`. Nothing of it is left in any case.
    """
    _check_numbers(producers=producers, consumers=consumers, messages=messages)
    if workers not in WORKERS:
        raise ValueError(f"workers={workers!r} is none of {', '.join(WORKERS)}.{suggest(str(workers), WORKERS)}")
    if not isinstance(faults, Sequence):
        raise TypeError(f"faults={faults!r} is to be a list of faults")
    if client is not None and not callable(client):
        raise TypeError(f"client={client!r} is to be a function of a URL that makes a worker's client")
    check_queue(queue, is_async=workers == "asyncio")
    if workers not in ("thread", "asyncio"):
        check_picklable(workers, queue=queue, payload=payload, client=client)
    address = Address(url=at) if isinstance(at, str) else Address(url=at.url) if isinstance(at, Server) else at
    # Names cost a command for each connection, and on somebody's own server perhaps a right that is not there.
    names = f"redisq-{os.urandom(4).hex()}-" if faults else ""
    return conduct(
        Plan(
            source=Source(queue=queue, address=address, client=client, client_names=names),
            server=at if isinstance(at, Server) else server,
            producers=producers,
            consumers=consumers,
            messages=messages,
            workers=workers,
            faults=tuple(faults),
            deadline_seconds=deadline_seconds,
            settle_seconds=settle_seconds,
            wait_seconds=wait_seconds,
            payload=payload,
            pace=pace,
            seed=seed,
            logs=logs,
        )
    )


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r} is to be a whole number of at least 1")
