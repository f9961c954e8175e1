"""resp.py: the frames of a stream do not depend on how it was cut, and nothing that was sent is changed or lost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_redisq.resp import (
    MAX_LINE_BYTES,
    Reply,
    ReplyError,
    ReplyParser,
    Request,
    RequestParser,
    UnparsedBytes,
    decode_reply,
    encode_command,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply's bytes and the value that they stand for."""

    raw: bytes
    value: object


def _line(kind: bytes, text: bytes, value: object) -> Sample:
    return Sample(kind + text + b"\r\n", value)


def _text(alphabet: str = "abc XYZ?.*$%") -> st.SearchStrategy[str]:
    return st.text(alphabet, max_size=8)


def _streamed_string(chunks: list[bytes]) -> Sample:
    raw = b"".join(b";%d\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return Sample(b"$?\r\n" + raw + b";0\r\n", b"".join(chunks))


_LEAVES = st.one_of(
    _text().map(lambda text: _line(b"+", text.encode(), text.encode())),
    _text().map(lambda text: _line(b"-", b"ERR " + text.encode(), ReplyError("ERR " + text))),
    st.integers().map(lambda number: _line(b":", b"%d" % number, number)),
    st.integers().map(lambda number: _line(b"(", b"%d" % number, number)),
    st.booleans().map(lambda flag: _line(b"#", b"t" if flag else b"f", flag)),
    st.floats(allow_nan=False).map(lambda number: _line(b",", repr(number).encode(), number)),
    st.sampled_from([Sample(b"_\r\n", None), Sample(b"$-1\r\n", None), Sample(b"*-1\r\n", None)]),
    st.binary(max_size=40).map(lambda body: Sample(b"$%d\r\n%b\r\n" % (len(body), body), body)),
    st.binary(max_size=9).map(lambda body: Sample(b"=%d\r\ntxt:%b\r\n" % (len(body) + 4, body), body)),
    _text().map(lambda text: Sample(b"!%d\r\n%b\r\n" % (len(text), text.encode()), ReplyError(text))),
    st.lists(st.binary(min_size=1, max_size=5), max_size=3).map(_streamed_string),
)


def _aggregate(kind: bytes, items: list[Sample], streamed: bool, per_unit: int = 1) -> bytes:
    body = b"".join(item.raw for item in items)
    if streamed:
        return kind + b"?\r\n" + body + b".\r\n"
    return kind + b"%d\r\n" % (len(items) // per_unit) + body


def _nested(inner: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
    items = st.lists(inner, max_size=4)
    pairs = st.dictionaries(st.binary(max_size=4), inner, max_size=3)
    keyed = pairs.map(
        lambda found: (
            [part for key, item in found.items() for part in (Sample(b"$%d\r\n%b\r\n" % (len(key), key), key), item)],
            {key: item.value for key, item in found.items()},
        )
    )
    return st.one_of(
        st.builds(
            lambda kind, parts, streamed: Sample(_aggregate(kind, parts, streamed), [part.value for part in parts]),
            st.sampled_from([b"*", b"~"]),
            items,
            st.booleans(),
        ),
        st.builds(
            lambda parts, streamed: Sample(_aggregate(b"%", parts[0], streamed, 2), parts[1]), keyed, st.booleans()
        ),
        st.builds(
            lambda parts, item: Sample(_aggregate(b"|", parts[0], False, 2) + item.raw, item.value), keyed, inner
        ),
    )


_REPLIES = st.recursive(_LEAVES, _nested, max_leaves=12)
_SIGNS = st.sampled_from([b"*", b"$", b"%", b"|", b">", b"?", b"-1", b"0", b"1", b"2", b"\r\n", b";", b"."])
_REQUESTS = st.lists(st.binary(max_size=30), min_size=1, max_size=5)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def in_pieces(framer: RequestParser | ReplyParser, pieces: list[bytes]) -> list[Request | Reply | UnparsedBytes]:
    """The frames of the pieces. Neighbouring `UnparsedBytes` are joined, because their boundaries mean nothing."""
    frames: list[Request | Reply | UnparsedBytes] = [frame for piece in pieces for frame in framer.feed(piece)]
    rest = b"".join(frame.raw for frame in frames if isinstance(frame, UnparsedBytes))
    return [frame for frame in frames if not isinstance(frame, UnparsedBytes)] + ([UnparsedBytes(rest)] if rest else [])


@given(st.lists(_REPLIES, max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_cut_of_replies_gives_the_same_frames(samples: list[Sample], points: list[int]) -> None:
    """Whole replies come out with their exact bytes and their value, wherever the stream was cut."""
    stream = b"".join(sample.raw for sample in samples)
    frames = in_pieces(ReplyParser(), cut(stream, points))
    assert [frame.raw for frame in frames] == [sample.raw for sample in samples]
    assert [decode_reply(frame.raw) for frame in frames] == [sample.value for sample in samples]


@given(st.lists(_REPLIES, min_size=1, max_size=3))
def test_replies_come_no_sooner_than_their_last_byte(samples: list[Sample]) -> None:
    """Fed byte by byte, a reply comes out at its last byte, not before and not later."""
    framer = ReplyParser()
    for sample in samples:
        *before, last = [framer.feed(bytes([byte])) for byte in sample.raw]
        assert not any(before)
        assert [frame.raw for frame in last] == [sample.raw]
        assert framer.pending() == b""


@given(st.lists(_REQUESTS, max_size=6), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_cut_of_requests_gives_the_same_frames(requests: list[list[bytes]], points: list[int]) -> None:
    """Commands come out with their exact bytes and arguments, pipelined or not, wherever the stream was cut."""
    packed = [encode_command(args) for args in requests]
    frames = in_pieces(RequestParser(), cut(b"".join(packed), points))
    assert frames == [Request(raw, tuple(args)) for raw, args in zip(packed, requests, strict=True)]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
@example(b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\nPING", [5, 17])
@example(b"$?\r\n;3\r\nabc\r\n:1\r\n", [4])
@example(b"*?\r\n.\r\n.\r\n", [])
def test_no_bytes_are_lost_or_changed_whatever_comes(data: bytes, points: list[int]) -> None:
    """Frames, rest and what is still incomplete, joined, are the stream; the same however it was cut."""
    for make in (RequestParser, ReplyParser):
        whole, pieces = in_pieces(make(), [data]), in_pieces(make(), cut(data, points))
        assert pieces == whole
        joined = b"".join(frame.raw for frame in whole)
        assert data.startswith(joined)
        if make is ReplyParser:
            framer = ReplyParser()
            assert b"".join(frame.raw for frame in framer.feed(data)) + framer.pending() == data


@given(st.lists(st.one_of(_SIGNS, st.binary(max_size=3)), max_size=30), st.lists(st.integers(0, 200), max_size=6))
def test_grammar_shaped_noise_frames_the_same_way_however_cut(parts: list[bytes], points: list[int]) -> None:
    """Noise made of the grammar's own signs upsets neither framer."""
    data = b"".join(parts)
    for make in (RequestParser, ReplyParser):
        assert in_pieces(make(), cut(data, points)) == in_pieces(make(), [data])


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"PING\r\n", (b"PING",)),
        (b"PING\n", (b"PING",)),
        (b"  SET  a b \r\n", (b"SET", b"a", b"b")),
        (b"\r\n", ()),
        (b"*0\r\n", ()),
        (b"*-1\r\n", ()),
        (b"SET \"a b\" 'c d'\r\n", (b"SET", b"a b", b"c d")),
        (b"SET \"\\x41\\n\\\"\\q\" '\\x\\''\r\n", (b"SET", b'A\n"q', b"\\x'")),
        (b'SET ""\r\n', (b"SET", b"")),
    ],
)
def test_inline_commands_are_split_as_the_server_does(line: bytes, args: tuple[bytes, ...]) -> None:
    """Inline commands, quoted or not, and the empty requests that a server ignores."""
    assert RequestParser().feed(line) == [Request(line, args)]


@pytest.mark.parametrize(
    "bad",
    [
        b"*x\r\n",
        b"*01\r\n",
        b"*+1\r\n",
        b"*99999999999\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$abc\r\n",
        b'GET "unbalanced\r\n',
        b'GET "a"b\r\n',
        b"*" + b"1" * (MAX_LINE_BYTES + 1),
        b"a" * (MAX_LINE_BYTES + 1),
    ],
)
def test_a_bad_request_and_all_after_it_is_passed_on_as_it_came(bad: bytes) -> None:
    """Bytes before the bad frame are framed; the bad frame and everything after it are `UnparsedBytes`."""
    good = encode_command(["PING"])
    framer = RequestParser()
    assert framer.feed(good + bad) == [Request(good, (b"PING",)), UnparsedBytes(bad)]
    assert framer.feed(good) == [UnparsedBytes(good)]
    assert framer.feed(b"") == []


@pytest.mark.parametrize(
    "bad",
    [
        b"?1\r\n",
        b":1\r\n\r\n",
        b"$1\r\nab\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"%-1\r\n",
        b".\r\n",
        b"*2\r\n.\r\n",
        b"$?\r\n:1\r\n",
        b";1\r\na\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_a_bad_reply_and_all_after_it_is_passed_on_as_it_came(bad: bytes) -> None:
    """Nothing is dropped and nothing is invented behind a reply that follows no grammar."""
    framer = ReplyParser()
    assert b"".join(frame.raw for frame in framer.feed(bad)) == bad
    assert framer.feed(b"+OK\r\n") == [UnparsedBytes(b"+OK\r\n")]


def test_pushes_are_told_apart_from_replies() -> None:
    """A RESP3 push between two replies is marked as one."""
    frames = ReplyParser().feed(b"+OK\r\n>2\r\n+message\r\n*1\r\n:1\r\n:7\r\n")
    assert frames == [Reply(b"+OK\r\n"), Reply(b">2\r\n+message\r\n*1\r\n:1\r\n", True), Reply(b":7\r\n")]


def test_errors_are_told_apart_from_values() -> None:
    """Both kinds of error reply are errors; an error inside an array is a value of that array."""
    frames = ReplyParser().feed(b"-ERR no\r\n!6\r\nERR no\r\n*1\r\n-ERR no\r\n")
    assert [isinstance(frame, Reply) and frame.error for frame in frames] == [True, True, False]


def test_a_big_bulk_is_not_looked_at_again_for_each_piece() -> None:
    """64 MB in 64 KB pieces is framed in linear time: each piece costs about what copying it costs."""
    size, piece = 64 * 1024 * 1024, bytes(64 * 1024)
    framer = ReplyParser()
    framer.feed(b"$%d\r\n" % size)
    for _ in range(size // len(piece)):
        assert framer.feed(piece) == []
    (frame,) = framer.feed(b"\r\n")
    assert len(frame.raw) == size + 13


def test_depth_is_bounded_by_memory_not_by_recursion() -> None:
    """A hundred thousand arrays within one another are framed like any other reply."""
    deep = b"*1\r\n" * 100_000 + b":1\r\n"
    assert ReplyParser().feed(deep) == [Reply(deep)]


def test_decoding_half_a_reply_is_refused() -> None:
    """`decode_reply` takes one whole reply and says so otherwise."""
    for raw in (b"+OK", b"+OK\r\n+OK\r\n", b"?\r\n"):
        with pytest.raises(ValueError, match="not one whole reply"):
            decode_reply(raw)
