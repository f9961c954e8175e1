"""A drain into a file: each element once, whatever dies when; any framing, any compression."""

from __future__ import annotations

import base64
import errno
import gzip
import io
import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import zstandard

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues import Drained, drain, drain_file, drain_to_file, framing
from pytest_redisq.queues.drain_journal import SUFFIX
from tests.queues.test_draining import expire_leases, fill

SUFFIXES = ["out.txt", "out.jsonl.gz", "out.zst"]


@pytest.fixture
def each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk is put on the disk and taken from the list by itself."""
    monkeypatch.setattr(drain_file, "SYNC_BYTES", 1)


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(raw)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw), read_across_frames=True).read()
    return raw


@pytest.mark.usefixtures("each_chunk")
@pytest.mark.parametrize("name", SUFFIXES)
def test_one_line_for_each_element_appended_to_what_is_there(client: redis.Redis, tmp_path: Path, name: str) -> None:
    path, seen = tmp_path / name, []
    elements = fill(client, 250)
    first = drain_to_file(client, "big", path, chunk=100, progress=lambda done, total: seen.append((done, total)))
    assert first == Drained(elements=250, bytes_before=0, bytes_after=path.stat().st_size)
    assert seen == [(100, 250), (200, 250), (250, 250)]
    more = fill(client, 10, start=250)
    drain_to_file(client, "big", path)
    assert content(path).split(b"\n") == [*elements, *more, b""]
    assert list(client.scan_iter()) == []


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("moment", ["before fsync", "after fsync", "after commit"])
def test_killed_at_any_moment_it_goes_on_and_every_element_is_there_once(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]], tmp_path: Path, name: str, moment: str
) -> None:
    path = tmp_path / name
    elements = fill(client, 1000)
    victim = child(
        "import os, signal\n"
        "synced, real = [], os.fsync\n"
        "def fsync(fd):\n"
        f"    if {moment!r} == 'before fsync' and len(synced) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(fd); synced.append(fd)\n"
        f"    if {moment!r} == 'after fsync' and len(synced) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "def progress(done, total):\n"
        f"    if {moment!r} == 'after commit' and done == 300: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = fsync\n"
        "drain_file.SYNC_BYTES = 1\n"
        f"drain_to_file(client, 'big', {str(path)!r}, chunk=100, progress=progress)\n"
    )
    assert victim.wait(60) == -9
    client.rpush("big", "later")
    drain_to_file(client, "big", path, chunk=100)
    assert content(path).split(b"\n") == [*elements, b"later", b""]


def test_into_another_file_what_a_dead_drain_left_comes_when_its_lease_has_run_out(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    elements = fill(client, 300)
    victim = child(
        "import os, signal\n"
        "def progress(done, total): os.kill(os.getpid(), signal.SIGKILL)\n"
        "drain_file.SYNC_BYTES = 1\n"
        f"drain_to_file(client, 'big', {str(tmp_path / 'one')!r}, chunk=100, progress=progress)\n"
    )
    assert victim.wait(60) == -9
    other = tmp_path / "other"
    assert drain_to_file(client, "big", other).elements == 0
    expire_leases(client)
    assert drain_to_file(client, "big", other).elements == 200
    one = (tmp_path / "one").read_bytes().split()
    assert one == elements[: len(one)]
    assert len(one) >= 100  # and what was on its way when it died
    assert other.read_bytes().split() == elements[100:]


def test_a_file_that_was_replaced_since_is_not_cut(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    path = tmp_path / "out"
    elements = fill(client, 300)
    victim = child(
        "import os, signal\n"
        "def progress(done, total): os.kill(os.getpid(), signal.SIGKILL)\n"
        "drain_file.SYNC_BYTES = 1\n"
        f"drain_to_file(client, 'big', {str(path)!r}, chunk=100, progress=progress)\n"
    )
    assert victim.wait(60) == -9
    path.rename(tmp_path / "rotated")
    path.write_bytes(b"somebody's own line, longer than what had been committed\n" * 20)
    size = path.stat().st_size
    expire_leases(client)
    drain_to_file(client, "big", path)
    assert path.read_bytes()[size:].split() == elements[100:]


def test_two_drains_into_one_file_are_refused(client: redis.Redis, tmp_path: Path) -> None:
    fill(client, 300)
    path, said = tmp_path / "out", []

    def again(_done: int, _total: int) -> None:
        with pytest.raises(RedisqError) as refusal:
            drain_to_file(client, "big", path)
        said.append(str(refusal.value))

    assert drain_to_file(client, "big", path, progress=again).elements == 300
    assert said == [f"another drain is writing to {path}. What to do: wait for its end, or choose another file."]


def test_an_element_with_a_newline_is_refused_and_nothing_is_lost(client: redis.Redis, tmp_path: Path) -> None:
    client.rpush("big", "fine", "two\nlines")
    with pytest.raises(ValueError, match=r"an element contains a newline.*b'two\\nlines'\. Use \"json\""):
        drain_to_file(client, "big", tmp_path / "out")
    assert drain_to_file(client, "big", tmp_path / "out", framing="json").elements == 2


def test_json_keeps_every_byte(client: redis.Redis, tmp_path: Path) -> None:
    elements = [b"plain", b"two\nlines", '"schön"'.encode(), b"\xff\x00binary", b"", b'{"a": 1}']
    client.rpush("big", *elements)
    drain_to_file(client, "big", tmp_path / "out.jsonl", framing="json")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [_element(line) for line in lines] == elements


@pytest.mark.parametrize(("name", "magic"), [("OUT.GZ", b"\x1f\x8b"), ("out.Zst", b"\x28\xb5\x2f\xfd")])
def test_a_suffix_in_capitals_is_the_same(client: redis.Redis, tmp_path: Path, name: str, magic: bytes) -> None:
    path = tmp_path / name
    for start in (0, 3):
        fill(client, 3, start=start)
        drain_to_file(client, "big", path)
    assert path.read_bytes().count(magic) == 2
    with path.open("ab") as file:
        file.write(magic)
    with pytest.raises(RedisqError, match="does not end with a whole"):
        drain_to_file(client, "big", path)


def test_without_isal_it_writes_gzip_all_the_same(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_igzip", None)
    elements = fill(client, 300)
    drain_to_file(client, "big", tmp_path / "out.gz", chunk=100)
    assert content(tmp_path / "out.gz").split() == elements


def test_without_zstandard_zst_is_refused_before_anything_is_done(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_zstandard", None)
    fill(client, 3)
    with pytest.raises(RedisqError, match=r"pip install 'pytest-redisq\[fast\]', or choose a name with \.gz"):
        drain_to_file(client, "big", tmp_path / "out.zst")
    assert client.llen("big") == 3
    assert os.listdir(tmp_path) == []


def test_a_full_disk_keeps_the_rest_in_the_list(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk's."""
    elements, path = fill(client, 5_000), tmp_path / "out"
    stopped = child(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_007, 10_007))\n"
        "drain_file.SYNC_BYTES = 1\n"
        f"try: drain_to_file(client, 'big', {str(path)!r}, chunk=1000)\n"
        "except OSError as error: print(error, flush=True)\n"
    )
    assert "File too large" in stopped.communicate()[0]
    assert path.read_bytes().split() == elements[:2000]
    assert client.llen("big") + sum(len(chunk) for chunk in drain(client, "big")) == 3000


@pytest.mark.parametrize("path", ["/dev/full", "."])
def test_what_is_no_regular_file_is_refused_and_nothing_is_left_beside_it(client: redis.Redis, path: str) -> None:
    fill(client, 3)
    with pytest.raises(RedisqError, match="not a regular file"):
        drain_to_file(client, "big", path)
    assert client.llen("big") == 3
    assert not os.path.exists(path + SUFFIX)


def test_what_a_disk_failed_to_take_stays_in_the_list_whatever_it_says_when_asked_again(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells each failure once: the next fsync succeeds, though the pages are gone."""
    asked, real = [], os.fsync

    def fails_once(descriptor: int) -> None:
        asked.append(descriptor)
        if len(asked) == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fails_once)
    monkeypatch.setattr(drain_file, "SYNC_BYTES", 1)
    elements = fill(client, 1_000)
    with pytest.raises(OSError, match="Input/output error"):
        drain_to_file(client, "big", tmp_path / "out", chunk=100)
    assert drain_to_file(client, "big", tmp_path / "out", chunk=100).elements == 800
    assert (tmp_path / "out").read_bytes().split() == elements


def test_what_was_written_before_an_element_is_refused_is_not_written_again(
    client: redis.Redis, tmp_path: Path
) -> None:
    elements = fill(client, 250)
    client.rpush("big", "two\nlines")
    with pytest.raises(ValueError, match="an element contains a newline"):
        drain_to_file(client, "big", tmp_path / "out", chunk=100)
    assert (tmp_path / "out").read_bytes().split() == elements[:200]
    rest = [element for chunk in drain(client, "big") for element in chunk]
    assert rest == [*elements[200:], b"two\nlines"]


def test_the_disk_is_waited_for_once_in_many_chunks(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
    monkeypatch.setattr(drain_file, "SYNC_BYTES", 5_000)
    elements = fill(client, 5_000)
    drain_to_file(client, "big", tmp_path / "out", chunk=100)
    assert (tmp_path / "out").read_bytes().split() == elements
    assert 3 <= len(synced) <= 7


def test_an_unknown_framing_is_refused(client: redis.Redis, tmp_path: Path) -> None:
    wrong: Any = "csv"
    with pytest.raises(ValueError, match='framing=\'csv\' must be "lines" or "json"'):
        drain_to_file(client, "big", tmp_path / "out", framing=wrong)


def test_memory_stays_flat_whatever_the_length(client: redis.Redis, tmp_path: Path) -> None:
    """All queued chunks take less than a MiB; keeping the whole longer list would take ten."""

    def peak(count: int) -> int:
        for _ in range(0, count, 1000):
            client.rpush("big", *[b"x" * 100] * 1000)
        tracemalloc.start()
        drain_to_file(client, "big", tmp_path / "out.gz", chunk=100)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1000)
    assert peak(100_000) < peak(1000) + 2**20


def _element(line: str | dict[str, str]) -> bytes:
    return base64.b64decode(line["base64"]) if isinstance(line, dict) else line.encode()
