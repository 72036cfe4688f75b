"""A parameter server and its workers on a virtual clock: the system that the theory of asynchronous SGD speaks of.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, with an Application to Deep Learning, Allerton 2016,
    arXiv 1605.09774.
Symbols: w_t = center after t writes, r_k = what worker k read last (w_0 at first), a = learning rate, mu_L = explicit
    momentum, M workers, P parameters, R independent replicas of the whole system, T writes.

    the worker k whose gradient is ready first writes   w_{t+1} = w_t - a (grad f(r_k) + noise) + mu_L (w_t - w_{t-1}),
    reads r_k <- w_{t+1} and starts on its next gradient, which takes a time drawn from the service law.

Messages and writing take no time here. `paceline run` simulates algorithms and networks; this simulates thousands of
replicas at once, to have means to compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Gradient = Callable[[Array], Array]
"""Points [R, P] to the gradients there [R, P]."""
Service = Callable[[np.random.Generator, int], Array]
"""A generator and n to n compute times, of mean 1."""

SHORTEST = 0.01  # of the mean; a normal law has negative times, which no gradient takes


def exponential(rng: np.random.Generator, n: int) -> Array:
    """n memoryless compute times of mean 1: the law of the theory.

    Example:
        >>> exponential(np.random.default_rng(0), 3).shape
        (3,)
    """
    return rng.exponential(size=n)


def fixed(rng: np.random.Generator, n: int) -> Array:
    """n compute times of 1: equal workers write in turn.

    Example:
        >>> fixed(np.random.default_rng(0), 2).tolist()
        [1.0, 1.0]
    """
    return np.ones(n)


def normal(spread: float) -> Service:
    """The law N(1, spread^2) of compute times, cut off at 0.01.

    Args:
        spread: its standard deviation, as a share of the mean; at most about 0.4, or the cut shifts the mean.

    Example:
        >>> normal(0.0)(np.random.default_rng(0), 2).tolist()
        [1.0, 1.0]
    """
    return lambda rng, n: np.maximum(rng.normal(1.0, spread, n), SHORTEST)


@dataclass(frozen=True)
class Trajectories:
    """What R replicas of the system did.

    Attributes:
        path: the center w_0 .. w_T [R, T + 1, P].
        staleness: writes by others between a gradient's reading and its own write [R, T].
        writer: who wrote [R, T].
        time: when, in the unit of the compute times [R, T].
    """

    path: Array
    staleness: Counts
    writer: Counts
    time: Array


def quadratic(curvatures: ArrayLike) -> Gradient:
    """The gradient of f(w) = sum_p h_p w_p^2 / 2.

    Args:
        curvatures: h [P].

    Example:
        >>> quadratic([1.0, 3.0])(np.array([[2.0, 2.0]])).tolist()
        [[2.0, 6.0]]
    """
    h = np.asarray(curvatures, dtype=np.float64)
    return lambda w: w * h


def simulate(
    gradient: Gradient,
    start: ArrayLike,
    *,
    workers: int,
    writes: int,
    lr: float,
    momentum: float = 0.0,
    noise: float = 0.0,
    service: Service = exponential,
    mean_times: ArrayLike = 1.0,
    replicas: int = 1,
    seed: int = 0,
) -> Trajectories:
    """Trajectories of independent replicas of the system.

    Args:
        gradient: of the loss.
        start: w_0 [P].
        workers: M.
        writes: T.
        lr: a.
        momentum: mu_L.
        noise: standard deviation of each element of a gradient's noise.
        service: law of the compute times, of mean 1.
        mean_times: what it is multiplied with, one number or one per worker [M].
        replicas: R.
        seed: of everything random.

    Raises:
        ValueError: fewer than one worker, write or replica, or a mean time that is not positive.

    Source: arXiv 1605.09774, section 2 (assumptions A1 to A3 with `exponential`).

    Example:
        Two equally fast workers write in turn; all start from w_0 = 1:

        >>> runs = simulate(quadratic([1.0]), [1.0], workers=2, writes=4, lr=0.5, service=fixed)
        >>> runs.path[0, :, 0].tolist(), runs.staleness[0].tolist(), runs.writer[0].tolist()
        ([1.0, 0.5, 0.0, -0.25, -0.25], [0, 1, 1, 1], [0, 1, 0, 1])
    """
    if min(workers, writes, replicas) < 1:
        raise ValueError(f"workers, writes and replicas must be at least 1: got {workers}, {writes}, {replicas}")
    scale = np.broadcast_to(np.asarray(mean_times, dtype=np.float64), workers)
    if not (scale > 0).all():
        raise ValueError(f"mean_times must be positive: got {scale.tolist()}")
    rng, every = np.random.default_rng(seed), np.arange(replicas)
    w = np.tile(np.asarray(start, dtype=np.float64), (replicas, 1))
    path = np.empty((replicas, writes + 1, w.shape[1]))
    staleness, writer = (np.empty((replicas, writes), dtype=np.int64) for _ in range(2))
    time = np.empty((replicas, writes))
    path[:, 0] = before = w
    read = np.repeat(w[:, None], workers, axis=1)  # [R, M, P]
    version = np.zeros((replicas, workers), dtype=np.int64)
    ready = np.stack([service(rng, replicas) for _ in range(workers)], axis=1) * scale
    for t in range(writes):
        k = ready.argmin(1)
        at = ready[every, k]
        step = gradient(read[every, k])
        if noise:
            step = step + noise * rng.standard_normal(step.shape)
        w, before = w - lr * step + momentum * (w - before), w
        path[:, t + 1], staleness[:, t], writer[:, t], time[:, t] = w, t - version[every, k], k, at
        read[every, k], version[every, k] = w, t + 1
        ready[every, k] = at + service(rng, replicas) * scale[k]
    return Trajectories(path, staleness, writer, time)
