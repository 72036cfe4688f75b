"""How sure it is that one algorithm reaches the target before another, from a few runs with common seeds.

Times are compared as logarithms: what differs from seed to seed scales a time. A time lies between two snapshots, so
each has bounds: an interval here reaches down from the interval of the earliest possible times and up from that of the
latest. An algorithm that had not reached the target when its run ended is bounded from below only; it is never given a
time.

Assumption: the logarithms of the ratios of two algorithms' times are normal over the seeds. That gives intervals with
three seeds already, where a test on ranks cannot tell anything apart before the sixth (`analysis.paired`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
"""Of every interval here."""


@dataclass(frozen=True)
class Reached:
    """When a run was at its target: after `earliest_s` and at `latest_s`, which is infinite if it was not [s]."""

    earliest_s: float
    latest_s: float


@dataclass(frozen=True)
class Ratio:
    """The time of B over the time of A.

    Attributes:
        seeds: that both have.
        middle: geometric mean over them, from the times themselves; infinite if B did not get there.
        low, high: 95 % interval; NaN with one seed.
        chance: that A is the faster one, at least; NaN with one seed.
    """

    seeds: int
    middle: float
    low: float
    high: float
    chance: float


def geometric_interval(runs: Sequence[Reached]) -> tuple[float, float, float]:
    """Geometric mean of the times [s], and its 95 % interval.

    Student's interval of the mean logarithm, from the earliest possible times below and from the latest above.

    Args:
        runs: one per seed.

    Returns:
        (mean, low, high): all infinite but low if a run did not get there; low and high NaN with one run.

    Source: Student, The probable error of a mean, Biometrika 6 (1908).

    Example:
        Times 1/2 and 2: the mean logarithm is 0, its standard error ln 2, and t(0.975, 1) = 12.706.

        >>> mean, low, high = geometric_interval([Reached(0.5, 0.5), Reached(2.0, 2.0)])
        >>> mean, round(math.log2(low), 3), round(math.log2(high), 3)
        (1.0, -12.706, 12.706)
    """
    if not runs:
        return math.nan, math.nan, math.nan
    below, above = _logarithms([run.earliest_s for run in runs]), _logarithms([run.latest_s for run in runs])
    low, _, _ = _student(below)
    _, mean, high = _student(above)
    return _exp(mean), _exp(low), _exp(high)


def versus(a: Mapping[int, Reached], b: Mapping[int, Reached]) -> Ratio:
    """How many times as long B takes as A, over the seeds that both have.

    Args:
        a: seed -> when A was at the target.
        b: the same of B.

    Source: Student (1908) on the paired differences of the logarithms; see the module for the bounds.

    Example:
        B takes twice as long with one seed and eight times with the other: four times in the middle. The logarithms to
        base 2 are 1 and 3, their standard error is 1, t(0.975, 1) = 12.706, and A is faster with 1/2 + atan(2) / pi.

        >>> a = {0: Reached(1.0, 1.0), 1: Reached(3.0, 3.0)}
        >>> b = {0: Reached(2.0, 2.0), 1: Reached(24.0, 24.0)}
        >>> found = versus(a, b)
        >>> round(found.middle, 12), round(math.log2(found.low), 3), round(found.chance, 4)
        (4.0, -10.706, 0.8524)
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return Ratio(0, math.nan, math.nan, math.nan, math.nan)

    def difference(of_a: str, of_b: str) -> NDArray[np.float64]:
        x, y = (_logarithms([getattr(runs[s], name) for s in seeds]) for runs, name in ((a, of_a), (b, of_b)))
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(x == y, 0.0, y - x))  # both never: no difference

    least = difference("latest_s", "earliest_s")
    low, _, _ = _student(least)
    _, middle, _ = _student(difference("latest_s", "latest_s"))
    _, _, high = _student(difference("earliest_s", "latest_s"))
    return Ratio(len(seeds), _exp(middle), _exp(low), _exp(high), _chance_positive(least))


def chance_first(ratios: Sequence[Ratio]) -> float:
    """Probability that the winner is faster than all others, at least.

    1 less the probabilities that each other one is faster: whatever depends on whatever, it is not smaller.

    Args:
        ratios: of each other algorithm to the winner.

    Source: Boole's inequality.

    Example:
        >>> one = Ratio(3, 2.0, 1.5, 2.5, 0.9)
        >>> round(chance_first([one, one]), 12), chance_first([])
        (0.8, 1.0)
    """
    return max(0.0, 1.0 - sum(1.0 - ratio.chance for ratio in ratios))


def grade(ratio: Ratio, model_error: float) -> str:
    """One word for how sure it is that A is faster than B.

    Args:
        ratio: B's time over A's.
        model_error: relative error of a predicted time, such as 0.1; both may be off by it, in opposite directions.

    Returns:
        "clear": the interval lies above 1, also if the model errs. "model": above 1, but not if the model errs.
        "close": the seeds do not tell them apart. "one seed": there is no interval.

    Source: the definition of the words.

    Example:
        >>> [grade(Ratio(3, 1.5, low, 2.0, 0.99), model_error=0.1) for low in (1.3, 1.1, 0.9, math.nan)]
        ['clear', 'model', 'close', 'one seed']
    """
    if math.isnan(ratio.low):
        return "one seed"
    if ratio.low <= 1:
        return "close"
    return "clear" if ratio.low > (1 + model_error) / (1 - model_error) else "model"


def _logarithms(times: Sequence[float]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(times, dtype=np.float64))


def _student(x: NDArray[np.float64]) -> tuple[float, float, float]:
    """(low, mean, high) of the mean of normal numbers; a number that is infinite makes all it touches infinite."""
    mean = float(x.mean())
    if len(x) == 1:
        return math.nan, mean, math.nan
    if not np.isfinite(x).all():
        # Some are bounded on one side only. If all are infinite the same way, so is the interval; else nothing is known
        # of the side that is open.
        same = math.isinf(mean) and len(set(x.tolist())) == 1
        return (mean, mean, mean) if same else (-math.inf, mean, math.inf)
    half = float(stdtrit(len(x) - 1, (1 + CONFIDENCE) / 2)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return mean - half, mean, mean + half


def _chance_positive(x: NDArray[np.float64]) -> float:
    """Probability that the mean of the distribution behind normal numbers is above 0, with no opinion beforehand."""
    if len(x) == 1:
        return math.nan
    mean = float(x.mean())
    if not np.isfinite(x).all():
        return 1.0 if (x > 0).all() else 0.0
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    if error <= 1e-12 * max(1.0, abs(mean)):  # the same with every seed, but for rounding
        return 0.5 if abs(mean) <= 1e-12 else float(mean > 0)
    return float(stdtr(len(x) - 1, mean / error))


def _exp(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)
