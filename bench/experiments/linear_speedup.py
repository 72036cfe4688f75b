"""The mean squared gradient on noisy quadratics against workers N and iterations K, at the rate sqrt(N / K) / 2.

With curvature 1 in every direction, gradients x - x* + noise, and each coordinate 1 from x* at first. A worker's step
moves the mean model by lr / N, so where a gradients are taken per iteration the noise keeps |x - x*|^2 at
lr noise^2 / (2 N) whatever a is, while the way from the start lasts N / (lr a) iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from algorithms.d_psgd import DPSGD
from algorithms.dsgd_aau import DSGDAAU
from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.check import FREE, replicas
from bench.experiments.averaging import kept
from bench.experiments.base import Rows, Scale
from bench.experiments.pathsearch import STRAGGLERS
from bench.simulate import Simulation
from bench.workloads.quadratic import Quadratic

DIMENSION = 64
NOISES = (1.0, 10.0)
"""Standard deviations of a gradient's noise, in units of the gradient at the start."""
TRIAL_S = 60.0


def linear_speedup(scale: Scale) -> Rows:
    """One row per algorithm, noise, sweep ("workers" at fixed K, "iterations" at fixed N), N and K."""
    many = scale == "full"
    cases = [("workers", n, 1000) for n in (2, 4, 8, 16, 32, 64, 128, 256)[: 8 if many else 5]]
    cases += [("iterations", 8, k) for k in (250, 500, 1000, 2000, 4000, 8000, 16000)[: 7 if many else 5]]
    rows = []
    for sweep, workers, iterations in cases:
        for name, algorithm in (("d-psgd", DPSGD()), ("dsgd-aau", DSGDAAU())):
            for noise in NOISES:
                found, closed = mean_square(algorithm, workers, iterations, noise)
                rows.append(
                    {
                        "algorithm": name,
                        "noise": noise,
                        "sweep": sweep,
                        "workers": workers,
                        "iterations": closed,
                        "mean_square": found,
                    }
                )
    return rows


def mean_square(algorithm: Algorithm, workers: int, iterations: int, noise: float) -> tuple[float, int]:
    """Mean over the run of |gradient at the mean model|^2 per coordinate, and how many iterations there were."""
    workload = Quadratic(dimension=DIMENSION, condition=1.0, noise=noise).build(torch.device("cpu"), workers)
    found: list[float] = []

    def note(step: int, seconds: float, loss: Tensor) -> None:
        away = replicas(simulation).mean(0) - workload.minimiser
        found.append(float(away.square().mean()))

    def made(on_step: Callable[[int, float, Tensor], None] | None) -> Simulation:
        optimizer = OptimizerSettings(name="sgd", lr=math.sqrt(workers / iterations) / 2)
        return Simulation(
            algorithm, workload, workers=workers, seed=0, optimizer=optimizer, compute=STRAGGLERS, network=FREE,
            on_step=on_step, event_capacity=1 << 22,
        )  # fmt: skip

    budget = Budget(steps=iterations, snapshots=1)
    if not algorithm.lockstep:
        trial = made(None).run(Budget(seconds=TRIAL_S, snapshots=1))
        budget = Budget(seconds=TRIAL_S * iterations / int(kept(trial, "closed").max()), snapshots=1)
    simulation = made(note)
    simulation.run(budget)
    closed = iterations if algorithm.lockstep else int(kept(simulation, "closed").max())
    return sum(found) / len(found), closed
