"""Short hands for literal histories: an op a line, times in nanoseconds."""

from __future__ import annotations

from pytest_redisq.check import AnomalyKind, Contract, Verdict, check
from pytest_redisq.history import History, Quiescence
from pytest_redisq.model import Kind, Message, Op, Outcome

#: After all that literal histories hold.
LATE_NS = 10**9


def op(
    kind: Kind,
    actor: str,
    invoked_ns: int,
    ended_ns: int | None,
    *sequences: int,
    outcome: Outcome = Outcome.OK,
    ids: tuple[str, ...] = (),
    producer: int = 0,
    error: str = "",
) -> Op:
    return Op(
        actor=actor,
        kind=kind,
        outcome=outcome,
        messages=tuple(Message(producer, sequence) for sequence in sequences),
        ids=ids,
        invoked_ns=invoked_ns,
        ended_ns=ended_ns,
        error=error,
    )


def put(at: int, *sequences: int, **rest: object) -> Op:
    """An enqueue by `producer`, from `at` to `at` + 5."""
    return op(Kind.ENQUEUE, "producer", at, at + 5, *sequences, **rest)  # type: ignore[arg-type]


def get(at: int, *sequences: int, actor: str = "consumer", **rest: object) -> Op:
    """A dequeue by `consumer`, from `at` to `at` + 5."""
    return op(Kind.DEQUEUE, actor, at, at + 5, *sequences, **rest)  # type: ignore[arg-type]


def ack(at: int, *sequences: int, **rest: object) -> Op:
    """An ack by `consumer`, from `at` to `at` + 5."""
    return op(Kind.ACK, "consumer", at, at + 5, *sequences, **rest)  # type: ignore[arg-type]


def quiet(**fields: object) -> Quiescence:
    return Quiescence(at_ns=LATE_NS, **fields)  # type: ignore[arg-type]


def judge(*ops: Op, contract: str = "at-least-once", end: Quiescence | None = quiet()) -> Verdict:  # noqa: B008 - frozen
    return check(History.of(ops, end), Contract.parse(contract))


def found(verdict: Verdict) -> dict[str, int]:
    """The anomalies that were counted, without the kinds that were not found."""
    return {str(kind): times for kind, times in verdict.counts.items() if times}


def none_but(**counts: int) -> dict[AnomalyKind, int]:
    """The whole of `Verdict.counts`, with 0 for what is not named; `false_ack` stands for false-ack."""
    named = {AnomalyKind(name.replace("_", "-")): times for name, times in counts.items()}
    return {kind: named.get(kind, 0) for kind in AnomalyKind}
