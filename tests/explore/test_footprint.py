"""footprint.py: what each command touches, as real servers describe their commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_redisq.explore.footprint import ALL, ALL_READ, NOTHING, CommandTable, Footprint
from pytest_redisq.resp import Value
from pytest_redisq.servers.server_connection import ServerConnection


@pytest.fixture(scope="module")
def commands(redisq_session) -> Iterator[CommandTable]:  # type: ignore[no-untyped-def]
    server = ServerConnection.of(redisq_session.url)

    def ask(name: bytes):  # type: ignore[no-untyped-def]
        entries = server.ask("COMMAND", "INFO", name)
        assert isinstance(entries, list)
        return entries[0]

    yield CommandTable(ask)
    server.close()


def touched(reads: str = "", writes: str = "") -> Footprint:
    return Footprint(frozenset(reads.encode().split()), frozenset(writes.encode().split()))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("GET k", touched(reads="k")),
        ("get k", touched(reads="k")),
        ("MGET a b c", touched(reads="a b c")),
        ("RPUSH k v", touched(writes="k")),
        ("MSET a 1 b 2", touched(writes="a b")),
        ("BLPOP a b 0", touched(writes="a b")),
        ("LMOVE a b LEFT RIGHT", touched(writes="a b")),
        ("LMPOP 2 a b LEFT", touched(writes="a b")),
        ("ZINTERSTORE d 2 a b", touched(reads="a b", writes="d")),
        ("XREAD COUNT 2 BLOCK 0 STREAMS a b 0 0", touched(reads="a b")),
        ("XREADGROUP GROUP g c STREAMS a >", touched(writes="a")),
        ("XACK a g 1-1", touched(writes="a")),
        ("XINFO GROUPS a", touched(reads="a")),
        ("EVAL return 2 a b arg", touched(writes="a b")),
        ("EVAL return 0 a", ALL),
        ("EVAL_RO return 1 a", touched(reads="a")),
        ("SORT k", ALL),
        ("KEYS *", ALL_READ),
        ("SCAN 0", ALL_READ),
        ("DBSIZE", ALL_READ),
        ("FLUSHDB", ALL),
        ("CLIENT UNBLOCK 3", ALL),
        ("CONFIG SET a b", ALL),
        ("NO-SUCH-COMMAND a", ALL),
        ("CONFIG GET a", NOTHING),
        ("SCRIPT LOAD x", NOTHING),
        ("PING", NOTHING),
    ],
)
def test_the_server_itself_tells_what_a_command_touches(
    commands: CommandTable, command: str, expected: Footprint
) -> None:
    """Keys read, keys written, or everything where that is not known."""
    assert commands.footprint(command.encode().split()) == expected


def test_an_incomplete_key_rule_is_used_where_it_is_safe() -> None:
    """Redis 8.0.2 warns of XREAD's: the word that the keys follow could be a key itself."""
    begin = {b"type": b"keyword", b"spec": {b"keyword": b"STREAMS", b"startfrom": 1}}
    find = {b"type": b"range", b"spec": {b"lastkey": -1, b"keystep": 1, b"limit": 2}}
    rule = {b"flags": [b"RO", b"ACCESS", b"incomplete"], b"begin_search": begin, b"find_keys": find}
    xread: list[Value] = [b"xread", -4, [b"readonly", b"blocking"], 0, 0, 0, [], [], [rule], []]
    commands = CommandTable(lambda _name: xread)
    assert commands.footprint(b"XREAD BLOCK 0 STREAMS a 0".split()) == touched(reads="a")
    assert commands.footprint(b"XREAD BLOCK 0 STREAMS streams 0".split()) == ALL_READ
    assert b"blocking" in commands.flags([b"XREAD"])


def test_blocking_commands_are_known(commands: CommandTable) -> None:
    """By the server's own flag."""
    names = (b"BLPOP", b"XREAD", b"LPOP", b"NOPE")
    assert [name for name in names if b"blocking" in commands.flags([name])] == [b"BLPOP", b"XREAD"]


@pytest.mark.parametrize(
    ("one", "two", "conflict"),
    [
        (touched(reads="a"), touched(reads="a"), False),
        (touched(reads="a"), touched(writes="a"), True),
        (touched(writes="a"), touched(writes="a"), True),
        (touched(writes="a"), touched(writes="b", reads="c"), False),
        (ALL, touched(reads="a"), True),
        (ALL, NOTHING, False),
        (ALL_READ, touched(reads="a"), False),
        (ALL_READ, touched(writes="a"), True),
        (ALL_READ, ALL, True),
    ],
)
def test_two_commands_conflict_when_one_writes_what_the_other_touches(
    one: Footprint, two: Footprint, conflict: bool
) -> None:
    """In either order."""
    assert one.conflicts(two) is conflict
    assert two.conflicts(one) is conflict
    assert (one | two).conflicts(one) is (bool(one.writes) or conflict)


def test_a_channel_is_no_key(commands: CommandTable) -> None:
    """PUBLISH conflicts with a subscription to the channel, not with a key of that name."""
    publish, subscribe = commands.footprint([b"PUBLISH", b"c", b"x"]), commands.footprint([b"SUBSCRIBE", b"c"])
    assert publish.conflicts(subscribe)
    assert not publish.conflicts(commands.footprint([b"SET", b"c", b"x"]))
    assert not publish.conflicts(commands.footprint([b"SUBSCRIBE", b"d"]))
