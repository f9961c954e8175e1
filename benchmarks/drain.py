"""How fast a list is drained, to nowhere and into files, against the loop of story S1 and a loop of bare sockets.

    [REDISQ_SERVER=process] python benchmarks/drain.py [--elements 1000000] [--bytes 100] [--rounds 3] [--only gz]

Each way drains the same list, refilled each time, in its own process. The table has each way's best round, and the
memory of that process. The list is drained once more while another client only sends PING: its longest wait, and the
rise of the server's memory, are in the table too. "as S1" is the corrected loop of story S1: LLEN once, then LRANGE and
LTRIM alternately with redis-py, and `gzip.open(path, "ab")` for the file. It is safe neither against a second drainer
nor against a crash, and does not sync the file. `drain_to_file` is safe and does. On a busy machine compare the CPU
seconds.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import socket
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import hiredis
import redis

from pytest_redisq.options import Settings
from pytest_redisq.queues import drain, drain_to_file
from pytest_redisq.resp import encode_command
from pytest_redisq.servers import start

KEY = "benchmark"
CHUNK = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    name: str
    against: str
    drain: Callable[[redis.Redis, Path], object]


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float
    client_bytes: int
    server_bytes: int
    wait_seconds: float


def as_s1(client: Any) -> Iterator[list[bytes]]:
    left = client.llen(KEY)
    while left > 0:
        count = min(CHUNK, left)
        yield client.lrange(KEY, 0, count - 1)
        client.ltrim(KEY, count, -1)
        left -= count


def bare(client: redis.Redis) -> None:
    """The fastest loop: LPOP with a count, over a bare socket with hiredis, a quarter of a MiB at a time."""
    options = client.connection_pool.connection_kwargs
    reader: Any = hiredis.Reader(notEnoughData=None)  # its types do not know that it takes a bytearray
    buffer = bytearray(262_144)
    with socket.create_connection((options["host"], options["port"])) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(*words: str | int) -> Any:
            link.sendall(encode_command(words))
            while (reply := reader.gets()) is None:
                reader.feed(buffer, 0, link.recv_into(buffer))
            return reply

        if options.get("password"):
            ask("AUTH", options["password"])
        for _ in range(-(-ask("LLEN", KEY) // CHUNK)):
            ask("LPOP", KEY, CHUNK)


def to_nowhere(chunks: Iterator[list[bytes]]) -> None:
    for _ in chunks:
        pass


def s1_to_file(client: redis.Redis, path: Path, opened: Callable[..., Any]) -> None:
    with opened(path, "ab") as file:
        for chunk in as_s1(client):
            file.write(b"\n".join(chunk) + b"\n")


WAYS = (
    Way(name="null, bare sockets", against="null, bare sockets", drain=lambda c, _: bare(c)),
    Way(name="null, as S1", against="null, bare sockets", drain=lambda c, _: to_nowhere(as_s1(c))),
    Way(name="null, at-least-once", against="null, bare sockets", drain=lambda c, _: to_nowhere(drain(c, KEY))),
    Way(
        name="null, at-most-once",
        against="null, bare sockets",
        drain=lambda c, _: to_nowhere(drain(c, KEY, guarantee="at-most-once")),
    ),
    Way(name="plain, as S1", against="plain, as S1", drain=lambda c, p: s1_to_file(c, p / "a.txt", open)),
    Way(name="plain", against="plain, as S1", drain=lambda c, p: drain_to_file(c, KEY, p / "b.txt")),
    Way(
        name="plain, json",
        against="plain, as S1",
        drain=lambda c, p: drain_to_file(c, KEY, p / "c.txt", framing="json"),
    ),
    Way(name="gz, as S1", against="gz, as S1", drain=lambda c, p: s1_to_file(c, p / "a.gz", gzip.open)),
    Way(name="gz", against="gz, as S1", drain=lambda c, p: drain_to_file(c, KEY, p / "b.gz")),
    Way(name="zst", against="gz, as S1", drain=lambda c, p: drain_to_file(c, KEY, p / "b.zst")),
)


def fill(client: redis.Redis, elements: int, size: int) -> None:
    """Fill the list with typical jobs, each with a random token: two thirds are noise, as in most queues."""
    for first in range(0, elements, 1000):
        noise = os.urandom(32 * 1000).hex()
        client.rpush(
            KEY,
            *(
                f'{{"id":{number:012d},"token":"{noise[64 * at : 64 * at + 64]}"}}'.ljust(size, "x")[:size]
                for at, number in enumerate(range(first, min(elements, first + 1000)))
            ),
        )


def in_a_process(way: int, url: str, answers: Any) -> None:
    """Drain the list, and report the time and the rise of the process's memory."""
    with redis.Redis.from_url(url) as client, tempfile.TemporaryDirectory() as folder:
        client.ping()
        idle = _kilobytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        began, burnt = time.perf_counter(), time.process_time()
        WAYS[way].drain(client, Path(folder))
        took = time.perf_counter() - began, time.process_time() - burnt
        answers.send((*took, (_kilobytes("VmHWM") - idle) * 1024))


def neighbour(url: str, over: Any, answers: Any) -> None:
    """Another client: reports its longest wait for a PING, and the rise of the server's memory."""
    waited, asked = 0.0, 0
    with redis.Redis.from_url(url) as client:
        idle = highest = int(client.info("memory")["used_memory"])
        answers.send(None)
        while not over.is_set():
            began = time.perf_counter()
            client.ping()
            waited, asked = max(waited, time.perf_counter() - began), asked + 1
            over.wait(0.001)
            if asked % 20 == 0:
                highest = max(highest, int(client.info("memory")["used_memory"]))
    answers.send((highest - idle, waited))


def drained(way: int, client: redis.Redis, url: str) -> tuple[float, float, int]:
    """Drain in another process; returns its seconds, CPU seconds and bytes of memory."""
    spawn = multiprocessing.get_context("spawn")
    told, tells = spawn.Pipe(False)
    drainer = spawn.Process(target=in_a_process, args=(way, url, tells))
    drainer.start()
    seconds, cpu_seconds, ours = told.recv()
    drainer.join()
    assert client.llen(KEY) == 0
    return seconds, cpu_seconds, ours


def cost(way: int, client: redis.Redis, url: str, elements: int, size: int) -> Cost:
    """Measure a drain alone, and again beside another client, which sends a thousand PINGs per second."""
    fill(client, elements, size)
    seconds, cpu_seconds, ours = drained(way, client, url)
    fill(client, elements, size)
    spawn = multiprocessing.get_context("spawn")
    (seen, sees), over = spawn.Pipe(False), spawn.Event()
    other = spawn.Process(target=neighbour, args=(url, over, sees))
    other.start()
    seen.recv()
    drained(way, client, url)
    over.set()
    theirs, waited = seen.recv()
    other.join()
    return Cost(seconds, cpu_seconds, ours, theirs, waited)


def _kilobytes(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=100, help="of one element")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="the ways whose name has this in it")
    options = parser.parse_args()
    server = start(Settings(server=os.environ.get("REDISQ_SERVER", "auto")))
    print(f"{server.header()}: {options.elements} elements of {options.bytes} bytes, best of {options.rounds}")
    costs: dict[str, list[Cost]] = defaultdict(list)
    try:
        with server.client() as client:
            for _ in range(options.rounds):
                for number, way in enumerate(WAYS):
                    if options.only in way.name:
                        costs[way.name].append(cost(number, client, server.url, options.elements, options.bytes))
    finally:
        server.stop()
    for way in WAYS:
        if way.name in costs:
            tell(way, costs, options.elements)


def tell(way: Way, costs: dict[str, list[Cost]], elements: int) -> None:
    def best(name: str, which: str) -> float:
        return min(float(getattr(each, which)) for each in costs[name])

    seconds, cpu_seconds = best(way.name, "seconds"), best(way.name, "cpu_seconds")
    ratio = ""
    if way.against in costs:
        ratio = f"{best(way.against, 'seconds') / seconds:5.2f} × {way.against}"
        ratio += f" (CPU {best(way.against, 'cpu_seconds') / cpu_seconds:5.2f} ×)"
    print(
        f"{way.name:20} {seconds:6.2f} s {elements / seconds / 1e6:6.2f} M/s {cpu_seconds:6.2f} CPU s"
        f"  client +{best(way.name, 'client_bytes') / 1e6:5.1f} MB"
        f"  server +{best(way.name, 'server_bytes') / 1e6:5.1f} MB"
        f"  PING waits {best(way.name, 'wait_seconds') * 1e3:6.1f} ms  {ratio}"
    )


if __name__ == "__main__":
    main()
