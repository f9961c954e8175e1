"""The law of those who end with a message in hand: where consumers acknowledge, a delivery alone is no arrival."""

from __future__ import annotations

from collections import Counter, defaultdict

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.ledger import Ledger
from pytest_redisq.check.tally import Tally
from pytest_redisq.history.columns import Rising, Strand
from pytest_redisq.model import Kind, Message, Outcome


def judge_holders(ledger: Ledger, delivered: Tally, trimmed: Tally, excuse: float, findings: Findings) -> None:
    """Of quiescent histories. `excuse`: how many messages dequeues of unknown outcome may have taken besides."""
    acks = [strand for strand in ledger.history.strands if strand.shape.kind is Kind.ACK]
    if not acks:
        return  # nobody acknowledges here, so that nothing can be told from it
    held = _in_last_hands(ledger)
    unsure = {
        message
        for strand in acks
        if held and strand.shape.outcome is not Outcome.OK
        for message in map(Message, strand.producers, strand.sequences)
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


def _in_last_hands(ledger: Ledger) -> Counter[Message]:
    """The messages of each consumer's last dequeue: what it had in hand when it ended, if it did not acknowledge."""
    strands: defaultdict[str, list[Strand]] = defaultdict(list)
    for strand in ledger.history.strands:
        if strand.shape.kind is Kind.DEQUEUE and len(strand):
            strands[strand.shape.actor].append(strand)
    held: Counter[Message] = Counter()
    for mine in strands.values():
        last_ns = max(strand.invoked_ns.highest() for strand in mine)
        latest = [(strand, place) for strand in mine for place in _places(strand.invoked_ns, last_ns)]
        # Of several workers under one name we may not be able to tell whose is the last.
        if len(latest) == 1 and latest[0][0].shape.outcome is Outcome.OK:
            ((strand, place),) = latest
            cells = slice(place * strand.shape.width, (place + 1) * strand.shape.width)
            held.update(map(Message, strand.producers.cells[cells], strand.sequences.cells[cells]))
    return held


def _places(numbers: Rising, highest: int) -> list[int]:
    """Where the `highest` of some numbers stands, if it is among these; of several places the last two will do."""
    if numbers.highest() != highest:
        return []
    if numbers.falls:
        return [place for place, number in enumerate(numbers) if number == highest]
    last = len(numbers) - 1
    return [last, last - 1] if last and numbers.steps.cells[last] == 0 else [last]
