"""The stateful model tells a queue that loses from one that does not, and says what it can model."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_redisq.check import Contract
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import check_stateful
from pytest_redisq.properties.machine import SharedModel

AT_LEAST_ONCE = Contract.parse("at-least-once, fifo")


class Jobs:
    """At most once, by RPUSH and LPOP."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002 - it never waits
        return self.client.lpop("jobs")


class Pops(Jobs):
    """Two are taken, and one is handed out."""

    def get(self, timeout_seconds: float) -> Any:
        super().get(timeout_seconds)
        return super().get(timeout_seconds)


class Peeks(Jobs):
    """Delivered messages stay in the queue."""

    def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002 - it never waits
        return self.client.lindex("jobs", 0)


def test_a_right_queue_of_ones_own_passes(redisq: Redisq) -> None:
    check_stateful(Jobs, redisq, contract="at-most-once, fifo")


@pytest.mark.parametrize("queue", [Pops, Peeks])
def test_a_wrong_one_does_not(redisq: Redisq, queue: Any) -> None:
    with pytest.raises(AssertionError, match=r"nothing came|came, |never came|came when"):
        check_stateful(queue, redisq, contract="at-most-once, fifo")


def test_fan_out_is_refused(redisq: Redisq) -> None:
    with pytest.raises(ValueError, match="models queues whose workers share"):
        check_stateful(Jobs, redisq, contract="fan-out")


def test_what_a_dead_worker_held_may_come_again_and_what_was_acknowledged_may_not() -> None:
    model = SharedModel(AT_LEAST_ONCE, keeps=True)
    for body in (b"a", b"b", b"c"):
        model.put(body)
    assert model.may_come() == [b"a"]
    model.got(b"a")
    model.got(b"b")
    model.acked(b"a")
    model.crashed([b"a", b"b"])
    assert (model.waiting, model.held, model.orphaned) == ([b"c"], [], [b"b"])
    assert model.may_come() == [b"c", b"b"]


def test_where_nothing_is_kept_what_was_handed_out_is_gone() -> None:
    model = SharedModel(AT_LEAST_ONCE, keeps=False)
    model.put(b"a")
    model.got(b"a")
    model.crashed([b"a"])
    assert model.may_come() == []
