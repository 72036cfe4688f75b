"""EASGD as heavy ball, and on a tree: the registered algorithms beside what they should equal.

Source: Zhang, Distributed stochastic optimization for deep learning, thesis, arXiv 1605.02216, chapters 5 and 6.
"""

from __future__ import annotations

import torch

from algorithms.easgd import EASGD
from algorithms.easgd_sync import EASGDSync
from algorithms.easgd_tree import EASGDTree
from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from algorithms.sequential import SGD
from bench.budget import Budget
from bench.check import FREE
from bench.cluster import Compute
from bench.experiments.base import Rows, Scale
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.mnist_mlp import MnistMlp

RATES = {"digits-mlp": 0.05, "mnist-mlp": 0.05}
DELTAS = (0.5, 0.9)


def heavy_ball(scale: Scale) -> Rows:
    """Largest distance of EASGD with alpha = -delta, beta = 1 and one worker from heavy ball: a row per net and delta.

    `worker`: between both models after each of the steps looked at; `center`: between the center and heavy ball's model
    one step before; both over the largest element of the model.
    """
    steps = (1, 2, 10, 100, 300) if scale == "quick" else (1, 2, 10, 100, 300, 1000)
    rows: Rows = []
    for name, lr in RATES.items():
        for delta in DELTAS:
            workload = _net(name)
            elastic = _one(EASGDSync(period=1, moving_rate=-delta, beta=1.0), workload, lr)
            plain = _one(SGD(optimizer=OptimizerSettings(name="momentum", lr=lr, momentum=delta)), workload, lr)
            before = _one(SGD(optimizer=OptimizerSettings(name="momentum", lr=lr, momentum=delta)), workload, lr)
            worker = center = moved = 0.0
            for t in steps:
                x, ball = (run.run(Budget(steps=t, snapshots=1)).workers[0].replica().data for run in (elastic, plain))
                behind = before.run(Budget(steps=t - 1, snapshots=1)) if t > 1 else before
                size = float(ball.abs().max())
                worker = max(worker, float((x - ball).abs().max()) / size)
                away = elastic.workers[0].evaluated() - behind.workers[0].replica().data
                center = max(center, float(away.abs().max()) / size)
                moved = max(moved, float((ball - workload.initial(0)).abs().max()) / size)
            rows.append(
                {"net": name, "delta": delta, "steps": steps[-1], "worker": worker, "center": center, "moved": moved}
            )
    return rows


def tree(scale: Scale) -> Rows:
    """A tree of depth 1 beside EASGD, and the bytes at the root of trees: one row per tree.

    `away`: largest distance between the centers, and between the workers' models, of both; only where the depth is 1.
    `root_nbytes`: payload that the root received and sent in so many steps of every leaf.
    """
    workers, steps = 16, 40 if scale == "quick" else 400
    workload = DigitsMlp(dtype="float64", width=16).build(torch.device("cpu"), workers)
    rows: Rows = []
    for degree, upper in ((16, 1), (4, 4), (2, 2)):
        root = _many(EASGDTree(degree=degree, period=1, upper_period=upper, moving_rate=0.05), workload, workers, steps)
        away = float("nan")
        if degree >= workers:
            star = _many(EASGD(period=1, moving_rate=0.05), workload, workers, steps)
            away = max(
                float((a.replica().data - b.replica().data).abs().max())
                for a, b in zip(root.handles, star.handles, strict=True)
            )
        moved = [row for row in root.server.recorder.rows() if row[0] in ("send", "recv")]
        rows.append(
            {
                "workers": workers,
                "degree": degree,
                "upper_period": upper,
                "inner_nodes": len(root.servers),
                "steps": steps,
                "model_nbytes": workload.parameters * 8,
                "root_nbytes": sum(row[4] for row in moved),
                "away": away,
            }
        )
    return rows


def _net(name: str) -> Workload:
    """A network on real data, in float64."""
    settings = DigitsMlp(dtype="float64") if name == "digits-mlp" else MnistMlp(dtype="float64", batch_size=32)
    return settings.build(torch.device("cpu"), 1)


def _one(algorithm: Algorithm, workload: Workload, lr: float) -> Simulation:
    return Simulation(
        algorithm,
        workload,
        workers=1,
        seed=0,
        optimizer=OptimizerSettings(name="sgd", lr=lr),
        compute=Compute(gradient_s=1.0),
        network=FREE,
    )


def _many(algorithm: Algorithm, workload: Workload, workers: int, steps: int) -> Simulation:
    simulation = Simulation(
        algorithm,
        workload,
        workers=workers,
        seed=0,
        optimizer=OptimizerSettings(name="sgd", lr=0.05),
        compute=Compute(gradient_s=1.0),
        network=FREE,
    )
    return simulation.run(Budget(seconds=steps - 0.5, snapshots=1))
