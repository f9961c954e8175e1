"""What a schedule shows of bounds: which commands trimmed, and what consumers were handed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import reduce
from operator import or_

from pytest_redisq.explore.schedule import StepKind
from pytest_redisq.explore.trace import ExecutedStep
from pytest_redisq.resp import Trait, traits_of
from pytest_redisq.search import BoundEvidence, EntryWatch, FindMessages, KeptBack, NamespaceSearch, SearchResult

#: The steps of an actor that no fault has struck.
_ORDINARY = (StepKind.RUN, StepKind.TIME)


def traits_of_all(events: Sequence[ExecutedStep]) -> Trait:
    """What the commands of a schedule have done."""
    return reduce(or_, (traits_of(event.args) for event in events if event.args), Trait.NONE)


def bounds_of(
    search: NamespaceSearch, find: FindMessages, events: Sequence[ExecutedStep], keeps: Collection[int]
) -> BoundEvidence:
    """What bounds removed in a schedule.

    * `search`: searches the namespace, which was empty before.
    * `find`: finds the messages in a reply.
    * `events`: the steps of the schedule.
    * `keeps`: the bounds that its queues declare.
    """
    seen = traits_of_all(events)
    return BoundEvidence(
        search,
        EntryWatch(SearchResult, lambda: seen, owned=True, declared=bool(keeps)),
        trims=lambda: ("the actors trimmed lists", "") if Trait.TRIMS in seen else ("", ""),
        kept_back=lambda: KeptBack({message for reply in _handed(events) for message in find(reply)}),
        keeps=max(keeps, default=None),
    )


def _handed(events: Sequence[ExecutedStep]) -> Iterator[bytes]:
    """The replies to commands that take messages, of actors that no fault has struck."""
    struck = {event.step.actor for event in events if event.step.kind not in _ORDINARY}
    for event in events:
        if event.args and not event.unread and event.step.actor not in struck and Trait.TAKES in traits_of(event.args):
            yield event.reply
        for woken in event.woken:
            if not woken.unread and woken.actor not in struck and Trait.TAKES in traits_of(woken.args):
                yield woken.reply
