"""Where asynchronous gradient push ends on unlike quadratics, with equal and with unequal speeds."""

from __future__ import annotations

import math

from algorithms.agp import AGP
from bench.budget import Budget
from bench.check import evaluated, quadratic, simulate
from bench.cluster import Compute
from bench.experiments.base import Rows, Scale

CASES: tuple[tuple[int, dict[str, float], float, float], ...] = (
    (4, {}, 0.1, 150.5),
    (4, {"1": 3.0}, 0.1, 150.5),
    (8, {}, 0.02, 800.5),
    (8, {"1": 10.0, "5": 10.0}, 0.02, 800.5),
)
"""Workers, those that are slower, learning rate, seconds; a gradient takes 1 s."""


def push_bias(scale: Scale) -> Rows:
    """Distance of the de-biased mean to the minimiser of the mean of the workers' quadratics, full gradients.

    The paper's step is x - alpha g; scaled, it is x - alpha w g.
    """
    rows = []
    for workers, slow, lr, seconds in CASES:
        for scaled in (False, True):
            workload = quadratic(workers, noise=0.0, condition=2.0)
            simulation = simulate(
                AGP(scaled=scaled), workload, workers=workers, budget=Budget(seconds=seconds, snapshots=1), lr=lr,
                compute=Compute(gradient_s=1.0, slow=slow),
            )  # fmt: skip
            distance = workload.heldout(evaluated(simulation)).metric
            rows.append(
                {
                    "workers": workers,
                    "slowest": max(slow.values(), default=1.0),
                    "scaled": scaled,
                    "lr": lr,
                    "distance": distance if math.isfinite(distance) else math.inf,
                }
            )
    return rows
