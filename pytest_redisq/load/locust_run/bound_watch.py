"""What bounds removed from a queue of the user's own under load: entries of streams, and elements of lists.

Laws:

* Entries: a stream counts all that were ever added, so it is known how many are gone. If all messages that no key holds
  are no more than that, and older than all of their producer that it holds, it trimmed them. XDEL makes this uncertain,
  unless the queue declares a bound.
* Elements: as in a run; see `search.trimming`.
"""

from __future__ import annotations

from collections.abc import Sequence

import redis
from pyroaring import BitMap64

from pytest_redisq.load.codec import MAX_SEQUENCE, SEQUENCE_BITS, key_of
from pytest_redisq.load.deliveries import following
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_run.missing_search import MissingSearch
from pytest_redisq.resp import Trait
from pytest_redisq.search import SearchResult, TrimWatch
from pytest_redisq.search.trimming import StreamBounds


class BoundWatch:
    """Tells what bounds have removed since this object was made.

    * `search`: searches the keys of the run.
    * `client`: asks the server how often it has trimmed.
    * `declared`: whether the queue declares a bound.
    * `shared`: whether clients of other processes may use the server.

    `note`: what is to be said of it. `doubt`: why the bound need not have removed what counts as trimmed.
    """

    def __init__(self, search: MissingSearch, client: redis.Redis, *, declared: bool, shared: bool) -> None:
        self.note: str = ""
        self.doubt: str = ""
        self._search = search
        self._declared = declared
        self._seen = Trait.NONE
        self._watch = TrimWatch(client, lambda: self._seen, shared=shared)
        self._removed: int | None = None  # what streams had removed before; None: unknown
        if self._search.ages_keys:
            before = search.search_streams()
            self._removed = None if before.gap else _removed(before.bounds)

    def add_trimmed_entries(self, ledger: Ledger) -> None:
        """Add to the ledger the messages that streams have trimmed."""
        if self._removed is None:
            return
        result = self._search.search_all(ledger)
        kept = BitMap64(key_of(*message) for message in result.placed)
        gone = ledger.acknowledged() - kept
        certain = self._declared or all(stream.deleted == (0, 0) for stream in result.bounds)
        if result.gap or not certain or len(gone) > _removed(result.bounds) - self._removed:
            return
        if len(result.bounds) == 1:
            for producer in ledger.attempted:
                start = producer << SEQUENCE_BITS
                gone.remove_range(following(kept, start), start + MAX_SEQUENCE)
        ledger.trimmed |= gone

    def add_trimmed_elements(self, ledger: Ledger, result: SearchResult, seen: Trait) -> None:
        """Add to the ledger the messages that were removed from lists or sorted sets.

        * `result`: of the search for all that is missing.
        * `seen`: what the commands of the workers have done.
        """
        self._seen = seen
        trims, doubt = self._watch.evidence()
        if result.gap or not trims:
            return
        received = BitMap64().union(*(each.once for each in ledger.readers.values()))
        held = BitMap64(key_of(*message) for message in result.placed) | ledger.remaining | ledger.pending
        gone = ledger.newest.older(ledger.acknowledged() - received - held - ledger.trimmed)
        if gone:
            said = f"{len(gone):,} missing messages are in no key"
            self.note = "" if doubt else f'{said}, and {trims}: under "bounded" they count as trimmed'
            self.doubt = f"{said}; {doubt}" if doubt else ""
            ledger.trimmed |= gone


def _removed(streams: Sequence[StreamBounds]) -> int:
    return sum(stream.removed for stream in streams)
