"""What bounds removed from a queue of the user's own under load: entries of streams, and elements of lists.

Laws:

* Entries: see `search.entry_watch`; and each is older than all of its producer that the stream holds.
* Elements: as in a run; see `search.trimming`.
"""

from __future__ import annotations

import redis
from pyroaring import BitMap64

from pytest_redisq.load.codec import MAX_SEQUENCE, SEQUENCE_BITS, key_of, message_of
from pytest_redisq.load.deliveries import following
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_run.missing_search import MissingSearch
from pytest_redisq.resp import Trait
from pytest_redisq.search import EntryWatch, SearchResult, TrimWatch, kept_back_doubt


class BoundWatch:
    """Tells what bounds have removed since this object was made.

    * `search`: searches the keys of the run.
    * `client`: asks the server how often it has trimmed.
    * `declared`: whether the queue declares a bound.
    * `shared`: whether clients of other processes may use the server.

    `note`: what is to be said of it.
    """

    def __init__(self, search: MissingSearch, client: redis.Redis, *, declared: bool, shared: bool) -> None:
        self.note: str = ""
        self._doubts: list[str] = []
        self._search = search
        self._seen = Trait.NONE
        self._watch = TrimWatch(client, lambda: self._seen, shared=shared)
        self._entries = EntryWatch(search.search_streams, lambda: self._seen, owned=search.ages_keys, declared=declared)

    def add_trimmed_entries(self, ledger: Ledger, seen: Trait, *, bounded: bool) -> None:
        """Add to the ledger the messages that streams have trimmed.

        * `seen`: what the commands of the workers have done.
        * `bounded`: whether the contract allows that; else only those count of which it is certain.
        """
        self._seen = seen
        result = self._search.search_all(ledger)
        kept = BitMap64(key_of(*message) for message in result.placed)
        gone = ledger.acknowledged() - kept
        evidence = self._entries.evidence(result, len(gone))
        if result.gap or not evidence.streams or (evidence.doubt and not bounded):
            return
        if len(evidence.streams) == 1:
            for producer in ledger.attempted:
                start = producer << SEQUENCE_BITS
                gone.remove_range(following(kept, start), start + MAX_SEQUENCE)
        ledger.trimmed |= gone
        if gone and evidence.doubt:
            self._doubts.append(f"{len(gone):,} messages are in no key; {evidence.doubt}")

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
            self._doubts += [f"{said}; {doubt}"] if doubt else []
            ledger.trimmed |= gone

    def doubt(self, ledger: Ledger, *, fan_out: bool) -> str:
        """Why a bound need not have removed what counts as trimmed in the ledger; empty if it is certain.

        `fan_out`: whether each consumer reads for itself alone, so that no other one may return what it was handed.
        """
        received = BitMap64().union(*(each.once for each in ledger.readers.values() if not fan_out))
        kept = ledger.trimmed & ledger.kept_back - received
        doubts = [*self._doubts, *([kept_back_doubt([message_of(key) for key in kept])] if kept else [])]
        return "; ".join(doubts)
