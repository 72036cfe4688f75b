"""How long a simulated run will take in real time, from short pilots of it."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Hashable
from dataclasses import replace

import torch

from algorithms.registry import algorithm_class
from bench.budget import Budget
from bench.pace import Pace, pace
from bench.settings import plain
from bench.simulate import Gradients, Simulation
from bench.study import Cell
from bench.workloads.partition import Partition
from bench.workloads.registry import WorkloadSettings
from bench.workloads.settings import ModuleSettings

PILOT_WORKERS, PILOT_STEPS = 4, 6

PACED_WORKER_STEPS, PACED_STEPS = 600, 4
"""Of all workers together in a pilot without gradients, and at least of each: tens of milliseconds."""

SECONDS = 8.0
"""For all pilots without gradients together; what is left then is guessed without the network."""


class Pilot:
    """Guesses for the runs of a study; what they have in common is tried once.

    Args:
        seconds: for all pilots without gradients together; 0 has none, for a guess at once that leaves the network out.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._paces: dict[Hashable, Pace] = {}
        self._left_s = seconds

    def wall_s(self, cell: Cell) -> float:
        """Guess of how long a simulated run takes on one core of this machine [s].

        Its worker-steps, by what one costs in a pilot. How many there are in a budget of seconds is told by a run
        without gradients of the same algorithm on the same network. Reading data and evaluating snapshots is left out.
        """
        budget, gradients = cell.workload.budget, cell.gradients or "auto"
        gradient_s = 0.0 if gradients == "none" else worker_step_s(cell.workload.settings, gradients)
        if budget.steps is not None and gradients != "none":
            return cell.workers * budget.steps * gradient_s
        if self._key(cell) not in self._paces and self._left_s <= 0:
            return self._without_network_s(cell)
        found = self._paced(cell)
        cost_s = found.real_s / found.worker_steps
        if budget.steps is not None:
            return cell.workers * budget.steps * cost_s
        assert budget.seconds is not None, "a budget has one of the two"
        steps = budget.seconds / max(found.seconds, 1e-9) * found.worker_steps
        return steps * (cost_s + gradient_s)

    def _key(self, cell: Cell) -> Hashable:
        model = (plain(cell.network), plain(cell.workload.compute), plain(cell.workload.settings))
        return (cell.entry.label, cell.workload.name, cell.workers, repr(model))

    def _paced(self, cell: Cell) -> Pace:
        """A short run without gradients."""
        key = self._key(cell)
        if key not in self._paces:
            begin_s = time.perf_counter()
            if not self._paces:
                pace(cell, 1)  # the first run of all prepares what the others use
            self._paces[key] = pace(cell, max(PACED_STEPS, PACED_WORKER_STEPS // cell.workers))
            self._left_s -= time.perf_counter() - begin_s
        return self._paces[key]

    def _without_network_s(self, cell: Cell) -> float:
        """The same if communication took no virtual time: at least that long."""
        budget, gradients = cell.workload.budget, cell.gradients or "auto"
        steps = budget.steps
        if steps is None:
            times = cell.workload.compute.times(cell.seed, 0)
            mean_s = sum(times.next() for _ in range(64)) / 64
            assert budget.seconds is not None, "a budget has one of the two"
            steps = math.ceil(budget.seconds / max(mean_s, 1e-5))
        return cell.workers * steps * worker_step_s(cell.workload.settings, gradients)


def worker_step_s(settings: WorkloadSettings, gradients: Gradients) -> float:
    """What a step of one worker costs in the simulator [s], measured with synchronous SGD.

    Who has which samples is left out: it changes no cost, and what can be dealt to a study's workers need not be enough
    for the pilot's, or the other way round.
    """
    if isinstance(settings, ModuleSettings):
        settings = replace(settings, partition=Partition())
    return _measured_s(settings, gradients)


@functools.lru_cache(maxsize=32)
def _measured_s(settings: WorkloadSettings, gradients: Gradients) -> float:
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
