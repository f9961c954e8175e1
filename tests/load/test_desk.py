"""What a process tells of itself while it is at work."""

from __future__ import annotations

from pytest_redisq.load.desk import Desk
from pytest_redisq.load.message import key_of, now_ns
from tests.load.conftest import PLAN


def test_what_has_come_is_not_on_its_way_before_it_is_in_the_books_nor_twice_when_it_is() -> None:
    desk = Desk(PLAN)
    shared, alone = desk.inbox(), desk.own_inbox(reader="reader")
    for inbox in (shared, alone):
        inbox.take(desk.codec.writer()(key_of(0, 0), now_ns()), now_ns())
    before = desk.progress()
    desk.flush()
    assert (before["received"], before["taken"]) == (desk.progress()["received"], desk.progress()["taken"]) == (2, 1)
