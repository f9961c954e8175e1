"""Thousands of BLPOP workers in one process, with a constant rate of jobs, stopped during the work, repeatedly.

    python benchmarks/workers.py --workers 10000 --runs 20 [--engine locust]

Prints the time until all are blocked, the client memory of each, the time until they are served (compared with ten
workers), the time until all have stopped, and the number of runs that lost a message.
"""

from __future__ import annotations

import argparse
from statistics import median

from pytest_redisq.load.locust_process import LoadReport, LoadRun, run
from pytest_redisq.options import Settings
from pytest_redisq.servers import start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--engine", choices=["epoll", "locust"], default="epoll")
    options = parser.parse_args()
    server = start(Settings(server="process"))
    server.config("maxclients", options.workers + 1000)
    print(server.header())
    try:
        few, many = (
            [
                run(
                    LoadRun(
                        scenario="blpop_workers",
                        url=server.url,
                        engine=options.engine,
                        producers=10,
                        consumers=workers,
                        rate="1000",
                        seconds=options.seconds,
                    )
                )
                for _ in range(options.runs)
            ]
            for workers in (10, options.workers)
        )
    finally:
        server.stop()
    extra = (_median(many, "client.memory") - _median(few, "client.memory")) / (options.workers - 10) / 1024
    for workers, reports in ((10, few), (options.workers, many)):
        print(
            f"{workers:6} workers, {options.engine}: connected in {_median(reports, 'connect'):.2f} s, wake-up p99 "
            f"{_median(reports, 'BLPOP.p99'):,.0f} µs, stopped in {_median(reports, 'stop'):.2f} s (at most "
            f"{max(report.figures['stop'] for report in reports):.2f} s), fairness {_median(reports, 'fairness'):.3f}; "
            f"lost a message: {sum(report.figures['lost'] > 0 for report in reports)} of {len(reports)} runs, "
            f"not passed: {sum(report.exit_code != 0 for report in reports)}"
        )
    print(f"each of {options.workers} takes {extra:.1f} KB of the client")


def _median(reports: list[LoadReport], figure: str) -> float:
    return median(report.figures[figure] for report in reports)


if __name__ == "__main__":
    main()
