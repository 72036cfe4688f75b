"""The center of synchronous EASGD under gradient noise, on many replicas of a quadratic with unit curvature.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, supplement,
    Lemmas 7.1 and 7.2.
"""

from __future__ import annotations

import numpy as np
import torch

from algorithms.easgd_sync import EASGDSync
from bench.budget import Budget
from bench.experiments.base import Rows, Scale
from bench.experiments.quadratics import Array, centred, prepared
from bench.simulate import Simulation

ETA = 0.1
SETTINGS = ((4, 0.9), (1, 0.5), (16, 0.1))
"""(workers, beta) of the moments at single steps."""
STEPS = (2, 7, 20, 60, 200)


def moments(scale: Scale) -> Rows:
    """Mean and variance of the center at single steps, all models starting at 1: one row per setting and step."""
    replicas = 100_000 if scale == "quick" else 400_000
    rows: Rows = []
    for workers, beta in SETTINGS:
        run = _run(workers, beta, replicas, seed=1, start=1.0)
        for steps in STEPS:
            run.run(Budget(steps=steps, snapshots=1))
            center = _center(run)
            rows.append(
                {
                    "workers": workers,
                    "beta": beta,
                    "eta": ETA,
                    "step": steps,
                    "replicas": replicas,
                    "mean": center.mean(),
                    "variance": center.var(ddof=1),
                }
            )
    return rows


def stationary(scale: Scale) -> Rows:
    """Mean square of the center in the long run: one row per workers and beta.

    After so many steps that the start is forgotten, steps some way apart count: over 1e6 samples.
    """
    replicas, begin, apart, times = 50_000, 200, 10, 20
    rows: Rows = []
    for beta in (0.9, 0.5, 0.1):
        for workers in (1, 4, 8, 16) if scale == "quick" else (1, 4, 8, 16, 64):
            run = _run(workers, beta, replicas, seed=2, start=0.0)
            squares = []
            for k in range(times):
                run.run(Budget(steps=begin + k * apart, snapshots=1))
                squares.append(np.square(_center(run)))
            own = np.mean(squares, axis=0)  # of each replica: its times are not independent, replicas are
            rows.append(
                {
                    "workers": workers,
                    "beta": beta,
                    "eta": ETA,
                    "samples": replicas * times,
                    "mean_square": own.mean(),
                    "standard_error": own.std(ddof=1) / replicas**0.5,
                }
            )
    return rows


def double_average(scale: Scale) -> Rows:
    """Variance over replicas of the mean of the center over all steps: one row per moving rate."""
    workers, replicas = 4, 20_000
    steps = 10_000 if scale == "quick" else 100_000
    rows: Rows = []
    for beta in (0.2, 0.6, 0.9):
        total = torch.zeros(replicas, dtype=torch.float64)
        run = _run(workers, beta, replicas, seed=3, start=0.0, watched=total)
        run.run(Budget(steps=steps, snapshots=1))
        variance = float((total / steps).var())
        rows.append(
            {
                "workers": workers,
                "alpha": beta / workers,
                "eta": ETA,
                "steps": steps,
                "replicas": replicas,
                "variance": variance,
                "standard_error": variance * (2 / replicas) ** 0.5,
            }
        )
    return rows


def _run(
    workers: int, beta: float, replicas: int, *, seed: int, start: float, watched: torch.Tensor | None = None
) -> Simulation:
    """A run that has not begun. `watched` is added the center after every step [replicas]."""

    def add(step: int, t_s: float, loss: torch.Tensor) -> None:
        assert watched is not None
        watched.add_(run.workers[0].state.kept["center-copy"])

    workload = centred(workers, dimension=replicas, noise=1.0)
    algorithm = EASGDSync(period=1, beta=beta)
    run = prepared(
        algorithm, workload, workers=workers, lr=ETA, start=start, seed=seed, on_step=None if watched is None else add
    )
    return run


def _center(run: Simulation) -> Array:
    """The center of each replica."""
    return run.workers[0].state.kept["center-copy"].numpy().copy()
