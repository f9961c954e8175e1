"""Bodies that say which message they are, and whether they are whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.model import UNREADABLE, Message, decode_body, encode_body

NUMBERS = st.integers(0, 2**40)


@settings(deadline=None)
@given(st.from_regex(r"[0-9a-f]{1,8}", fullmatch=True), NUMBERS, NUMBERS, st.binary(max_size=40))
def test_a_body_comes_back_as_its_message(run: str, producer: int, sequence: int, payload: bytes) -> None:
    message = Message(producer, sequence)
    assert decode_body(run, encode_body(run, message, payload)) == message


@settings(deadline=None)
@given(st.binary(max_size=20), st.data())
def test_a_body_with_any_one_byte_changed_is_none_of_ours(payload: bytes, data: st.DataObject) -> None:
    body = bytearray(encode_body("7f3a", Message(3, 17), payload))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    assert decode_body("7f3a", bytes(body)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"rq 7f3a 3 17",
        b"rq 7f3a x y 5482a01d hello",
        b"rq 7f3a 03 17 5482a01d hello",
        b"rq 7f3a -3 17 00000000 ",
        b"rq 7f3a 3 17 5482A01D hello",
        b"\xff\xfe 7f3a 3 17 5482a01d hello",
    ],
)
def test_what_is_no_body_of_this_run_is_none(body: bytes) -> None:
    assert decode_body("7f3a", body) is None


def test_a_body_of_another_run_is_none() -> None:
    assert decode_body("beef", encode_body("7f3a", Message(0, 0))) is None


def test_messages_read_as_producer_and_sequence() -> None:
    assert (str(Message(3, 17)), str(UNREADABLE)) == ("3/17", "unreadable")
