"""The throughput of the load engines, with ledger and histograms, compared with other tools in one run.

    python benchmarks/load.py --rounds 3 --seconds 3 --picture load.svg

The engines run inside Locust in one process; redis-benchmark and memtier use one thread, resp-benchmark one core.
Rounds alternate, and medians are printed, so that the ratios are reliable. `op/CPU s` counts the CPU time of the load
tool. "plain Locust" is a typical locustfile: a `redis.Redis` for each user.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from peers import chart
from peers.rivals import CONNECTIONS, PAYLOAD, Speed, memtier, plain_locust, redis_benchmark, resp_benchmark, there

from pytest_redisq.load.codec import BodyCodec
from pytest_redisq.load.engine import Engine
from pytest_redisq.load.engine.clients import LoadClient, PushClient, RepeatingClient
from pytest_redisq.load.engine.epoll_engine import EpollEngine
from pytest_redisq.load.engine.target import Target
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_process import LoadRun, run
from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start

BODY = "x" * PAYLOAD
#: The measured commands: as the other tools send them, and the scenario that sends them in Locust, with its settings.
KINDS = {
    "GET": (("GET", "k"), str(Path(__file__).parent / "peers" / "get_only.py"), ()),
    "RPUSH": (("RPUSH", "l", BODY), "blpop_workers", ()),
    "XADD": (("XADD", "s", "*", "b", BODY), "xadd_burst", ("groups=0", "readers=0")),
}


def in_locust(server: Server, kind: str, engine: Engine, pipeline: int, seconds: float) -> Speed:
    """Measure one of the load engines, with ledger and histograms."""
    _, scenario, settings = KINDS[kind]
    report = run(
        LoadRun(
            scenario=scenario,
            url=server.url,
            engine=engine,
            producers=CONNECTIONS,
            consumers=0,
            seconds=seconds,
            pipeline=pipeline,
            payload_bytes=PAYLOAD,
            settings=settings,
        )
    )
    figures = report.figures
    return Speed(figures["requests"] / report.told["seconds"], figures.get("requests_per_cpu_second", 0.0))


def bare(server: Server, make: Callable[[int], LoadClient], seconds: float) -> Speed:
    """Measure the epoll engine without Locust."""
    loop = EpollEngine(Target.of(server.url, "bench"), [make(number) for number in range(CONNECTIONS)])
    thread = threading.Thread(target=loop.run)
    cpu, began = time.process_time(), time.perf_counter()
    thread.start()
    threading.Event().wait(seconds)
    loop.stop_producing()
    thread.join()
    took, burnt = time.perf_counter() - began, time.process_time() - cpu
    done = sum(batch.service.total() for batch in loop.batches)
    return Speed(done / took, done / burnt)


def push_client(ledger: Ledger) -> Callable[[int], LoadClient]:
    codec = BodyCodec(1, PAYLOAD)
    return lambda number: PushClient(ledger, codec, number, ("RPUSH", "l"), name="push")


def ways(server: Server, seconds: float, operations: int) -> dict[str, Callable[[], Speed]]:
    found: dict[str, Callable[[], Speed]] = {}
    for kind, (words, _, _) in KINDS.items():
        for pipeline in (1, 100):
            name = kind if pipeline == 1 else f"{kind} × {pipeline}"
            found[f"{name}, epoll"] = partial(in_locust, server, kind, "epoll", pipeline, seconds)
            if there("redis-benchmark"):
                times = operations if pipeline == 1 else operations * 10
                found[f"{name}, redis-benchmark"] = partial(redis_benchmark, server, words, pipeline, times)
            if there("memtier_benchmark"):
                found[f"{name}, memtier"] = partial(memtier, server, words, pipeline, seconds)
            if there("resp-benchmark"):
                found[f"{name}, resp-benchmark"] = partial(resp_benchmark, server, words, pipeline, seconds)
    for kind in ("GET", "RPUSH"):
        found[f"{kind}, locust"] = partial(in_locust, server, kind, "locust", 1, seconds)
        found[f"{kind}, plain Locust"] = partial(plain_locust, server, KINDS[kind][0], seconds)
    found["RPUSH, bare epoll engine with ledger"] = lambda: bare(server, push_client(Ledger()), seconds)
    found["RPUSH, bare epoll engine without"] = lambda: bare(
        server, lambda _: RepeatingClient(("RPUSH", "l", BODY), name="RPUSH"), seconds
    )
    return found


def against(name: str) -> str:
    """The name of the tool that `name` is compared with."""
    kind, _, tool = name.partition(", ")
    rival = {"locust": "plain Locust", "bare epoll engine with ledger": "bare epoll engine without"}.get(
        tool, "redis-benchmark"
    )
    return f"{kind}, {rival}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--operations", type=int, default=200_000, help="of redis-benchmark, a round")
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--picture", type=Path, help="draw the rates into this SVG file")
    options = parser.parse_args()
    server = start(Settings(server="process"))
    print(f"{server.header()}: {CONNECTIONS} connections, {PAYLOAD} bytes, medians of {options.rounds}")
    try:
        speeds: dict[str, list[Speed]] = defaultdict(list)
        with server.client() as client:
            for turn in range(options.rounds):
                turns = list(ways(server, options.seconds, options.operations).items())
                if turn % 2:  # the order of the tools has an influence, so it alternates
                    turns.reverse()
                for name, measure in turns:
                    if options.only in name:
                        client.flushall()
                        client.set("k", b"x" * PAYLOAD)
                        speeds[name].append(measure())
    finally:
        server.stop()
    rates = {name: median(speed.rate for speed in each) for name, each in sorted(speeds.items())}
    tell(rates, speeds)
    if options.picture:
        chart.draw(options.picture, f"Operations a second, {CONNECTIONS} connections, {PAYLOAD} bytes", rates)


def tell(rates: dict[str, float], speeds: dict[str, list[Speed]]) -> None:
    for name, rate in rates.items():
        burnt = median(speed.per_cpu_second for speed in speeds[name])
        other = against(name)
        ratio = f"{rate / rates[other]:6.2f} × {other}" if other in rates and other != name else ""
        print(f"{name:30} {rate:12,.0f}/s {f'{burnt:12,.0f} op/CPU s' if burnt else '':22} {ratio}")


if __name__ == "__main__":
    main()
