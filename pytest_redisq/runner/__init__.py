"""Run many real producers and consumers against a real server, and record the history of what they did."""

from __future__ import annotations

import os
from typing import Any

from pytest_redisq.check.contract import LIVE_SECONDS
from pytest_redisq.endpoint.forms import EndpointFactory, Gets, check_queue, check_work
from pytest_redisq.endpoint.jobs import WORKERS, Bursts, ClientFactory, Pace, Payload, Rate, Work, Workers
from pytest_redisq.endpoint.subprocess_workers import Command
from pytest_redisq.faults import AnyFaults, faults_for
from pytest_redisq.runner.process_pool import check_picklable
from pytest_redisq.runner.run_plan import RunPlan
from pytest_redisq.runner.run_result import Run, Summary
from pytest_redisq.runner.runner import conduct
from pytest_redisq.servers import Address, Server
from pytest_redisq.spelling import suggest

__all__ = ["Bursts", "Command", "Rate", "Run", "Summary", "run"]


def run(
    queue: Any,
    *,
    at: Server | Address | str,
    producers: int = 1,
    consumers: int = 1,
    messages: int = 100,
    workers: Workers = "thread",
    faults: AnyFaults = (),
    server: Server | None = None,
    deadline_seconds: float = 60.0,
    settle_seconds: float = 5.0,
    wait_seconds: float = 0.1,
    live_seconds: float = LIVE_SECONDS,
    payload: Payload = 0,
    work: Work = 0.0,
    pace: Pace | None = None,
    seed: int = 0,
    client: ClientFactory | None = None,
    gets: Gets = "client",
    logs: bool = True,
) -> Run:
    """Send `messages` messages through `queue` with concurrent producers and consumers, and record what happens.

    All workers start together. When the producers have ended and nothing more comes, the consumers stop. Then the
    runner records what is still in the queue.

    Parameters:

    * `queue`: the queue under test, in any form that `pytest_redisq.endpoint.forms` lists. Each worker opens an
      endpoint of its own, on a client of its own.
    * `at`: the server, its address or its URL.
    * `producers`, `consumers`: number of workers of each role; default 1.
    * `messages`: total number of messages, shared equally among the producers; default 100.
    * `workers`: how workers run ("thread", "asyncio", "process", "fork", "spawn", "forkserver", "pool", "executor").
    * `faults`: what goes wrong during the run, as `Fault` or text ("kill:consumer@500"); see `pytest_redisq.faults`.
    * `server`: the server that server faults strike; default: `at`, if that is a `Server`.
    * `deadline_seconds`: the longest time for the whole run; default 60.
    * `settle_seconds`: how long messages of dead consumers may take to come back once all consumers idle; default 5.
    * `wait_seconds`: what consumers pass to `get`; default 0.1. A run ends when each consumer has waited so in vain.
    * `live_seconds`: how long a consumer that outlived a fault may take to receive a message again; default 10. If the
      run's own messages do not reach it, further messages are put. 0: none are, and `live` may not be judged.
    * `payload`: number of bytes that each message carries, or a function of the `Message`; default 0.
    * `work`: what a consumer does with each message before it acknowledges it: seconds, or a function of the `Message`
      that may raise. Work that raises is recorded as failed, and the message is not acknowledged; default 0.
    * `pace`: a `Rate` or `Bursts`; default: as fast as possible.
    * `seed`: chooses the victims of faults; default 0.
    * `client`: a function of the URL that makes a worker's client; default: one that neither times out nor retries.
    * `gets`: what the queue's class or functions are called with, "client" or "url" (then `client` is not used).
    * `logs`: whether log records of worker processes are logged in this process; default true.

    Errors: `TrafficError` if a worker fails by an error of its own code, or the run exceeds `deadline_seconds`. Errors
    of the network and of the server are recorded as outcomes. In each case no worker is left.
    """
    __tracebackhide__ = True
    _check_numbers(producers=producers, consumers=consumers, messages=messages)
    if workers not in WORKERS:
        raise ValueError(f"workers={workers!r} is none of {', '.join(WORKERS)}.{suggest(str(workers), WORKERS)}")
    struck = faults_for("run", faults)
    if client is not None and not callable(client):
        raise TypeError(f"client={client!r} is to be a function of a URL that makes a worker's client")
    check_queue(queue, is_async=workers == "asyncio")
    check_work(work, is_async=workers == "asyncio")
    if workers not in ("thread", "asyncio"):
        check_picklable(workers, queue=queue, payload=payload, work=work, client=client)
    address = Address(url=at) if isinstance(at, str) else Address(url=at.url) if isinstance(at, Server) else at
    # Names cost a command for each connection, and on the user's own server perhaps a right that is not there.
    names = f"redisq-{os.urandom(4).hex()}-" if struck else ""
    return conduct(
        RunPlan(
            factory=EndpointFactory(queue=queue, address=address, client=client, client_names=names, gets=gets),
            server=at if isinstance(at, Server) else server,
            producers=producers,
            consumers=consumers,
            messages=messages,
            workers=workers,
            faults=struck,
            deadline_seconds=deadline_seconds,
            settle_seconds=settle_seconds,
            wait_seconds=wait_seconds,
            live_seconds=live_seconds,
            payload=payload,
            work=work,
            pace=pace,
            seed=seed,
            logs=logs,
        )
    )


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r} is to be a whole number of at least 1")
