"""What a schedule shows of bounds: which commands trimmed, and what consumers were handed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_

from pytest_redisq.explore.schedule import StepKind
from pytest_redisq.explore.trace import ExecutedStep
from pytest_redisq.history import History
from pytest_redisq.model import Kind, Message
from pytest_redisq.resp import Trait, traits_of
from pytest_redisq.search import BoundEvidence, EntryWatch, FindMessages, KeptBack, NamespaceSearch, SearchResult

#: The steps of an actor that no fault has struck.
_ORDINARY = (StepKind.RUN, StepKind.TIME)


def traits_of_all(events: Sequence[ExecutedStep]) -> Trait:
    """What the commands of a schedule have done."""
    return reduce(or_, (traits_of(event.args) for event in events if event.args), Trait.NONE)


def returned_by(name: str, history: History) -> set[Message]:
    """The messages that the gets of an actor returned."""
    return {message for op in history if op.actor == name and op.kind is Kind.DEQUEUE for message in op.messages}


def bounds_of(
    search: NamespaceSearch,
    find: FindMessages,
    events: Sequence[ExecutedStep],
    keeps: Collection[int],
    returned: Mapping[int, Collection[Message]],
) -> BoundEvidence:
    """What bounds removed in a schedule.

    * `search`: searches the namespace, which was empty before.
    * `find`: finds the messages in a reply.
    * `events`: the steps of the schedule.
    * `keeps`: the bounds that its queues declare.
    * `returned`: by actor, the messages that its get returned.
    """
    seen = traits_of_all(events)

    def kept_back() -> KeptBack:
        taken = {message for _, reply in _handed(events, Trait.TAKES) for message in find(reply)}
        read = {
            message
            for actor, reply in _handed(events, Trait.READS)
            for message in find(reply)
            if message not in returned.get(actor, ())
        }
        return KeptBack(taken, read)

    return BoundEvidence(
        search,
        EntryWatch(SearchResult, lambda: seen, owned=True, declared=bool(keeps)),
        trims=lambda: ("the actors trimmed lists", "") if Trait.TRIMS in seen else ("", ""),
        kept_back=kept_back,
        keeps=max(keeps, default=None),
    )


def _handed(events: Sequence[ExecutedStep], how: Trait) -> Iterator[tuple[int, bytes]]:
    """The replies to commands that take messages, or read them, each with its actor, which no fault has struck."""
    struck = {event.step.actor for event in events if event.step.kind not in _ORDINARY}
    takers = {event.step.actor for event in events if event.args and Trait.TAKES in traits_of(event.args)}
    others = struck if how is Trait.TAKES else struck | takers
    for event in events:
        if event.args and not event.unread and event.step.actor not in others and how in traits_of(event.args):
            yield event.step.actor, event.reply
        for woken in event.woken:
            if not woken.unread and woken.actor not in others and how in traits_of(woken.args):
                yield woken.actor, woken.reply
