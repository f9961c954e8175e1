"""Settles a run once its consumers have stopped: gets out what they left, and looks for what is missing.

Law: a message counts as lost only if it is in no key of the namespace, and as stuck only if a new consumer asked in
vain after every lease had run out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

from redis.exceptions import RedisError

from pytest_redisq.check import (
    FinishedMessages,
    acknowledges,
    delivers,
    missing_messages,
)
from pytest_redisq.history import History, Recorder, Search
from pytest_redisq.model import Message
from pytest_redisq.resp import Trait
from pytest_redisq.runner.inspector import QueueInspector
from pytest_redisq.search import (
    BoundEvidence,
    NamespaceSearch,
    RemovedMessages,
    SearchResult,
    in_words,
    late_group_notes,
)

#: Of places where acknowledged messages lie, so many are told.
_NOTED_PLACES = 3


class Settlement:
    """The end of one run.

    * `inspector`: the runner's own access to the queue.
    * `recorder`: where the operations of that access are recorded.
    * `operations`: returns the history so far, with all operations of all workers.
    * `search`: searches the namespace for messages of this run.
    * `ages_keys`: whether the keys of the namespace may be aged.
    * `seen`: returns what the commands of the run's workers have done.
    * `bounds`: tells what the queue's bounds have removed.
    * `settle_seconds`: how long messages of dead consumers may take to come back.
    * `deadline`: when the run is to have ended, by `time.monotonic()`.
    """

    def __init__(
        self,
        inspector: QueueInspector,
        recorder: Recorder,
        operations: Callable[[], History],
        search: NamespaceSearch,
        *,
        ages_keys: bool,
        seen: Callable[[], Trait],
        bounds: BoundEvidence,
        settle_seconds: float,
        deadline: float,
    ) -> None:
        self._inspector = inspector
        self._recorder = recorder
        self._operations = operations
        self._search = search
        self._ages_keys = ages_keys
        self._seen = seen
        self._bounds = bounds
        self._settle_seconds = settle_seconds
        self._deadline = deadline

    def settle(self, *, had_consumers: bool) -> None:
        """Drain the queue if consumers left something there, and record the quiescence of the run.

        `had_consumers`: whether consumers were alive at the end. Raises `TimeoutError` at the deadline.
        """
        inspector = self._inspector
        left = inspector.counts() and not inspector.is_empty()
        if inspector.able and (left or not had_consumers):
            # Only now: if the queue's `recover` takes over what the dead held, no consumer would get it then.
            self._drain()
        remaining, pending = self._inside("remaining"), self._inside("pending")
        wanted = missing_messages(self._operations()) | set(remaining) | set(pending)
        result = self._search.search(wanted) if wanted else None
        aged = False
        if result is not None and result.inside and inspector.able:
            aged = self._bring_back(result)
            remaining, pending = self._inside("remaining"), self._inside("pending")
            wanted = missing_messages(self._operations()) | set(remaining) | set(pending)
            result = self._search.search(wanted)
        notes: list[str] = []
        if result is not None:
            missing = wanted - set(remaining) - set(pending)
            stuck = self._stuck(result, missing, aged=aged)
            pending += sorted(stuck)
            remaining += sorted((result.found & missing) - stuck)
            notes = [*_notes(result, aged=aged), *result.idle_notes(self._seen())]
        elif (
            self._bounds.keeps is not None or Trait.TRIMS_STREAM in self._seen()
        ):  # readers of a stream may each miss other entries
            result = self._search.search(())
        history = self._operations()
        finished = SearchResult()
        if acknowledges(history):
            finished = self._search.search_pending(FinishedMessages(history))
            pending += sorted(finished.pending.difference(pending))
            if not inspector.counts():
                notes += _left_behind(self._search.search_briefly(FinishedMessages(history)))
        if result is not None:
            notes += late_group_notes(history, result, self._seen())
        removed = self._bounds.removed(history, result) if result else RemovedMessages()
        self._recorder.quiescence(
            drained=had_consumers or inspector.able,
            remaining=remaining,
            pending=pending,
            trimmed=removed.ids,
            trimmed_messages=removed.messages,
            trim_doubt=removed.doubt,
            search=_joined(result.record if result and wanted else None, finished),
            notes=[*notes, *removed.notes],
        )

    def _inside(self, what: str) -> list[Message]:
        return self._inspector.inside(what) if self._inspector.able else []

    def _drain(self) -> None:
        """Take and acknowledge what a new consumer gets. Raises `TimeoutError` at the deadline."""
        with self._inspector.cut_off_after(self._deadline - time.monotonic()):
            self._inspector.recover()
            self._inspector.drain(self._recorder)
        if time.monotonic() > self._deadline:
            raise TimeoutError

    def _bring_back(self, result: SearchResult) -> bool:
        """Let all leases run out, and have a new consumer take what comes back. Returns whether the leases ran out.

        The consumer asks for `settle_seconds`, since not every queue goes by the server's time; and once if the queue
        lists what is inside: then the run's own consumers have waited as long.
        """
        aged = False
        if self._ages_keys:
            try:
                self._search.let_leases_pass(result, seen=self._seen())
                aged = True
            except RedisError:
                aged = False
        until = 0.0 if self._inspector.counts() else time.monotonic() + self._settle_seconds
        while True:
            self._drain()
            if time.monotonic() > until or not self._search.search(result.inside).inside:
                return aged

    def _stuck(self, result: SearchResult, missing: Collection[Message], *, aged: bool) -> set[Message]:
        """Those of `missing` that were found, and that no consumer will get.

        A message is not stuck if it is due later, if its lease may still run, or if the queue has delivered nothing at
        all: then it lies where its producer put it.
        """
        if not self._inspector.able or not delivers(self._operations()):
            return set()
        if not aged and (result.timers or result.pending):
            return set()
        return set(result.out_of_reach(self._seen()).intersection(missing))


def _left_behind(result: SearchResult) -> Iterator[str]:
    """Where acknowledged messages still lie, which need be no mistake: a queue may keep a list of finished ones."""
    for place in [place for place in result.places if place.type != "stream"][:_NOTED_PLACES]:
        number = f"{len(place.messages):,} acknowledged message{'s lie' if len(place.messages) > 1 else ' lies'}"
        yield (
            f"{number} in {place}. It was not judged whether a consumer may get what lies there: for that, give the "
            "queue pending() and remaining()"
        )


def _joined(search: Search | None, finished: SearchResult) -> Search | None:
    """A search for missing messages, if there was one, and the places of finished messages that are still pending."""
    if not finished.places:
        return search
    return Search(places=(*(search.places if search else ()), *finished.places), gap=search.gap if search else "")


def _notes(result: SearchResult, *, aged: bool) -> list[str]:
    """What to do about messages that may come back later."""
    if result.due:
        longest = max(result.due.values())
        number = f"{len(result.due)} message{'s come' if len(result.due) > 1 else ' comes'}"
        wait = f"settle_seconds={longest + 1:.0f}, and a longer deadline_seconds"
        return [f"{number} back in {in_words(longest)}. Use a shorter lease in the test, or wait: give {wait}"]
    if not aged and result.inside and (result.timers or result.pending):
        return [_NOT_AGED]
    return []


_NOT_AGED = (
    "messages may come back when their lease ends. redisq lets leases run out only in databases and under prefixes of "
    "its own; elsewhere give settle_seconds more than the lease"
)
