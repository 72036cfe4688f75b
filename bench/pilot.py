"""How long a simulated run will take in real time, from a short pilot of it."""

from __future__ import annotations

import functools
import math
import time

import torch

from algorithms.registry import algorithm_class
from bench.budget import Budget
from bench.simulate import Gradients, Simulation
from bench.study import Cell
from bench.workloads.registry import WorkloadSettings

PILOT_WORKERS, PILOT_STEPS = 4, 6


def wall_s(cell: Cell) -> float:
    """Guess of how long a simulated run takes on one core of this machine [s].

    Its worker-steps, if communication cost no virtual time, by what one costs in a pilot; what reading the data and
    evaluating snapshots take is not in it.
    """
    budget, compute = cell.workload.budget, cell.workload.compute
    steps = budget.steps
    if steps is None:
        times = compute.times(cell.seed, 0)
        mean_s = sum(times.next() for _ in range(64)) / 64
        assert budget.seconds is not None, "a budget has one of the two"
        steps = math.ceil(budget.seconds / max(mean_s, 1e-5))
    return cell.workers * steps * worker_step_s(cell.workload.settings, cell.gradients or "auto")


@functools.lru_cache(maxsize=32)
def worker_step_s(settings: WorkloadSettings, gradients: Gradients) -> float:
    """What a step of one worker costs in the simulator [s], measured with synchronous SGD."""
    workload = settings.build(torch.device("cpu"), PILOT_WORKERS)
    pilot = Simulation(algorithm_class("allreduce-sgd")(), workload, workers=PILOT_WORKERS, seed=0, gradients=gradients)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a session
    try:
        fastest_s = math.inf  # the first steps prepare what all later ones use
        for step in range(1, 1 + PILOT_STEPS):
            begin = time.perf_counter()
            pilot.run(Budget(steps=step, snapshots=1))
            fastest_s = min(fastest_s, time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return fastest_s / PILOT_WORKERS
