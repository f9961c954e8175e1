"""The search for the highest rate that holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.load.knee import HIGHEST, LOWEST, capacity


@given(st.floats(LOWEST, HIGHEST / 2), st.sampled_from([0.02, 0.1, 0.5]))
def test_it_is_found_within_the_precision_and_never_above(limit: float, precision: float) -> None:
    tried: list[float] = []

    def keeps(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = capacity(keeps, precision=precision)
    assert found <= limit <= found * (1 + precision) + 1e-6
    assert len(tried) < 30


def test_what_holds_at_no_rate_has_no_capacity() -> None:
    assert capacity(lambda _: False) == 0.0


def test_what_never_breaks_is_not_tried_for_ever() -> None:
    assert capacity(lambda _: True) >= HIGHEST / 2
