"""The positions of keys in commands: the server's rules, applied to literal commands and checked by the server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_redisq.servers import Server
from pytest_redisq.servers.keyspec import CommandSpec, CountedKeys, KeyRange, KeySpec, parse_commands

COMMANDS = [
    "GET k",
    "MSET a 1 b 2 c 3",
    "DEL a b c",
    "BLPOP a b c 0",
    "LMPOP 2 a b LEFT COUNT 3",
    "BLMPOP 0 2 a b LEFT",
    "BLMOVE a b LEFT RIGHT 0",
    "XADD s MAXLEN ~ 10 * f v",
    "XREAD COUNT 2 BLOCK 0 STREAMS a b $ $",
    "XREADGROUP GROUP g c STREAMS a b > >",
    "XGROUP CREATE s g $ MKSTREAM",
    "XAUTOCLAIM s g c 0 0",
    "EVAL script 2 a b not-a-key a",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
    "ZINTER 2 a b",
    "BITOP AND d a b",
    "GEORADIUS k 1 1 1 km STORE d",
    "OBJECT ENCODING k",
    "COPY a b",
    "RENAME a b",
    "SUNIONSTORE d a b",
    "PFMERGE d a b",
]


@pytest.fixture
def commands(server: Server) -> Mapping[bytes, CommandSpec]:
    with server.client(protocol=2) as client:
        client.set_response_callback("COMMAND", lambda reply, **_: reply)
        return parse_commands(client.execute_command("COMMAND"))


def test_the_keys_found_are_those_that_the_server_finds(server: Server, commands: Mapping[bytes, CommandSpec]) -> None:
    with server.client() as client:
        for line in COMMANDS:
            words = line.encode().split()
            name = b"|".join(words[:2]).upper()
            command = commands[name if name in commands else words[0].upper()]
            found = [words[place].decode() for place in command.positions(words)]
            assert command.is_sure(words)
            assert found == client.execute_command("COMMAND GETKEYS", *words), line


def test_commands_without_a_rule_are_known_as_such(commands: Mapping[bytes, CommandSpec]) -> None:
    unknown = {name for name, command in commands.items() if not command.known}
    assert unknown == {b"SORT", b"SORT_RO", b"MIGRATE"}


def test_a_rule_that_the_server_warns_of_is_relied_on_where_it_cannot_mislead() -> None:
    """Redis 8.0.2 says so of XREAD: a key may be called as the word that the keys follow."""
    streams = KeySpec(index=1, keyword=b"STREAMS", find=KeyRange(last=-1, step=1, limit=2), once=True)
    xread = CommandSpec(specs=(streams,), known=True)
    assert xread.is_sure(b"XREAD COUNT 2 STREAMS a 0".split())
    assert not xread.is_sure(b"XREAD STREAMS streams 0".split())


def test_rules_of_a_server_before_7() -> None:
    """A range a command, and a flag for those that have more to say."""
    reply = [
        [b"get", 2, [b"readonly"], 1, 1, 1],
        [b"mset", -3, [b"write"], 1, -1, 2],
        [b"blpop", -3, [b"write"], 1, -2, 1],
        [b"ping", -1, [], 0, 0, 0],
        [b"eval", -3, [b"movablekeys"], 0, 0, 0],
        None,
    ]
    commands = parse_commands(reply)
    assert commands[b"GET"].positions([b"GET", b"k"]) == [1]
    assert commands[b"MSET"].positions([b"MSET", b"a", b"1", b"b", b"2"]) == [1, 3]
    assert commands[b"BLPOP"].positions([b"BLPOP", b"a", b"b", b"0"]) == [1, 2]
    assert commands[b"PING"].positions([b"PING"]) == []
    assert not commands[b"EVAL"].known


@pytest.mark.parametrize(
    ("spec", "words", "places"),
    [
        (KeySpec(index=1, keyword=None, find=KeyRange(last=0, step=1, limit=0)), [b"GET"], []),
        (KeySpec(index=1, keyword=None, find=CountedKeys(count=0, first=1, step=1)), [b"X", b"not-a-number"], []),
        (KeySpec(index=1, keyword=None, find=CountedKeys(count=0, first=1, step=1)), [b"X", b"9", b"a"], [2]),
        (KeySpec(index=1, keyword=b"STORE", find=KeyRange(last=0, step=1, limit=0)), [b"X", b"k"], []),
        (
            KeySpec(index=-2, keyword=b"KEYS", find=KeyRange(last=-1, step=1, limit=0)),
            [b"X", b"keys", b"a", b"b"],
            [2, 3],
        ),
    ],
)
def test_malformed_commands_have_the_keys_that_are_there(spec: KeySpec, words: list[bytes], places: list[int]) -> None:
    assert list(spec.positions(words)) == places
