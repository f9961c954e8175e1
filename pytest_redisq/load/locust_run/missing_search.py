"""Looks for the messages that a load run misses: in all keys of the run, after the leases there have run out."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from pyroaring import BitMap64

from pytest_redisq.history import Search
from pytest_redisq.load.codec import key_bytes, key_of, message_of
from pytest_redisq.load.deliveries import AckBatch, Dequeue
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.scenarios import OwnQueue, Scenario
from pytest_redisq.model import Message
from pytest_redisq.resp import Trait
from pytest_redisq.search import NamespaceSearch, SearchResult, messages_by_reader
from pytest_redisq.servers import Address


class _Wanted:
    """The messages of these keys, as a container."""

    def __init__(self, keys: BitMap64) -> None:
        self._keys = keys

    def __contains__(self, message: object) -> bool:
        return isinstance(message, Message) and key_of(*message) in self._keys


def missing_keys(ledger: Ledger) -> BitMap64:
    """The messages that were acknowledged by the queue, and neither delivered for good nor known to be inside.

    Not delivered for good: never, or in the last dequeue of a consumer that did not acknowledge it, or the work or the
    ack failed after each delivery.
    """
    once, acked, held, failed = BitMap64(), BitMap64(), BitMap64(), BitMap64()
    for received in ledger.readers.values():
        once |= received.once
        acked |= received.acked.once | received.ack_tried
        held |= BitMap64(received.in_flight)
        again = received.delivered.repeated
        failed.update(key for key, times in received.failed.items() if times > again[key])
    if not acked:
        held = BitMap64()  # no consumer acknowledges
    return (
        ((ledger.acknowledged() - once) | ((held | failed) - acked))
        - ledger.remaining
        - ledger.pending
        - ledger.trimmed
    )


def missed_keys(ledger: Ledger) -> BitMap64:
    """The messages that were acknowledged by the queue, and that some reader has not received."""
    received = [each.once for each in ledger.readers.values()]
    return ledger.acknowledged() - (BitMap64.intersection(*received) if received else BitMap64())


def finished_keys(ledger: Ledger) -> BitMap64:
    """The messages that consumers have acknowledged as often as they received them."""
    finished = BitMap64()
    for received in ledger.readers.values():
        more = (key for key, times in received.delivered.repeated.items() if times > received.acked.repeated[key])
        finished |= received.acked.once - BitMap64(more)
    return finished


class MissingSearch:
    """The search of one run.

    * `scenario`, `assignment`: of the run.

    `ages_keys`: whether the keys belong to the run, so that their leases may run out.
    """

    def __init__(self, scenario: Scenario, assignment: Assignment) -> None:
        prefix = assignment.prefix
        if isinstance(scenario, OwnQueue):
            prefix = scenario.prefix(assignment)
        self.ages_keys: bool = assignment.own_server or bool(prefix)
        codec = LoadContext(assignment).codec

        def read(body: bytes) -> Message | None:
            decoded = codec.read(body)
            return None if decoded is None else message_of(decoded.key)

        find = messages_by_reader(read, codec.payload_bytes)
        self._search = NamespaceSearch(Address(url=assignment.url, prefix=prefix), find)

    def search_streams(self) -> SearchResult:
        """Look for no message, only at the ends of streams."""
        return self._search.search_streams()

    def search(self, ledger: Ledger) -> SearchResult:
        """Search for all that is missing."""
        return self._search.search(_Wanted(missing_keys(ledger)))

    def search_all(self, ledger: Ledger) -> SearchResult:
        """Search for all that the queue has acknowledged."""
        return self._search.search(_Wanted(ledger.acknowledged()))

    def search_finished(self, ledger: Ledger) -> SearchResult:
        """Search the pending entries of streams' groups for what consumers have acknowledged, for some moments."""
        return self._search.search_pending(_Wanted(finished_keys(ledger)))

    def let_leases_pass(self, result: SearchResult, seen: Trait) -> bool:
        """Age the keys of the run. Returns True."""
        self._search.let_leases_pass(result, seen=seen)
        return True


def add_recovered(ledger: Ledger, bodies: Iterable[bytes]) -> None:
    """Add what one more consumer has received, and acknowledged, after all others had ended."""
    keys = [key_bytes(body) for body in bodies]
    if not keys:
        return
    recovered = Ledger()
    for name, received in ledger.readers.items():
        reader = recovered.reader(name, received.coverage)
        dequeues = [Dequeue(number, number, number + 1) for number in range(len(keys))]
        reader.add(array("Q", b"".join(keys)), dequeues, [AckBatch(len(keys) + 1, keys)])
    ledger.merge(recovered)


def add_found(ledger: Ledger, result: SearchResult, seen: Trait, *, asked: bool) -> Search:
    """Add what was found to the ledger, and return the result for the verdict.

    * `seen`: what the commands of the workers have done.
    * `asked`: whether one more consumer has asked in vain after the leases had run out. Then what was found is stuck,
      unless it is due later, or the queue has delivered nothing at all.
    """
    found = BitMap64(key_of(*message) for message in result.found) & missing_keys(ledger)
    delivers = any(received.once for received in ledger.readers.values())
    stuck = BitMap64()
    if delivers and (asked or not (result.timers or result.pending)):
        stuck = found & BitMap64(key_of(*message) for message in result.out_of_reach(seen))
    ledger.pending |= stuck
    ledger.remaining |= found - stuck
    return result.record


def add_finished(ledger: Ledger, result: SearchResult, search: Search | None) -> Search | None:
    """Add acknowledged messages that are pending all the same to the ledger, and to what a search has found.

    * `result`: of the search for them.
    * `search`: what the search for missing messages has found; None if there was none.
    """
    ledger.pending |= BitMap64(key_of(*message) for message in result.pending)
    if not result.places:
        return search
    return Search(places=(*(search.places if search else ()), *result.places), gap=search.gap if search else "")
