"""Asynchrony as momentum: the rate of asynchronous SGD on a quadratic, and the explicit momentum that is best with it.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, with an Application to Deep Learning, Allerton 2016,
    arXiv 1605.09774, theorems 5, 6 and 7 and figure 6.
Symbols: mu_S = implicit momentum (1 - 1/M with M memoryless workers), mu_L = explicit momentum of the server, a =
    learning rate, lam = an eigenvalue of the quadratic, s = a (1 - mu_S), k = s lam, Q = condition number.

In the mean, along an eigenvector, w_t - w* is a sum of powers x^t of the roots of
    (x - 1) (x - mu_S) (x - mu_L) + k x^2 = 0.
The rate is the largest |x| over roots and eigenvalues: the factor by which the distance of the mean shrinks per write
of the server. Theorem 7 has the same number as 1 / |t| of its smallest root t = 1 / x.

As k grows from 0, the largest modulus falls, and once it has begun to grow it never falls again: the root from 1 moves
down until it meets another one. For mu_L >= 0 the pair's modulus is then sqrt(mu_S mu_L / x_3), and x_3 falls to 0; for
mu_L < 0 the pair falls to 0, while x_3 runs off from mu_L to -infinity. So the best step for eigenvalues 1 and Q is
one at which both are equally fast, and eigenvalues in between are no slower. What is left is a search over mu_L alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.theory.linear import Array, check_range, check_workers, spectral_radius

GRID = 401  # values of mu_L in the first search
REFINEMENTS, POINTS = 9, 21  # each narrows the place of the best mu_L by a factor of 5
BISECTIONS = 60


def implicit_momentum(workers: int) -> float:
    """mu_S = 1 - 1/M, the momentum that M memoryless workers bring; no unit.

    Raises:
        ValueError: no worker.

    Source: arXiv 1605.09774, theorem 5.

    Example:
        >>> implicit_momentum(4)
        0.75
    """
    check_workers(workers)
    return 1 - 1 / workers


def rate(*, implicit: float, explicit: ArrayLike, step: ArrayLike, eigenvalues: ArrayLike = 1.0) -> Array:
    """The factor per write by which the distance of the mean from the minimiser shrinks in the end; no unit.

    Args:
        implicit: mu_S, in [0, 1).
        explicit: mu_L, of any shape [...].
        step: a, the learning rate, [...].
        eigenvalues: [e], in units of 1 / a.

    Returns:
        [...]; the slowest eigenvalue counts.

    Raises:
        ValueError: mu_S outside of [0, 1).

    Source: arXiv 1605.09774, theorem 7.

    Example:
        >>> rate(implicit=0.0, explicit=0.25, step=1.0, eigenvalues=[0.25, 2.25]).round(6).item()   # heavy ball, tuned
        0.5
    """
    check_range("implicit momentum", implicit, 0, 1, low_too=True)
    pull = np.multiply.outer(np.asarray(step, dtype=np.float64) * (1 - implicit), np.atleast_1d(eigenvalues))
    return np.asarray(_modulus(implicit, np.asarray(explicit, dtype=np.float64)[..., None], pull).max(-1))


@dataclass(frozen=True)
class Tuned:
    """The best settings of a server for given asynchrony.

    Attributes:
        explicit: mu_L, in (-1, 1).
        step: a x smallest eigenvalue.
        rate: see `rate`.
    """

    explicit: float
    step: float
    rate: float


def tuned(*, implicit: float, condition: float) -> Tuned:
    """The explicit momentum and step of the best rate on a quadratic with eigenvalues 1 and Q; no unit.

    The minimum over mu_L is flat, and has a corner where three roots have one modulus; so a grid is refined around its
    best point, and nothing is differentiated. For mu_S = 0 it is heavy ball: mu_L = rate^2, rate = (sqrt(Q) - 1) /
    (sqrt(Q) + 1).

    Raises:
        ValueError: mu_S outside of [0, 1), or Q not above 1 or not finite.

    Source: arXiv 1605.09774, figure 6 (its rows are Q, its axis mu_S).

    Example:
        >>> best = tuned(implicit=0.0, condition=9.0)
        >>> round(best.explicit, 4), round(best.rate, 4)
        (0.25, 0.5)
        >>> round(tuned(implicit=0.75, condition=9.0).explicit, 2) < 0
        True
    """
    check_range("implicit momentum", implicit, 0, 1, low_too=True)
    check_range("condition", condition, 1, np.inf, "1 would be solved in one step")
    low, high = -1.0, 1.0
    points = GRID
    for _ in range(1 + REFINEMENTS):
        explicit = np.linspace(low, high, points + 2)[1:-1]
        pull, rates = _balanced(implicit, explicit, condition)
        best, width = int(rates.argmin()), explicit[1] - explicit[0]
        low, high, points = max(-1.0, explicit[best] - 2 * width), min(1.0, explicit[best] + 2 * width), POINTS
    return Tuned(float(explicit[best]), float(pull[best] / (1 - implicit)), float(rates[best]))


def without_explicit(*, implicit: float, condition: float) -> Tuned:
    """The best step and rate at mu_L = 0, for comparison; no unit.

    Raises:
        ValueError: as `tuned`.

    Source: arXiv 1605.09774, theorem 7 at mu_L = 0.

    Example:
        >>> round(without_explicit(implicit=0.0, condition=9.0).rate, 4)   # (Q - 1) / (Q + 1)
        0.8
    """
    check_range("implicit momentum", implicit, 0, 1, low_too=True)
    check_range("condition", condition, 1, np.inf, "1 would be solved in one step")
    pull, rates = _balanced(implicit, np.zeros(1), condition)
    return Tuned(0.0, float(pull[0] / (1 - implicit)), float(rates[0]))


def _balanced(implicit: float, explicit: Array, condition: float) -> tuple[Array, Array]:
    """For each mu_L [m] the k of the smallest eigenvalue at which both ends are equally fast, and their rate."""
    # In units of the slope at k = 0; the upper end is where x = -1 is a root.
    low = np.log(1e-6 * (1 - implicit) * (1 - explicit) / condition)
    high = np.log(2 * (1 + implicit) * (1 + explicit))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        slow, fast = (_modulus(implicit, explicit, np.exp(middle) * q) for q in (1.0, condition))
        low, high = np.where(fast < slow, middle, low), np.where(fast < slow, high, middle)
    pull = np.exp((low + high) / 2)
    rates = np.maximum(*(_modulus(implicit, explicit, pull * q) for q in (1.0, condition)))
    return pull, rates


def _modulus(implicit: float, explicit: Array, pull: Array) -> Array:
    """Largest |x| for mu_L and k of one shape [...]."""
    explicit, pull = np.broadcast_arrays(explicit, pull)
    companion = np.zeros((*pull.shape, 3, 3))
    companion[..., 0, 0] = 1 + implicit + explicit - pull
    companion[..., 0, 1] = -(implicit + explicit + implicit * explicit)
    companion[..., 0, 2] = implicit * explicit
    companion[..., 1, 0] = companion[..., 2, 1] = 1.0
    return spectral_radius(companion)
