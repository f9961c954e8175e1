"""The law of liveness: each consumer that outlived a fault takes messages again, or it is deaf."""

from __future__ import annotations

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.evidence import Evidence, Example, Recovery
from pytest_redisq.check.findings import Findings
from pytest_redisq.model import NO_MESSAGE


def judge_liveness(evidence: Evidence, findings: Findings, *, live_seconds: float, fan_out: bool) -> None:
    """deaf: a consumer that asked for `live_seconds` after a fault, and left the messages that lay there.

    If a consumer took nothing in time while other consumers took messages, it may be deaf or only unlucky. Then the
    law is not judged. Neither is it if no consumer outlived a fault.
    """
    recoveries = evidence.recoveries(fan_out=fan_out)
    if recoveries is None:
        findings.leave_out(AnomalyKind.DEAF, "no record was kept of the faults and of each consumer")
        return
    outlived = 0
    deaf: set[str] = set()
    for recovery in recoveries:
        outlived += 1
        in_time = recovery.waited_seconds <= live_seconds
        if recovery.took and in_time:
            continue
        if recovery.ignored_seconds >= live_seconds:
            if recovery.consumer not in deaf:
                deaf.add(recovery.consumer)
                example = Example(NO_MESSAGE, _deaf(recovery), op=recovery.last)
                findings.show(AnomalyKind.DEAF, example, reader=recovery.consumer)
        elif not (recovery.superseded and in_time):
            findings.leave_out(AnomalyKind.DEAF, _unclear(recovery, live_seconds))
    if not outlived:
        struck = any(fault.struck for fault in evidence.faults)
        why = "no consumer outlived a fault and asked again" if struck else "no fault struck"
        findings.leave_out(AnomalyKind.DEAF, why)


def _deaf(recovery: Recovery) -> str:
    took = f"took its first message {recovery.waited_seconds:.1f} s" if recovery.took else "took nothing"
    return (
        f'{took} after "{recovery.fault}", while messages that no consumer took lay there for '
        f"{recovery.ignored_seconds:.1f} s; it {recovery.did}"
    )


def _unclear(recovery: Recovery, live_seconds: float) -> str:
    name, fault = recovery.consumer, recovery.fault
    if not recovery.waited_seconds:
        return f'no message was there for {name} after "{fault}"'
    took = "took its first message" if recovery.took else "had taken nothing"
    when = f'{took} {recovery.waited_seconds:.1f} s after "{fault}"'
    if recovery.waited_seconds > live_seconds:
        return f"{name} {when}, while other consumers took messages: it may be deaf, or only have had no luck"
    return f"{name} {when}, and the run did not wait for {live_seconds:g} s"
