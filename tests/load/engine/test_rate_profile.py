"""When each message is due."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.load.engine.rate_profile import RateProfile


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_constant_rate_is_evenly_spaced(rate: int, number: int) -> None:
    assert RateProfile.parse(str(rate)).due(number) == pytest.approx(number / rate)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50)), max_size=5), st.integers(1, 50))
def test_moments_never_go_back(breakpoints: list[tuple[int, int]], last: int) -> None:
    seconds, words = 0, ["0:1"]
    for step, rate in breakpoints:
        seconds += step
        words.append(f"{seconds}:{rate}")
    pace = RateProfile.parse(",".join([*words, f"{seconds + 1}:{last}"]))
    moments = [pace.due(number) for number in range(200)]
    assert all(one <= two + 1e-9 for one, two in pairwise(moments))


def test_a_ramp_sends_as_many_as_lie_under_its_line() -> None:
    pace = RateProfile.parse("0:0,10:100")
    assert pace.due(500) == pytest.approx(10)
    assert pace.due(125) == pytest.approx(5)
    assert pace.due(600) == pytest.approx(11)


def test_a_spike_returns_to_its_base() -> None:
    pace = RateProfile.parse("0:10,1:10,1:100,2:100,2:10")
    assert [pace.due(number) for number in (10, 60, 110, 120)] == pytest.approx([1, 1.5, 2, 3])


@pytest.mark.parametrize("text", ["", "fast", "0", "5:10", "0:1,3:2,2:5", "0:5,3:0", "-1", "inf", "nan"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate: write messages per second, such as 1000"):
        RateProfile.parse(text)
