"""Averaging alone: algorithms at learning rate 0 on models that differ; what they do to them is a linear map."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.interface import Algorithm
from bench.budget import Budget
from bench.check import quadratic, replicas, simulate
from bench.cluster import Compute
from bench.simulate import Simulation


def averaged(
    algorithm: Algorithm, start: Tensor, budget: Budget, *, seed: int = 0, compute: Compute | None = None
) -> Simulation:
    """A run without gradients from models `start` [n, P] on a free network; a gradient takes 1 s."""
    return simulate(
        algorithm,
        quadratic(len(start), dimension=start.shape[1]),
        workers=len(start),
        budget=budget,
        seed=seed,
        lr=0.0,
        start=list(start),
        compute=compute,
    )


def rounds(algorithm: Algorithm, start: Tensor, count: int) -> Tensor:
    """The models [n, P] after that many rounds."""
    return replicas(averaged(algorithm, start, Budget(steps=count, snapshots=1)))


def scattered(workers: int, parameters: int = 64, seed: int = 1) -> Tensor:
    """Models that differ [n, P]."""
    return torch.randn(workers, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_vectors(workers: int) -> Tensor:
    """Worker i's model is the i-th unit vector: averaging turns them into its own matrix [n, n]."""
    return torch.eye(workers, dtype=torch.float64)


def spread(x: Tensor) -> float:
    """Distance of models [n, P] to their mean."""
    return float((x - x.mean(0)).norm())


def kept(simulation: Simulation, name: str) -> Tensor:
    """A kept state of all workers [n, ...]."""
    return torch.stack([handle.state.kept[name] for handle in simulation.workers])
