"""Order per producer, sound in real time also where many consumers take at once.

Law: a delivery of `a` is late if there is a `b` of the same producer such that the enqueue of `a` had ended,
acknowledged, before that of `b` was invoked, and `b` was delivered first: some dequeue of `b` had ended before that of
`a` was invoked, or `b` stands before `a` in the same dequeue. `a` is reordered if all its deliveries are late. Where
two dequeues overlap, either order is right. The outcome of the enqueue of `b` may be unknown. Messages whose numbers
lie outside `CountedHistory.sizes` are not judged.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import gt

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.multiset import Multiset
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import Kind, Message, Outcome

#: Later than any reading of the clock.
_NEVER = 2**63 - 1

_EMPTY = array("q")


def reordered(counted: CountedHistory, delivered: Multiset, dequeues: Sequence[ColumnGroup]) -> Iterator[Message]:
    """The reordered messages. `delivered` counts what `dequeues` took."""
    late: Counter[Message] = Counter()
    batches = [group for group in dequeues if group.key.width > 1]
    in_turn = _producers_in_turn(counted)
    spans = _Spans(counted, [producer for producer in range(len(counted.sizes)) if producer not in in_turn])
    behind = [list(_behind_later(counted, group, spans)) for group in batches]
    bounds = _first_end_of_later(counted, _first_ends(counted, dequeues), in_turn, spans)
    for group in dequeues:
        if group.key.width == 1:
            for producer, sequence, invoked_ns in _known(counted, group, group.invoked_ns):
                if invoked_ns > bounds[producer][sequence]:
                    late[Message(producer, sequence)] += 1
    for group, places in zip(batches, behind, strict=True):
        times = group.per_message(group.invoked_ns)
        for producer, sequence, invoked_ns, place in zip(group.producers, group.sequences, times, places, strict=True):
            if place is not None and (place or invoked_ns > bounds[producer][sequence]):
                late[Message(producer, sequence)] += 1
    return (message for message, times in sorted(late.items()) if times == delivered[message])


def _behind_later(counted: CountedHistory, group: ColumnGroup, spans: _Spans) -> Iterator[bool | None]:
    """Whether a message that was enqueued later stands before it in the same op, for each message of `group`.

    None: the message lies outside `CountedHistory.sizes`.
    """
    sizes, width = counted.sizes, group.key.width
    latest: dict[int, int] = {}  # by producer: when the enqueue invoked last was invoked, of those before in this op
    for place, (producer, sequence) in enumerate(zip(group.producers, group.sequences, strict=True)):
        if place % width == 0:
            latest.clear()
        if 0 <= producer < len(sizes) and 0 <= sequence < sizes[producer]:
            invoked, ended = spans.of(producer, sequence)
            yield ended < latest.get(producer, -1)
            if invoked < _NEVER:
                latest[producer] = max(latest.get(producer, -1), invoked)
        else:
            yield None


def _first_ends(counted: CountedHistory, dequeues: Sequence[ColumnGroup]) -> list[array[int]]:
    """For each message when the first of its dequeues ended."""
    ends = [array("q", [_NEVER]) * size for size in counted.sizes]
    for group in dequeues:
        for producer, sequence, ended_ns in _known(counted, group, group.ends_ns()):
            row = ends[producer]
            if ended_ns < row[sequence]:
                row[sequence] = ended_ns
    return ends


def _known(counted: CountedHistory, group: ColumnGroup, times: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Producer, sequence and time of each message, without those outside `CountedHistory.sizes`."""
    sizes, span = counted.sizes, group.span()
    triples = zip(group.producers, group.sequences, group.per_message(times), strict=True)
    if span.whole and span.highest_producer < len(sizes) and span.highest_sequence < min(sizes):
        return triples
    return (each for each in triples if 0 <= each[0] < len(sizes) and 0 <= each[1] < sizes[each[0]])


def _first_end_of_later(
    counted: CountedHistory, ends: list[array[int]], in_turn: frozenset[int], spans: _Spans
) -> list[array[int]]:
    """For each message when the first dequeue of any message enqueued after it ended; made in place of `ends`."""
    for producer, times in enumerate(ends):
        if producer in in_turn:
            least, sequence = _NEVER, len(times)
            sent = counted.possible.dense[producer]
            first, stop = sent.find(1), sent.rfind(1) + 1
            # What lies outside the run was not sent, or failed for certain: it has no order, whatever was delivered.
            times[stop:] = array("q", [_NEVER]) * (len(times) - stop)
            for ended_ns in islice(reversed(times), len(times) - first):
                sequence -= 1
                times[sequence] = least
                if ended_ns < least:
                    least = ended_ns
            times[:first] = array("q", [_NEVER]) * first
        else:
            ends[producer] = spans.bounds(producer, times)
    return ends


def _producers_in_turn(counted: CountedHistory) -> frozenset[int]:
    """The producers whose enqueues, all acknowledged, happened one after the other in the order of their sequence.

    This is the common case, and there the order in time is that of the numbers: nothing needs to be sorted.
    """
    groups: defaultdict[int, list[ColumnGroup]] = defaultdict(list)
    for group in _possible(counted):
        producers = {group.span().highest_producer} if group.span().run else set(group.producers)
        for producer in producers:
            groups[producer].append(group)
    return frozenset(producer for producer, mine in groups.items() if len(mine) == 1 and _one_in_turn(mine[0]))


def _one_in_turn(group: ColumnGroup) -> bool:
    steps = group.invoked_ns.steps.cells
    return (
        group.key.outcome is Outcome.OK
        and group.key.width == 1
        and group.span().run
        and all(map(gt, islice(steps, 1, None), group.durations_ns))
    )


class _Spans:
    """When enqueues were invoked and ended. Those of `producers`: in any order, of unknown outcome, in batches.

    The enqueues of all other producers happened in turn.
    """

    def __init__(self, counted: CountedHistory, producers: Sequence[int]) -> None:
        sizes = counted.sizes
        self._sent = counted.possible.dense
        #: The first attempt at each message.
        self._invoked = {producer: array("q", [_NEVER]) * sizes[producer] for producer in producers}
        #: The last acknowledged attempt; stays where there is none.
        self._ended = {producer: array("q", [_NEVER]) * sizes[producer] for producer in producers}
        for group in _possible(counted) if producers else ():
            self._add(group, group.key.outcome is Outcome.OK)

    def _add(self, group: ColumnGroup, ok: bool) -> None:
        times = group.per_message(zip(group.invoked_ns, group.ends_ns(), strict=True))
        for message, (invoked_ns, ended_ns) in zip(map(Message, group.producers, group.sequences), times, strict=True):
            producer, sequence = message
            invoked = self._invoked.get(producer, _EMPTY)
            if 0 <= sequence < len(invoked):
                ended = self._ended[producer]
                invoked[sequence] = min(invoked[sequence], invoked_ns)
                if ok and (ended[sequence] == _NEVER or ended[sequence] < ended_ns):
                    ended[sequence] = ended_ns

    def of(self, producer: int, sequence: int) -> tuple[int, int]:
        """When the enqueue of a message was invoked and ended, for comparisons within its producer.

        Not before `bounds` has taken the producer's. `_NEVER` where it was not.
        """
        if producer in self._invoked:
            return self._invoked[producer][sequence], self._ended[producer][sequence]
        # In turn: the number tells the order as well as the time does.
        return (sequence, sequence) if self._sent[producer][sequence] else (_NEVER, _NEVER)

    def bounds(self, producer: int, ends: array[int]) -> array[int]:
        """Two sweeps backwards in time: over the invocations of later messages, and the ends of earlier ones."""
        invoked, ended = self._invoked.pop(producer), self._ended.pop(producer)
        later = [sequence for sequence in range(len(ends)) if invoked[sequence] < _NEVER]
        later.sort(key=invoked.__getitem__)
        bounds = array("q", [_NEVER]) * len(ends)
        least = _NEVER
        for earlier in sorted(range(len(ends)), key=ended.__getitem__, reverse=True):
            while later and invoked[later[-1]] > ended[earlier]:
                least = min(least, ends[later.pop()])
            bounds[earlier] = least
        return bounds


def _possible(counted: CountedHistory) -> list[ColumnGroup]:
    """The enqueues that may have happened."""
    groups = counted.history.groups
    return [each for each in groups if each.key.kind is Kind.ENQUEUE and each.key.outcome is not Outcome.FAIL]
