"""What the learning experiments of the paper share with its study files: model, data, inner optimiser, length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from algorithms.schedule import Schedule
from bench.budget import Budget
from bench.experiments.base import Scale
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.shakespeare_gpt import ShakespeareGpt

PERIOD = 30  # H [steps]
RATE = 0.01  # inner learning rate, from tuning.toml
OUTER = OptimizerSettings(name="nesterov", lr=0.4, momentum=0.9)
SHAPE: dict[str, Any] = {"width": 32, "depth": 4, "heads": 2, "context": 32}  # "middle" of the study files

STEPS: dict[Scale, int] = {"quick": 480, "full": 1800}
SEEDS: dict[Scale, tuple[int, ...]] = {"quick": (0, 1, 2), "full": (0, 1, 2, 3, 4)}


def inner(steps: int, *, decay: bool = True) -> OptimizerSettings:
    """AdamW as in the study files: warm-up over a tenth of the run, then a cosine to a twentieth if `decay`."""
    schedule = Schedule(warmup_steps=steps // 10)
    if decay:
        schedule = Schedule(name="cosine", warmup_steps=steps // 10, total_steps=steps, final_fraction=0.05)
    return OptimizerSettings(name="adamw", lr=RATE, betas=(0.9, 0.99), clip_norm=1.0, schedule=schedule)


def model(*, batch_size: int = 8, dtype: Any = "float32", **shape: Any) -> Workload:
    """The character model, on the host."""
    settings = ShakespeareGpt(batch_size=batch_size, dtype=dtype, **(SHAPE | shape))
    return settings.build(torch.device("cpu"), 1)


def trained(
    algorithm: Algorithm,
    workload: Workload,
    *,
    seed: int,
    steps: int,
    workers: int = 2,
    optimizer: OptimizerSettings | None = None,
) -> Simulation:
    """A simulated run to its end."""
    optimizer = inner(steps) if optimizer is None else optimizer
    simulation = Simulation(algorithm, workload, workers=workers, seed=seed, optimizer=optimizer, gradients="single")
    return simulation.run(Budget(steps=steps, snapshots=1))


def anchor(simulation: Simulation) -> Tensor:
    """The outer parameters of worker 0 [P]; the same on all workers."""
    return simulation.workers[0].state.kept["anchor"]


def seeds_and_steps(scale: Scale) -> Iterator[tuple[int, int]]:
    """Seed and number of steps of each run of a variant."""
    for seed in SEEDS[scale]:
        yield seed, STEPS[scale]
