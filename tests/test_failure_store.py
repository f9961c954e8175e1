"""failure_store.py: what failed has a file of its own for each test, whatever the test is called."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq import failure_store

#: Ids as pytest makes them, and as a plugin or a hostile hand may make them.
IDS = [
    "test_a.py::test_b",
    "test_a.py::test_B",
    "test_a.py::test_b[a/b]",
    "test_a.py::test_b[a:b]",
    "test_a.py::test_b[a b]",
    "test_a.py::test_b[a-b]",
    "test_a.py::test_b-a-b",
    "test_a.py-test_b",
    "a/test_a.py::test_b",
    "a-test_a.py::test_b",
    "a::test_a.py::test_b",
    "a.py::b::c",
    "a.py/b.py::c",
    "a.py::b[" + "x" * 300 + "1]",
    "a.py::b[" + "x" * 300 + "2]",
    "a.py::b_" + "x" * 300,
    "a.py::b_" + "x" * 301,
    "a.py::b[" + "é" * 300 + "]",
    "a.py::b[\udcff]",
    "a.py::b[\0]",
    "../../etc/passwd",
    "/etc/passwd",
    ".",
    "..",
    "",
]


def test_every_test_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Also on a file system that takes `A` for `a`."""
    for one, two in combinations(IDS, 2):
        assert failure_store.file_name(one).casefold() != failure_store.file_name(two).casefold()
    kinds = (failure_store.SCHEDULE, failure_store.HISTORY, f"{failure_store.SCHEDULE}.html")
    for test in IDS:
        for kind in kinds:
            path = tmp_path / f"{failure_store.file_name(test)}{kind}"
            failure_store.write(path, "text")
            assert path.parent == tmp_path
    assert len(list(tmp_path.iterdir())) == len(IDS) * len(kinds) + 1  # and .gitignore


_part = st.text("ab_./:[]-A", max_size=6)


@given(one=st.builds("{}.py::{}".format, _part, _part), two=st.builds("{}.py::{}".format, _part, _part))
def test_names_tell_ids_apart(one: str, two: str) -> None:
    if one != two:
        assert failure_store.file_name(one).casefold() != failure_store.file_name(two).casefold()


def test_a_failure_is_found_by_its_whole_name_or_a_part(tmp_path: Path) -> None:
    paths = {test: tmp_path / f"{failure_store.file_name(test)}{failure_store.HISTORY}" for test in IDS[:4]}
    for path in paths.values():
        failure_store.write(path, "")
    for test, path in paths.items():
        assert failure_store.choose(test, tmp_path) == path
    with pytest.raises(failure_store.RedisqError, match="2 failures match"):
        failure_store.choose("[a", tmp_path)
    with pytest.raises(failure_store.RedisqError, match="No failure matches"):
        failure_store.choose("x" * 5_000, tmp_path)
