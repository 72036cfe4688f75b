"""What the oracle tests share: a quadratic in float64 and a way to run an algorithm on it in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.registry import algorithm_class
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.quadratic import Quadratic

SCHEDULES = 300
"""How many random orders of simultaneous events a law must survive."""


def make(name: str, **settings: Any) -> Algorithm:
    """An algorithm by registry name."""
    return algorithm_class(name)(**settings)


def quadratic(workers: int, **settings: Any) -> Workload:
    """P = 12, float64, noisy and different on every worker unless told otherwise."""
    settings = {"dimension": 12, "noise": 0.3, "heterogeneity": 1.0, **settings}
    return Quadratic(**settings).build(torch.device("cpu"), workers)


def simulate(
    algorithm: Algorithm,
    workload: Workload,
    *,
    workers: int,
    budget: Budget,
    seed: int = 0,
    lr: float = 0.1,
    optimizer: OptimizerSettings | None = None,
    shuffle: int | None = None,
    compute: Compute | None = None,
    network: Network | None = None,
    start: Sequence[Tensor] | None = None,
    spy: bool = False,
) -> Simulation:
    """Run to the end of the budget.

    Args:
        start: where each rank begins, instead of the common initial point.
        spy: use `SpyOptimizer`s; `applied` tells their sum afterwards.
    """
    simulation = Simulation(
        algorithm,
        workload,
        workers=workers,
        seed=seed,
        optimizer=optimizer or OptimizerSettings(name="sgd", lr=lr),
        # Whole units of time and a free network: many events fall together, so that shuffling has something to shuffle.
        compute=compute or Compute(gradient_s=1.0),
        network=network or Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf")),
        shuffle=shuffle,
    )
    if start is not None:
        for handle, x in zip(simulation.handles, start, strict=True):
            handle.replica().data.copy_(x)
    if spy:
        for handle in simulation.workers:
            handle.state.optimizers.append(SpyOptimizer(lr, handle.replica().data))
    return simulation.run(budget)


def applied(simulation: Simulation) -> Tensor:
    """Sum over all workers of the updates -lr g that were applied [P]."""
    return torch.stack([handle.state.optimizers[0].total for handle in simulation.workers]).sum(0)  # type: ignore[attr-defined]


def replicas(simulation: Simulation) -> Tensor:
    """The workers' parameters [n, P]."""
    return torch.stack([handle.replica().data for handle in simulation.workers])


class SpyOptimizer(Optimizer):
    """Plain SGD that adds up what it applied."""

    def __init__(self, lr: float, x: Tensor) -> None:
        super().__init__(OptimizerSettings(name="sgd", lr=lr), x.numel(), x.dtype, x.device)
        self.total = torch.zeros_like(x)

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        super().step_(x, gradient)
        self.total -= self.settings.lr * gradient
