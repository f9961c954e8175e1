"""The files that a run writes: opened before it, whole after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_redisq.load.results.output_files import FileError, OutputFile


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    path.write_text("a longer text of the last run")
    with OutputFile(path, "--json") as file:
        assert path.read_text() == "a longer text of the last run"
        assert file.write("of this run") == ""
    assert path.read_text() == "of this run"


def test_a_file_without_content_is_removed_only_if_it_was_made(tmp_path: Path) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    there.touch()
    with OutputFile(made, "--json"), OutputFile(there, "--json"):
        assert made.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    with OutputFile(path, "--json") as file:
        with pytest.raises(FileError, match="another run is writing it"), OutputFile(path, "--json"):
            pass
        assert file.write("whole") == ""
    assert path.read_text() == "whole"
    with OutputFile(path, "--json"):
        pass


def test_a_fifo_that_nothing_reads_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileError, match="a FIFO that no process reads"), OutputFile(tmp_path / "fifo", "--json"):
        pass


def test_what_is_written_to_a_pipe_arrives() -> None:
    reader, writer = os.pipe()
    with OutputFile(Path(f"/dev/fd/{writer}"), "--json") as file:
        assert file.write("told") == ""
    os.close(writer)
    with open(reader) as told:
        assert told.read() == "told"


def test_a_file_that_has_become_too_large_keeps_what_it_contained(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "told.json"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with OutputFile(path, "--json") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            failure = file.write("x" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.startswith(f"--json: {path} could not be written: ")
    assert path.read_text() == "before"
