"""What streams have trimmed is told from their counts: every case by literals."""

from __future__ import annotations

import pytest

from pytest_redisq.history import FoundPlace
from pytest_redisq.model import Message
from pytest_redisq.resp import Trait
from pytest_redisq.search import EntryWatch, SearchResult
from pytest_redisq.search.trimming import StreamBounds


def stream(name: str, *, added: int, length: int, deleted: tuple[int, int] | None = (0, 0)) -> StreamBounds:
    return StreamBounds(first=(9, 0), last=(99, 0), deleted=deleted, removed=added - length, name=name, added=added)


def at_the_end(*streams: StreamBounds, holder: str = "log") -> SearchResult:
    place = FoundPlace(key=holder, type="stream", messages=(Message(0, 99),))
    return SearchResult(places=(place,), bounds=streams)


def watch(
    before: SearchResult, *, seen: Trait = Trait.TRIMS_STREAM, owned: bool = True, declared: bool = False
) -> EntryWatch:
    return EntryWatch(lambda: before, lambda: seen, owned=owned, declared=declared)


NOTHING = SearchResult()


@pytest.mark.parametrize(
    ("before", "after", "gone", "trimmed"),
    [
        (NOTHING, [stream("log", added=100, length=50)], 50, True),
        (NOTHING, [stream("log", added=100, length=50)], 51, False),
        (NOTHING, [stream("log", added=50, length=50)], 1, False),
        (at_the_end(stream("log", added=70, length=50)), [stream("log", added=100, length=50)], 1, False),
        (at_the_end(stream("log", added=70, length=50)), [stream("log", added=171, length=50)], 51, True),
        (at_the_end(stream("log", added=70, length=50)), [stream("log", added=171, length=50)], 52, False),
        (NOTHING, [stream("log", added=100, length=99), stream("audit", added=100, length=0)], 2, False),
    ],
    ids=[
        "as many",
        "one more",
        "nothing removed",
        "only what was there before",
        "after what was there",
        "too many",
        "of another",
    ],
)
def test_a_stream_trimmed_no_more_than_it_removed_during_the_run(
    before: SearchResult, after: list[StreamBounds], gone: int, trimmed: bool
) -> None:
    evidence = watch(before).evidence(at_the_end(*after), gone)
    assert (bool(evidence.streams), evidence.doubt) == (trimmed, "")


@pytest.mark.parametrize(
    ("options", "deleted", "doubt"),
    [
        ({}, (3, 0), "or XDEL removed them"),
        ({}, None, "or XDEL removed them"),
        ({"declared": True}, (3, 0), ""),
        ({"owned": False}, (0, 0), ""),
        ({"owned": False, "seen": Trait.NONE}, (0, 0), "no worker was seen to trim it"),
        ({"seen": Trait.NONE}, (0, 0), ""),
    ],
    ids=["XDEL", "an old server", "XDEL and a bound", "seen", "not seen", "not seen in own keys"],
)
def test_what_makes_it_uncertain_is_said(options: dict[str, object], deleted: tuple[int, int], doubt: str) -> None:
    after = at_the_end(stream("log", added=100, length=50, deleted=deleted))
    evidence = watch(NOTHING, **options).evidence(after, 50)  # type: ignore[arg-type]
    assert evidence.streams
    assert doubt in evidence.doubt
    assert bool(doubt) == bool(evidence.doubt)


def test_too_many_keys_before_the_run_leave_it_uncertain() -> None:
    evidence = watch(SearchResult(gap="too many")).evidence(at_the_end(stream("log", added=9, length=5)), 4)
    assert "how much its streams had trimmed before the run is not known" in evidence.doubt
