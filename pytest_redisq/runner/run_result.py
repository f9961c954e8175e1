"""What a run leaves: its history, and what can be said of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pytest_redisq.check import AnyContract, Verdict, check, contract_of
from pytest_redisq.endpoint.jobs import fairness
from pytest_redisq.errors import DeliveryError
from pytest_redisq.history import FaultRecord, History
from pytest_redisq.model import Kind, Message, Outcome
from pytest_redisq.report import explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of a run. Rates are of messages a second, over the time from the start to the last delivery.

    `shares` is how many messages each consumer got, and `fairness` what that comes to (Jain's index): 1 where all got
    as many, 1/n where one of n got all.

    Latency is from the invocation of a message's (first) enqueue to the end of its (first) dequeue, in seconds;
    `put_p50_seconds` is how long an enqueue took. All are 0 where nothing was delivered.
    """

    acknowledged: int
    delivered: int
    seconds: float
    messages_per_second: float
    put_p50_seconds: float
    put_p99_seconds: float
    latency_p50_seconds: float
    latency_p99_seconds: float
    shares: Mapping[str, int]

    @property
    def fairness(self) -> float:
        """How evenly the consumers were served (see `jobs.fairness`)."""
        return fairness(self.shares.values())

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.delivered} delivered in {self.seconds:.2f} s"
            f" ({self.messages_per_second:.0f}/s);"
            f" put p50 {self.put_p50_seconds * 1e3:.2f} ms, p99 {self.put_p99_seconds * 1e3:.2f} ms;"
            f" latency p50 {self.latency_p50_seconds * 1e3:.2f} ms, p99 {self.latency_p99_seconds * 1e3:.2f} ms;"
            f" shared by {len(self.shares)}, fairness {self.fairness:.2f}"
        )


@dataclass(slots=True)
class Judgements:
    """The verdicts that were asked of a run, and whether its history was taken, as by code that judges it itself."""

    verdicts: list[Verdict] = field(default_factory=list)
    history_taken: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that has ended. Times are nanoseconds of `time.monotonic_ns`, as in the history.

    `record`: the history. `judgements`: what came of it so far.
    """

    id: str
    record: History = field(repr=False)
    faults: tuple[FaultRecord, ...]
    workers: str
    started_ns: int
    ended_ns: int
    judgements: Judgements = field(default_factory=Judgements, repr=False, compare=False)

    def __str__(self) -> str:
        """The figures, and the verdicts so far."""
        verdicts = [str(verdict) for verdict in self.judgements.verdicts] or ["not judged"]
        return "\n".join([str(self.summary), *verdicts])

    @property
    def history(self) -> History:
        """Every operation of the run."""
        self.judgements.history_taken = True
        return self.record

    def verdict(self, contract: AnyContract) -> Verdict:
        """What `contract` says of the history; a string is parsed ("at-least-once, fifo")."""
        verdict = check(self.record, contract_of(contract))
        self.judgements.verdicts.append(verdict)
        return verdict

    def verify(self, contract: AnyContract) -> Verdict:
        """The verdict, if it is "pass"; else `DeliveryError` with the whole explanation."""
        __tracebackhide__ = True
        verdict = self.verdict(contract)
        if verdict.outcome != "pass":
            raise DeliveryError(explain(verdict, start_ns=self.started_ns), history=self.record)
        return verdict

    @cached_property
    def summary(self) -> Summary:
        """Rates and latencies; computed when first asked for."""
        enqueued: dict[Message, int] = {}
        received: dict[Message, int] = {}
        puts: list[int] = []
        shares: Counter[str] = Counter()
        delivered = last_ns = 0
        for op in self.record:
            if op.kind is Kind.ENQUEUE:
                for message in op.messages:
                    enqueued.setdefault(message, op.invoked_ns)
                if op.outcome is Outcome.OK and op.ended_ns is not None:
                    puts.append(op.ended_ns - op.invoked_ns)
            elif op.kind in (Kind.DEQUEUE, Kind.DRAIN) and op.outcome is Outcome.OK and op.ended_ns is not None:
                delivered += len(op.messages)
                if op.kind is Kind.DEQUEUE:
                    shares[op.actor] += len(op.messages)
                last_ns = max(last_ns, op.ended_ns if op.messages else 0)
                for message in op.messages:
                    received[message] = min(op.ended_ns, received.get(message, op.ended_ns))
        seconds = max(0, last_ns - self.started_ns) / 1e9
        latencies = sorted(ns - enqueued[message] for message, ns in received.items() if message in enqueued)
        puts.sort()
        return Summary(
            acknowledged=len(puts),
            delivered=delivered,
            seconds=seconds,
            messages_per_second=delivered / seconds if seconds else 0.0,
            put_p50_seconds=_quantile(puts, 0.50),
            put_p99_seconds=_quantile(puts, 0.99),
            latency_p50_seconds=_quantile(latencies, 0.50),
            latency_p99_seconds=_quantile(latencies, 0.99),
            shares=dict(sorted(shares.items())),
        )


def _quantile(ordered_ns: list[int], part: float) -> float:
    """The smallest value that at least that part of all values do not exceed, in seconds."""
    return ordered_ns[math.ceil(len(ordered_ns) * part) - 1] / 1e9 if ordered_ns else 0.0
