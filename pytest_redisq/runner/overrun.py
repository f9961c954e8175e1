"""What a run says that could not be carried out, as when it did not end in time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pytest_redisq.check.column_evidence import ColumnEvidence
from pytest_redisq.endpoint.jobs import Job, ProducerJob
from pytest_redisq.history import History
from pytest_redisq.report import error_lines
from pytest_redisq.runner.status_table import WorkerStatus


def with_errors(said: str, history: History) -> str:
    """`said`, and below it the errors that the operations of `history` ended with."""
    return "\n".join([said, *error_lines(ColumnEvidence(history).errors())])


def explain_overrun(doing: str, deadline_seconds: float, workers: Sequence[tuple[Job, WorkerStatus]]) -> str:
    """What the run was doing, what each worker was doing and for how long, and what to do."""
    now_ns = time.monotonic_ns()
    lines = [
        f"The run did not end within deadline_seconds={deadline_seconds:g}; it was {doing}.",
        "Who was doing what:",
    ]
    put = received = 0
    for job, status in workers:
        done = f"{'put' if isinstance(job, ProducerJob) else 'received'} {status.messages}"
        of = f" of {job.messages}" if isinstance(job, ProducerJob) else ""
        since = f", for {(now_ns - status.since_ns) / 1e9:.1f} s" if status.since_ns else ""
        lines.append(f"  {job.name} {status.state.words}{since}; it has {done}{of} messages")
        if isinstance(job, ProducerJob):
            put += status.messages
        else:
            received += status.messages
    if received > put:
        lines.append("More was received than put: get() is to take out what it returns, and else return None.")
    lines.append("What to do: see why that call does not come back, or give the run longer.")
    return "\n".join(lines)


def explain_leftover(names: Sequence[str]) -> str:
    """That these workers could not be ended, and why."""
    return (
        f"These workers could not be ended: {', '.join(names)}. They wait, outside of Python, for something "
        'other than the server; in a process (workers="process") they could have been killed.'
    )
