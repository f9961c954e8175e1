"""The vocabulary of the logic without IO."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.steps import RedisCommand, beside, command, run, run_script


@pytest.mark.parametrize("key", ["jobs", "{shop}jobs", "a:{shop}", "{a}{b}", "with space"])
def test_a_private_key_begins_with_its_key_and_shares_its_slot(key: str) -> None:
    private = beside(key, "workers")
    assert private.startswith(key)
    assert private != key
    assert key_slot(private.encode()) == key_slot(key.encode())


def test_a_script_is_sent_once_and_then_named(client: redis.Redis) -> None:
    client.script_flush()
    sent: list[str] = []
    wire = QueueConnection(client)

    def call(step: RedisCommand) -> Any:
        sent.append(str(step.args[0]))
        return wire.call(step)

    for _ in range(2):
        assert run(run_script("return {KEYS[1], ARGV[1]}", ("k",), ("a",)), call) == [b"k", b"a"]
    assert sent == ["EVALSHA", "EVAL", "EVALSHA"]
    wire.close()


def test_an_error_is_thrown_in_where_the_command_was_yielded() -> None:
    def careful() -> Generator[RedisCommand, Any, str]:
        try:
            yield command("GET", "key")
        except redis.ConnectionError as error:
            return f"survived {error}"
        return "no error"

    def broken(_: RedisCommand) -> Any:
        raise redis.ConnectionError("a cut")

    assert run(careful(), broken) == "survived a cut"


def test_what_is_no_redis_error_ends_the_steps_and_closes_them() -> None:
    closed = []

    def steps() -> Generator[RedisCommand, Any, None]:
        try:
            yield command("GET", "key")
        finally:
            closed.append(True)

    def interrupted(_: RedisCommand) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(steps(), interrupted)
    assert closed == [True]
