"""Linear maps that a method applies again and again: whether errors die out or grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def spectral_radius(maps: Array) -> Array:
    """Largest modulus of the eigenvalues of each map: the factor per application by which errors grow in the end.

    Args:
        maps: [..., k, k].

    Returns:
        [...]. Below 1 errors die out, above 1 they grow.

    Source: linear algebra; e.g. Horn, Johnson, Matrix Analysis, theorem 5.6.12.

    Example:
        >>> round(spectral_radius(np.array([[0.0, 2.0], [-2.0, 0.0]])).item(), 12)   # a quarter turn, twice as long
        2.0
    """
    return np.asarray(np.abs(np.linalg.eigvals(maps)).max(-1))


def check_range(
    name: str, value: float, low: float, high: float, remedy: str = "", *, low_too: bool = False, high_too: bool = False
) -> None:
    """Refuse a number outside the interval from `low` to `high`, of which the ends are out unless told otherwise.

    Raises:
        ValueError: what, got, allowed and remedy, in one line.

    Example:
        >>> check_range("beta", 0.9, 0, 2)
        >>> check_range("beta", 2, 0, 2, "try 0.9")
        Traceback (most recent call last):
        ValueError: beta must lie in (0, 2): got 2 (try 0.9)
    """
    above = value >= low if low_too else value > low
    below = value <= high if high_too else value < high
    if not (above and below):  # NaN is neither
        interval = f"{'[' if low_too else '('}{low:g}, {high:g}{']' if high_too else ')'}"
        raise ValueError(f"{name} must lie in {interval}: got {value:g}" + (f" ({remedy})" if remedy else ""))


def check_workers(workers: int, least: int = 1) -> None:
    """Refuse fewer than `least` workers.

    Raises:
        ValueError: what, got and allowed, in one line.

    Example:
        >>> check_workers(0)
        Traceback (most recent call last):
        ValueError: workers must be at least 1: got 0
    """
    if workers < least:
        raise ValueError(f"workers must be at least {least}: got {workers}")
