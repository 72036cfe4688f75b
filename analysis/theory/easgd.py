"""EASGD (elastic averaging SGD) on a quadratic is a linear map: the map, and where it is stable.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, section 4
    and equations 3 to 6.
Symbols: p = workers, x_i = worker i, c = center (x~ in the paper), eta = learning rate, alpha = moving rate, beta =
    p alpha, tau = `period` [steps], h = `curvature`; all workers have the same f = h x^2 / 2.

The gradient is taken before the elastic step, as in the paper, and tau - 1 steps alone follow:
    x_i <- r ((1 - eta h - alpha) x_i + alpha c),   c <- alpha x_i + (1 - alpha) c,   r = (1 - eta h)^(tau - 1)
In round robin the workers do so in turn. In lock-step all start from the same c: c <- (1 - beta) c + alpha sum x_i.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.theory.linear import Array, check_range, check_workers, spectral_radius


def round_robin_map(
    *, eta: ArrayLike, alpha: ArrayLike, workers: int, curvature: ArrayLike = 1.0, period: int = 1
) -> Array:
    """The map of a round, in which each worker has one turn, on (x_1, ..., x_p, c); no unit.

    Args:
        eta, alpha, curvature: numbers, or arrays of one shape [...].
        period: tau [steps], all in the worker's one turn.

    Returns:
        [..., p + 1, p + 1], the last row and column for the center.

    Raises:
        ValueError: `workers` or `period` below 1.

    Source: arXiv 1412.6651, section 4 (tau = 1).

    Example:
        >>> round_robin_map(eta=1, alpha=0.5, workers=1).tolist()
        [[-0.5, 0.5], [0.5, 0.5]]
    """
    keep, pull, alpha = _turn(eta, alpha, curvature, period)
    whole = _identity(keep.shape, workers)
    for i in range(workers):
        x, c = whole[..., i, :].copy(), whole[..., -1, :].copy()
        whole[..., i, :] = keep * x + pull * c
        whole[..., -1, :] = alpha * x + (1 - alpha) * c
    return whole


def synchronous_map(
    *, eta: ArrayLike, alpha: ArrayLike, workers: int, curvature: ArrayLike = 1.0, period: int = 1
) -> Array:
    """The map of a round in lock-step, in which all workers exchange with the same center; no unit.

    Args, Returns, Raises: as `round_robin_map`.

    Source: arXiv 1412.6651, equations 3 to 6.

    Example:
        >>> synchronous_map(eta=1, alpha=0.25, workers=2).tolist()
        [[-0.25, 0.0, 0.25], [0.0, -0.25, 0.25], [0.25, 0.25, 0.5]]
    """
    keep, pull, alpha = _turn(eta, alpha, curvature, period)
    whole = _identity(keep.shape, workers)
    whole[..., -1, :-1] = alpha
    whole[..., -1, -1] = 1 - workers * alpha[..., 0]
    index = np.arange(workers)
    whole[..., index, index] = keep
    whole[..., :-1, -1] = pull
    return whole


def synchronous_radius(*, eta: float, alpha: float, workers: int, curvature: float = 1.0, period: int = 1) -> float:
    """Spectral radius of `synchronous_map`, in O(1); no unit.

    The map acts on the workers' mean and the center as a 2 x 2 matrix, and on differences between workers as one
    factor, r (1 - eta h - alpha).

    Raises:
        ValueError: `workers` or `period` below 1.

    Source: arXiv 1412.6651, equations 3 to 6.

    Example:
        >>> synchronous_radius(eta=1, alpha=0.5, workers=4) > 1 > synchronous_radius(eta=1, alpha=0.2, workers=4)
        True
    """
    check_workers(workers)
    keep, pull, _ = _turn(eta, alpha, curvature, period)
    mean = np.array([[keep[0], pull[0]], [workers * alpha, 1 - workers * alpha]])
    return max(float(spectral_radius(mean)), abs(float(keep[0])) if workers > 1 else 0.0)


def largest_moving_rate(eta_h: float) -> float:
    """The largest alpha at which round-robin EASGD with period 1 is stable, for any number of workers; no unit.

    Each turn is a symmetric matrix, so where one turn does not grow, no product of turns does. For several workers the
    limit is sufficient, and tight to about 2 %.

    Args:
        eta_h: learning rate x curvature, in [0, 2].

    Raises:
        ValueError: `eta_h` outside of it: unstable at every alpha.

    Source: arXiv 1412.6651, section 4: 0 <= eta <= 2 and 0 <= alpha <= (4 - 2 eta) / (4 - eta), for h = 1.

    Example:
        >>> round(largest_moving_rate(1.0), 6), largest_moving_rate(0.0)
        (0.666667, 1.0)
    """
    check_range("eta x curvature", eta_h, 0, 2, "lower the learning rate", low_too=True, high_too=True)
    return (4 - 2 * eta_h) / (4 - eta_h)


def largest_synchronous_rate(eta_h: float, workers: int) -> float:
    """The largest alpha at which EASGD in lock-step with period 1 is stable; no unit.

    (2 - eta h) (2 - p alpha) > 2 alpha, solved for alpha. For one worker it is `largest_moving_rate`, for more it is
    smaller: about 2 / p for small steps.

    Args:
        eta_h: learning rate x curvature, in [0, 2].

    Raises:
        ValueError: `eta_h` outside of it: unstable at every alpha; or no worker.

    Source: arXiv 1412.6651, supplement, Lemma 7.1: phi > -1.

    Example:
        >>> round(largest_synchronous_rate(1.0, workers=1), 6), round(largest_synchronous_rate(1.0, workers=4), 6)
        (0.666667, 0.333333)
    """
    check_workers(workers)
    check_range("eta x curvature", eta_h, 0, 2, "lower the learning rate", low_too=True, high_too=True)
    return 2 * (2 - eta_h) / ((2 - eta_h) * workers + 2)


def _turn(eta: ArrayLike, alpha: ArrayLike, curvature: ArrayLike, period: int) -> tuple[Array, Array, Array]:
    """What x_i keeps of itself and takes of the center in a turn, and alpha, each [..., 1]."""
    if period < 1:
        raise ValueError(f"period must be at least 1 step: got {period}")
    step, rate = np.broadcast_arrays(np.multiply(eta, curvature), np.asarray(alpha))
    alone = (1.0 - step) ** (period - 1)
    return (alone * (1 - step - rate))[..., None], (alone * rate)[..., None], (1.0 * rate)[..., None]


def _identity(shape: Sequence[int], workers: int) -> Array:
    check_workers(workers)
    return np.broadcast_to(np.eye(workers + 1), (*shape[:-1], workers + 1, workers + 1)).copy()
