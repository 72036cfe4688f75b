"""How stale the gradients of asynchronous SGD are when compute times are memoryless.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, theorem 5.
"""

from __future__ import annotations

import numpy as np

from algorithms.async_sgd import AsyncSGD
from algorithms.replica import Gradient
from bench.budget import Budget
from bench.experiments.base import Rows, Scale
from bench.experiments.quadratics import MEMORYLESS, centred, prepared, watch

WARM_UP = 5
"""Writes per worker that do not count: all workers start together."""


def histogram(scale: Scale) -> Rows:
    """How many of over 1e5 gradients had each staleness: one row per workers and staleness."""
    rows: Rows = []
    for workers in (2, 4, 8, 16) if scale == "quick" else (2, 4, 8, 16, 32):
        # The share of fresh gradients, 1/M, must be known to a percent or better.
        writes = max(100_000, 25_000 * workers) * (1 if scale == "quick" else 2)
        found: list[int] = []

        def note(gradient: Gradient, version: int, found: list[int] = found) -> None:
            found.append(version - gradient.version)

        workload = centred(workers, dimension=1)
        run = prepared(AsyncSGD(), workload, workers=workers, lr=1e-3, seed=workers, compute=MEMORYLESS)
        watch(run.server.replica(), note)
        # Some more than are counted: the number of writes in a time is random.
        run.run(Budget(seconds=1.02 * writes / workers + WARM_UP + 50.0, snapshots=1))
        counted = np.array(found[WARM_UP * workers : -workers])  # after the end workers only finish their steps
        for staleness, count in enumerate(np.bincount(counted)):
            rows.append({"workers": workers, "staleness": staleness, "gradients": int(count)})
    return rows
