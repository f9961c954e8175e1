"""Messages are found in values as they are and encoded; nothing of another run is."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.model import Message, decode_body, encode_body
from pytest_redisq.search import marked_messages, messages_by_reader

RUN = "7f3a"


def msgpack(body: bytes) -> bytes:
    """A map of one key to this binary value, as msgpack writes it."""
    return b"\x81\xa4body\xc5" + len(body).to_bytes(2, "big") + body


#: How queues carry bodies. Those of `TEXT_ONLY` carry text.
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda body: body,
    "json": lambda body: json.dumps({"id": 7, "args": [body.decode()], "quoted": '"'}).encode(),
    "base64": base64.b64encode,
    "urlsafe": base64.urlsafe_b64encode,
    "msgpack": msgpack,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zlib-fast": lambda body: zlib.compress(body, 1),
    **{
        f"pickle-{protocol}": lambda body, protocol=protocol: pickle.dumps({"args": (body,)}, protocol)  # type: ignore[misc]
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}
TEXT_ONLY = {"json"}


def nested(names: list[str], body: bytes) -> bytes:
    for name in names:
        body = base64.b64encode(body) if name in TEXT_ONLY and not body.isascii() else body
        body = ENCODINGS[name](body)
    return body


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(ENCODINGS)), max_size=2),
    payload=st.binary(max_size=50),
    producer=st.integers(0, 99),
    sequence=st.integers(0, 10**6),
)
def test_a_body_is_found_however_encoded(names: list[str], payload: bytes, producer: int, sequence: int) -> None:
    message = Message(producer, sequence)
    assert marked_messages(RUN)(nested(names, encode_body(RUN, message, payload))) == [message]


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_a_body_of_another_run_is_not_found(name: str) -> None:
    assert marked_messages(RUN)(ENCODINGS[name](encode_body("7f3b", Message(0, 1)))) == []


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_all_messages_of_a_batch_are_found(name: str) -> None:
    messages = [Message(0, 3), Message(2, 1), Message(0, 3)]
    batch = ENCODINGS[name](b" ".join(encode_body(RUN, message) for message in messages))
    assert marked_messages(RUN)(batch) == [Message(0, 3), Message(2, 1)]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_nothing_is_found_in_other_bytes(value: bytes) -> None:
    assert marked_messages(RUN)(value) == []


def test_a_pickle_is_not_executed() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return exec, ("raise AssertionError('executed')",)

    body = encode_body(RUN, Message(0, 1))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert marked_messages(RUN)(pickle.dumps([Bomb(), body], protocol)) == [Message(0, 1)]


@pytest.mark.parametrize("name", sorted(ENCODINGS.keys() - TEXT_ONLY))
def test_a_body_without_a_marker_is_found_by_its_length(name: str) -> None:
    body = encode_body(RUN, Message(0, 9), b"\xff\x00")
    find = messages_by_reader(lambda value: decode_body(RUN, value), len(body))
    assert find(ENCODINGS[name](body)) == [Message(0, 9)]
    assert find(ENCODINGS[name](body[:-1] + b"\x01")) == []
