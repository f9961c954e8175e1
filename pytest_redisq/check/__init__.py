"""The judge: a pure function from a history and a contract to a verdict."""

from __future__ import annotations

from pytest_redisq.check.contract import (
    LAWS,
    AnomalyKind,
    AnyContract,
    Contract,
    Guarantee,
    Law,
    contract_of,
)
from pytest_redisq.check.contract_text import ContractText
from pytest_redisq.check.evidence import ErrorCount, Evidence, Knowledge, Share
from pytest_redisq.check.judge import check
from pytest_redisq.check.missing import (
    AcknowledgedMessages,
    FinishedMessages,
    acknowledges,
    delivers,
    missing_messages,
    undelivered_messages,
)
from pytest_redisq.check.verdict import Anomaly, Totals, Verdict

__all__ = [
    "LAWS",
    "AcknowledgedMessages",
    "Anomaly",
    "AnomalyKind",
    "AnyContract",
    "Contract",
    "ContractText",
    "ErrorCount",
    "Evidence",
    "FinishedMessages",
    "Guarantee",
    "Knowledge",
    "Law",
    "Share",
    "Totals",
    "Verdict",
    "acknowledges",
    "check",
    "contract_of",
    "delivers",
    "missing_messages",
    "undelivered_messages",
]
