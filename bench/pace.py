"""How fast an algorithm goes on a network: a short simulated run without gradients, its time and its bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.simulate import Gradients, Simulation
from bench.study import Cell
from bench.workloads.base import Workload
from bench.workloads.cost_only import asked_for_a_value

MOST_WORKER_STEPS = 8000
"""Of all workers together in one run: a second or less."""

LEAST_STEPS, ROUNDS = 40, 4
"""Of each worker; and of a period, if the algorithm has one: start and end of a run must not weigh much."""


@dataclass(frozen=True)
class Pace:
    """What a simulated run took.

    Attributes:
        seconds: virtual, to the end of the last step.
        samples, worker_steps: of all workers together.
        nbytes, wire_nbytes: payload, and bytes on the wire, of all ranks.
        real_s: how long it took to simulate.
    """

    seconds: float
    samples: int
    worker_steps: int
    nbytes: int
    wire_nbytes: int
    real_s: float = field(default=float("nan"), compare=False)

    @property
    def s_per_sample(self) -> float:
        """Virtual seconds per sample of all workers together."""
        return self.seconds / self.samples

    def s_per_step(self, workers: int) -> float:
        """Virtual seconds that a worker takes for a step, on average."""
        return self.seconds * workers / self.worker_steps


def steps_for(cell: Cell, wanted: int = 0) -> int:
    """Steps of each worker that make a run long enough to time: `wanted` if that is not too many for a second.

    Example:
        >>> from bench.study import resolve
        >>> entry = {"name": "local-sgd", "period": 50}
        >>> study = resolve({"name": "s", "workload": {"name": "quadratic"}, "algorithm": entry, "workers": 4})
        >>> steps_for(next(study.cells())), steps_for(next(study.cells()), wanted=130)
        (200, 130)
    """
    period = getattr(cell.algorithm, "period", 1)
    least = max(LEAST_STEPS, ROUNDS * period if isinstance(period, int) else 0)
    return min(wanted, max(least, MOST_WORKER_STEPS // cell.workers)) if wanted else least


def pace(cell: Cell, steps: int) -> Pace:
    """What this many steps of each worker take.

    A lock-step algorithm makes exactly these steps, and takes the time that it takes with gradients. An asynchronous
    one runs until its workers have made as many on average.

    Args:
        cell: the run that is meant; its budget plays no part.
        steps: of each worker.

    Raises:
        TaskFailed: the algorithm does not run like that.
    """
    try:
        return _pace(cell, steps, "none")
    except Exception as error:
        if not asked_for_a_value(error):
            raise
        return _pace(cell, steps, "auto")  # it decides by values, so it needs them


def _pace(cell: Cell, steps: int, gradients: Gradients) -> Pace:
    workload = cell.workload.settings.build(torch.device("cpu"), cell.workers)
    if cell.algorithm.lockstep:
        return _run(cell, workload, Budget(steps=steps, snapshots=1), gradients)
    wire = cell.network.outer
    assert wire.latency_s is not None and wire.bandwidth_Gbit_per_s is not None
    message_s = wire.latency_s + workload.parameters * workload.dtype.itemsize * 8e-9 / wire.bandwidth_Gbit_per_s
    seconds = 10 * max(cell.workload.compute.gradient_s, message_s)
    while True:
        found = _run(cell, workload, Budget(seconds=seconds, snapshots=1), gradients)
        wanted = steps * cell.workers
        if found.worker_steps >= wanted:
            return found
        seconds *= min(max(1.05 * wanted / max(found.worker_steps, 1), 1.5), 50.0)


def _run(cell: Cell, workload: Workload, budget: Budget, gradients: Gradients) -> Pace:
    begin_s = time.perf_counter()
    simulation = Simulation(
        cell.algorithm,
        workload,
        workers=cell.workers,
        seed=cell.seed,
        optimizer=cell.workload.optimizer or OptimizerSettings(**workload.optimizer),
        network=cell.network,
        compute=cell.workload.compute,
        gradients=gradients,
        bucket_nbytes=cell.bucket_nbytes,
    ).run(budget)
    workers = simulation.workers
    real_s = time.perf_counter() - begin_s
    return Pace(
        seconds=max(handle.ended_s for handle in workers),
        samples=sum(handle.state.samples for handle in workers),
        worker_steps=sum(handle.state.step for handle in workers),
        nbytes=sum(handle.recorder.nbytes for handle in simulation.handles),
        wire_nbytes=sum(handle.recorder.wire_nbytes for handle in simulation.handles),
        real_s=real_s,
    )
