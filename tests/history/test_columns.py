"""Columns of integers: narrow, exact, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.history.columns import Column, DeltaColumn, Ids, Span

WHOLE = st.one_of(st.integers(-200, 200), st.integers(-(2**63), 2**63 - 1))


@settings(deadline=None)
@given(st.lists(WHOLE))
def test_a_column_gives_back_what_it_was_given(values: list[int]) -> None:
    column = Column()
    for value in values:
        column.append(value)
    assert (list(column), len(column)) == (values, len(values))


@pytest.mark.parametrize(("largest", "width"), [(127, 1), (128, 2), (2**15, 4), (2**31, 8)])
def test_a_column_is_as_wide_as_its_largest_number_needs(largest: int, width: int) -> None:
    column = Column()
    column.append(0)
    column.append(largest)
    assert column.cells.itemsize == width


def test_a_number_beyond_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError, match="at most 64 bits"):
        Column().append(2**63)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**62)))
def test_rising_numbers_come_back_also_where_they_fall(values: list[int]) -> None:
    rising = DeltaColumn()
    for value in values:
        rising.append(value)
    assert list(rising) == values
    assert rising.highest() == max(values, default=0)
    assert rising.falls == (values != sorted(values))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 2**21)), min_size=2, max_size=2))
def test_ids_of_streams_keep_their_order_where_they_have_a_code(pairs: list[tuple[int, int]]) -> None:
    ids = Ids()
    codes = [ids.code(f"{milliseconds}-{sequence}") for milliseconds, sequence in pairs]
    if min(codes) >= 0:
        assert (codes[0] < codes[1]) == (pairs[0] < pairs[1])
    assert [ids.text(code) for code in codes] == [f"{milliseconds}-{sequence}" for milliseconds, sequence in pairs]


@settings(deadline=None)
@given(st.lists(st.text(max_size=4)))
def test_any_name_has_a_code_of_its_own(names: list[str]) -> None:
    ids = Ids()
    codes = {name: ids.code(name) for name in names}
    assert len(set(codes.values())) == len(set(names))
    assert all(ids.text(code) == name for name, code in codes.items())


@pytest.mark.parametrize(
    ("producers", "sequences", "span"),
    [
        ([], [], Span(0, True, False, -1, -1)),
        ([2, 2, 2], [5, 6, 7], Span(3, True, True, 2, 7)),
        ([2, 2, 2], [5, 7, 6], Span(3, True, False, 2, 7)),
        ([2, 2, 2], [5, 5, 7], Span(3, True, False, 2, 7)),
        ([1, 2], [0, 1], Span(2, True, False, 2, 1)),
        ([-1, 2], [-1, 1], Span(2, False, False, 2, 1)),
        ([-1, -1], [-1, 0], Span(2, False, True, -1, 0)),
    ],
)
def test_what_the_numbers_of_a_strand_have_in_common(producers: list[int], sequences: list[int], span: Span) -> None:
    columns = Column(), Column()
    for producer, sequence in zip(producers, sequences, strict=True):
        columns[0].append(producer)
        columns[1].append(sequence)
    assert Span.of(columns[0].cells, columns[1].cells) == span
