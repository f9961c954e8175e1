"""The judge: a pure function from a history and a contract to a verdict."""

from __future__ import annotations

from pytest_redisq.check.contract import LAWS, AnomalyKind, Contract, Guarantee, Law
from pytest_redisq.check.evidence import Evidence, Knowledge, Share
from pytest_redisq.check.judge import check
from pytest_redisq.check.verdict import Anomaly, Totals, Verdict

__all__ = [
    "LAWS",
    "Anomaly",
    "AnomalyKind",
    "Contract",
    "Evidence",
    "Guarantee",
    "Knowledge",
    "Law",
    "Share",
    "Totals",
    "Verdict",
    "check",
]
