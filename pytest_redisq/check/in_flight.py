"""The law of those who end with a message in hand: where consumers acknowledge, a delivery alone is no arrival."""

from __future__ import annotations

from collections import Counter, defaultdict

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.ledger import Ledger
from pytest_redisq.check.multiset import Multiset
from pytest_redisq.history.columns import ColumnGroup, DeltaColumn
from pytest_redisq.model import Kind, Message, Outcome


def judge_in_flight(ledger: Ledger, delivered: Multiset, trimmed: Multiset, excuse: float, findings: Findings) -> None:
    """Of quiescent histories. `excuse`: how many messages dequeues of unknown outcome may have taken besides."""
    acks = [group for group in ledger.history.groups if group.key.kind is Kind.ACK]
    if not acks:
        return  # nobody acknowledges here, so that nothing can be told from it
    held = _in_flight_at_the_end(ledger)
    unsure = {
        message
        for group in acks
        if held and group.key.outcome is not Outcome.OK
        for message in map(Message, group.producers, group.sequences)
    }
    for message, times in sorted(held.items()):
        elsewhere = ledger.pending[message] + ledger.remaining[message] + trimmed[message]
        # forgotten: all of D were in the last hands, none of D is in K or may be, and it is not inside
        owed = min(times, ledger.acknowledged[message])
        if times < delivered[message] or ledger.acked[message] or message in unsure or elsewhere or not owed:
            continue
        excused = int(min(owed, excuse))
        excuse -= excused
        words = "delivered only to a consumer that ended before it acknowledged it, and no longer in the queue"
        if excused:
            taken = f"{words}; a dequeue of unknown outcome may have taken it"
            findings.add(AnomalyKind.INDETERMINATE, message, taken, times=excused)
        if owed > excused:
            findings.add(AnomalyKind.FORGOTTEN, message, words, times=owed - excused)


def _in_flight_at_the_end(ledger: Ledger) -> Counter[Message]:
    """The messages of each consumer's last dequeue: what it had in hand when it ended, if it did not acknowledge."""
    groups: defaultdict[str, list[ColumnGroup]] = defaultdict(list)
    for group in ledger.history.groups:
        if group.key.kind is Kind.DEQUEUE and len(group):
            groups[group.key.actor].append(group)
    held: Counter[Message] = Counter()
    for mine in groups.values():
        last_ns = max(group.invoked_ns.highest() for group in mine)
        latest = [(group, place) for group in mine for place in _places(group.invoked_ns, last_ns)]
        # Of several workers under one name we may not be able to tell whose is the last.
        if len(latest) == 1 and latest[0][0].key.outcome is Outcome.OK:
            ((group, place),) = latest
            cells = slice(place * group.key.width, (place + 1) * group.key.width)
            held.update(map(Message, group.producers.cells[cells], group.sequences.cells[cells]))
    return held


def _places(numbers: DeltaColumn, highest: int) -> list[int]:
    """Where the `highest` of some numbers stands, if it is among these; of several places the last two will do."""
    if numbers.highest() != highest:
        return []
    if numbers.falls:
        return [place for place, number in enumerate(numbers) if number == highest]
    last = len(numbers) - 1
    return [last, last - 1] if last and numbers.steps.cells[last] == 0 else [last]
