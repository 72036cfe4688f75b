"""What must be the same algorithm, run as two: the largest difference between their replicas, in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from algorithms.allreduce_sgd import AllreduceSGD
from algorithms.delayed_nesterov import DelayedNesterov
from algorithms.diloco import DiLoCo
from algorithms.eager_diloco import EagerDiLoCo
from algorithms.interface import Algorithm
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.streaming_diloco import StreamingDiLoCo
from bench.budget import Budget
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import model
from bench.simulate import Simulation

STEPS, WORKERS = 24, 3
SGD_1 = OptimizerSettings(name="sgd", lr=1.0)
SGD = OptimizerSettings(name="sgd", lr=0.1)
ADAM = OptimizerSettings(name="adamw", lr=0.003)
NESTEROV = OptimizerSettings(name="nesterov", lr=0.05, momentum=0.8)
OUTER = OptimizerSettings(name="nesterov", lr=0.4, momentum=0.9)
NEVER = STEPS + 1

Side = tuple[Algorithm, OptimizerSettings]


def identities(scale: Scale) -> Rows:
    """One row for each identity: `difference` = largest absolute difference of any parameter of any replica."""
    workload = model(batch_size=4, dtype="float64", width=16, context=16)

    def replicas(side: Side, workers: int) -> Tensor:
        algorithm, optimizer = side
        simulation = Simulation(
            algorithm, workload, workers=workers, seed=0, optimizer=optimizer, gradients="single"
        ).run(Budget(steps=STEPS, snapshots=1))
        return torch.stack([handle.replica().data for handle in simulation.workers])

    rows = []
    for name, one, other, workers in _pairs():
        a, b = replicas(one, workers), replicas(other, workers)
        moved = float((a - workload.initial(0)).abs().max())
        rows.append({"identity": name, "difference": float((a - b).abs().max()), "moved": moved})
    return [*rows, _delayed_nesterov()]


def _pairs() -> Iterator[tuple[str, Side, Side, int]]:
    """Name, the two that must be the same, workers."""
    diloco = DiLoCo(period=4, outer=OUTER), ADAM
    isolated = DiLoCo(period=NEVER), ADAM

    def streaming(**settings: object) -> Side:
        return StreamingDiLoCo(period=4, outer=OUTER, **settings), ADAM  # type: ignore[arg-type]

    yield "H = 1, outer SGD 1, is data-parallel SGD", (DiLoCo(period=1, outer=SGD_1), SGD), (AllreduceSGD(), SGD), 3
    yield (
        "H = 1, inner SGD 1, is data-parallel Nesterov",
        (DiLoCo(period=1, outer=NESTEROV), SGD_1), (AllreduceSGD(), NESTEROV), 3,
    )  # fmt: skip
    yield (
        "one fragment, tau = 0, alpha = 0, is DiLoCo",
        streaming(fragments=1, offsets=(0, 0), delay=0, alpha=0),
        diloco,
        3,
    )
    yield "fragments at one time are DiLoCo", streaming(fragments=4, offsets=(0,) * 5, delay=0, alpha=0), diloco, 3
    yield "alpha = 1 is isolated training", streaming(fragments=4, delay=2, alpha=1), isolated, 3
    yield "all rounds dropped is isolated training", (DiLoCo(period=4, drop=1.0), ADAM), isolated, 3
    yield "one worker, outer SGD 1, is its optimizer", (DiLoCo(period=4, outer=SGD_1), ADAM), (AllreduceSGD(), ADAM), 1
    yield "eager alone is DiLoCo", (EagerDiLoCo(period=4, outer=OUTER), ADAM), diloco, 1


def _delayed_nesterov() -> dict[str, object]:
    """N = M arrivals taken at one point, c = 0, are one step of Nesterov's method with their mean."""
    generator, size = torch.Generator().manual_seed(0), 50
    one = torch.randn(size, generator=generator, dtype=torch.float64)
    other, start = one.clone(), one.clone()
    arrivals = torch.zeros((), dtype=torch.int64)
    zero = torch.zeros_like(one)
    delayed = DelayedNesterov(
        lr=0.7, decay=0.9, buffer=WORKERS, c=0.0, momentum=zero.clone(), pending=zero.clone(), arrivals=arrivals
    )
    nesterov = Optimizer(OptimizerSettings(name="nesterov", lr=0.7, momentum=0.9), size, torch.float64)
    for _ in range(STEPS // 4):
        gradients = torch.randn(WORKERS, size, generator=generator, dtype=torch.float64)
        for gradient in gradients:
            arrivals.add_(1)
            delayed.step_(one, gradient)
        nesterov.step_(other, gradients.mean(0))
    return {
        "identity": "delayed Nesterov from one point is Nesterov", "difference": float((one - other).abs().max()),
        "moved": float((one - start).abs().max()),
    }  # fmt: skip
