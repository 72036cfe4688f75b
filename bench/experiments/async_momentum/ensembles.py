"""Many runs of asynchronous SGD on a quadratic, watched at every write of the center.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, theorems 2, 3, 5 and 6.
Symbols: M = workers, mu_L = explicit momentum, a = learning rate x curvature. All models start at 1 in every dimension;
    the dimensions of a run share its staleness, so that one ensemble has the mean path for many a.
"""

from __future__ import annotations

import json

import numpy as np
from scipy.stats import norm

from algorithms.async_sgd import AsyncSGD
from algorithms.replica import Gradient
from bench.budget import Budget
from bench.cluster import Compute
from bench.experiments.base import Rows, Scale
from bench.experiments.quadratics import MEMORYLESS, ROUND, Array, centred, curvatures, prepared, watch

SPREAD = 0.3
_TIMES = np.maximum(norm.ppf((np.arange(2000) + 0.5) / 2000, loc=1.0, scale=SPREAD), 0.01)
NORMAL = Compute(distribution="trace", times_s=tuple(_TIMES.tolist()))
"""N(1, 0.3^2), cut off at 0.01: drawn from 2000 of its quantiles."""

LARGEST, CONDITION, DIMENSION = 2.0, 40.0, 40
"""a of the ensembles: from 0.05 to 2, evenly spaced in the logarithm."""


FIRST = 100_000
"""The first seed of the memoryless ensembles: claim B3's threshold was set after runs with seeds below 20 000."""


def memoryless(scale: Scale) -> Rows:
    """The center's moments over runs with memoryless workers: one row per M, mu_L, a and write."""
    rows: Rows = []
    for workers, writes, runs in ((1, 30, 1500), (2, 40, 1500), (4, 60, 1500), (8, 80, 1500)) if scale == "quick" else (
        (1, 30, 1500), (2, 40, 20_000), (4, 60, 20_000), (8, 80, 8000), (16, 160, 5000),
    ):  # fmt: skip
        for momentum in (0.0,) if workers < 4 else (0.0, 0.3, -0.5):
            rows += _moments(workers, momentum, MEMORYLESS, "exponential", writes=writes, runs=runs, first=FIRST)
    return rows


def other_laws(scale: Scale) -> Rows:
    """The same for compute times that are nearly or exactly equal, with the staleness at each write (JSON: how many
    runs had 0, 1, ..)."""
    runs = 800 if scale == "quick" else 4000
    rows: Rows = []
    for workers in (4, 8) if scale == "quick" else (4, 8, 16):
        rows += _moments(workers, 0.0, NORMAL, "normal", writes=80, runs=runs)
        rows += _moments(workers, 0.0, ROUND, "fixed", writes=80, runs=2)
    return rows


def trajectories(scale: Scale) -> Rows:
    """Whole paths of the center, for whoever measures implicit momentum: one row per kind, M, run and write.

    "noiseless": one long run without gradient noise in 60 dimensions; "noisy": many short ones with noise 0.05 in 20.
    Curvatures from 0.02 to 1, learning rate 0.05.
    """
    rows: Rows = []
    for workers in (2, 4, 8, 16):
        for kind, dimension, noise, writes, runs in (
            ("noiseless", 60, 0.0, 1200, 1),
            ("noisy", 20, 0.05, 200, 300 if scale == "quick" else 600),
        ):
            for k in range(runs):
                path, _ = _path(workers, 0.0, MEMORYLESS, k, 0.05, dimension, 50.0, writes, noise)
                rows += [
                    {"kind": kind, "workers": workers, "run": k, "write": t, "center": w} for t, w in enumerate(path)
                ]
    return rows


def _moments(
    workers: int, momentum: float, compute: Compute, law: str, *, writes: int, runs: int, first: int = 0
) -> Rows:
    """Of the runs with seeds from `first` on."""
    total, squares, fourths = np.zeros((3, writes + 1, DIMENSION))
    counts: list[list[int]] = [[] for _ in range(writes)]
    for k in range(first, first + runs):
        path, staleness = _path(workers, momentum, compute, k, LARGEST, DIMENSION, CONDITION, writes)
        total += path
        squares += path**2
        fourths += path**4
        for t, tau in enumerate(staleness):
            counts[t].append(tau)
    a = LARGEST * curvatures(DIMENSION, CONDITION)
    return [
        {
            "workers": workers, "momentum": momentum, "law": law, "a": a[p], "write": t, "runs": runs,
            "mean": total[t, p] / runs, "mean_square": squares[t, p] / runs, "mean_fourth": fourths[t, p] / runs,
            "staleness": json.dumps(np.bincount(counts[t]).tolist()) if t < writes and p == 0 else "",
        }
        for p in range(DIMENSION)
        for t in range(writes + 1)
    ]  # fmt: skip


def _path(
    workers: int, momentum: float, compute: Compute, seed: int, lr: float, dimension: int, condition: float,
    writes: int, noise: float = 0.0,
) -> tuple[Array, list[int]]:  # fmt: skip
    """The center before each write and after the last [writes + 1, dimension], and the staleness of each."""
    workload = centred(workers, dimension=dimension, condition=condition, noise=noise)
    run = prepared(AsyncSGD(momentum=momentum), workload, workers=workers, lr=lr, seed=seed, compute=compute)
    center = run.server.replica()
    path, staleness = [center.data.numpy().copy()], []

    def note(gradient: Gradient, version: int) -> None:
        path.append(center.data.numpy().copy())
        staleness.append(version - gradient.version)
        if len(staleness) == writes:
            run.give_up()

    watch(center, note)
    # One segment, since at the end of each the workers wait for each other. With memoryless times the number of writes
    # by then is Poisson's: six deviations more than needed.
    run.run(Budget(seconds=(writes + 6 * writes**0.5 + 10) / workers, snapshots=1))
    return np.stack(path[: writes + 1]), staleness[:writes]
