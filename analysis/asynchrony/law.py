"""Measured staleness against the law of memoryless workers, and the momentum that goes with its mean.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, theorem 5; that the mean does not
    depend on the law of the compute times is counted here.
Symbols: tau = staleness [writes], M workers, p = 1/M.

With memoryless compute times each write is by any worker with the same probability: P(tau = l) = p (1 - p)^l, mean
M - 1, variance M (M - 1). The mean is M - 1 for any compute times: between two writes of a worker lie the writes of
others, and over a long run each write lies between two of every other worker. The variance is not: workers that write
in turn have none. Real clusters are somewhere between, often with a longer tail from stragglers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

WARM_UP = 5  # writes per worker; all workers start together, and it takes some rounds until that is forgotten
LEAST_EXPECTED = 5.0  # gradients in a cell of the chi-square test


def momentum_of_staleness(mean: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The implicit momentum of a geometric law with this mean, E tau / (1 + E tau); no unit.

    All that can be said from a real run's events. It is the momentum only if the law is geometric; for others there is
    no one momentum, though slow directions, where a gradient changes little in E tau writes, behave as if there were.
    `StalenessLaw.variance_ratio` tells how far off the law is.

    Args:
        mean: E tau [writes], of any shape.

    Source: arXiv 1605.09774, theorem 3: q_l = (1 - mu) mu^l has the mean mu / (1 - mu).

    Example:
        >>> momentum_of_staleness([0, 3]).tolist()   # one worker, four workers
        [0.0, 0.75]
    """
    tau = np.asarray(mean, dtype=np.float64)
    return np.asarray(tau / (1 + tau))


@dataclass(frozen=True)
class StalenessLaw:
    """Measured staleness beside what memoryless workers would have.

    Attributes:
        gradients: how many, after the warm-up.
        mean, mean_expected: [writes]; the latter M - 1, whatever the compute times.
        zero_share, zero_share_expected: of gradients that were not stale; 1/M if memoryless.
        variance, variance_expected: [writes^2]; M (M - 1) if memoryless.
        variance_ratio: their quotient: 1 for memoryless workers, 0 for workers in turn; NaN for one worker.
        momentum: `momentum_of_staleness` of the mean.
        p_value: of a chi-square test against the geometric law; NaN if there are too few gradients for it. Staleness of
            neighbouring writes is not independent, but the statistic is distributed almost as if it were.
    """

    gradients: int
    mean: float
    mean_expected: float
    zero_share: float
    zero_share_expected: float
    variance: float
    variance_expected: float
    variance_ratio: float
    momentum: float
    p_value: float


def staleness_law(staleness: ArrayLike, *, workers: int, warm_up: int = WARM_UP) -> StalenessLaw:
    """How measured staleness compares with the law of memoryless workers.

    Args:
        staleness: of each write, in their order [T]; of one run, or of several, each without its warm-up.
        workers: M (groups, if workers compute in groups).
        warm_up: writes per worker left out at the beginning.

    Raises:
        ValueError: nothing is left after the warm-up, or there is no worker.

    Source: arXiv 1605.09774, theorem 5.

    Example:
        Three workers in turn: the mean of any law, the variance of none:

        >>> law = staleness_law([0, 1] + [2] * 40, workers=3)
        >>> law.gradients, law.mean, law.variance_ratio, round(law.momentum, 3), law.p_value < 1e-6
        (27, 2.0, 0.0, 0.667, True)
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1: got {workers}")
    tau = np.asarray(staleness, dtype=np.int64)[warm_up * workers :]
    if len(tau) == 0:
        raise ValueError(
            f"more than {warm_up * workers} writes are needed, the warm-up of {workers} workers: "
            f"got {np.size(staleness)} (run longer, or lower warm_up)"
        )
    variance, expected = float(tau.var()), float(workers * (workers - 1))
    return StalenessLaw(
        gradients=len(tau),
        mean=float(tau.mean()),
        mean_expected=workers - 1.0,
        zero_share=float((tau == 0).mean()),
        zero_share_expected=1 / workers,
        variance=variance,
        variance_expected=expected,
        variance_ratio=variance / expected if workers > 1 else float("nan"),
        momentum=float(momentum_of_staleness(tau.mean())),
        p_value=_p_value(tau, 1 / workers),
    )


def _p_value(tau: np.ndarray[tuple[int], np.dtype[np.int64]], p: float) -> float:
    """Of Pearson's chi-square statistic against p (1 - p)^l, with cells l = 0 .. last - 1 and "last or more"."""
    n = len(tau)
    if p == 1 or n * min(p, 1 - p) < LEAST_EXPECTED:
        return float("nan")
    # The largest number of cells in which at least LEAST_EXPECTED gradients are expected.
    last = int(1 + np.log(LEAST_EXPECTED / (n * min(p, 1 - p))) / np.log(1 - p))
    cells = np.arange(last)
    expected = n * np.append(p * (1 - p) ** cells, (1 - p) ** last)
    observed = np.bincount(np.minimum(tau, last), minlength=last + 1)
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), last))
