"""A simulated run that is stopped between two steps: where its workers stand, and what they draw next.

Shapes: n workers, P parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.simulate import Simulation
from bench.workloads.base import Batches, Workload


class Stopped:
    """Plain SGD with a constant rate under some algorithm in lock-step, stopped where one likes.

    Args:
        lr: learning rate.
    """

    def __init__(self, algorithm: Algorithm, workload: Workload, *, workers: int, seed: int, lr: float) -> None:
        self._workload, self._workers, self._seed, self._step = workload, workers, seed, 0
        settings = OptimizerSettings(name="sgd", lr=lr)
        self._simulation = Simulation(algorithm, workload, workers=workers, seed=seed, optimizer=settings)

    def to(self, step: int) -> Tensor:
        """The workers' models [n, P] after so many steps, not fewer than before."""
        self._simulation.run(Budget(steps=step, snapshots=1))
        self._step = step
        return torch.stack([handle.replica().data.clone() for handle in self._simulation.workers])

    def streams(self) -> list[Batches]:
        """Each worker's mini-batches from here on: the first is the one that its next step uses."""
        streams = [self._workload.batches(self._seed, rank, self._workers) for rank in range(self._workers)]
        for stream in streams:
            if "drawn" in stream.state():  # a stream that needs no state but its place
                stream.load_state({"drawn": torch.tensor([self._step])})
            else:
                for _ in range(self._step):
                    stream.next()
        return streams


def mean_gradient(workload: Workload, stands: Tensor, batches: list[tuple[Tensor, ...]]) -> Tensor:
    """Mean over workers of their gradients where they stand [n, P], in double precision [P]."""
    out, total = torch.empty_like(stands[0]), torch.zeros(stands.shape[1], dtype=torch.float64)
    for x, batch in zip(stands, batches, strict=True):
        workload.gradient(x.contiguous(), batch, out)
        total += out.double()
    return total / len(stands)
