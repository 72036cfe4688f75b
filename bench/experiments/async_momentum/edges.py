"""The largest stable rate at a constant staleness, and delay compensation that leaves none: parameter servers in turn.

Source: derived from the update; the servers: arXiv 1605.09774 (async-sgd), 1511.05950 (sa-asgd), 1609.08326 (dc-asgd).
Symbols: D = staleness, a = learning rate x curvature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from algorithms.async_sgd import AsyncSGD
from algorithms.replica import Gradient
from algorithms.staleness_aware import DCASGD, SAASGD
from bench.budget import Budget
from bench.experiments.base import Rows, Scale
from bench.experiments.quadratics import MEMORYLESS, centred, curvatures, prepared, watch

LARGEST, CONDITION, DIMENSION = 2.2, 32.0, 1400
"""a of the grid: from 0.069 to 2.2, each 0.25 % above the one before."""


LEAST = float(np.finfo(np.float64).tiny)


def turns(scale: Scale) -> Rows:
    """How a server's distance from the minimum grows between a middle and a late stretch: one row per server, D and a.

    Equal compute times make the workers write in turn, so that from the second round on every gradient is D = M - 1
    writes old. Near the edge the distance oscillates with 2 (2 D + 1) writes to a period; a stretch is four of them.
    """
    rows: Rows = []
    for name, cls in (("async-sgd", AsyncSGD), ("sa-asgd", SAASGD)):
        for delay in (0, 1, 3, 7, 15):
            workers, stretch = delay + 1, 8 * (2 * delay + 1)
            rounds = 600 if scale == "quick" else 1500
            path: list[Tensor] = []
            workload = centred(workers, dimension=DIMENSION, condition=CONDITION)
            run = prepared(cls(), workload, workers=workers, lr=LARGEST)
            center = run.server.replica()

            def note(
                gradient: Gradient, version: int, path: list[Tensor] = path, w: Tensor = center.data
            ) -> None:  # fmt: skip
                path.append(w.clone())

            watch(center, note)
            run.run(Budget(seconds=rounds - 0.5, snapshots=1))
            size = torch.stack(path).abs()
            middle, late = size[len(size) // 2 :][:stretch].amax(0), size[-stretch:].amax(0)
            for a, before, after in zip(LARGEST * curvatures(DIMENSION, CONDITION), middle, late, strict=True):
                # What is no number any more has grown too; below the least normal number nothing shrinks further.
                grows = not float(after) < max(float(before), LEAST)
                rows.append({"server": name, "staleness": delay, "a": a, "writes": len(size), "grows": grows})
    return rows


@dataclass(frozen=True, kw_only=True)
class Exact(DCASGD):
    """Delay compensation with the Hessian's diagonal itself: that of `centred` with CURVED's condition."""

    def curvature(self, g: Tensor, mean_square: Tensor) -> Tensor:
        """The curvatures [P]."""
        return torch.as_tensor(curvatures(len(g), CURVED))


CURVED = 30.0


def exact_compensation(scale: Scale) -> Rows:
    """Delay compensation with the exact Hessian beside serial SGD, at every write: one row per number of workers.

    `away`: largest distance of the center from (1 - a)^t, where SGD in one process is; `plain`: the same without
    compensation.
    """
    rows: Rows = []
    for workers in (2, 8, 16) if scale == "quick" else (2, 8, 16, 32):
        found = {}
        for name, algorithm in (("away", Exact()), ("plain", AsyncSGD())):
            path: list[np.ndarray] = []
            staleness: list[int] = []
            workload = centred(workers, dimension=12, condition=CURVED)
            run = prepared(algorithm, workload, workers=workers, lr=0.5, compute=MEMORYLESS)
            center = run.server.replica()

            def note(
                gradient: Gradient, version: int, path: list[np.ndarray] = path, w: Tensor = center.data,
                staleness: list[int] = staleness,
            ) -> None:  # fmt: skip
                path.append(w.numpy().copy())
                staleness.append(version - gradient.version)

            watch(center, note)
            run.run(Budget(seconds=100.0 / workers, snapshots=1))
            t = np.arange(1, len(path) + 1)[:, None]
            serial = (1 - 0.5 * curvatures(12, CURVED)) ** t
            found[name] = float(np.abs(np.stack(path) - serial).max())
        rows.append(
            {"workers": workers, "writes": len(path), "largest_staleness": max(staleness), **found},
        )
    return rows
