"""The bodies of messages under load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.load.codec import (
    SHORT_TRAILER_BYTES,
    TRAILER_BYTES,
    BodyCodec,
    ShortBodyCodec,
    key_bytes,
    key_of,
    message_of,
    sent_ns,
)

KEYS = st.builds(key_of, st.integers(0, 2**31), st.integers(0, 2**32 - 1))
SIZES = st.integers(TRAILER_BYTES, 300)


@given(KEYS, SIZES, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_a_body_is_read_as_it_was_written(key: int, size: int, moment: int, salt: int) -> None:
    codec = BodyCodec(salt, size)
    body = codec.writer()(key, moment)
    assert len(body) == size
    assert codec.read(body) == (key, moment)
    assert (int.from_bytes(key_bytes(body), "little"), sent_ns(body)) == (key, moment)
    assert key_of(*message_of(key)) == key


@given(
    st.lists(st.tuples(KEYS, st.integers(0, 2**64 - 1)), min_size=1, max_size=4),
    SIZES,
    st.just(1) | st.integers(1, 600),
    st.integers(0, 2**32 - 1),
)
def test_many_at_once_are_what_they_are_one_by_one(
    batches: list[tuple[int, int]], size: int, number: int, salt: int
) -> None:
    """With any earlier content of the buffer, and also in the next batch of the same producer."""
    codec = BodyCodec(salt, size)
    one, together = codec.writer(b"<", b">"), codec.batch_writer(b"<", b">", number)
    for key, moment in batches:
        for first in (key, key + number):
            assert together(first, moment) == b"".join(one(each, moment) for each in range(first, first + number))


@given(KEYS, SIZES, st.data())
def test_a_changed_byte_is_seen(key: int, size: int, data: st.DataObject) -> None:
    codec = BodyCodec(7, size)
    body = bytearray(codec.writer()(key, 1))
    at = data.draw(st.integers(0, size - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    assert not codec.whole(bytes(body))


def test_a_body_of_another_run_is_none_of_ours() -> None:
    assert BodyCodec(1).read(BodyCodec(2).writer()(5, 5)) is None


def test_a_cut_body_is_none_of_ours() -> None:
    body = BodyCodec(1).writer()(5, 5)
    assert not any(BodyCodec(1).whole(body[:length]) for length in range(len(body)))


def test_prefix_and_suffix_enclose_the_body() -> None:
    assert BodyCodec(1, 20).writer(b"<", b">")(5, 5) == b"<" + BodyCodec(1, 20).writer()(5, 5) + b">"


@given(st.integers(0, 2**48 - 1), st.integers(SHORT_TRAILER_BYTES, 30), st.integers(0, 2**32 - 1), st.data())
def test_ten_bytes_say_which_message_it_is_and_whether_it_is_whole(
    key: int, size: int, salt: int, data: st.DataObject
) -> None:
    codec = ShortBodyCodec(salt, size)
    body = codec.writer()(key, 1)
    assert len(body) == size
    assert codec.read(body) == (key, 0)
    changed = bytearray(body)
    changed[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    assert codec.read(bytes(changed)) is None
    assert codec.read(body[1:]) is None


def test_a_payload_too_small_for_its_own_proof_is_refused() -> None:
    with pytest.raises(ValueError, match="a payload of 19 bytes is too small"):
        BodyCodec(1, 19)
    with pytest.raises(ValueError, match="a payload of 9 bytes is too small"):
        ShortBodyCodec(1, 9)
