"""What the bounds of a queue removed in a run: entries of streams, and elements of lists.

Laws: those of `search.trimming` and `search.entry_watch`. Of what a living consumer was handed and did not return, it
cannot be told whether a bound removed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from typing import NamedTuple

from pytest_redisq.check import AcknowledgedMessages, undelivered_messages
from pytest_redisq.history import History
from pytest_redisq.model import Kind, Message, Outcome
from pytest_redisq.search.entry_watch import EntryWatch
from pytest_redisq.search.namespace_search import NamespaceSearch, SearchResult
from pytest_redisq.search.trimming import kept_back_doubt, trimmed_ids, trimmed_messages


class KeptBack(NamedTuple):
    """What the server has handed to living consumers, and their get has not returned.

    `messages`: another consumer may have returned them. `read`: by readers of streams, each for itself alone. `more`:
    there are others, which are not known.
    """

    messages: Collection[Message] = ()
    read: Collection[Message] = ()
    more: bool = False


class RemovedMessages(NamedTuple):
    """What bounds removed: the entries with these ids, and these messages, of which the ids are not known.

    `doubt`: why a bound need not have removed them; empty if it is certain. `notes`: for the reader of the report.
    """

    ids: Sequence[str] = ()
    messages: Sequence[Message] = ()
    doubt: str = ""
    notes: Sequence[str] = ()


class BoundEvidence:
    """Tells what bounds have removed during a run.

    * `search`: searches the namespace of the run.
    * `entries`: tells what streams have trimmed, by count.
    * `trims`: returns what was seen of trimmed lists and sorted sets, as `TrimWatch.evidence`.
    * `kept_back`: returns what was handed to living consumers, and not returned.
    * `keeps`: the bound that the queue declares as its `maxlen`; None if it declares none.
    """

    def __init__(
        self,
        search: NamespaceSearch,
        entries: EntryWatch,
        *,
        trims: Callable[[], tuple[str, str]],
        kept_back: Callable[[], KeptBack],
        keeps: int | None,
    ) -> None:
        self.keeps: int | None = keeps
        self._search = search
        self._entries = entries
        self._trims = trims
        self._kept_back = kept_back

    def removed(self, history: History, result: SearchResult) -> RemovedMessages:
        """What bounds removed of the messages in `history`. `result`: of the search for all that are missing."""
        ids = trimmed_ids(history, result.bounds, declared=self.keeps is not None)
        gone = undelivered_messages(history) - result.placed
        if result.gap:
            return RemovedMessages(ids)
        entries, doubt = self._removed_entries(history, result)
        said = "the streams have removed as many entries"
        doubts, notes = _told(len(gone.intersection(entries)), said, doubt)
        elements: Collection[Message] = ()
        trims, doubt = self._trims() if gone else ("", "")
        if trims:
            elements = set(trimmed_messages(history, gone, self.keeps or 1)).difference(entries)
            more_doubts, more_notes = _told(len(elements), trims, doubt)
            doubts, notes = doubts + more_doubts, notes + more_notes
        messages = sorted({*entries, *elements})
        if (ids or messages) and (kept := self._not_returned(gone)):
            doubts.append(kept)
        return RemovedMessages(ids, messages, "; ".join(doubts), notes)

    def _removed_entries(self, history: History, result: SearchResult) -> tuple[Set[Message], str]:
        """The messages without ids that are in no key, if streams have trimmed them, and why they need not have."""
        if not any(stream.removed for stream in result.bounds) or not any(_nameless(history)):
            return frozenset(), ""
        acknowledged = AcknowledgedMessages(history)
        whole = self._search.search(acknowledged)
        kept = whole.placed
        evidence = self._entries.evidence(whole, acknowledged.total - len(kept))
        doubt = f"the search for all others is not complete: {whole.gap}" if whole.gap else evidence.doubt
        streams = [stream.name for stream in evidence.streams]
        oldest: dict[int, int] = {}
        for place in whole.places if len(streams) == 1 else ():
            for message in place.messages if place.key in streams else ():
                oldest[message.producer] = min(message.sequence, oldest.get(message.producer, message.sequence))
        older = (each for each in _nameless(history) if each.sequence < oldest.get(each.producer, each.sequence + 1))
        return frozenset(older) - kept if streams else frozenset(), doubt

    def _not_returned(self, gone: Set[Message]) -> str:
        """What living consumers were handed of the messages that are in no key, in words; empty if nothing."""
        told = self._kept_back()
        known = sorted((gone & set(told.messages)) | set(told.read))
        return kept_back_doubt(known) if known or told.more else ""


def _told(number: int, said: str, doubt: str) -> tuple[list[str], list[str]]:
    """Doubts and notes on so many missing messages. `said`: what was seen of a bound."""
    if not number:
        return [], []
    missing = f"{number:,} missing messages are in no key"
    if doubt:
        return [f"{missing}; {doubt}"], []
    return [], [f'{missing}, and {said}: under "bounded" they count as trimmed']


def _nameless(history: History) -> Iterator[Message]:
    """The acknowledged messages of which the queue did not say which entry of a stream they are."""
    for group in history.groups:
        if group.key.kind is Kind.ENQUEUE and group.key.outcome is Outcome.OK:
            for producer, sequence, code in zip(group.producers, group.sequences, group.codes(), strict=True):
                if code is None or code < 0:
                    yield Message(producer, sequence)
