"""Sets of time on the real line as sorted, disjoint intervals, in whole nanoseconds, vectorised.

Whole nanoseconds make unions and differences exact: the parts of a run add up to its duration to the last digit.

Source: elementary set operations on the line; every function is one of them.

Shapes: k intervals are two int64 arrays `start` [k] and `end` [k], start < end, sorted, not overlapping.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Nanoseconds = NDArray[np.int64]


class Intervals(NamedTuple):
    """Sorted disjoint intervals [start, end), each array [k], in nanoseconds."""

    start: Nanoseconds
    end: Nanoseconds


def to_ns(seconds: NDArray[np.float64]) -> Nanoseconds:
    """Seconds as whole nanoseconds, rounded.

    Example:
        >>> to_ns(np.array([0.1, 2.0])).tolist()
        [100000000, 2000000000]
    """
    ns = np.asarray(seconds, dtype=np.float64) * 1e9
    return np.rint(ns, out=ns).astype(np.int64)


def union(start: Nanoseconds, end: Nanoseconds) -> Intervals:
    """The time covered by any of the intervals, which may come in any order and overlap; empty ones are dropped.

    Example:
        >>> a = union(np.array([5, 0, 2]), np.array([6, 3, 4]))
        >>> a.start.tolist(), a.end.tolist()
        ([0, 5], [4, 6])
    """
    real = end > start
    start, end = start[real], end[real]
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reach = np.maximum.accumulate(end)
    # A gap opens where an interval starts after everything before it has ended.
    opens = np.ones(len(start), dtype=bool)
    opens[1:] = start[1:] > reach[:-1]
    closes = np.roll(opens, -1)
    return Intervals(start[opens], reach[closes] if len(start) else reach)


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """The time in both.

    Example:
        >>> c = intersect(union(np.array([0]), np.array([10])), union(np.array([2, 8]), np.array([3, 12])))
        >>> c.start.tolist(), c.end.tolist()
        ([2, 8], [3, 10])
    """
    # Each interval of a meets a contiguous stretch of b: from the first that ends after its start to the last that
    # starts before its end. Neither set touches itself, so neither does what they share.
    first = np.searchsorted(b.end, a.start, side="right")
    count = np.maximum(np.searchsorted(b.start, a.end, side="left") - first, 0)
    mine = np.repeat(np.arange(len(a.start)), count)
    other = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count) + first[mine]
    return Intervals(np.maximum(a.start[mine], b.start[other]), np.minimum(a.end[mine], b.end[other]))


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """The time in a but not in b.

    Example:
        >>> c = subtract(union(np.array([0]), np.array([10])), union(np.array([2, 8]), np.array([3, 12])))
        >>> c.start.tolist(), c.end.tolist()
        ([0, 3], [2, 8])
    """
    limits = np.iinfo(np.int64)
    return intersect(a, Intervals(np.append(limits.min, b.end), np.append(b.start, limits.max)))


def merge(*sets: Intervals) -> Intervals:
    """The time in any of the sets.

    Example:
        >>> c = merge(union(np.array([0]), np.array([2])), union(np.array([1]), np.array([5])))
        >>> c.start.tolist(), c.end.tolist()
        ([0], [5])
    """
    return union(np.concatenate([s.start for s in sets]), np.concatenate([s.end for s in sets]))


def lengths(a: Intervals, base: Nanoseconds) -> NDArray[np.float64]:
    """Seconds covered within each group, where group g owns the line from base[g] to base[g + 1].

    Args:
        a: intervals, none of which crosses a border between groups.
        base: left border of each group, ascending [groups].

    Returns:
        Seconds [groups].

    Example:
        >>> lengths(union(np.array([0, 10]), np.array([4, 11])), np.array([0, 10])).tolist()
        [4e-09, 1e-09]
    """
    group = np.searchsorted(base, a.start, side="right") - 1
    total = np.bincount(group, weights=(a.end - a.start).astype(np.float64), minlength=len(base))
    return np.asarray(total / 1e9, dtype=np.float64)
