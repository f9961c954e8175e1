"""connection_state.py: which commands are steps, and what the server gets of blocking ones."""

from __future__ import annotations

import pytest

from pytest_redisq.explore.connection_state import ConnectionState, HeldCommand, PassedCommand, ProxyReply, RawStream
from pytest_redisq.explore.footprint import CommandTable
from pytest_redisq.resp import Request, RequestParser, encode_command

BLOCKING = {b"BLPOP", b"BLMPOP", b"BZPOPMIN", b"BLMOVE", b"XREAD", b"XREADGROUP"}


def entry(name: bytes) -> list[object]:
    flags = [b"write", b"blocking"] if name in BLOCKING else [b"write"]
    return [name.lower(), -2, flags, 1, 1, 1, [], [], [], []]


@pytest.fixture
def session() -> ConnectionState:
    return ConnectionState(CommandTable(entry))  # type: ignore[arg-type]


def command(text: str) -> Request:
    args = text.encode().split()
    return Request(encode_command(args), tuple(args))


@pytest.mark.parametrize(
    "text",
    [
        "HELLO 3 AUTH default pw",
        "AUTH pw",
        "SELECT 3",
        "PING",
        "CLIENT SETINFO LIB-NAME x",
        "CLIENT ID",
        "client setname x",
        "CLIENT TRACKING ON",
        "MULTI",
        "UNWATCH",
        "COMMAND DOCS",
        "QUIT",
        "RESET",
    ],
)
def test_setting_up_passes(session: ConnectionState, text: str) -> None:
    """No other connection can notice these, so they are not steps."""
    assert isinstance(session.decide(command(text)), PassedCommand)


@pytest.mark.parametrize("text", ["GET k", "CLIENT UNBLOCK 3", "CLIENT KILL ID 3", "WATCH k", "SUBSCRIBE c", "FLUSHDB"])
def test_commands_with_visible_effects_are_held(session: ConnectionState, text: str) -> None:
    """So are commands that do something to other connections."""
    assert isinstance(session.decide(command(text)), HeldCommand)


@pytest.mark.parametrize(
    ("text", "sent", "timeout_seconds"),
    [
        ("BLPOP a b 2.5", "BLPOP a b 0", 2.5),
        ("BLPOP a 0", "BLPOP a 0", None),
        ("BLMOVE a b LEFT RIGHT 7", "BLMOVE a b LEFT RIGHT 0", 7),
        ("BLMPOP 3 1 a LEFT", "BLMPOP 0 1 a LEFT", 3),
        ("BZPOPMIN a 1", "BZPOPMIN a 0", 1),
        ("XREAD COUNT 1 BLOCK 1500 STREAMS s $", "XREAD COUNT 1 BLOCK 0 STREAMS s $", 1.5),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >", None),
        ("WAIT 1 500", "WAIT 1 0", 0.5),
        ("WAITAOF 1 0 500", "WAITAOF 1 0 0", 0.5),
    ],
)
def test_a_blocking_command_waits_without_a_timeout(
    session: ConnectionState, text: str, sent: str, timeout_seconds: float | None
) -> None:
    """Time is the schedule's; how long the client meant to wait is kept."""
    held = session.decide(command(text))
    assert isinstance(held, HeldCommand)
    assert held.raw == command(sent).raw
    assert (held.blocks, held.timeout_seconds) == (True, timeout_seconds)
    assert held.args == command(text).args


@pytest.mark.parametrize(
    "text", ["XREAD STREAMS BLOCK 0", "BLPOP a x", "BLPOP a -1", "BLPOP a inf", "BLMPOP", "XREAD BLOCK x STREAMS s 0"]
)
def test_what_cannot_block_is_sent_as_it_is(session: ConnectionState, text: str) -> None:
    """A key named like the option, and timeouts that the server will refuse."""
    held = session.decide(command(text))
    assert isinstance(held, HeldCommand)
    assert (held.raw, held.blocks) == (command(text).raw, False)


def test_a_transaction_is_one_step_at_its_exec(session: ConnectionState) -> None:
    """Commands in a transaction pass, blocking or not; DISCARD ends it without a step."""
    queued = ["MULTI", "SET k v", "BLPOP k 5"]
    assert all(isinstance(session.decide(command(text)), PassedCommand) for text in queued)
    held = session.decide(command("EXEC"))
    assert isinstance(held, HeldCommand)
    assert held.args == (b"EXEC", b"SET k v", b"BLPOP k 5")
    assert not held.blocks
    assert all(isinstance(session.decide(command(text)), PassedCommand) for text in ["MULTI", "GET k", "DISCARD"])
    assert isinstance(session.decide(command("GET k")), HeldCommand)


def test_replies_are_shown_as_asked_for(session: ConnectionState) -> None:
    """CLIENT REPLY OFF, SKIP and ON never reach the server."""
    assert session.decide(command("CLIENT REPLY SKIP")) == ProxyReply(b"")
    session.decide(command("GET k"))
    assert (session.shows_reply(), session.shows_reply()) == (False, True)
    assert session.decide(command("CLIENT REPLY OFF")) == ProxyReply(b"")
    assert (session.shows_reply(), session.shows_reply()) == (False, False)
    assert session.decide(command("CLIENT REPLY ON")) == ProxyReply(b"+OK\r\n")
    assert session.shows_reply()


def test_empty_requests_get_nothing_and_streams_are_not_read(session: ConnectionState) -> None:
    """As the server does; after MONITOR nothing is a reply any more."""
    (empty,) = RequestParser().feed(b"\r\n")
    assert isinstance(empty, Request)
    assert session.decide(empty) == ProxyReply(b"")
    assert isinstance(session.decide(command("MONITOR")), RawStream)


@pytest.mark.parametrize(
    ("texts", "reusable"),
    [
        (["SELECT 3", "CLIENT SETNAME x", "GET k"], True),
        (["GET k", "SELECT 4"], False),
        (["GET k", "CLIENT SETNAME x"], False),
        (["GET k", "PING", "CLIENT ID"], True),
        (["WATCH k"], False),
        (["WATCH k", "MULTI", "EXEC"], True),
        (["MULTI"], False),
        (["SUBSCRIBE c"], False),
        (["CLIENT REPLY OFF"], False),
        (["RESET"], False),
    ],
)
def test_a_connection_serves_another_run_only_as_it_was_set_up(
    session: ConnectionState, texts: list[str], reusable: bool
) -> None:
    """The state of an execution must not reach the next one."""
    for text in texts:
        session.decide(command(text))
    assert session.reusable is reusable
