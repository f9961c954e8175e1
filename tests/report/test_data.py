"""A verdict as JSON data."""

from __future__ import annotations

import json

from pytest_redisq.report import verdict_data
from tests.check.literals import get, judge, put


def test_a_verdict_survives_json_whole() -> None:
    data = verdict_data(judge(put(0, 0), put(10, 1, ids=("2-0",)), get(20, 0), contract="at-least-once, fifo"))
    assert json.loads(json.dumps(data)) == {
        "outcome": "fail",
        "line": "at-least-once, fifo broken: 1 lost",
        "contract": "at-least-once, fifo",
        "totals": {
            "attempted": 2,
            "acknowledged": 2,
            "failed": 0,
            "unknown": 0,
            "delivered": 1,
            "repeated": 0,
            "acked": 0,
            "unknown_dequeues": 0,
            "remaining": 0,
            "pending": 0,
            "missing": 1,
        },
        "counts": {"lost": 1},
        "broken": ["lost"],
        "anomalies": [
            {
                "kind": "lost",
                "message": "0/1",
                "messages": 1,
                "times": 1,
                "ids": [],
                "reader": "",
                "words": "acknowledged, never delivered, and no longer in the queue",
                "place": "",
                "fate": "",
                "last_seen": {
                    "actor": "producer",
                    "kind": "enqueue",
                    "outcome": "ok",
                    "messages": ["0/1"],
                    "ids": ["2-0"],
                    "invoked_ns": 10,
                    "ended_ns": 15,
                    "queue": "",
                    "error": "",
                },
            }
        ],
        "reasons": [],
        "not_judged": {},
        "notes": [],
        "faults": [],
        "errors": [],
    }
