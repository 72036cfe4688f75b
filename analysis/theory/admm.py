"""Round-robin ADMM (alternating direction method of multipliers), linearised, on a quadratic: its linear map.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, section 4
    and figure 1.
Symbols: p = workers, x_i = worker i, lam_i = its dual variable over rho, c = center, eta = learning rate, rho =
    penalty, h = `curvature`; all workers have the same f = h x^2 / 2. Turn of worker i:
    lam_i <- lam_i - x_i + c
    x_i <- ((1 - eta h) x_i + eta rho (lam_i + c)) / (1 + eta rho)
    c <- (1/p) sum_j (x_j - lam_j)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.theory.linear import Array, check_workers


def round_map(*, eta: ArrayLike, rho: ArrayLike, workers: int, curvature: ArrayLike = 1.0) -> Array:
    """The map of a round, in which each worker has one turn, on (lam_1, x_1, ..., lam_p, x_p, c); no unit.

    Every turn is stable by itself; their product is not always, from three workers on.

    Args:
        eta, rho, curvature: numbers, or arrays that broadcast to one shape [...].

    Returns:
        [..., 2 p + 1, 2 p + 1]. Each round maps every state to one of the form c = (1/p) sum_j (x_j - lam_j).

    Raises:
        ValueError: `workers` below 1, or a rho not above 0.

    Source: arXiv 1412.6651, section 4: F_3^p F_2^p F_1^p ... F_3^1 F_2^1 F_1^1.

    Example:
        >>> from analysis.theory.linear import spectral_radius
        >>> [round(float(spectral_radius(round_map(eta=0.001, rho=2.5, workers=p))), 5) for p in (2, 3)]
        [0.999, 1.00097]
    """
    check_workers(workers)
    if not np.all(np.asarray(rho) > 0):
        raise ValueError(f"rho must be above 0: got {np.min(rho):g} (the paper's example has 2.5)")
    step, pull = np.broadcast_arrays(np.multiply(eta, curvature), np.multiply(eta, rho))
    step, pull = step[..., None], pull[..., None]
    size = 2 * workers + 1
    whole = np.broadcast_to(np.eye(size), (*step.shape[:-1], size, size)).copy()
    dual, x, center = whole[..., 0:-1:2, :], whole[..., 1:-1:2, :], whole[..., -1, :]  # views: rows of the map
    for i in range(workers):
        dual[..., i, :] += center - x[..., i, :]
        x[..., i, :] = ((1 - step) * x[..., i, :] + pull * (dual[..., i, :] + center)) / (1 + pull)
        center[...] = (x - dual).mean(-2)
    return whole
