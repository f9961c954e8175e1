"""What the laws find, gathered: every count exact, of each kind the first few anomalies kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.verdict import Anomaly
from pytest_redisq.history import History
from pytest_redisq.model import Message, Op


class Findings:
    """`keep` is how many anomalies of each kind are kept; all are counted."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._counts: Counter[AnomalyKind] = Counter()
        self._kept: defaultdict[AnomalyKind, list[Anomaly]] = defaultdict(list)

    def add(
        self,
        kind: AnomalyKind,
        message: Message,
        words: str,
        *,
        times: int = 1,
        ids: tuple[str, ...] = (),
        reader: str = "",
        op: Op | None = None,
    ) -> None:
        self._counts[kind] += times
        if len(self._kept[kind]) < self._keep:
            self._kept[kind].append(
                Anomaly(kind=kind, message=message, times=times, ids=ids, reader=reader, last_seen=op, words=words)
            )

    def counts(self) -> Mapping[AnomalyKind, int]:
        return {kind: self._counts[kind] for kind in AnomalyKind}

    def anomalies(self, history: History) -> tuple[Anomaly, ...]:
        """Those kept, in the order of `AnomalyKind`, each with the op that last saw its message."""
        kept = [anomaly for kind in AnomalyKind for anomaly in self._kept[kind]]
        seen = last_seen(history, {anomaly.message for anomaly in kept if anomaly.last_seen is None})
        return tuple(
            anomaly if anomaly.last_seen else replace(anomaly, last_seen=seen.get(anomaly.message)) for anomaly in kept
        )


def last_seen(history: History, messages: set[Message]) -> Mapping[Message, Op]:
    """For each of `messages` the op invoked last of those that mention it."""
    found: dict[Message, tuple[int, int, int]] = {}  # when invoked, which group, which op of it
    if messages:
        wanted = frozenset(messages)
        for place, group in enumerate(history.groups):
            width = group.key.width
            pairs = zip(group.producers, group.sequences, strict=True)
            invoked = group.per_message(group.invoked_ns)
            for index, (pair, invoked_ns) in enumerate(zip(pairs, invoked, strict=True)):
                if pair in wanted:
                    seen = (invoked_ns, place, index // width)
                    message = Message(*pair)
                    found[message] = max(seen, found.get(message, seen))
    places: defaultdict[int, set[int]] = defaultdict(set)
    for _, place, number in found.values():
        places[place].add(number)
    ops = {(place, number): op for place, numbers in places.items() for number, op in _ops(history, place, numbers)}
    return {message: ops[place, number] for message, (_, place, number) in found.items()}


def _ops(history: History, place: int, numbers: set[int]) -> list[tuple[int, Op]]:
    group = history.groups[place]
    return [(number, history.op(group.key, row)) for number, row in group.rows_at(numbers)]
