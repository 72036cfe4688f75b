"""How far EASGD's workers go from the center, for stronger and weaker elastic forces.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, section 2.
"""

from __future__ import annotations

import torch

from algorithms.easgd import EASGD
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.check import FREE
from bench.experiments.base import Rows, Scale
from bench.experiments.quadratics import MEMORYLESS
from bench.simulate import Simulation
from bench.workloads.mnist_mlp import MnistMlp

WORKERS, PERIOD, RATE = 4, 10, 0.1
BETAS = (0.1, 0.3, 0.9, 1.8, 3.6)
TIMES = 20


def distances(scale: Scale) -> Rows:
    """Mean distance ||x_i - center|| over the workers and the second half of a run on mnist-mlp: one row per beta and
    seed, with the held-out accuracy of the center at the end."""
    seeds, seconds = (3, 300.0) if scale == "quick" else (5, 1200.0)
    workload = MnistMlp(batch_size=32).build(torch.device("cpu"), WORKERS)
    rows: Rows = []
    for beta in BETAS:
        for seed in range(seeds):
            run = Simulation(
                EASGD(period=PERIOD, beta=beta),
                workload,
                workers=WORKERS,
                seed=seed,
                optimizer=OptimizerSettings(name="sgd", lr=RATE),
                compute=MEMORYLESS,
                network=FREE,
                event_capacity=1 << 12,
            )
            run.run(Budget(seconds=seconds, snapshots=TIMES))
            center = {s.number: s.x for s in run.server.snapshots}
            away = [
                float((s.x - center[s.number]).norm())
                for handle in run.workers
                for s in handle.snapshots
                if s.number > TIMES // 2
            ]
            rows.append(
                {
                    "beta": beta,
                    "alpha": beta / WORKERS,
                    "seed": seed,
                    "distance": sum(away) / len(away),
                    "accuracy": workload.heldout(center[TIMES]).metric,
                }
            )
    return rows
