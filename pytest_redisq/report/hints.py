"""What to do about the anomalies of a verdict. A hint rests on the record or on what the server said: no guesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pytest_redisq.check import AnomalyKind, Verdict
from pytest_redisq.history import GROUP_AT_END
from pytest_redisq.model import ACK_REFUSED

#: Where `Anomaly.place` says that a message was searched for and not found.
NOWHERE = "in no key"
#: Faults after which a server without persistence has lost its data.
_SERVER_FAULTS = ("kill:server", "restart", "failover")
#: Faults that cut connections, so that replies are lost.
_CONNECTION_FAULTS = ("drop", "lost-reply", "lost-request", "cut-reply", *_SERVER_FAULTS)


def hints(verdict: Verdict) -> list[str]:
    """What to do about each anomaly that breaks the contract: one line for each piece of evidence, each once."""
    found = (hint for kind in verdict.broken if kind in HINTS for hint in HINTS[kind](verdict))
    return list(dict.fromkeys(found))


def _lost(verdict: Verdict) -> Iterator[str]:
    if _struck(verdict, _SERVER_FAULTS):
        yield "a fault restarted the server: without persistence (appendonly) its data are then gone"
    if _places(verdict, AnomalyKind.LOST) == {""}:
        yield "the server's keys were not searched for the lost messages: they may still be in one"
    yield from _passed_over(verdict)


def _indeterminate(verdict: Verdict) -> Iterator[str]:
    number = verdict.totals.unknown_dequeues
    if number and _places(verdict, AnomalyKind.INDETERMINATE) <= {"", NOWHERE}:
        yield (
            f"{number} dequeue{'s' if number > 1 else ''} ended without a reply: what the consumer had popped is gone. "
            "Move messages to a processing list (BLMOVE), or read by a consumer group, and recover them from there"
        )


def _stuck(verdict: Verdict) -> Iterator[str]:
    places = sorted(place for place in _places(verdict, AnomalyKind.STUCK) if place)
    if not places:
        yield "the queue lists them as pending, and no consumer takes over what another one held"
    for place in places[:3]:
        if "pending to consumer" in place:
            yield f"no consumer claims (XAUTOCLAIM) what lies {place}"
        else:
            yield f"no consumer takes, or gives back, what lies {place}"


def _forgotten(verdict: Verdict) -> Iterator[str]:
    places = _places(verdict, AnomalyKind.FORGOTTEN)
    if places <= {"", NOWHERE}:
        searched = "" if NOWHERE not in places else ", since it is in no key"
        yield f"the message left the queue before its ack{searched}: remove it by the ack, after the work"
    if _done_with(verdict, AnomalyKind.FORGOTTEN):
        yield "the entry is in the stream, and its group no longer has it pending: acknowledge after the work"


def _passed_over(verdict: Verdict) -> Iterator[str]:
    """The entries that no consumer got, and that a group has no more to do with."""
    if not _done_with(verdict, AnomalyKind.LOST):
        return
    if any(note.startswith(GROUP_AT_END) for note in verdict.notes):
        yield "at $ a group gets only entries that are added later: create it at 0, or before the first XADD"
    else:
        yield (
            "the entry is in the stream, and its group has no more to do with it: a consumer got it and did not return "
            "it, or the group was created after it"
        )


def _done_with(verdict: Verdict, kind: AnomalyKind) -> bool:
    """Whether some messages are entries that a group has acknowledged, or never had pending."""
    return any("no more to do with it" in place for place in _places(verdict, kind))


def _repeated(verdict: Verdict) -> Iterator[str]:
    totals = verdict.totals
    if refused := sum(error.times for error in verdict.errors if error.text == ACK_REFUSED):
        yield (
            f"{refused} ack{'s were' if refused > 1 else ' was'} refused (ack() returned False), and messages were "
            "delivered again: two consumers had one at the same time. Make the lease longer than the work, or renew it"
        )
    if totals.unknown or totals.unknown_dequeues or _struck(verdict, _CONNECTION_FAULTS):
        yield (
            "an operation lost its reply: a client that retries it (redis-py does by default) executes the command "
            "twice. Turn that off: Retry(NoBackoff(), 0)"
        )


def _reordered(verdict: Verdict) -> Iterator[str]:
    if verdict.totals.repeated:
        yield "messages were delivered again: one that is given back at the end of the queue comes after later ones"


def _false_ack(verdict: Verdict) -> Iterator[str]:
    if any("pending to consumer" in place for place in _places(verdict, AnomalyKind.FALSE_ACK)):
        yield (
            "XACK was not sent for it, or not for its stream, group and ID. If the work failed, let ack() return False "
            "or raise: then no ack is recorded"
        )
    else:
        yield "the ack does not remove the message from where it lies: compare its key and value with those of the get"


def _always(hint: str) -> Callable[[Verdict], Iterator[str]]:
    """A hint for an anomaly that is itself the evidence."""
    return lambda _verdict: iter([hint])


HINTS: Mapping[AnomalyKind, Callable[[Verdict], Iterator[str]]] = {
    AnomalyKind.LOST: _lost,
    AnomalyKind.INDETERMINATE: _indeterminate,
    AnomalyKind.STUCK: _stuck,
    AnomalyKind.FORGOTTEN: _forgotten,
    AnomalyKind.TRIMMED: _always('a larger bound, faster readers, or the modifier "bounded" if such a loss is agreed'),
    AnomalyKind.DUPLICATED: _repeated,
    AnomalyKind.CLONED: _repeated,
    AnomalyKind.REORDERED: _reordered,
    AnomalyKind.FALSE_FAIL: _always(
        "an error that leaves the outcome open (a timeout, a cut connection) is not a failure"
    ),
    AnomalyKind.FALSE_ACK: _false_ack,
    AnomalyKind.DEAF: _always(
        "whether the consumer connects and subscribes again after a lost connection, and makes its group again where "
        "that is gone (the error NOGROUP does not mean that the queue is empty)"
    ),
    AnomalyKind.POLL_SKIP: _always("after the first XREAD go on from the last ID received, never from $"),
}


def _places(verdict: Verdict, kind: AnomalyKind) -> set[str]:
    return {anomaly.place for anomaly in verdict.anomalies if anomaly.kind is kind}


def _struck(verdict: Verdict, names: tuple[str, ...]) -> bool:
    return any(fault.struck and fault.fault.startswith(names) for fault in verdict.faults)
