"""What the laws find, gathered: every count exact, of each kind the first few anomalies kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.evidence import Evidence, Example, Messages
from pytest_redisq.check.verdict import Anomaly
from pytest_redisq.model import Message


class Findings:
    """`keep` is how many anomalies of each kind are kept; all are counted."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._counts: Counter[AnomalyKind] = Counter()
        self._kept: defaultdict[AnomalyKind, list[Anomaly]] = defaultdict(list)
        self._left_out: dict[AnomalyKind, str] = {}

    def add(
        self,
        kind: AnomalyKind,
        messages: Messages,
        words: str,
        *,
        times: int = 1,
        ids: tuple[str, ...] = (),
        reader: str = "",
    ) -> None:
        """Each of `messages` shows an anomaly, `times` over."""
        self._counts[kind] += times * len(messages)
        kept = self._kept[kind]
        if len(kept) >= self._keep:
            return
        for message, length in messages.runs():
            kept.append(
                Anomaly(
                    kind=kind,
                    message=message,
                    messages=length,
                    times=times * length,
                    ids=ids,
                    reader=reader,
                    words=words,
                )
            )
            if len(kept) >= self._keep:
                return

    def show(self, kind: AnomalyKind, example: Example, *, reader: str = "") -> None:
        """The message of `example` shows an anomaly."""
        message, words, times, ids, op = example
        self._counts[kind] += times
        if len(self._kept[kind]) < self._keep:
            self._kept[kind].append(
                Anomaly(kind=kind, message=message, times=times, ids=ids, reader=reader, last_seen=op, words=words)
            )

    def leave_out(self, kind: AnomalyKind, why: str) -> None:
        """Note that this law could not be judged, at least of some messages. The first reason is kept."""
        self._left_out.setdefault(kind, why)

    def counts(self) -> Mapping[AnomalyKind, int]:
        return {kind: self._counts[kind] for kind in AnomalyKind}

    def not_judged(self) -> Mapping[AnomalyKind, str]:
        return {kind: self._left_out[kind] for kind in AnomalyKind if kind in self._left_out}

    def anomalies(self, evidence: Evidence) -> tuple[Anomaly, ...]:
        """Those kept, in the order of `AnomalyKind`, each with the op that last saw its message."""
        kept = [anomaly for kind in AnomalyKind for anomaly in self._kept[kind]]
        seen = evidence.last_seen({anomaly.message for anomaly in kept if anomaly.last_seen is None})
        failed = evidence.failed_work({anomaly.message for anomaly in kept if anomaly.kind in _UNFINISHED})
        places = _places(evidence)
        located = (
            replace(
                anomaly,
                last_seen=anomaly.last_seen or seen.get(anomaly.message),
                place=places[anomaly.message] if anomaly.kind in _LOOKED_FOR else places.get(anomaly.message, ""),
            )
            for anomaly in kept
        )
        return tuple(_with_failed_work(anomaly, failed.get(anomaly.message, 0)) for anomaly in located)


#: The anomalies of messages that are looked for in the server's keys.
_LOOKED_FOR = frozenset({AnomalyKind.LOST, AnomalyKind.INDETERMINATE, AnomalyKind.STUCK, AnomalyKind.FORGOTTEN})
#: The anomalies that failed work may lead to.
_UNFINISHED = frozenset({AnomalyKind.STUCK, AnomalyKind.FORGOTTEN})


def _with_failed_work(anomaly: Anomaly, times: int) -> Anomaly:
    """Say how often the work failed, and what the queue then did with the message.

    It is given up if it is forgotten after that. It is dead-lettered if the queue delivered it again after a failure,
    and in the end it lies in a key from which no consumer gets it. After one failure alone that cannot be known.
    """
    if anomaly.kind not in _UNFINISHED or not times:
        return anomaly
    said = f"its work failed {times_in_words(times)}"
    if anomaly.kind is AnomalyKind.FORGOTTEN:
        return replace(
            anomaly, fate="given up", words=f"{said}; it was not delivered again, and is no longer in the queue"
        )
    dead = times > 1 and anomaly.place.startswith("in ") and _PENDING not in anomaly.place
    words = f"{said}, and no consumer gets it any more: it is still in the queue"
    return replace(anomaly, fate="dead-lettered" if dead else "", words=words)


#: How a place begins to say that a consumer of a group holds the message.
_PENDING = ", pending to consumer "


def times_in_words(number: int) -> str:
    """A number of times: "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _places(evidence: Evidence) -> defaultdict[Message, str]:
    """Where each message lies, in words; nothing is said where there was no search."""
    places: defaultdict[Message, str] = defaultdict(lambda: "in no key" if evidence.searched else "")
    for place in reversed(evidence.places):
        places.update((message, f"in {place}") for message in place.messages)
    return places
