"""Where the winner changes as one property of the cluster changes: by bisection on predicted times.

Shapes: none; a time is asked for by name and value, `seconds(label, x)`, and may take long to find out. It must not
increase with x (bandwidth; or one over the latency).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Seconds = Callable[[str, float], float]
"""(label, x) -> predicted time [s]; infinite if the target is not reached."""

TOLERANCE = 0.02
"""Relative accuracy of every x that is found."""


@dataclass(frozen=True)
class Flip:
    """The winner changes at `x` from `below` (for smaller x) to `above`; low and high bound x over the seeds.

    A bound is NaN where it was not asked for, and 0 or infinite where it lies outside the range that was searched.
    """

    x: float
    below: str
    above: str
    low: float = math.nan
    high: float = math.nan


def winner(seconds: Seconds, labels: Sequence[str], x: float) -> str | None:
    """The label with the least time at x, the first of equal ones; None if none gets there.

    Source: the definition.

    Example:
        >>> winner(lambda label, x: {"a": 1 + 4 / x, "b": 2 + 1 / x}[label], ["a", "b"], x=2.0)
        'b'
    """
    times = {label: seconds(label, x) for label in labels}
    best = min(times, key=times.__getitem__, default=None)
    return None if best is None or math.isinf(times[best]) else best


def flips(seconds: Seconds, labels: Sequence[str], grid: Sequence[float]) -> list[Flip]:
    """Every change of the winner between two points of the grid, to 2 % of x.

    Two changes within one step of the grid that cancel each other are not seen.

    Args:
        seconds: see the module.
        labels: of the algorithms.
        grid: values of x, ascending.

    Returns:
        Ascending in x; without bounds.

    Source: bisection.

    Example:
        1 + 4/x against 2 + 1/x: equal at x = 3.

        >>> found = flips(lambda label, x: {"a": 1 + 4 / x, "b": 2 + 1 / x}[label], ["a", "b"], [0.1, 1.0, 10.0])
        >>> [(flip.below, flip.above, abs(flip.x / 3 - 1) < 0.02) for flip in found]
        [('b', 'a', True)]
    """
    found: list[Flip] = []

    def search(low: float, first: str | None, high: float, last: str | None) -> None:
        if first == last:
            return
        if high / low < 1 + TOLERANCE:
            found.append(Flip(math.sqrt(low * high), first or "", last or ""))
            return
        middle = math.sqrt(low * high)
        # Times do not increase with x: who takes longer at the upper end than the winner at the lower end is out.
        least = min(seconds(label, low) for label in labels)
        able = [label for label in labels if seconds(label, high) <= least]
        between = winner(seconds, able, middle)
        search(low, first, middle, between)
        search(middle, between, high, last)

    winners = [winner(seconds, labels, x) for x in grid]
    for low, first, high, last in zip(grid, winners, grid[1:], winners[1:], strict=False):
        search(low, first, high, last)
    return found


def with_bounds(flip: Flip, seconds: Seconds, low_factor: float, high_factor: float, grid: Sequence[float]) -> Flip:
    """A flip with the interval of x that the seeds leave open.

    Args:
        flip: as found by `flips`.
        seconds: as given to it.
        low_factor, high_factor: the 95 % interval of the ratio "time of `above` over time of `below`", divided by its
            middle: 0.9 and 1.1 if it is known to 10 %.
        grid: as given to `flips`; the bounds are searched for in its range.

    Source: the flip lies where the ratio is 1; bisection for where it is 1 / factor.

    Example:
        The ratio (1 + 4/x) / 2 is 1 at 4. If it is 1.25 times as much, then it is 1 at 20/3; with 1/1.25 at 8/3.

        >>> time = lambda label, x: 2.0 if label == "b" else 1 + 4 / x
        >>> found = with_bounds(Flip(4.0, "b", "a"), time, 0.8, 1.25, [0.1, 1.0, 10.0, 100.0])
        >>> abs(found.low / (8 / 3) - 1) < 0.02, abs(found.high / (20 / 3) - 1) < 0.02
        (True, True)
    """
    if math.isnan(low_factor) or math.isnan(high_factor) or not (flip.below and flip.above):
        return flip

    def margin(x: float, factor: float) -> float:
        """Above 0 where `below` is the faster one."""
        return seconds(flip.above, x) / seconds(flip.below, x) * factor - 1

    def move(factor: float) -> float:
        at, step = flip.x, 1 if margin(flip.x, factor) > 0 else -1
        for x in sorted((x for x in grid if (x - flip.x) * step > 0), reverse=step < 0):
            if (margin(x, factor) > 0) != (step > 0):
                return bisect(lambda y: (margin(y, factor) > 0) == (step > 0), at, x)
            at = x
        return math.inf if step > 0 else 0.0

    ends = sorted((move(low_factor), move(high_factor)))
    return Flip(flip.x, flip.below, flip.above, min(ends[0], flip.x), max(ends[1], flip.x))


def least(holds: Callable[[float], bool], grid: Sequence[float]) -> float:
    """The least x from which on something holds, to 2 %: 0 if it holds on the whole grid, infinite if nowhere.

    Args:
        holds: once true, true for all larger x.
        grid: values of x, ascending.

    Source: bisection.

    Example:
        >>> round(least(lambda x: x >= 3, [1.0, 10.0]), 1), least(lambda x: True, [1.0, 10.0])
        (3.0, 0.0)
    """
    if holds(grid[0]):
        return 0.0
    if not holds(grid[-1]):
        return math.inf
    inside = list(grid)
    while len(inside) > 2:  # the step of the grid in which it begins
        middle = len(inside) // 2
        inside = inside[: middle + 1] if holds(inside[middle]) else inside[middle:]
    return bisect(lambda x: not holds(x), inside[0], inside[1])


def bisect(holds: Callable[[float], bool], at: float, beyond: float) -> float:
    """Where between `at`, where something holds, and `beyond`, where it does not, it ends, to 2 %.

    Source: bisection, on the logarithm.

    Example:
        >>> abs(bisect(lambda x: x < 3, 1.0, 100.0) / 3 - 1) < 0.02
        True
    """
    while max(at, beyond) / min(at, beyond) > 1 + TOLERANCE:
        middle = math.sqrt(at * beyond)
        at, beyond = (middle, beyond) if holds(middle) else (at, middle)
    return math.sqrt(at * beyond)
