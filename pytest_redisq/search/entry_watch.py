"""What streams have trimmed, by count: for messages whose ids are not known.

Law: XINFO STREAM counts the entries that were ever added, and those that are there, so it is known how many are gone;
and trimming removes the oldest first. If all acknowledged messages that no key holds are no more than the streams have
removed since the run began, the streams trimmed them. XDEL makes this uncertain, unless the queue declares a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from pytest_redisq.resp import Trait
from pytest_redisq.search.namespace_search import SearchResult
from pytest_redisq.search.trimming import StreamBounds


class EntryEvidence(NamedTuple):
    """What streams have trimmed.

    * `streams`: those that account for all messages that are gone; none if they cannot have trimmed them.
    * `doubt`: why they need not have; empty if it is certain.
    """

    streams: Collection[StreamBounds] = ()
    doubt: str = ""


class EntryWatch:
    """Counts what streams have trimmed since this object was made.

    * `look`: looks at the streams of the run's namespace.
    * `seen`: returns what the commands of the run's workers have done.
    * `owned`: whether all keys there belong to the run.
    * `declared`: whether the queue declares a bound.
    """

    def __init__(
        self, look: Callable[[], SearchResult], seen: Callable[[], Trait], *, owned: bool, declared: bool
    ) -> None:
        self._seen = seen
        self._owned = owned
        self._declared = declared
        before = look()
        self._added_before: dict[str, int] | None = (
            None if before.gap else {stream.name: stream.added for stream in before.bounds}
        )

    def evidence(self, result: SearchResult, gone: int) -> EntryEvidence:
        """What the streams have trimmed.

        * `result`: of a search for all messages that were acknowledged.
        * `gone`: how many of these are in no key.
        """
        holders = {place.key for place in result.places if place.type == "stream"}
        streams = [stream for stream in result.bounds if stream.name in holders or not holders]
        before = self._added_before or {}
        # What was there before the run is older, and so was trimmed first.
        removed = sum(max(0, stream.removed - before.get(stream.name, 0)) for stream in streams)
        if not removed or gone > removed:
            return EntryEvidence()
        return EntryEvidence(streams, self._doubt(streams))

    def _doubt(self, streams: Collection[StreamBounds]) -> str:
        if self._added_before is None:
            return "how much its streams had trimmed before the run is not known, as there are too many keys"
        trims = Trait.TRIMS_STREAM in self._seen()
        if not self._declared and any(stream.deleted != (0, 0) for stream in streams):
            return "a stream trimmed them, or XDEL removed them. To be certain, let put() return the entry's id"
        if not (self._owned or trims):
            return (
                "a stream has removed as many entries, and no worker was seen to trim it: another client may have. To "
                "be certain, trim by a command of the client that the queue is given"
            )
        return ""
