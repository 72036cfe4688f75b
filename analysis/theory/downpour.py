"""DOWNPOUR on a quadratic: the longest period at which its pushes do not build up.

Source: derived here. The method: Dean et al., Large Scale Distributed Deep Networks, NIPS 2012; the claim that it is
    good at periods 1 and 4 and unstable at 16 and 64 with four workers: Zhang, Choromanska, LeCun, Deep learning with
    Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651.
Symbols: p = workers, tau = period [steps], eta = learning rate, h = `curvature`, X_j = center after j pushes.

A worker that pulled X goes tau steps alone, to (1 - eta h)^tau X, and pushes the difference -b X, b = 1 -
(1 - eta h)^tau. Evenly staggered, it pulled p pushes ago: X_j = X_{j-1} - b X_{j-p}, SGD with step b at the constant
staleness p - 1. Memoryless workers push at random instead; then E X^2 has to stay bounded.
"""

from __future__ import annotations

import math
from typing import Literal

from analysis.theory.delays import constant_limit, memoryless_limit
from analysis.theory.linear import check_range, check_workers

Arrivals = Literal["staggered", "memoryless"]


def largest_push(workers: int, arrivals: Arrivals = "staggered") -> float:
    """The largest stable b, the share of what it pulled that a worker may push back; no unit. 1 and more: any period.

    Args:
        arrivals: staggered: in turn, evenly spaced; memoryless: in exponential times, stable in mean square.

    Raises:
        ValueError: no worker.

    Source: see the module; 2 sin(pi / (4 p - 2)) where staggered.

    Example:
        >>> [round(largest_push(p), 3) for p in (3, 4, 8, 16)], round(largest_push(4, "memoryless"), 3)
        ([0.618, 0.445, 0.209, 0.101], 0.843)
    """
    check_workers(workers)
    return constant_limit(workers - 1) if arrivals == "staggered" else memoryless_limit(workers)


def largest_period(*, eta: float, workers: int, curvature: float = 1.0, arrivals: Arrivals = "staggered") -> float:
    """tau*, the period below which DOWNPOUR is stable [steps], as a real number; infinite where every period is.

    tau* = ln(1 - b*) / ln(1 - eta h), b* = `largest_push`. Below 1 not even period 1 is stable.

    Raises:
        ValueError: no worker, or eta h outside (0, 1), where steps alone do not approach the minimiser from one side.

    Source: see the module.

    Example:
        >>> round(largest_period(eta=0.05, workers=4), 1), largest_period(eta=0.05, workers=2)
        (11.5, inf)
    """
    step = eta * curvature
    check_range("eta x curvature", step, 0, 1, "the formula is for steps that do not overshoot: lower eta")
    push = largest_push(workers, arrivals)
    # Two staggered workers stand at b* = 1 = 2 sin(pi / 6), which rounding must not make finite.
    return math.inf if push >= 1 - 1e-12 else math.log1p(-push) / math.log1p(-step)
