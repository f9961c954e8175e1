"""Errors of the user's code: the user's own line first, and wrong signatures in words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pytest_redisq.endpoint.forms import check_queue
from pytest_redisq.endpoint.user_code import crash_words, error_words, place_of


class Right:
    """Takes more than it is given, by defaults."""

    def __init__(self, client: Any) -> None: ...
    def put(self, body: bytes, *, urgent: bool = False) -> None: ...
    def get(self, timeout_seconds: float = 0.0) -> None: ...
    def ack(self, delivery: Any) -> None: ...


class NoTimeout(Right):
    def get(self) -> None: ...  # type: ignore[override]


class NoBody(Right):
    def put(self) -> None: ...  # type: ignore[override]


class KeyFirst(Right):
    def put(self, key: str, body: bytes) -> None: ...  # type: ignore[override]


class AckOfNothing(Right):
    def ack(self) -> None: ...  # type: ignore[override]


def put(client: Any, body: bytes) -> None: ...
def get(client: Any, timeout_seconds: float) -> None: ...
def get_at_once(client: Any) -> None: ...


def _raised(act: Any) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def parse() -> None:
    json.loads("{")


def test_the_place_of_an_error_is_the_users_own_line() -> None:
    """The error came from a library, and through this file."""
    error = _raised(parse)
    assert re.fullmatch(r"test_user_code.py:\d+ in parse", place_of(error))
    assert error_words(error) == f"JSONDecodeError: {error} ({place_of(error)})"
    first, *frames = crash_words(error).splitlines()
    assert first == error_words(error)
    (line,) = [frame.strip() for frame in frames[-2:] if set(frame) - set(" ~^")][-1:]  # Python 3.13 underlines it
    assert line == 'json.loads("{")'
    assert "decoder.py" not in "".join(frames)


def test_an_error_without_a_line_of_the_user_keeps_its_traceback() -> None:
    error = _raised(parse)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    inner = error.with_traceback(trace)
    assert error_words(inner) == f"JSONDecodeError: {error}"
    assert "Traceback (most recent call last)" in crash_words(inner)


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        (NoTimeout, "NoTimeout.get() takes no timeout: redisq calls get(timeout_seconds), and found get(self)"),
        (NoBody, "NoBody.put() takes no body: redisq calls put(body), and found put(self)"),
        (AckOfNothing, "AckOfNothing.ack() takes no delivery: redisq calls ack(delivery), and found ack(self)"),
        (KeyFirst, "KeyFirst.put() cannot be called so: missing a required argument: 'body': redisq calls put(body)"),
        (NoTimeout(None), "NoTimeout.get() takes no timeout"),
        ((put, get_at_once), "get_at_once() takes no timeout: redisq calls get_at_once(client, timeout_seconds)"),
        ((get_at_once, get), "get_at_once() takes no body: redisq calls get_at_once(client, body)"),
    ],
)
def test_a_wrong_signature_is_told_in_words(queue: Any, words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        check_queue(queue)


@pytest.mark.parametrize("queue", [Right, Right(None), (put, get)])
def test_what_can_be_called_is_let_pass(queue: Any) -> None:
    check_queue(queue)


def test_a_wrong_signature_needs_no_traceback() -> None:
    error = _raised(lambda: check_queue(NoTimeout))
    assert isinstance(error, TypeError)
    assert crash_words(error) == f"TypeError: {error}"
