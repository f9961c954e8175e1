"""Hypothesis strategies for what queues are fed and what befalls them.

    from hypothesis import given
    from pytest_redisq.properties import bodies

    @given(body=bodies())
    def test_a_body_comes_out_as_it_went_in(redisq_session, body):
        with redisq_session.example() as redisq, redisq.list("jobs").bind(redisq.client) as worker:
            worker.put(body)
            assert worker.get(0).body == body

Each example wants a clean namespace of the server: `redisq_session.example()` is one. Smaller draws are simpler ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hypothesis import strategies as st

#: Bodies that a parser, an encoder or a truth test might take for something else: RESP frames, numbers, nothing.
LOOK_ALIKES = (
    *(b"", b"\r\n", b"\n", b"\0", b" ", b"0", b"-1", b"007", b"1e3", b"nil", b"None", b"OK", b"QUEUED"),
    *(
        b"$-1\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":1\r\n",
        b"$3\r\nabc\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ),
    *(b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbfbom", b"{}", b'"', b"9223372036854775808"),
)
#: Where Redis changes how it stores an element: small integers, listpack entries, quicklist nodes. In bytes.
ENCODING_BYTES = (1, 12, 13, 63, 64, 127, 128, 4095, 4096, 8191, 8192)
#: Lists so long that another node begins, with small elements. In elements.
NODE_LENGTHS = (127, 128, 129, 511, 512, 513)


def bodies(*, max_size: int = 300, large_bytes: int = 0) -> st.SearchStrategy[bytes]:
    """Message bodies: empty, binary, text in many scripts, look-alikes of RESP, and sizes at which storage changes.

    `max_size` is in bytes, and bounds all but the `large_bytes` one: a body of that size, if it is not 0, comes along
    now and then (tens of MB are possible, at the cost of speed).

    >>> from hypothesis import find
    >>> find(bodies(), lambda body: body.startswith(b"$"))
    b'$'
    >>> len(find(bodies(large_bytes=20_000), lambda body: len(body) > 1_000))
    20000
    """
    _at_least("max_size", max_size, 0)
    _at_least("large_bytes", large_bytes, 0)
    kinds: list[st.SearchStrategy[bytes]] = [
        st.binary(max_size=max_size),
        st.sampled_from([body for body in LOOK_ALIKES if len(body) <= max_size]),
        st.text(max_size=max_size // 4).map(str.encode),
    ]
    sizes = [size for size in ENCODING_BYTES if size <= max_size] + ([large_bytes] if large_bytes else [])
    if sizes:
        kinds.append(st.builds(_filled, st.sampled_from(sizes), st.sampled_from([b"x", b"\0", b"\xff"])))
    return st.one_of(kinds)


def _filled(size: int, byte: bytes) -> bytes:
    return byte * size


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What one producer adds without a pause, `gap_seconds` after its burst before.

    `at_once`: in one step of the server, so that IDs share a millisecond.
    """

    producer: int
    size: int
    at_once: bool
    gap_seconds: float = 0.0


def bursts(
    *, producers: int = 3, max_bursts: int = 6, max_size: int = 12, max_gap_seconds: float = 0.0
) -> st.SearchStrategy[list[Burst]]:
    """Bursts of several producers, one after the other; a burst has one message at least. No gaps, unless asked for.

    >>> from hypothesis import find
    >>> find(bursts(), lambda drawn: sum(burst.size for burst in drawn) >= 3 and drawn[0].at_once)
    [Burst(producer=0, size=3, at_once=True, gap_seconds=0.0)]
    """
    _at_least("producers", producers, 1)
    _at_least("max_bursts", max_bursts, 1)
    _at_least("max_size", max_size, 1)
    if max_gap_seconds < 0:
        raise ValueError(f"max_gap_seconds={max_gap_seconds!r}: at least 0")
    burst = st.builds(
        Burst,
        producer=st.integers(0, producers - 1),
        size=st.integers(1, max_size),
        at_once=st.booleans(),
        gap_seconds=st.floats(0, max_gap_seconds),
    )
    return st.lists(burst, min_size=1, max_size=max_bursts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Throw the oldest entries of a stream away, so that `keep` are left; more where it is not `exact` (`~`)."""

    by: Literal["MAXLEN", "MINID"]
    keep: int
    exact: bool

    def arguments(self, ids: Sequence[str]) -> tuple[str | int, ...]:
        """What follows XTRIM's key, for a stream of these ids, the oldest first.

        >>> Trim(by="MINID", keep=1, exact=True).arguments(["1-0", "1-1"])
        ('MINID', '=', '1-1')
        """
        how = "=" if self.exact else "~"
        if self.by == "MAXLEN":
            return self.by, how, self.keep
        first_kept = ids[-self.keep] if 0 < self.keep <= len(ids) else (ids[0] if self.keep and ids else _AFTER_ALL)
        return self.by, how, first_kept


#: No id is higher.
_AFTER_ALL = f"{2**64 - 1}-{2**64 - 1}"


def trims(*, max_keep: int = 20) -> st.SearchStrategy[Trim]:
    """Trimming by length or by id, exact or not, to no more than `max_keep` entries; to none at all, too.

    >>> from hypothesis import find
    >>> find(trims(), lambda trim: trim.by == "MINID" and trim.exact)
    Trim(by='MINID', keep=0, exact=True)
    """
    _at_least("max_keep", max_keep, 0)
    by: st.SearchStrategy[Literal["MAXLEN", "MINID"]] = st.sampled_from(["MAXLEN", "MINID"])
    return st.builds(Trim, by=by, keep=st.integers(0, max_keep), exact=st.booleans())


def lengths(*, max_length: int = 40, nodes: bool = False) -> st.SearchStrategy[int]:
    """Lengths of a list: 0, 1, 2, any up to `max_length`, and, with `nodes`, those at which its storage changes.

    >>> from hypothesis import find
    >>> find(lengths(nodes=True), lambda length: length > 500)
    511
    """
    _at_least("max_length", max_length, 0)
    edges = [*range(min(3, max_length + 1)), *(NODE_LENGTHS if nodes else ())]
    return st.one_of(st.sampled_from(edges), st.integers(0, max_length))


def chunk_sizes(length: int, *, nodes: bool = False) -> st.SearchStrategy[int]:
    """Sizes of chunks for a list of `length`: 1, around a half, the whole and twice of it, and any between.

    With `nodes` also those at which a list's storage changes. 0 is no size of a chunk.

    >>> from hypothesis import find
    >>> find(chunk_sizes(10), lambda size: size > 10)
    11
    """
    _at_least("length", length, 0)
    edges = {
        1,
        length // 2,
        length // 2 + 1,
        length - 1,
        length,
        length + 1,
        2 * length,
        *(NODE_LENGTHS if nodes else ()),
    }
    return st.one_of(st.sampled_from(sorted(edge for edge in edges if edge >= 1)), st.integers(1, length + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Somebody adds the next message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """`worker` takes a message, without waiting."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """`worker` acknowledges what it holds, the `nth` of it (modulo how much that is)."""

    worker: int
    nth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """`worker` gives back what it holds, the `nth` of it."""

    worker: int
    nth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """`worker` dies with all that it holds; another of its kind takes its place."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The server restarts."""


Action: TypeAlias = Put | Get | Ack | GiveBack | Crash | Restart
ACTIONS: tuple[type[Action], ...] = (Put, Get, Ack, GiveBack, Crash, Restart)


def workloads(
    *, workers: int = 2, max_actions: int = 30, of: Sequence[type[Action]] = (Put, Get, Ack, Crash)
) -> st.SearchStrategy[list[Action]]:
    """What happens to a queue, in order: `of` these kinds of actions, by so many workers.

    >>> from hypothesis import find
    >>> find(workloads(), lambda actions: Crash(worker=1) in actions and Put() in actions)
    [Put(), Crash(worker=1)]
    """
    _at_least("workers", workers, 1)
    _at_least("max_actions", max_actions, 1)
    if not of or not set(of) <= set(ACTIONS):
        raise ValueError(f"of={of!r}: some of {', '.join(kind.__name__ for kind in ACTIONS)}")
    worker, nth = st.integers(0, workers - 1), st.integers(0, 3)
    made: dict[type[Action], st.SearchStrategy[Action]] = {
        Put: st.just(Put()),
        Get: st.builds(Get, worker=worker),
        Ack: st.builds(Ack, worker=worker, nth=nth),
        GiveBack: st.builds(GiveBack, worker=worker, nth=nth),
        Crash: st.builds(Crash, worker=worker),
        Restart: st.just(Restart()),
    }
    return st.lists(st.one_of([made[kind] for kind in of]), min_size=1, max_size=max_actions)


def _at_least(name: str, number: int, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ValueError(f"{name}={number!r}: a whole number of at least {least}")
