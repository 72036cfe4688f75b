"""The mean model of DPSGD moves by the mean gradient alone, whatever graph it mixes on: one step, taken and foretold.

    w_a(t+1) = w_a(t) - a mean_j grad L^(mu_j)(w_j(t))

A network in double precision, workers that start apart; the paper's ways of mixing.
"""

from __future__ import annotations

from typing import Literal

import torch

from algorithms.d_psgd import DPSGD
from bench.experiments.base import Rows, Scale
from bench.experiments.dpsgd.stopped import Stopped, mean_gradient
from bench.workloads.digits_mlp import DigitsMlp

LR = 0.1
STEPS = (1, 3, 6)
GRAPHS: tuple[Literal["ring", "random-ring", "random-pair", "delay-by-one"], ...] = (
    "ring", "random-ring", "random-pair", "delay-by-one",
)  # fmt: skip


def mean_step(scale: Scale) -> Rows:
    """One row for each graph, number of workers and step: `error`, the largest element of the difference between the
    step taken and the one foretold, relative to the largest element of the step; `spread`, the workers' mean distance
    from their mean, so that it can be seen that they stood apart."""
    rows: Rows = []
    for workers in (5, 16):
        workload = DigitsMlp(dtype="float64").build(torch.device("cpu"), workers)
        for graph in GRAPHS:
            run = Stopped(DPSGD(topology=graph, start="own"), workload, workers=workers, seed=0, lr=LR)
            for step in STEPS:
                stands = run.to(step)
                foretold = -LR * mean_gradient(workload, stands, [stream.next() for stream in run.streams()])
                taken = run.to(step + 1).double().mean(0) - stands.double().mean(0)
                spread = (stands - stands.mean(0)).norm(dim=1).mean()
                error = (taken - foretold).abs().max() / foretold.abs().max()
                rows.append(
                    {
                        "graph": graph, "workers": workers, "step": step, "error": float(error),
                        "spread": float(spread),
                    }
                )  # fmt: skip
    return rows
