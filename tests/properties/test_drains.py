"""Draining a list in chunks: with other changes to the list, other drainers, and drainers that die anywhere."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.explore import StepKind
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import bodies, chunk_sizes, lengths
from pytest_redisq.queues import drain, drain_file, drain_journal, drain_to_file
from pytest_redisq.queues.drain_journal import SUFFIX
from pytest_redisq.queues.draining import Drainer
from pytest_redisq.queues.steps import Steps, command
from tests.properties.conftest import Staged
from tests.properties.mortal import Fate, doomed
from tests.properties.stage import errors
from tests.properties.turns import FAULTS, turns
from tests.support import eventually

pytestmark = pytest.mark.server

KEY = "jobs"


@pytest.fixture(scope="module", autouse=True)
def _commits_in_between() -> Iterator[None]:
    """So few bytes are put on the disk at a time that some chunks have a commit of their own and others share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drain_file, "SYNC_BYTES", 60)
        yield


def numbered(count: int, prefix: str = "e") -> list[bytes]:
    return [f"{prefix}{number}".encode() for number in range(count)]


def drained(drainer: Drainer, out: list[bytes]) -> Steps[None]:
    """As `drain` does it."""
    while (claim := (yield from drainer.next_claim())) is not None:
        while elements := (yield from drainer.read(claim)):
            out += elements
            yield from drainer.commit(claim, len(elements))


def the_rest(redisq: Redisq, key: str = KEY) -> list[bytes]:
    """The elements that the next drainer gets when the leases of dead drainers have expired."""
    for lease in redisq.client.scan_iter(match=f"*{key}:drain-lease:*"):
        redisq.client.delete(lease)
    return [element for chunk in drain(redisq.client, key, chunk=7) for element in chunk]


@given(length=lengths(max_length=30, nodes=True), data=st.data())
def test_what_comes_out_is_what_was_in_the_list_in_its_order(staged: Staged, length: int, data: st.DataObject) -> None:
    """In chunks as large as asked for, by either guarantee; nothing is left."""
    chunk = data.draw(chunk_sizes(length, nodes=True), label="chunk")
    guarantee = data.draw(st.sampled_from(["at-least-once", "at-most-once"]), label="guarantee")
    with staged() as (_, redisq):
        elements = numbered(length)
        if elements:
            redisq.client.rpush(KEY, *elements)
        chunks = list(drain(redisq.client, KEY, chunk=chunk, guarantee=guarantee))
        assert [element for each in chunks for element in each] == elements
        assert [len(each) for each in chunks[:-1]] == [chunk] * (len(chunks) - 1)
        assert all(0 < len(each) <= chunk for each in chunks)
        assert redisq.client.dbsize() == 0 or redisq.address.prefix


@given(elements=st.lists(bodies(), max_size=12), chunk=st.integers(1, 5))
def test_every_body_comes_out_as_it_went_in(staged: Staged, elements: list[bytes], chunk: int) -> None:
    with staged() as (_, redisq):
        if elements:
            redisq.client.rpush(KEY, *elements)
        assert [element for each in drain(redisq.client, KEY, chunk=chunk) for element in each] == elements


@given(length=lengths(), pushed=st.lists(st.booleans(), min_size=1, max_size=8), chunk=st.integers(1, 9))
@pytest.mark.parametrize("guarantee", ["at-least-once", "at-most-once"])
def test_what_is_pushed_behind_a_drain_stays_for_the_next(
    staged: Staged, guarantee: Any, length: int, pushed: list[bool], chunk: int
) -> None:
    with staged() as (_, redisq):
        elements, later = numbered(length), numbered(len(pushed), "later")
        if elements:
            redisq.client.rpush(KEY, *elements)
        chunks = drain(redisq.client, KEY, chunk=chunk, guarantee=guarantee)
        first = next(chunks, [])
        redisq.client.rpush(KEY, *later)
        rest = [element for each in chunks for element in each]
        assert first + rest == elements
        assert redisq.client.lrange(KEY, 0, -1) == later


#: Changes of the list by other clients, each in one step. Its reply has the elements that it removes.
_TAKES = {
    "rpush": "redis.call('RPUSH', KEYS[1], ARGV[1]) return {}",
    "lpush": "redis.call('LPUSH', KEYS[1], ARGV[1]) return {}",
    "lrem": "return redis.call('LREM', KEYS[1], 1, ARGV[2]) == 1 and {ARGV[2]} or {}",
    "lpop": "local e = redis.call('LPOP', KEYS[1]) return e and {e} or {}",
    "ltrim": "local e = redis.call('LRANGE', KEYS[1], 3, -1) redis.call('LTRIM', KEYS[1], 0, 2) return e",
    "del": "local e = redis.call('LRANGE', KEYS[1], 0, -1) redis.call('DEL', KEYS[1]) return e",
    "rename": (
        "local e = redis.call('LRANGE', KEYS[1], 0, -1)"
        " if #e > 0 then redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('DEL', KEYS[2]) end return e"
    ),
    "another in its place": (
        "local e = redis.call('LRANGE', KEYS[1], 0, -1)"
        " redis.call('RPUSH', KEYS[2], ARGV[1]) redis.call('RENAME', KEYS[2], KEYS[1]) return e"
    ),
    "expire": "redis.call('PEXPIRE', KEYS[1], 3600000) return {}",
}
_PUSHES = ("rpush", "lpush", "another in its place")


def meddle(what: Sequence[str], pushed: list[bytes], taken: list[bytes]) -> Steps[None]:
    for number, each in enumerate(what):
        body = f"pushed{number}".encode()
        if each in _PUSHES:
            pushed.append(body)
        taken += yield command("EVAL", _TAKES[each], 2, KEY, f"{KEY}-away", body, b"e1")


@pytest.mark.parametrize(
    "faults", [(StepKind.KILL_BEFORE, StepKind.KILL_AFTER), (StepKind.LOSE_REPLY,)], ids=["dies", "is cut off"]
)
@given(
    length=st.integers(0, 14),
    what=st.lists(st.sampled_from(sorted(_TAKES)), max_size=8),
    chunk=st.integers(1, 6),
    data=st.data(),
)
def test_nothing_is_lost_or_doubled_whoever(
    staged: Staged, faults: tuple[StepKind, ...], length: int, what: list[str], chunk: int, data: st.DataObject
) -> None:
    """Two drainers and a client that changes the list: each element comes once, except those read by a dead drainer."""
    with staged() as (stage, redisq):
        pushed, taken = numbered(length), list[bytes]()
        if pushed:
            redisq.client.rpush(KEY, *pushed)
        order = data.draw(turns(actors=3, faults=faults, max_turns=14))
        outs: list[list[bytes]] = [[], []]
        drainers = [
            stage.actor(name, drained(Drainer(KEY, chunk=chunk, lease_seconds=60, owner=name), out))
            for name, out in zip(("one", "two"), outs, strict=True)
        ]
        meddler = stage.actor("meddler", meddle(what, pushed, taken))
        harmless = [turn for turn in order if turn.actor % 3 != 2 or turn.mark is StepKind.RUN]
        stage.play(harmless)
        assert not errors(drainers)
        assert meddler.state == "ended"
        deaths = sum(drainer.state == "killed" or drainer.error is not None for drainer in drainers)
        assert deaths or not redisq.client.exists(f"{KEY}:drains:{{{KEY}}}"), "a living drainer has left a claim"
        rest = the_rest(redisq)
        came = Counter(outs[0] + outs[1] + taken + rest)
        assert not Counter(pushed) - came, "lost"
        assert sum((came - Counter(pushed)).values()) <= deaths * chunk
        assert deaths or all(ttl < 0 for ttl in map(redisq.client.pttl, redisq.client.scan_iter()))
        if not what and not deaths:
            assert outs[0] + outs[1] in (pushed, outs[0] + pushed[len(outs[0]) :])


@pytest.mark.parametrize("mark", FAULTS)
@given(length=st.integers(1, 8), chunk=st.integers(1, 3))
@settings(max_examples=5)
def test_a_drain_that_dies_at_any_command_is_finished_by_the_next(
    staged: Staged, mark: StepKind, length: int, chunk: int
) -> None:
    """At each of its commands: no element is lost, they come in order, and at most the current chunk comes twice."""
    at, struck = 0, True
    while struck:
        with staged() as (_, redisq):
            struck = drain_cut_off(redisq, numbered(length), chunk, Fate(at, mark))
        at += 1
    assert at > 5


def drain_cut_off(redisq: Redisq, elements: list[bytes], chunk: int, fate: Fate) -> bool:
    """A drain that meets its fate, and the one after it. Whether the first lived long enough for that."""
    out: list[bytes] = []
    redisq.client.rpush(KEY, *elements)
    with doomed(redisq, fate) as client:
        swallow(lambda: [out.extend(each) for each in drain(client, KEY, chunk=chunk)])
    rest = the_rest(redisq)
    assert out == elements[: len(out)]
    assert rest == elements[len(elements) - len(rest) :]
    assert len(elements) <= len(out) + len(rest) <= len(elements) + chunk
    return fate.struck


def test_a_lost_reply_with_a_push_behind_it_loses_and_doubles_nothing(staged: Staged) -> None:
    """For the reply of each command: a repeated step removes no element that was pushed meanwhile."""
    at, struck = 0, True
    while struck:
        with staged() as (stage, redisq):
            redisq.client.rpush(KEY, *numbered(3))
            out: list[bytes] = []
            drainer = stage.actor("one", drained(Drainer(KEY, chunk=2, lease_seconds=60, owner="one"), out))
            for _ in range(at):
                stage.step(drainer)
            struck = drainer.state == "alive"
            stage.step(drainer, StepKind.LOSE_REPLY)
            redisq.client.rpush(KEY, "later")
            stage.play([])
            assert drainer.state == "ended"
            assert out + the_rest(redisq) == [*numbered(3), b"later"]
        at += 1
    assert at > 5


def test_a_list_that_was_to_expire_does_not_under_the_drain(redisq: Redisq) -> None:
    redisq.client.rpush(KEY, *numbered(3))
    redisq.client.pexpire(KEY, 3_600_000)
    chunks = drain(redisq.client, KEY, chunk=1)
    out = next(chunks)
    lists = [key for key in redisq.client.scan_iter() if redisq.client.type(key) == b"list"]
    assert lists
    assert all(redisq.client.pttl(key) < 0 for key in lists)  # type: ignore[operator]
    assert [*out, *(element for each in chunks for element in each)] == numbered(3)


@given(length=st.integers(1, 8), chunk=st.integers(1, 3), later=st.integers(1, 3))
@settings(max_examples=6)
def test_a_list_that_expires_while_it_is_drained_is_drained_all_the_same(
    staged: Staged, length: int, chunk: int, later: int
) -> None:
    """Its time passes while the drain is under way, and so does that of a list that comes after it, which is gone."""
    with staged() as (_, redisq):
        redisq.client.rpush(KEY, *numbered(length))
        redisq.client.pexpire(KEY, 50)
        redisq.client.set("clock", "ticks", px=50)
        chunks = drain(redisq.client, KEY, chunk=chunk)
        out = next(chunks, [])
        redisq.client.rpush(KEY, *numbered(later, "later"))
        redisq.client.pexpire(KEY, 1)
        eventually(lambda: not redisq.client.exists("clock", KEY))
        out += [element for each in chunks for element in each]
        # On a very slow machine it had expired before the drain began.
        assert out in (numbered(length), [])
        assert redisq.client.dbsize() == 0 or redisq.address.prefix


#: A key of each type but a list.
_OTHERS: dict[str, tuple[str | int, ...]] = {
    "string": ("SET", KEY, "no list"),
    "hash": ("HSET", KEY, "field", "no list"),
    "set": ("SADD", KEY, "no list"),
    "zset": ("ZADD", KEY, 1, "no list"),
    "stream": ("XADD", KEY, "1-1", "body", "no list"),
}


@pytest.mark.parametrize("guarantee", ["at-least-once", "at-most-once"])
@pytest.mark.parametrize("kind", _OTHERS)
def test_another_type_is_refused_and_left_alone(redisq: Redisq, kind: str, guarantee: Any) -> None:
    redisq.client.execute_command(*_OTHERS[kind])
    before = redisq.client.dump(KEY)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        list(drain(redisq.client, KEY, guarantee=guarantee))
    assert redisq.client.dump(KEY) == before


@given(length=st.integers(1, 12), chunk=st.integers(1, 5), kind=st.sampled_from(sorted(_OTHERS)), data=st.data())
@pytest.mark.parametrize("again", [True, False], ids=["and a list again", "for good"])
def test_a_list_that_turns_into_something_else_on_the_way_is_drained_all_the_same(
    staged: Staged, again: bool, length: int, chunk: int, kind: str, data: st.DataObject
) -> None:
    """Elements from the drain's start come in order; elements of a new list under that key are not drained."""
    with staged() as (_, redisq):
        elements = numbered(length)
        redisq.client.rpush(KEY, *elements)
        chunks = drain(redisq.client, KEY, chunk=chunk)
        out: list[bytes] = []
        for _ in range(data.draw(st.integers(1, length), label="chunks before")):
            out += next(chunks, [])
        redisq.client.execute_command(*_OTHERS[kind])
        if again:
            redisq.client.delete(KEY)
            redisq.client.rpush(KEY, "later")
        out += [element for each in chunks for element in each]
        assert out == elements
        left = redisq.client.type(KEY)
        assert left == (b"list" if again else kind.encode())
        assert not again or redisq.client.lrange(KEY, 0, -1) == [b"later"]


@pytest.mark.parametrize("suffix", ["txt", "txt.gz"])
@given(
    elements=st.lists(bodies(max_size=40), min_size=1, max_size=10),
    chunk=st.integers(1, 4),
    deaths=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(FAULTS), st.integers(0, 30)), max_size=3),
    sync_bytes=st.sampled_from([1, 100, drain_file.SYNC_BYTES]),
)
def test_the_file_is_the_list_byte_for_byte_however_often_it_was_cut_off(
    staged: Staged,
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    elements: list[bytes],
    chunk: int,
    deaths: list[tuple[int, StepKind, int]],
    sync_bytes: int,
) -> None:
    """Killed at any command, and in the middle of a write; each time the same call goes on where it was."""
    path = tmp_path_factory.mktemp("drain") / f"out.{suffix}"
    with staged() as (_, redisq), pytest.MonkeyPatch.context() as patch:
        patch.setattr(drain_file, "SYNC_BYTES", sync_bytes)
        patch.setattr(drain_journal, "PAGE_BYTES", 1)  # a kernel stops a write between two pages
        redisq.client.rpush(KEY, *elements)
        for at, mark, torn_bytes in deaths:
            before = path.stat().st_size if path.exists() else 0
            with doomed(redisq, Fate(at, mark)) as client:
                swallow(lambda client=client: drain_to_file(client, KEY, path, framing="json", chunk=chunk))  # type: ignore[misc]
            tear(path, torn_bytes, before)
        drain_to_file(redisq.client, KEY, path, framing="json", chunk=chunk)
        assert [unframed(line) for line in lines_of(path)] == elements


@pytest.mark.parametrize("mark", FAULTS)
def test_a_file_that_is_cut_off_at_any_command_goes_on_where_it_was(
    staged: Staged, tmp_path: Path, mark: StepKind
) -> None:
    at, struck = 0, True
    while struck:
        with staged() as (_, redisq):
            struck = file_cut_off(redisq, tmp_path / f"{at}.txt", numbered(4), Fate(at, mark))
        at += 1
    assert at > 5


def file_cut_off(redisq: Redisq, path: Path, elements: list[bytes], fate: Fate) -> bool:
    """A file's drain that meets its fate, and the same call again. Whether the first lived long enough for that."""
    redisq.client.rpush(KEY, *elements)
    with doomed(redisq, fate) as client:
        swallow(lambda: drain_to_file(client, KEY, path, framing="json", chunk=1))
    drain_to_file(redisq.client, KEY, path, framing="json", chunk=1)
    assert [unframed(line) for line in lines_of(path)] == elements
    return fate.struck


def swallow(attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except redis.ConnectionError:
        return


def tear(path: Path, torn_bytes: int, before: int) -> None:
    """The file after a kill during a write: the last bytes of chunks that were not synced are missing."""
    journal = path.with_name(path.name + SUFFIX)
    if journal.exists():
        notes = [json.loads(line) for line in journal.read_text().splitlines()]
        safe = {note["safe"]: note["left"] for note in notes if "safe" in note}
        chunks = [note["chunk"] for note in notes if "chunk" in note]
        loose = [chunk["at"] for chunk in chunks if chunk["left"] < safe.get(chunk["claim"], chunk["left"] + 1)]
        if loose:
            os.truncate(path, max(before, min(loose), path.stat().st_size - torn_bytes))


def lines_of(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).split(b"\n")[:-1]


def unframed(line: bytes) -> bytes:
    value = json.loads(line)
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
