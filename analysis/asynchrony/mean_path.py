"""The mean path of asynchronous SGD against what the theory says it is: heavy ball, or any law of staleness.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, theorems 2, 3, 5 and 6.
Symbols: w_t = mean center after t writes, a = learning rate, mu_L = explicit and mu_S = implicit momentum, q_l =
    probability of staleness l, S seeds, T writes, P parameters.

All workers read w_0 before the first write. So heavy ball does not start at rest but with a whole gradient:

    u_0 = grad f(w_0)
    w_{t+1} = w_t - a u_t + mu_L (w_t - w_{t-1});    u_{t+1} = mu_S u_t + (1 - mu_S) grad f(w_{t+1})

and with any law of staleness, where w of a negative time is w_0,

    w_{t+1} = w_t - a sum_l q_l grad f(w_{t-l}) + mu_L (w_t - w_{t-1}).

On a quadratic, M memoryless workers follow the first exactly in the mean, mu_S = 1 - 1/M. The second takes each
gradient's staleness to be independent of the path. It is exact for one constant staleness, and with a geometric law it
is the first. It wants the law at each write: workers that start together stay in step for a while, and how long depends
on their compute times. With one law for all writes the path is off by some hundredths of w_0, with the law at each
write by thousandths. Off quadratics the mean of gradients is not the gradient at the mean: both are approximations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.asynchrony.server import Array, Counts


def heavy_ball_path(
    gradient: Callable[[Array], Array],
    start: ArrayLike,
    *,
    writes: int,
    lr: float,
    implicit: float,
    momentum: float = 0.0,
) -> Array:
    """The mean center of memoryless workers after each write [T + 1, P].

    Args:
        gradient: of the loss, [P] to [P].
        start: w_0 [P].
        writes: T.
        lr: a.
        implicit: mu_S, 1 - 1/M for M memoryless workers.
        momentum: mu_L.

    Source: arXiv 1605.09774, theorems 3, 5 and 6; the first step: see the module.

    Example:
        One worker is gradient descent; two of them read w_0 first:

        >>> heavy_ball_path(lambda w: w, [1.0], writes=2, lr=0.5, implicit=0.0)[:, 0].tolist()
        [1.0, 0.5, 0.25]
        >>> heavy_ball_path(lambda w: w, [1.0], writes=2, lr=0.5, implicit=0.5)[:, 0].tolist()
        [1.0, 0.5, 0.125]
    """
    path = np.empty((writes + 1, np.size(start)))
    path[0] = before = w = np.asarray(start, dtype=np.float64)
    u = gradient(w)
    for t in range(writes):
        w, before = w - lr * u + momentum * (w - before), w
        u = implicit * u + (1 - implicit) * gradient(w)
        path[t + 1] = w
    return path


def law_by_write(staleness: Counts) -> Array:
    """The share of the seeds that had staleness 0, 1, .. at each write [T, L].

    Args:
        staleness: of every write of every seed [S, T].

    Example:
        >>> law_by_write(np.array([[0, 1], [0, 0]])).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    writes, longest = staleness.shape[1], int(staleness.max()) + 1
    cells = np.arange(writes) * longest + staleness
    return np.bincount(cells.ravel(), minlength=writes * longest).reshape(writes, longest) / len(staleness)


def staleness_path(
    gradient: Callable[[Array], Array],
    start: ArrayLike,
    law: ArrayLike,
    *,
    lr: float,
    writes: int,
    momentum: float = 0.0,
) -> Array:
    """The mean center after each write [T + 1, P] if staleness has this law and does not depend on the path.

    Args:
        gradient: of the loss, [P] to [P].
        start: w_0 [P].
        law: probabilities or counts of staleness 0, 1, .., at each write [T, L] (see `law_by_write`) or at all [L].
        lr: a.
        writes: T.
        momentum: mu_L.

    Raises:
        ValueError: the law has a negative element, a write without any, or too few writes.

    Source: arXiv 1605.09774, theorem 2.

    Example:
        Always one write late:

        >>> staleness_path(lambda w: w, [1.0], [0, 7], lr=0.5, writes=3)[:, 0].tolist()
        [1.0, 0.5, 0.0, -0.25]
    """
    q = np.atleast_2d(np.asarray(law, dtype=np.float64))
    total = q.sum(-1, keepdims=True)
    if not ((q >= 0).all() and (total > 0).all()) or len(q) not in (1, writes):
        raise ValueError(
            f"law must hold counts of staleness, [L] or [{writes}, L], some positive: got {q.shape}, "
            f"least sum {total.min():g}"
        )
    q = np.broadcast_to(q / total, (writes, q.shape[1]))
    path, slopes = np.empty((writes + 1, np.size(start))), np.empty((writes, np.size(start)))
    path[0] = before = w = np.asarray(start, dtype=np.float64)
    back = np.arange(q.shape[1])
    for t in range(writes):
        slopes[t] = gradient(w)
        u = q[t] @ slopes[np.maximum(t - back, 0)]  # what is older than the start was read at the start
        w, before = w - lr * u + momentum * (w - before), w
        path[t + 1] = w
    return path


@dataclass(frozen=True)
class Distance:
    """How far the mean of measured paths is from a predicted one.

    Attributes:
        largest: largest |mean - predicted| over writes and elements, in the unit of the parameters.
        at_write: where it is.
        standard_error: of the mean there; NaN with one seed.
        root_mean_square: over writes and elements.
        replicas: S.
    """

    largest: float
    at_write: int
    standard_error: float
    root_mean_square: float
    replicas: int


def distance(paths: Array, predicted: Array) -> Distance:
    """Distance between the mean of measured paths and a predicted mean path.

    `largest` is the maximum over many points: with a right prediction it is some three standard errors, not one.

    Args:
        paths: [S, T + 1, P], one per seed.
        predicted: [T + 1, P].

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> found = distance(np.array([[[1.0], [0.2]], [[1.0], [0.6]]]), np.array([[1.0], [0.5]]))
        >>> round(found.largest, 12), found.at_write, round(found.standard_error, 12)
        (0.1, 1, 0.2)
    """
    if paths.ndim != 3 or paths.shape[1:] != predicted.shape:
        raise ValueError(f"paths must be [S, T + 1, P], predicted [T + 1, P]: got {paths.shape} and {predicted.shape}")
    away = np.abs(paths.mean(0) - predicted)
    t, p = np.unravel_index(int(away.argmax()), away.shape)
    spread = float(paths[:, t, p].std(ddof=1)) / len(paths) ** 0.5 if len(paths) > 1 else float("nan")
    return Distance(float(away[t, p]), int(t), spread, float(np.sqrt((away**2).mean())), len(paths))
