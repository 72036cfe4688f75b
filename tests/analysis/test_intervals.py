import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis import intervals

pieces = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12)


def made(pairs: list[tuple[int, int]]) -> tuple[intervals.Intervals, set[int]]:
    """The union, and the same as a set of unit cells."""
    start, end = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    return intervals.union(start, end), {cell for a, b in pairs for cell in range(a, b)}


def cells(a: intervals.Intervals) -> set[int]:
    return {cell for lo, hi in zip(a.start, a.end, strict=True) for cell in range(lo, hi)}


@given(pieces, pieces)
def test_set_operations_equal_those_on_unit_cells(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    (a, in_a), (b, in_b) = made(first), made(second)
    assert cells(a) == in_a
    assert cells(intervals.intersect(a, b)) == in_a & in_b
    assert cells(intervals.subtract(a, b)) == in_a - in_b
    assert cells(intervals.merge(a, b)) == in_a | in_b


@given(pieces)
def test_intervals_are_sorted_disjoint_and_not_empty(pairs: list[tuple[int, int]]) -> None:
    a, _ = made(pairs)
    assert (a.start < a.end).all()
    assert (a.end[:-1] < a.start[1:]).all()


@given(pieces)
def test_lengths_by_group(pairs: list[tuple[int, int]]) -> None:
    a, covered = made(pairs)
    shifted = intervals.merge(a, intervals.Intervals(a.start + 100, a.end + 100))
    assert intervals.lengths(shifted, np.array([0, 100])).tolist() == [len(covered) / 1e9] * 2
