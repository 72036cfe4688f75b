"""Gossip in rounds without noise: consensus, directed graphs, unlike data, stability, compression."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from algorithms.choco_sgd import ChocoSGD
from algorithms.d2 import D2, ExactDiffusion
from algorithms.d_psgd import DPSGD
from algorithms.gradient_tracking import GradientTracking
from algorithms.interface import Algorithm
from algorithms.power_gossip import PowerGossip
from algorithms.sgp import SGP
from algorithms.topology import Topology
from bench.budget import Budget
from bench.check import quadratic, replicas, simulate
from bench.experiments.averaging import averaged, kept, rounds, scattered, spread, unit_vectors
from bench.experiments.base import Rows, Scale
from bench.workloads.quadratic import QuadraticWorkload

SIZES: dict[str, tuple[int, ...]] = {
    "ring": (4, 8, 16, 32),
    "torus": (16, 25, 32),
    "star": (4, 8, 16),
    "hypercube": (8, 16, 32),
    "exponential": (4, 8, 16, 32),
}
"""On which fixed graphs the rate of consensus is measured."""
BLOCK = 16


def consensus(scale: Scale) -> Rows:
    """The factor on the consensus distance per round, in the end, of D-PSGD from random models without gradients."""
    sizes = {name: (*few, 64) if scale == "full" and name != "star" else few for name, few in SIZES.items()}
    return [
        {"topology": name, "workers": n, "rate": _rate(DPSGD(topology=name), n)}  # type: ignore[arg-type]
        for name, few in sizes.items()
        for n in few
    ]


def _rate(algorithm: Algorithm, workers: int) -> float:
    """By the power method: models are scaled up again every 16 rounds, until only the slowest mode is left."""
    x, rate, before = scattered(workers), 1.0, 2.0
    while abs(rate - before) > 1e-7:
        x = x - x.mean(0)
        x = rounds(algorithm, x / x.norm(), BLOCK)
        rate, before = spread(x) ** (1 / BLOCK), rate
    return rate


def one_peer(scale: Scale) -> Rows:
    """What is left of the consensus distance after ceil(log2 n) rounds on the one-peer exponential graph."""
    rows = []
    for n in (4, 8, 16, 32, 64, 6, 12, 24) if scale == "full" else (4, 8, 16, 32, 6, 12):
        start, count = scattered(n), math.ceil(math.log2(n))
        x = rounds(DPSGD(topology="one-peer-exponential"), start, count)
        rows.append({"workers": n, "rounds": count, "left": float((x - start.mean(0)).abs().max())})
    return rows


def exponential_gap(scale: Scale) -> Rows:
    """1 - ||W - J|| of the static exponential graph, W read off one round of D-PSGD on unit vectors."""
    rows = []
    for n in range(4, 130 if scale == "full" else 66, 2):
        w = rounds(DPSGD(topology="exponential"), unit_vectors(n), 1).numpy()
        rows.append({"workers": n, "gap": 1 - float(np.linalg.norm(w - 1 / n, ord=2))})
    return rows


def directed(scale: Scale) -> Rows:
    """Distance to the mean of the initial models on an irregular digraph: push-sum, and rows that add up to 1.

    The second is the recursion that D-PSGD would be there, with weights 1 / (1 + senders) for all that arrives; our
    D-PSGD refuses the graph.
    """
    rows = []
    for n in (4, 5, 8, 16, 32) if scale == "full" else (4, 5, 8, 16):
        start = scattered(n)
        pushed = averaged(SGP(topology="irregular"), start, Budget(steps=400, snapshots=1))
        topology, weights = Topology("irregular"), torch.zeros(n, n, dtype=torch.float64)
        for i in range(n):
            heard = [i, *topology.senders(i, n)]
            weights[i, heard] = 1 / len(heard)
        stochastic = torch.linalg.matrix_power(weights, 400) @ start
        rows.append(
            {
                "workers": n,
                "push_sum": float((kept(pushed, "debiased") - start.mean(0)).abs().max()),
                "row_stochastic": float((stochastic - start.mean(0)).abs().max()),
            }
        )
    return rows


UNLIKE: dict[str, Any] = {"noise": 0.0, "condition": 2.0, "heterogeneity": 1.0}
"""Quadratics with minimisers of their own and full gradients."""


def bias(scale: Scale) -> Rows:
    """Distance per coordinate to the minimiser of the mean of unlike quadratics, once it no longer changes.

    That an error is in proportion to the rate is said of rates far below the ring's spectral gap, which falls as
    1 / n^2: the rates are those for eight workers times what is left of the gap, the steps as many more.
    """
    cases: list[tuple[str, Algorithm, float]] = []
    for lr in (0.1, 0.05, 0.025):
        cases += [("d-psgd cta", DPSGD(order="cta"), lr), ("d-psgd atc", DPSGD(order="atc"), lr)]
    cases += [
        ("d2", D2(lazy=True), 0.2),
        ("exact-diffusion", ExactDiffusion(), 0.2),
        ("gradient-tracking", GradientTracking(), 0.1),
    ]
    return [
        {"algorithm": name, "lr": lr, "workers": n, "error": _error(algorithm, n, lr, round(60 / lr))}
        for n in ((8, 16) if scale == "full" else (8,))
        for name, algorithm, lr in ((name, algorithm, at_eight * (8 / n) ** 2) for name, algorithm, at_eight in cases)
    ]


def _error(algorithm: Algorithm, workers: int, lr: float, steps: int) -> float:
    workload = quadratic(workers, **UNLIKE)
    assert isinstance(workload, QuadraticWorkload)
    budget = Budget(steps=steps, snapshots=1)
    start = list(scattered(workers, 12))
    x = replicas(simulate(algorithm, workload, workers=workers, budget=budget, lr=lr, start=start))
    return float((x - workload.minimiser).square().mean().sqrt())


class UncheckedD2(D2):
    """D2 that does not refuse graphs on which it diverges."""

    def validate(self, size: int) -> None:
        """Accept any."""


def d2_stability(scale: Scale) -> Rows:
    """First step, of every tenth, at which D2 is a million away from its minimiser; 0: not within 200 steps."""
    rows = []
    graphs = [("torus", 16, False), ("hypercube", 8, False), ("hypercube", 16, False), ("torus", 16, True),
              ("hypercube", 8, True), ("hypercube", 16, True), ("star", 8, False), ("ring", 5, False)]  # fmt: skip
    for name, n, lazy in graphs:
        algorithm = UncheckedD2(topology=name, lazy=lazy)  # type: ignore[arg-type]
        smallest = algorithm.smallest_eigenvalue(n)
        last = 200
        first = next((t for t in range(10, last, 10) if _far(algorithm, n, t)), last) if _far(algorithm, n, last) else 0
        try:
            D2(topology=name, lazy=lazy).validate(n)  # type: ignore[arg-type]
            refused = False
        except ValueError:
            refused = True
        rows.append(
            {"topology": name, "workers": n, "lazy": lazy, "smallest": smallest, "diverged": first, "refused": refused}
        )
    return rows


def _far(algorithm: Algorithm, workers: int, steps: int) -> bool:
    return not _error(algorithm, workers, 0.1, steps) < 1e6


def compression(scale: Scale) -> Rows:
    """What CHOCO leaves of the consensus distance on a ring of 16 models with 1000 numbers, by gamma."""
    cases: list[tuple[str, float, tuple[float, ...]]] = [
        ("top-k", 0.01, (0.05, 0.1, 0.3, 0.45)),
        ("top-k", 0.1, (0.15, 0.3, 0.6, 0.9)),
        ("identity", 1.0, (1.0,)),
    ]
    count, start = 1000 if scale == "full" else 600, scattered(16, 1000)
    rows = []
    for name, fraction, gammas in cases:
        settings: dict[str, Any] = {} if name == "identity" else {"fraction": fraction}
        for gamma in gammas:
            algorithm = ChocoSGD(compressor=name, gamma=gamma, **settings)  # type: ignore[arg-type]
            left = spread(rounds(algorithm, start, count)) / spread(start)
            rows.append({"compressor": name, "fraction": fraction, "gamma": gamma, "rounds": count, "left": left})
    return rows


def low_rank(scale: Scale) -> Rows:
    """What PowerGossip leaves of the consensus distance on a ring of 8 models, each four matrices of 32 x 32."""
    marks = (100, 400, 1600) if scale == "full" else (100, 400)
    rows = []
    for seed in range(3):
        start = scattered(8, 4 * 32 * 32, seed)
        for rank in (1, 4):
            rows += [
                {
                    "rank": rank,
                    "seed": seed,
                    "rounds": count,
                    "left": spread(rounds(PowerGossip(rank=rank), start, count)) / spread(start),
                }
                for count in marks
            ]
    return rows
