"""The progress report of a process."""

from __future__ import annotations

from pytest_redisq.load.codec import key_of, now_ns
from pytest_redisq.load.engine.load_context import LoadContext
from tests.load.conftest import ASSIGNMENT


def test_what_has_come_is_not_on_its_way_before_it_is_in_the_books_nor_twice_when_it_is() -> None:
    context = LoadContext(ASSIGNMENT)
    shared, alone = context.delivery_buffer(), context.own_delivery_buffer(reader="reader")
    for buffer in (shared, alone):
        buffer.take(context.codec.writer()(key_of(0, 0), now_ns()), now_ns())
    before = context.progress()
    context.flush()
    assert (
        (before["received"], before["taken"]) == (context.progress()["received"], context.progress()["taken"]) == (2, 1)
    )
