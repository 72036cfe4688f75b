"""Runs on quadratics whose minimum is 0: every dimension is a problem of its own, with its own curvature.

Under a schedule that does not look at values, the dimensions of one run share their workers' order and nothing else. So
one run tries as many values of learning rate x curvature as it has dimensions, and with equal curvatures and noise it
is as many replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from algorithms.replica import Gradient, Replica
from bench.check import FREE
from bench.cluster import Compute
from bench.simulate import Simulation
from bench.workloads.quadratic import Quadratic, QuadraticWorkload

Array = NDArray[np.float64]

ROUND = Compute(gradient_s=1.0)
"""Equal times: workers come in turn."""
MEMORYLESS = Compute(gradient_s=1.0, distribution="exponential")


def curvatures(dimension: int, condition: float) -> Array:
    """The curvatures that `centred` has [dimension]: 1/condition to 1, evenly spaced in the logarithm."""
    return np.logspace(-np.log10(condition), 0, dimension)


def centred(workers: int, *, dimension: int, condition: float = 1.0, noise: float = 0.0) -> QuadraticWorkload:
    """All workers' f(x) = sum h x^2 / 2, with the minimum at 0, near which numbers may become as small as they like."""
    settings = Quadratic(dimension=dimension, condition=condition, noise=noise, heterogeneity=0.0)
    workload = settings.build(torch.device("cpu"), workers)
    workload.minimiser.zero_()
    workload.shifts.zero_()
    return workload


def prepared(
    algorithm: Algorithm,
    workload: QuadraticWorkload,
    *,
    workers: int,
    lr: float,
    start: float = 1.0,
    **more: Any,
) -> Simulation:
    """A run that has not begun, on a network that takes no time.

    Args:
        start: where all ranks begin, in every dimension.
        more: `seed`, `compute` and others of `Simulation`.
    """
    settings: dict[str, Any] = {"seed": 0, "compute": ROUND, "network": FREE, "event_capacity": 1 << 14, **more}
    optimizer = OptimizerSettings(name="sgd", lr=lr)
    simulation = Simulation(algorithm, workload, workers=workers, optimizer=optimizer, **settings)
    for handle in simulation.handles:
        handle.replica().data.fill_(start)
    return simulation


def watch(replica: Replica, seen: Callable[[Gradient, int], None]) -> None:
    """Have `seen` told of every gradient that is applied to a replica, beside whoever is told already."""
    before = replica._observe

    def both(gradient: Gradient, version: int) -> None:
        seen(gradient, version)
        if before is not None:
            before(gradient, version)

    replica._observe = both


def models(simulation: Simulation) -> Array:
    """The parameters of all ranks, workers first [ranks, P]."""
    return torch.stack([handle.replica().data for handle in simulation.handles]).numpy().copy()
