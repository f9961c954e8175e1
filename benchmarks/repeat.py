"""Runs every scenario in every engine repeatedly, and prints how many runs pass and how the failed runs ended.

    python benchmarks/repeat.py --runs 10 --minutes 20

Scenarios alternate, so that all have equally many runs when the time is over. Exit code 1 if a run did not pass.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from pytest_redisq.load.engine import Engine
from pytest_redisq.load.locust_process import LoadError, LoadRun, run, scenarios
from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start

#: These scenarios have their own connections, which only the locust engine supports.
OF_USERS = {"own_queue", "drain_to_file"}


def kinds(only: str) -> Iterator[tuple[str, Engine]]:
    for scenario in scenarios():
        engines: tuple[Engine, ...] = ("locust",) if scenario in OF_USERS else ("epoll", "locust")
        for engine in engines:
            if only in f"{scenario} {engine}":
                yield scenario, engine


def outcome(server: Server, scenario: str, engine: Engine, seconds: float) -> str:
    try:
        report = run(LoadRun(scenario=scenario, url=server.url, engine=engine, seconds=seconds))
    except LoadError as error:
        return str(error).splitlines()[0]
    return "pass" if report.exit_code == 0 else f"exit code {report.exit_code}: {dict(report.counts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="of each")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a run produces")
    parser.add_argument("--minutes", type=float, default=5.0, help="no run begins after that")
    parser.add_argument("--only", default="", help="those whose 'scenario engine' has this in it")
    options = parser.parse_args()
    ended: dict[tuple[str, Engine], Counter[str]] = defaultdict(Counter)
    until = time.monotonic() + 60 * options.minutes
    server = start(Settings(server="process"))
    print(server.header())
    try:
        for _ in range(options.runs):
            for kind in kinds(options.only):
                if time.monotonic() < until:
                    ended[kind][outcome(server, *kind, options.seconds)] += 1
    finally:
        server.stop()
    for (scenario, engine), outcomes in ended.items():
        failed = "; ".join(f"{times} × {what}" for what, times in outcomes.items() if what != "pass")
        print(f"{scenario:16} {engine:6} {outcomes['pass']:3} of {outcomes.total():3} passed  {failed}")
    sys.exit(any(outcomes.keys() != {"pass"} for outcomes in ended.values()))


if __name__ == "__main__":
    main()
