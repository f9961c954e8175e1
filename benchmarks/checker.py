"""How long it takes to judge ten million messages, and how much memory.

    python benchmarks/checker.py [--messages 10_000_000] [--contract "at-least-once, fifo"]

Builds the history with `Recorder` (two ops per message, with its own clock), as a run does; then judges it. Peak memory
is that of the whole process, for recording and judging. The ratio compares it with a naive checker that uses
`collections.Counter` on the same history as `Op` objects, with a million messages.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import time
from collections import Counter

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.history import History, Recorder
from pytest_redisq.model import Kind, Message, Outcome

PRODUCERS = 8
CONSUMERS = 4


def record(messages: int, *, ids: bool) -> History:
    """The history of 8 producers and 4 consumers; the messages are in order, and the ops are 40 µs apart."""
    recorder = Recorder(clock=itertools.count(10**15, 40_000).__next__)
    for sequence in range(messages // PRODUCERS):
        for producer in range(PRODUCERS):
            number = sequence * PRODUCERS + producer
            names = (f"{1_700_000_000_000 + number // 50}-{number % 50}",) if ids else ()
            sent = (Message(producer, sequence),)
            recorder.ok(recorder.invoke(f"producer-{producer}", Kind.ENQUEUE, sent), None, names)
            recorder.ok(recorder.invoke(f"consumer-{number % CONSUMERS}", Kind.DEQUEUE), sent, names)
    recorder.quiescence()
    return recorder.history()


def naive(history: History) -> tuple[int, int, int]:
    """The numbers of lost, unexpected and duplicated messages, from multisets."""
    attempted: Counter[Message] = Counter()
    acknowledged: Counter[Message] = Counter()
    delivered: Counter[Message] = Counter()
    for op in history:
        if op.kind is Kind.ENQUEUE:
            attempted.update(op.messages)
            if op.outcome is Outcome.OK:
                acknowledged.update(op.messages)
        elif op.kind is Kind.DEQUEUE and op.outcome is Outcome.OK:
            delivered.update(op.messages)
    surplus = delivered - attempted
    unexpected = sum(times for message, times in surplus.items() if message not in attempted)
    return (acknowledged - delivered).total(), unexpected, surplus.total() - unexpected


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def timed(history: History, contract: Contract) -> tuple[Verdict, float, float]:
    """The verdict, and its seconds: by the clock, and CPU seconds, which matter on a shared machine."""
    start, start_cpu = time.perf_counter(), time.process_time()
    verdict = check(history, contract)
    return verdict, time.perf_counter() - start, time.process_time() - start_cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the checker.")
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--contract", default="at-least-once, fifo")
    parser.add_argument("--ids", action="store_true", help="give each message a stream ID")
    parser.add_argument("--no-ratio", action="store_true", help="leave the naive checker out")
    arguments = parser.parse_args()
    contract = Contract.parse(arguments.contract)

    start = time.process_time()
    history = record(arguments.messages, ids=arguments.ids)
    recording = time.process_time() - start
    recorded_mb = peak_megabytes()
    verdict, seconds, cpu_seconds = timed(history, contract)
    figures = {
        "messages": verdict.totals.attempted,
        "ops": len(history),
        "contract": str(contract),
        "outcome": verdict.outcome,
        "record_ns_per_op": round(recording / len(history) * 1e9),
        "check_seconds": round(seconds, 2),
        "check_cpu_seconds": round(cpu_seconds, 2),
        "peak_mb_recorded": round(recorded_mb),
        "peak_mb": round(peak_megabytes()),
    }
    if not arguments.no_ratio:
        small = record(1_000_000, ids=arguments.ids)
        _, _, ours = timed(small, contract)
        start = time.process_time()
        naive(small)
        figures["times_faster_than_naive_at_1e6"] = round((time.process_time() - start) / ours, 1)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
