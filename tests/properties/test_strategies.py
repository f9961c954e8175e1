"""The strategies draw what their docstrings say, including the important cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from pytest_redisq.explore import StepKind
from pytest_redisq.properties import (
    Ack,
    Action,
    Burst,
    Crash,
    Put,
    Restart,
    Trim,
    bodies,
    bursts,
    chunk_sizes,
    lengths,
    trims,
    workloads,
)
from pytest_redisq.properties.strategies import ENCODING_BYTES, NODE_LENGTHS
from tests.properties.turns import FAULTS, Turn, turns


@pytest.mark.parametrize("wanted", [b"", b"$-1\r\n", b"\xff", b"x" * 64])
def test_awkward_bodies_are_among_the_bodies(wanted: bytes) -> None:
    assert find(bodies(), lambda body: body == wanted) == wanted


def test_a_large_body_comes_only_where_it_is_asked_for() -> None:
    assert len(find(bodies(large_bytes=2_000), lambda body: len(body) > 300)) == 2_000
    assert len(find(bodies(max_size=ENCODING_BYTES[-1]), lambda body: len(body) == 8192)) == 8192


@given(body=bodies(max_size=40))
def test_bodies_are_no_larger_than_allowed(body: bytes) -> None:
    assert len(body) <= 40


@given(drawn=bursts(producers=2, max_bursts=3, max_size=4))
def test_bursts_are_within_their_bounds(drawn: list[Burst]) -> None:
    assert 1 <= len(drawn) <= 3
    assert all(burst.producer in (0, 1) and 1 <= burst.size <= 4 for burst in drawn)


def test_gaps_between_bursts_are_drawn_where_they_are_asked_for() -> None:
    assert find(bursts(max_gap_seconds=2), lambda drawn: drawn[0].gap_seconds > 1)[0].gap_seconds <= 2


@given(drawn=bursts())
def test_gaps_between_bursts_come_nowhere_else(drawn: list[Burst]) -> None:
    assert not [burst for burst in drawn if burst.gap_seconds]


def test_chunks_of_whole_nodes_are_drawn_where_asked_for() -> None:
    assert find(chunk_sizes(10, nodes=True), lambda size: size > 500) == 511


@given(trim=trims(max_keep=3), count=st.integers(0, 6))
def test_a_trim_by_id_names_the_first_entry_that_is_kept(trim: Trim, count: int) -> None:
    ids = [f"1-{number}" for number in range(count)]
    by, how, threshold = trim.arguments(ids)
    assert (by, how) == (trim.by, "=" if trim.exact else "~")
    if by == "MAXLEN":
        assert threshold == trim.keep
    elif trim.keep and ids:
        assert ids.index(str(threshold)) == max(0, count - trim.keep)
    else:
        assert threshold not in ids


@given(data=st.data(), length=lengths(max_length=20))
def test_chunks_have_an_element_at_least(data: st.DataObject, length: int) -> None:
    assert 1 <= data.draw(chunk_sizes(length)) <= max(1, length + 1, 2 * length)


@pytest.mark.parametrize("size", [1, 4, 5, 9, 10, 11, 20])
def test_chunks_around_each_boundary_are_drawn(size: int) -> None:
    assert find(chunk_sizes(10), lambda drawn: drawn == size) == size


def test_lengths_at_which_storage_changes_are_drawn_where_asked_for() -> None:
    assert find(lengths(nodes=True), lambda length: length == NODE_LENGTHS[-1]) == NODE_LENGTHS[-1]
    assert find(lengths(), lambda _: True) == 0


@given(actions=workloads(workers=2, max_actions=8, of=[Put, Ack, Restart]))
def test_workloads_are_made_of_what_was_asked_for(actions: list[Action]) -> None:
    assert 1 <= len(actions) <= 8
    assert {type(action) for action in actions} <= {Put, Ack, Restart}
    assert all(action.worker < 2 for action in actions if isinstance(action, Ack))


def test_a_workload_shrinks_to_the_one_action_that_matters() -> None:
    assert find(workloads(), lambda actions: any(isinstance(each, Crash) for each in actions)) == [Crash(worker=0)]


@given(drawn=turns(actors=2, faults=FAULTS))
def test_turns_end_in_the_faults_that_were_asked_for(drawn: list[Turn]) -> None:
    assert {turn.mark for turn in drawn} <= {StepKind.RUN, *FAULTS}
    assert all(turn.actor < 2 and turn.commands >= 1 for turn in drawn)


@given(drawn=turns())
def test_turns_have_no_faults_unless_asked_for(drawn: list[Turn]) -> None:
    assert all(turn.mark is StepKind.RUN for turn in drawn)


@pytest.mark.parametrize(
    ("strategy", "arguments", "words"),
    [
        (bodies, {"max_size": -1}, "max_size=-1: a whole number of at least 0"),
        (bursts, {"producers": 0}, "producers=0: a whole number of at least 1"),
        (bursts, {"max_gap_seconds": -1.0}, "max_gap_seconds=-1.0: at least 0"),
        (trims, {"max_keep": 1.5}, "max_keep=1.5: a whole number of at least 0"),
        (chunk_sizes, {"length": True}, "length=True: a whole number of at least 0"),
        (workloads, {"of": [int]}, "some of Put, Get, Ack, GiveBack, Crash, Restart"),
    ],
)
def test_what_makes_no_sense_is_refused(strategy: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        strategy(**arguments)
