"""Implicit momentum read off one run whose gradients have no noise: what a closed loop looks at.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, theorem 6; sensor: the authors'
    first code of YellowFin (Zhang, Mitliagkas, arXiv 1706.03471).
Symbols: w_t = center after t writes, D_t = w_t - w_{t-1}, g_t = grad f(w_t), a = learning rate, mu_L = explicit and
    mu_S = implicit momentum, T writes, P parameters; <.> = exponential mean over time.

Theorem 6, D_{t+1} = (mu_L + mu_S) D_t - mu_L mu_S D_{t-1} - (1 - mu_S) a g_t in the mean, is

    D_{t+1} - mu_L D_t + a g_t  =  mu_S (D_t - mu_L D_{t-1} + a g_t),

so the quotient of the means over time of both sides is mu_S; the median over the elements is taken of it.

What it is worth: it finds the mean staleness, mu_S / (1 - mu_S) = E tau, not its law: workers that write in turn read
the same. Noise in the gradients makes it useless, as means over time are dominated by it: use `ensemble` then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.asynchrony.server import Array

SMOOTHING = 0.02


@dataclass(frozen=True)
class Reading:
    """What the sensors read at the writes t + 1 = 2 .. T, each [T - 1].

    Attributes:
        implicit: estimate of mu_S.
        total_uncorrected: median of <D_{t+1} + a g_t> / <D_t>. It is meant for mu_L + mu_S but estimates neither that
            nor mu_S, as it keeps all of a on the gradient instead of (1 - mu_S) a. Kept for comparison.
    """

    implicit: Array
    total_uncorrected: Array


def read(path: Array, gradients: Array, *, lr: float, momentum: float = 0.0, smoothing: float = SMOOTHING) -> Reading:
    """Implicit momentum along one trajectory, at every write; no unit.

    The first 1 / smoothing readings are of few writes; and once the fast elements have converged to rounding errors,
    which have no momentum, the readings are worth nothing.

    Args:
        path: w_0 .. w_T [T + 1, P].
        gradients: of the loss, without noise, at w_0 .. w_{T-1} [T, P]; one at w_T may follow and is not used.
        lr: a.
        momentum: mu_L.
        smoothing: weight of the newest write in the means over time, in (0, 1].

    Raises:
        ValueError: the shapes do not fit, or smoothing is outside of (0, 1].

    Source: arXiv 1605.09774, theorem 6, solved for mu_S.

    Example:
        Heavy ball with momentum 0.75 and rate 0.1 / 4 is what four memoryless workers with rate 0.1 do in the mean:

        >>> w = [np.array([1.0, 2.0]), np.array([0.9, 1.8])]
        >>> for _ in range(8):
        ...     w.append(w[-1] + 0.75 * (w[-1] - w[-2]) - 0.1 / 4 * w[-1])
        >>> reading = read(np.array(w), np.array(w), lr=0.1)   # of |w|^2 / 2, whose gradient is w
        >>> reading.implicit.round(12).tolist() == [0.75] * 8, reading.total_uncorrected[[0, -1]].round(3).tolist()
        (True, [0.075, 0.213])
    """
    if path.ndim != 2 or gradients.shape not in (path.shape, (len(path) - 1, path.shape[1])) or len(path) < 3:
        raise ValueError(
            f"path must be [T + 1, P] with T >= 2 and gradients [T, P]: got {path.shape} and {gradients.shape}"
        )
    if not 0 < smoothing <= 1:
        raise ValueError(f"smoothing must lie in (0, 1]: got {smoothing} (try {SMOOTHING})")
    steps = np.diff(path, axis=0, prepend=path[:1])  # steps[t] = D_t, D_0 = 0
    y, z, above, below = np.zeros((4, path.shape[1]))  # means start at 0, which their quotients hide
    implicit, total = np.empty((2, len(path) - 2))
    for t in range(1, len(path) - 1):
        slope = lr * gradients[t]
        y += smoothing * (steps[t + 1] - momentum * steps[t] + slope - y)
        z += smoothing * (steps[t] - momentum * steps[t - 1] + slope - z)
        above += smoothing * (steps[t + 1] + slope - above)
        below += smoothing * (steps[t] - below)
        implicit[t - 1], total[t - 1] = _median_quotient(y, z), _median_quotient(above, below)
    return Reading(implicit, total)


def _median_quotient(above: Array, below: Array) -> float:
    """Over the elements that have moved; NaN if none has."""
    moved = below != 0
    return float(np.median(above[moved] / below[moved])) if moved.any() else float("nan")
