"""Means over runs, how far they can be trusted, and the rule for a claim."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean

Values = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 20220913  # any fixed number: the same tables must give the same report, byte for byte


@dataclass(frozen=True)
class Mean:
    """A mean over n runs, its interval [low, high] and how that was made; NaN where there is none."""

    mean: float
    low: float
    high: float
    n: int
    interval: str


def mean_over_runs(values: Sequence[float] | Values) -> Mean:
    """Mean over runs with a 95 % interval; one value per run (never per step: steps of one run are not independent).

    With n >= 3 a bias-corrected accelerated (BCa) bootstrap of the mean with a fixed seed; if all values are equal the
    interval is that point. With n = 2 the interval is the range, labelled so. With n = 1 there is none. NaN are left
    out and do not count.

    Source: Efron, Better Bootstrap Confidence Intervals, JASA 82 (1987); `scipy.stats.bootstrap`. With few runs the
    bootstrap's interval is too narrow, which is why `separated` asks for more.

    Example:
        >>> mean_over_runs([1.0, 3.0])
        Mean(mean=2.0, low=1.0, high=3.0, n=2, interval='range of n=2')
        >>> mean_over_runs([4.0])
        Mean(mean=4.0, low=nan, high=nan, n=1, interval='n=1, no interval')
        >>> mean_over_runs([5.0, 5.0, 5.0])
        Mean(mean=5.0, low=5.0, high=5.0, n=3, interval='95 % BCa bootstrap, n=3')
    """
    return _over_runs(values, _mean)


def interquartile_mean_over_runs(values: Sequence[float] | Values) -> Mean:
    """Mean over the middle half of the runs with a 95 % interval made as for `mean_over_runs`.

    A quarter of the runs, rounded down, is left out at either end, so that one run that went wrong does not decide.
    With fewer than four runs it is the mean.

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264.

    Example:
        >>> interquartile_mean_over_runs([1.0, 2.0, 3.0, 100.0]).mean
        2.5
    """
    return _over_runs(values, _interquartile_mean)


def _mean(data: Values, axis: int = -1) -> Any:
    return data.mean(axis=axis)


def _interquartile_mean(data: Values, axis: int = -1) -> Any:
    return trim_mean(data, 0.25, axis=axis)


def _over_runs(values: Sequence[float] | Values, statistic: Callable[..., Any]) -> Mean:
    data = np.asarray(values, dtype=np.float64)
    data = data[~np.isnan(data)]
    n = len(data)
    if n == 0:
        return Mean(math.nan, math.nan, math.nan, 0, "no value")
    mean = float(statistic(data))
    if n == 1:
        return Mean(mean, math.nan, math.nan, 1, "n=1, no interval")
    low, high = float(data.min()), float(data.max())
    if n == 2:
        return Mean(mean, low, high, 2, "range of n=2")
    if low < high:
        bounds = _bootstrapped(tuple(data.tolist()), statistic)
        if not all(map(math.isfinite, bounds)):
            return Mean(mean, low, high, n, f"range of n={n}")
        low, high = bounds
    else:
        mean = low  # the mean of equal numbers is that number, not one rounding away from it
    return Mean(mean, low, high, n, f"95 % BCa bootstrap, n={n}")


@lru_cache(maxsize=16384)  # a curve is asked for against time, samples and bytes: three times the same numbers
def _bootstrapped(data: tuple[float, ...], statistic: Callable[..., Any]) -> tuple[float, float]:
    """BCa interval; NaN if the resamples are degenerate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bootstrap(
            (np.array(data),),
            statistic,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return float(found.low), float(found.high)


def chance_of_separation(n_a: int, n_b: int) -> float:
    """Probability that all of A's values lie on one side of all of B's though both come from the same distribution.

    The two-sided p-value of the most extreme outcome of the rank-sum (Wilcoxon, Mann-Whitney) test without ties.

    Source: Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other,
    Annals of Mathematical Statistics 18 (1947).

    Example:
        Two runs each: one time in three. Five runs each: one time in 126.

        >>> chance_of_separation(2, 2) == 1 / 3, round(1 / chance_of_separation(5, 5))
        (True, 126)
    """
    return min(1.0, 2 / math.comb(n_a + n_b, n_a))
