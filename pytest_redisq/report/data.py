"""A verdict as plain data, for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from pytest_redisq.check import Anomaly, Verdict
from pytest_redisq.model import Op


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """What `json.dumps` takes. Kinds that were not found are left out.

    A message is `"producer/sequence"`, and a run of them `"3/40-42"`.
    """
    return {
        "outcome": verdict.outcome,
        "line": str(verdict),
        "contract": str(verdict.contract),
        "totals": dataclasses.asdict(verdict.totals),
        "counts": {str(kind): times for kind, times in verdict.counts.items() if times},
        "broken": list(map(str, verdict.broken)),
        "anomalies": [_anomaly_data(anomaly) for anomaly in verdict.anomalies],
        "reasons": list(verdict.reasons),
        "not_judged": {str(kind): why for kind, why in verdict.not_judged.items()},
        "notes": list(verdict.notes),
        "faults": [dataclasses.asdict(fault) for fault in verdict.faults],
        "errors": [error._asdict() for error in verdict.errors],
    }


def _anomaly_data(anomaly: Anomaly) -> dict[str, Any]:
    return {
        "kind": str(anomaly.kind),
        "message": anomaly.where or None,
        "messages": anomaly.messages,
        "times": anomaly.times,
        "ids": list(anomaly.ids),
        "reader": anomaly.reader,
        "words": anomaly.words,
        "place": anomaly.place,
        "fate": anomaly.fate,
        "last_seen": _op_data(anomaly.last_seen) if anomaly.last_seen else None,
    }


def _op_data(op: Op) -> dict[str, Any]:
    return {
        "actor": op.actor,
        "kind": str(op.kind),
        "outcome": str(op.outcome),
        "messages": [str(message) for message in op.messages],
        "ids": list(op.ids),
        "invoked_ns": op.invoked_ns,
        "ended_ns": op.ended_ns,
        "queue": op.queue,
        "error": op.error,
    }
