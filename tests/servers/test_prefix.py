"""How commands and replies are rewritten on the user's own server: literals in, literals out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.keyspec import CommandSpec, CountedKeys, KeyRange, KeySpec
from pytest_redisq.servers.prefix import Prefixer


def _range(first: int, last: int, step: int = 1) -> CommandSpec:
    find = KeyRange(last=last, step=step, limit=0)
    return CommandSpec(specs=(KeySpec(index=first, keyword=None, find=find),), known=True)


def _counted(index: int) -> CommandSpec:
    find = CountedKeys(count=0, first=1, step=1)
    return CommandSpec(specs=(KeySpec(index=index, keyword=None, find=find),), known=True)


_NONE = CommandSpec(specs=(), known=True)
_STREAMS = CommandSpec(
    specs=(KeySpec(index=1, keyword=b"STREAMS", find=KeyRange(last=-1, step=1, limit=2)),), known=True
)
WITHOUT_KEYS = b"""
    PING MULTI EXEC DISCARD SUBSCRIBE SELECT KEYS SCAN FLUSHALL FLUSHDB SWAPDB RANDOMKEY SHUTDOWN CONFIG CONFIG|SET
    CONFIG|GET CLIENT CLIENT|ID CLIENT|KILL SCRIPT|FLUSH DEBUG REPLICAOF FUNCTION|FLUSH SAVE MONITOR
"""
COMMANDS = dict.fromkeys(WITHOUT_KEYS.split(), _NONE) | {
    b"GET": _range(1, 0),
    b"MSET": _range(1, -1, 2),
    b"BLPOP": _range(1, -2),
    b"COPY": _range(1, 1),
    b"MOVE": _range(1, 0),
    b"LMPOP": _counted(1),
    b"EVAL": _counted(2),
    b"XREAD": _STREAMS,
    b"XGROUP": _NONE,
    b"XGROUP|CREATE": _range(2, 0),
    b"SORT": CommandSpec(specs=(), known=False),
    b"MIGRATE": CommandSpec(specs=(), known=False),
}


@pytest.fixture
def seen() -> set[bytes]:
    return set()


@pytest.fixture
def prefixer(seen: set[bytes]) -> Prefixer:
    return Prefixer("p:", COMMANDS, 3, seen)


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (("GET", "k"), [b"GET", b"p:k"]),
        (("get", b"k"), [b"get", b"p:k"]),
        (("GET", "p:k"), [b"GET", b"p:k"]),
        (("MSET", "a", 1, "b", 2.5), [b"MSET", b"p:a", b"1", b"p:b", b"2.5"]),
        (("EVAL", "a", 1, "a", "a"), [b"EVAL", b"a", b"1", b"p:a", b"a"]),
        (("XREAD", "COUNT", 1, "STREAMS", "a", "b", "0", "$"),
         [b"XREAD", b"COUNT", b"1", b"STREAMS", b"p:a", b"p:b", b"0", b"$"]),
        (("XGROUP CREATE", "s", "g", "$"), [b"XGROUP", b"CREATE", b"p:s", b"g", b"$"]),
        (("SORT", "l", "BY", "w_*", "GET", "#", "GET", "d_*->f", "STORE", "o"),
         [b"SORT", b"p:l", b"BY", b"p:w_*", b"GET", b"#", b"GET", b"p:d_*->f", b"STORE", b"p:o"]),
        (("SORT", "l", "BY", "nosort"), [b"SORT", b"p:l", b"BY", b"nosort"]),
        (("KEYS", "j*"), [b"KEYS", b"p:j*"]),
        (("SCAN", "0", "COUNT", 5), [b"SCAN", b"0", b"COUNT", b"5", b"MATCH", b"p:*"]),
        (("SCAN", "0", "match", "j*"), [b"SCAN", b"0", b"match", b"p:j*"]),
        (("COPY", "a", "b", "REPLACE"), [b"COPY", b"p:a", b"p:b", b"REPLACE"]),
        (("SELECT", 3), [b"SELECT", b"3"]),
        (("PING",), [b"PING"]),
        (("NO.SUCH.COMMAND", "k"), [b"NO.SUCH.COMMAND", b"k"]),
    ],
)  # fmt: skip
def test_keys_are_prefixed_once_and_nothing_else(
    prefixer: Prefixer, command: tuple[Any, ...], sent: list[bytes]
) -> None:
    assert prefixer.send(command) == sent


def test_a_pattern_of_the_prefix_itself_is_literal(seen: set[bytes]) -> None:
    assert Prefixer("a*[b]:", COMMANDS, 0, seen).send(["KEYS", "*"]) == [b"KEYS", rb"a\*\[b\]:*"]


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "flushall async", "SWAPDB 0 1", "RANDOMKEY", "SHUTDOWN NOSAVE", "CONFIG SET maxmemory 1",
        "DEBUG SLEEP 1", "REPLICAOF NO ONE", "SCRIPT FLUSH", "FUNCTION FLUSH", "CLIENT KILL ID 3", "SAVE", "MONITOR",
        "MOVE k 1", "COPY a b DB 1", "MIGRATE h 1 k 0 1", "SELECT 0", "EVAL script 0", "GET",
    ],
)  # fmt: skip
def test_what_reaches_beyond_is_refused(prefixer: Prefixer, seen: set[bytes], command: str) -> None:
    with pytest.raises(ServerError, match=r" is refused: this is your own server"):
        prefixer.send(command.split())
    assert not seen


def test_the_refusal_says_what_to_do(prefixer: Prefixer, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(ServerError) as refusal:
        prefixer.send(["CONFIG SET", "maxmemory", "1"])
    assert str(refusal.value) == snapshot


@pytest.mark.parametrize(
    ("command", "reply", "handed_on"),
    [
        ("BLPOP jobs 0", [b"p:jobs", b"1"], [b"jobs", b"1"]),
        ("BLPOP p:jobs 0", [b"p:jobs", b"1"], [b"p:jobs", b"1"]),
        ("BLPOP jobs 0", None, None),
        ("LMPOP 2 a b LEFT", ["p:b", ["1"]], ["b", ["1"]]),
        ("XREAD STREAMS s 0", [[b"p:s", [[b"1-0", [b"f", b"v"]]]]], [[b"s", [[b"1-0", [b"f", b"v"]]]]]),
        ("XREAD STREAMS s 0", {b"p:s": []}, {b"s": []}),
        ("XREAD STREAMS s 0", None, None),
        ("KEYS *", [b"p:a", b"p:b"], [b"a", b"b"]),
        ("SCAN 0", [b"0", [b"p:a"]], [b"0", [b"a"]]),
        ("GET k", b"p:value", b"p:value"),
    ],
)
def test_keys_in_replies_come_back_as_asked(prefixer: Prefixer, command: str, reply: Any, handed_on: Any) -> None:
    prefixer.send(command.split())
    assert prefixer.receive(reply) == handed_on


def test_replies_of_a_pipeline_keep_their_order(prefixer: Prefixer) -> None:
    for command in ("GET k", "BLPOP jobs 0", "KEYS *", "GET k"):
        prefixer.send(command.split())
    assert prefixer.receive(b"1") == b"1"
    assert prefixer.receive([b"p:jobs", b"x"]) == [b"jobs", b"x"]
    prefixer.fail()
    assert prefixer.receive(b"2") == b"2"


def test_a_transactions_replies_come_with_its_exec(prefixer: Prefixer) -> None:
    for command in ("MULTI", "KEYS *", "GET k", "BLPOP jobs 0", "EXEC", "KEYS *"):
        prefixer.send(command.split())
    for _ in range(4):
        prefixer.receive(b"QUEUED")
    error = ValueError("as redis-py has it")
    assert prefixer.receive([[b"p:a"], error, [b"p:jobs", b"1"]]) == [[b"a"], error, [b"jobs", b"1"]]
    assert prefixer.receive([b"p:a"]) == [b"a"]


def test_an_aborted_transaction_has_no_replies(prefixer: Prefixer) -> None:
    for command in ("MULTI", "GET k", "EXEC", "MULTI", "KEYS *", "DISCARD", "KEYS *"):
        prefixer.send(command.split())
    assert [prefixer.receive(reply) for reply in (b"OK", b"QUEUED", None, b"OK", b"QUEUED", b"OK")][2] is None
    assert prefixer.receive([b"p:a"]) == [b"a"]


def test_a_lost_connections_replies_are_forgotten(prefixer: Prefixer) -> None:
    prefixer.send(["KEYS", "*"])
    prefixer.reset()
    prefixer.send(["GET", "k"])
    assert prefixer.receive(b"p:value") == b"p:value"


def test_messages_that_answer_no_command_stay_as_they_are(prefixer: Prefixer) -> None:
    prefixer.send(["SUBSCRIBE", "news"])
    assert prefixer.receive([b"message", b"news", b"p:text"]) == [b"message", b"news", b"p:text"]


def test_every_key_is_remembered(prefixer: Prefixer, seen: set[bytes]) -> None:
    prefixer.send(["MSET", "a", "1", "p:b", "2"])
    prefixer.send(["SORT", "l", "STORE", "o"])
    assert seen == {b"p:a", b"p:b", b"p:l", b"p:o"}


@pytest.mark.parametrize("value", [True, None, object()])
def test_what_redis_cannot_take_is_a_type_error(prefixer: Prefixer, value: object) -> None:
    with pytest.raises(TypeError, match=re.escape("convert it to")):
        prefixer.send(["GET", value])
