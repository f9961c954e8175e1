"""The cost of recording an op, compared with appending a tuple with the same values to a list.

    python benchmarks/recorder.py [--ops 300_000]

All read the clock twice per op. The figures are CPU time of this process, the best of five alternating rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pytest_redisq.history import Journal, Recorder, Recording
from pytest_redisq.model import Kind, Message

ROUNDS = 5


def bare(messages: list[Message]) -> None:
    rows: list[tuple[object, ...]] = []
    clock = time.monotonic_ns
    for message in messages:
        invoked = clock()
        rows.append(("producer-1", Kind.ENQUEUE, (message,), invoked, clock()))


def record(recording: Recording, messages: list[Message]) -> None:
    for message in messages:
        recording.ok(recording.invoke("producer-1", Kind.ENQUEUE, (message,)))


def journal(messages: list[Message]) -> None:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as recording:
        record(recording, messages)


def nanoseconds(work: Callable[[], None], ops: int) -> float:
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / ops


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the recorders.")
    parser.add_argument("--ops", type=int, default=300_000)
    ops = parser.parse_args().ops
    messages = [Message(1, sequence) for sequence in range(ops)]
    contenders: dict[str, Callable[[], None]] = {
        "bare": lambda: bare(messages),
        "recorder": lambda: record(Recorder(), messages),
        "journal": lambda: journal(messages),
    }
    rounds = [{name: nanoseconds(work, ops) for name, work in contenders.items()} for _ in range(ROUNDS)]
    best = {name: min(each[name] for each in rounds) for name in contenders}
    figures = {f"{name}_ns_per_op": round(cost) for name, cost in best.items()}
    ratios = {f"{name}_over_bare": round(best[name] / best["bare"], 1) for name in ("recorder", "journal")}
    print(json.dumps({**figures, **ratios}, indent=2))


if __name__ == "__main__":
    main()
