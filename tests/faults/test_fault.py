"""The spelling of faults: each fault survives a round trip, and a mistake is an error."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.faults import Fault, FaultName, parse_faults

TARGETS = st.one_of(
    st.sampled_from(["", "server", "connections", "consumer", "consumers", "process", "one"]),
    st.text(st.characters(exclude_characters=",:@+", exclude_categories=["C", "Z"]), max_size=8),
)
SECONDS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
WHEN = st.one_of(
    st.just({}),
    st.builds(lambda count: {"after_messages": count}, st.integers(min_value=0)),
    st.builds(lambda seconds: {"at_seconds": seconds}, SECONDS),
)
FAULTS = st.builds(
    lambda name, target, when, duration: Fault(name, target=target, for_seconds=duration, **when),
    st.sampled_from(get_args(FaultName)),
    TARGETS,
    WHEN,
    st.one_of(SECONDS, st.just(math.inf)),
)


@given(fault=FAULTS)
def test_each_fault_reads_back_as_itself(fault: Fault) -> None:
    assert Fault.parse(str(fault)) == fault


@given(faults=st.lists(FAULTS, max_size=4))
def test_text_and_objects_mean_the_same(faults: list[Fault]) -> None:
    assert parse_faults(", ".join(map(str, faults))) == parse_faults(faults) == parse_faults([*map(str, faults)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kil:consumer@500", "no such fault: 'kil'. Did you mean 'kill'? The names are lost-request, "),
        ("kill:consumer@soon", "'kill:consumer@soon' is not a fault: write NAME[:TARGET][@WHEN][+DURATION], as in "),
        ("pause:server@2s+3", "'pause:server@2s+3' is not a fault: write NAME"),
        ("pause@3@4", "'pause@3@4' is not a fault: write NAME"),
    ],
)
def test_a_mistyped_fault_is_told(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(words)):
        Fault.parse(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "kil"}, "no such fault: 'kil'. Did you mean 'kill'?"),
        ({"name": "kill", "target": "a@b"}, "target='a@b' cannot be spelled in a fault"),
        (
            {"name": "kill", "after_messages": 1, "at_seconds": 1},
            "kill takes after_messages or at_seconds, not both",
        ),
        ({"name": "kill", "after_messages": -1}, "after_messages=-1 must be at least 0"),
        ({"name": "kill", "at_seconds": math.inf}, "at_seconds=inf must be at least 0"),
        ({"name": "kill", "for_seconds": math.nan}, "for_seconds=nan must be at least 0"),
    ],
)
def test_an_object_that_makes_no_sense_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(words)):
        Fault(**options)  # type: ignore[arg-type]
