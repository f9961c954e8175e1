"""The file of a killed drain, and its repair by the next drain: no byte of another program is removed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pytest_redisq.errors import DrainHeldError, RedisqError
from pytest_redisq.queues import drain_journal, drain_to_file
from pytest_redisq.queues.drain_journal import SUFFIX, marks, page_ends
from pytest_redisq.servers import Server
from tests.queues.test_drain_file import SUFFIXES, content
from tests.queues.test_draining import expire_leases, fill

Child = Callable[[str], subprocess.Popen[str]]

#: Kills the drain within its third write, when the kernel has taken so many bytes of it.
KILLED_WITHIN_A_WRITE = """
import os, signal
from io import FileIO
from pytest_redisq.queues import chunk_writer
class Torn(FileIO):
    written = 0
    def write(self, data):
        self.written += 1
        if self.written == 3:
            FileIO.write(self, bytes(data)[:len(data) // 8192 * 4096 - self.tell() % 4096])
            os.kill(os.getpid(), signal.SIGKILL)
        return FileIO.write(self, data)
drain_file.FileIO = Torn
drain_file.SYNC_BYTES = {sync_bytes}
drain_to_file(client, {key!r}, {path!r}, chunk=5000)
"""

#: Kills the drain when a chunk is in the file, and the server does not know of it.
KILLED_BEFORE_THE_COMMIT = """
import os, signal
real = os.fsync
def fsync(descriptor):
    real(descriptor)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
drain_file.SYNC_BYTES = 1
drain_to_file(client, {key!r}, {path!r}, chunk=5000)
"""
KILLS = {
    "within a write": KILLED_WITHIN_A_WRITE,
    "before the commit": KILLED_BEFORE_THE_COMMIT,
}


def numbered(client: redis.Redis, key: str, count: int = 20_000) -> list[bytes]:
    elements = [b"%s-%07d-%s" % (key.encode(), number, os.urandom(8).hex().encode()) for number in range(count)]
    for first in range(0, count, 5000):
        client.rpush(key, *elements[first : first + 5000])
    return elements


def kill(child: Child, kind: str, key: str, path: Path, sync_bytes: int = 1) -> None:
    code = KILLS[kind].format(key=key, path=str(path), sync_bytes=sync_bytes)
    assert child(code).wait(60) == -9
    assert path.stat().st_size


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("name", SUFFIXES)
def test_drains_of_other_lists_go_on_behind_a_killed_one(
    client: redis.Redis, child: Child, tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / name
    first, second = numbered(client, "a"), numbered(client, "b")
    kill(child, kind, "a", path)
    assert drain_to_file(client, "b", path).elements == len(second)
    drain_to_file(client, "a", path)
    lines = content(path).split(b"\n")[:-1]
    assert sorted(lines) == sorted(first + second)
    assert [line for line in lines if line.startswith(b"a-")] == first
    assert os.listdir(tmp_path) == [name], "the journal goes when all is finished"


@pytest.mark.parametrize("kind", KILLS)
def test_the_same_key_of_two_databases_shares_a_file(
    client: redis.Redis, server: Server, child: Child, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "out.gz"
    first = numbered(client, "a")
    kill(child, kind, "a", path)
    with redis.Redis.from_url(server.url, db=1) as other:
        second = numbered(other, "a")
        drain_to_file(other, "a", path)
    drain_to_file(client, "a", path)
    assert sorted(content(path).split()) == sorted(first + second)


@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("appended", [b"a line of another program\n", b"x" * 100_000 + b"\n", b"\n", b"no newline"])
def test_lines_that_another_program_appends_stay(
    client: redis.Redis, child: Child, tmp_path: Path, kind: str, appended: bytes
) -> None:
    path = tmp_path / "out.txt"
    elements = numbered(client, "a")
    kill(child, kind, "a", path)
    with path.open("ab") as file:
        file.write(appended)
    drain_to_file(client, "a", path)
    lines = path.read_bytes().split(b"\n")
    assert lines.count(appended.rstrip(b"\n")) == (2 if appended == b"\n" else 1)
    assert [line for line in lines if line.startswith(b"a-")] == elements


@pytest.mark.parametrize("cut_off_after", ["the note", "the write", "the truncation"])
def test_putting_appended_lines_in_place_may_be_cut_off_as_well(
    client: redis.Redis, child: Child, tmp_path: Path, cut_off_after: str
) -> None:
    path = tmp_path / "out.txt"
    elements = numbered(client, "a")
    kill(child, "within a write", "a", path)
    with path.open("ab") as file:
        file.write(b"another\n" * 1000)
    where = {"the note": "pwrite", "the write": "truncate", "the truncation": "fsync"}[cut_off_after]
    victim = child(
        "import os, signal\n"
        "from io import FileIO\n"
        "from pytest_redisq.queues import drain_journal\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "class Dies(FileIO): truncate = die\n"
        f"if {where!r} == 'truncate': drain_journal.FileIO = Dies\n"
        f"else: setattr(os, {where!r}, die)\n"
        f"drain_to_file(client, 'a', {str(path)!r})\n"
    )
    assert victim.wait(60) == -9
    drain_to_file(client, "a", path)
    lines = path.read_bytes().split(b"\n")[:-1]
    assert lines.count(b"another") == 1000
    assert [line for line in lines if line != b"another"] == elements


def test_a_file_that_lost_its_end_is_written_again_from_there(
    client: redis.Redis, child: Child, tmp_path: Path
) -> None:
    """Elements committed before the file was truncated are gone, as intended."""
    path = tmp_path / "out.txt"
    elements = numbered(client, "a")
    kill(child, "before the commit", "a", path)
    os.truncate(path, 0)
    drain_to_file(client, "a", path)
    assert path.read_bytes().split() == elements


@pytest.mark.parametrize("name", ["out.gz", "out.zst"])
def test_a_half_member_that_no_drain_is_known_to_have_written_is_refused(
    client: redis.Redis, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    fill(client, 30_000)
    drain_to_file(client, "big", path)
    half = path.read_bytes()[:-100]
    path.write_bytes(half)
    client.rpush("big", "later")
    with pytest.raises(RedisqError, match=r"cannot be appended to.*does not end with a whole"):
        drain_to_file(client, "big", path)
    assert path.read_bytes() == half
    assert client.llen("big") == 1
    assert os.listdir(tmp_path) == [name]


def test_a_member_of_another_program_is_appended_to(client: redis.Redis, tmp_path: Path) -> None:
    path = tmp_path / "out.gz"
    path.write_bytes(gzip.compress(b"another\n" * 10_000_000))  # with a large member the end alone tells nothing
    path.write_bytes(path.read_bytes() + gzip.compress(b"no newline"))
    fill(client, 3)
    drain_to_file(client, "big", path)
    assert content(path)[-17:] == b"no newline\n0\n1\n2\n"


def test_another_name_for_the_file_has_the_same_journal(client: redis.Redis, child: Child, tmp_path: Path) -> None:
    path, link = tmp_path / "out.txt", tmp_path / "link.txt"
    elements = numbered(client, "a")
    kill(child, "before the commit", "a", path)
    link.symlink_to(path)
    drain_to_file(client, "a", link)
    assert path.read_bytes().split() == elements
    assert sorted(os.listdir(tmp_path)) == ["link.txt", "out.txt"]


def test_a_file_that_is_moved_with_its_journal_is_gone_on_with(
    client: redis.Redis, child: Child, tmp_path: Path
) -> None:
    path, moved = tmp_path / "out.txt", tmp_path / "moved.txt"
    elements = numbered(client, "a")
    kill(child, "before the commit", "a", path)
    moved.write_bytes(path.read_bytes())  # as on another volume
    path.with_name(path.name + SUFFIX).rename(moved.with_name(moved.name + SUFFIX))
    drain_to_file(client, "a", moved)
    assert moved.read_bytes().split() == elements


def test_a_file_of_the_journals_name_that_is_none_is_left_alone(client: redis.Redis, tmp_path: Path) -> None:
    fill(client, 3)
    (tmp_path / f"out{SUFFIX}").write_text("notes\n")
    with pytest.raises(RedisqError, match=r"not the journal of a drain.*\n.*move it away"):
        drain_to_file(client, "big", tmp_path / "out")
    assert (tmp_path / f"out{SUFFIX}").read_text() == "notes\n"
    assert client.llen("big") == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT TESTED: only root may become another")
def test_a_folder_that_takes_no_journal_is_told(client: redis.Redis, server: Server, tmp_path: Path) -> None:
    fill(client, 3)
    path = tmp_path / "out"
    path.touch(0o666)
    path.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    code = (
        "import os, redis\nfrom pytest_redisq.queues import drain_to_file\n"
        "from pytest_redisq.errors import RedisqError\n"
        f"client = redis.Redis.from_url({str(server.url)!r})\nclient.ping()\nos.setuid(65534)\n"
        f"try: drain_to_file(client, 'big', {str(path)!r})\nexcept RedisqError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"cannot write {path}{SUFFIX}: Permission denied" in told.stdout, told.stderr
    assert client.llen("big") == 3


def test_a_drain_of_another_host_is_left_alone_until_its_lease_has_run_out(
    client: redis.Redis, child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File locks do not reach another kernel, which has another boot id."""
    path = tmp_path / "out.gz"
    elements = numbered(client, "a")
    kill(child, "within a write", "a", path)
    before = path.read_bytes()
    monkeypatch.setattr(drain_journal, "_boot", lambda: "another kernel's")
    with pytest.raises(DrainHeldError, match="may still run: file locks may not reach other hosts") as told:
        drain_to_file(client, "a", path)
    [held] = told.value.held
    assert held.elements in (10_000, 15_000, 20_000)  # so many chunks as the server knows of are gone
    assert str(path) in held.holder
    assert 0 < held.lease_seconds <= 60
    assert path.read_bytes() == before
    journal = path.with_name(path.name + SUFFIX)
    os.utime(journal, (0, journal.stat().st_mtime - 60))
    for key in client.keys("a:drain-lease:*"):
        client.delete(key)
    drain_to_file(client, "a", path)
    assert content(path).split() == elements


def test_a_drain_known_to_be_dead_is_taken_over_at_once(
    client: redis.Redis, child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.gz"
    elements = numbered(client, "a")
    kill(child, "within a write", "a", path)
    monkeypatch.setattr(drain_journal, "_boot", lambda: "another kernel's")
    drain_to_file(client, "a", path, take_over=True)
    assert content(path).split() == elements


def test_a_journal_that_a_drain_on_another_host_replaced_stops_the_drain(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.txt"
    elements = numbered(client, "a")
    monkeypatch.setattr("pytest_redisq.queues.drain_file.SYNC_BYTES", 1)
    journal = path.with_name(path.name + SUFFIX)

    def replaced(_done: int, _total: int) -> None:
        journal.with_name("new").write_bytes(journal.read_bytes())
        journal.with_name("new").rename(journal)

    with pytest.raises(DrainHeldError, match=r"another drain has taken .* over"):
        drain_to_file(client, "a", path, chunk=5000, progress=replaced)
    drain_to_file(client, "a", path)
    assert set(path.read_bytes().split()) == set(elements)


def test_what_others_hold_is_told_and_taken_over(client: redis.Redis, child: Child, tmp_path: Path) -> None:
    path, other = tmp_path / "out.txt", tmp_path / "other.txt"
    numbered(client, "a")
    kill(child, "within a write", "a", path)
    done = drain_to_file(client, "a", other)
    [held] = done.held
    assert (done.elements, held.key) == (0, "a")
    assert held.elements in (10_000, 15_000, 20_000)  # the server may know of one chunk, of two, or of none
    assert str(path) in held.holder
    assert 0 < held.lease_seconds <= 60
    taken = drain_to_file(client, "a", other, take_over=True)
    assert (taken.elements, taken.held) == (held.elements, ())
    expire_leases(client)


def test_notes_of_drains_that_we_know_nothing_of_are_no_obstacle(client: redis.Redis, tmp_path: Path) -> None:
    """As earlier versions wrote them, or other programs."""
    for number, state in enumerate(['{"host": "h", "path": "/p", "inode": 1, "length": 2}', "[1]", "{", ""]):
        client.rpush(f"a:drain:{number}:{{a}}", "left")
        client.hset("a:drains:{a}", str(number), state)
    assert drain_to_file(client, "a", tmp_path / "out").elements == 4


@pytest.mark.parametrize("at", [0, 1, 4000, 4089, 4090, 4095, 4096, 10_000])
@pytest.mark.parametrize("size", [0, 1, 100, 4096, 4097, 20_000])
def test_marks_are_the_last_bytes_of_each_page(at: int, size: int) -> None:
    data = os.urandom(size)
    ends = page_ends(at, size)
    assert list(ends) == [end for end in range(1, size + 1) if (at + end) % 4096 == 0]
    found = json.loads(json.dumps(marks(data, at)))
    raw = drain_journal.base64.b64decode(found)
    for number, end in enumerate(ends):
        assert raw[number :: len(ends)][-end:] == data[max(0, end - 8) : end]
