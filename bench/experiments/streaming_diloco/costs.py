"""What the methods send at each step, and what they keep, counted in runs of our own algorithms."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from algorithms.allreduce_sgd import AllreduceSGD
from algorithms.compression import Blockwise
from algorithms.diloco import DiLoCo
from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from algorithms.streaming_diloco import StreamingDiLoCo
from bench.budget import Budget
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import inner, model
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.sized_model import SizedModel

PERIOD, ROUNDS, WORKERS = 100, 3, 2
ADAM = OptimizerSettings(name="adamw", lr=0.001)


def methods(fragment_layers: int) -> dict[str, Algorithm]:
    """The paper's methods at H = 100."""
    streaming: dict[str, Any] = {"period": PERIOD, "fragment_layers": fragment_layers}
    return {
        "data-parallel": AllreduceSGD(),
        "diloco": DiLoCo(period=PERIOD),
        "streaming": StreamingDiLoCo(**streaming, delay=0, alpha=0.0),
        "overlapped-fp4": StreamingDiLoCo(**streaming, delay=1, wire="e3m0"),
    }


def traffic(scale: Scale) -> Rows:
    """Payload of each of the last H steps [byte], of all workers: over them every fragment is sent exactly once.

    Two models: the paper's 1B in bfloat16, of which only time and bytes are simulated (24 layers, 3 a fragment), and a
    character model of six layers in float32, 2 a fragment, with real gradients.
    """
    sized = SizedModel(preset="gpt-1B", dtype="bfloat16").build(torch.device("cpu"), WORKERS)
    cases: list[tuple[Workload, int, Any]] = [(sized, 3, "none"), (model(depth=6, width=16), 2, "single")]
    rows = []
    for workload, fragment_layers, gradients in cases:
        for method, algorithm in methods(fragment_layers).items():
            simulation = Simulation(
                algorithm, workload, workers=WORKERS, seed=0, optimizer=inner(ROUNDS * PERIOD), gradients=gradients
            ).run(Budget(steps=ROUNDS * PERIOD, snapshots=1))
            for step, nbytes in _by_step(simulation).items():
                rows.append(
                    {
                        "model": workload.name, "method": method, "step": step, "nbytes": nbytes,
                        "scale_nbytes": _scale_nbytes(simulation, step), "value_bits": workload.dtype.itemsize * 8,
                        "ends": _ends(simulation, step), "layers": sum(layer.is_block for layer in workload.layers),
                        "fragment_layers": fragment_layers, "period": PERIOD,
                    }
                )  # fmt: skip
    return rows


def _by_step(simulation: Simulation) -> dict[int, int]:
    """Payload of the last period [byte], by step."""
    found: dict[int, int] = defaultdict(int)
    for row in simulation.log.rows:
        kind, step, nbytes = row[1], row[2], row[5]
        if kind in ("send", "allreduce") and step > (ROUNDS - 1) * PERIOD:
            found[step] += nbytes
    return dict(sorted(found.items()))


def _scale_nbytes(simulation: Simulation, step: int) -> int:
    """How much of it are the scales of a 4-bit format: a float32 for each block."""
    algorithm, layers = simulation.algorithm, simulation.workers[0].layers
    if not isinstance(algorithm, StreamingDiLoCo) or not isinstance(algorithm.exchange().format, Blockwise):
        return 0
    parts, rounds = algorithm.plan(layers)
    scales = sum(-(-parts[p].size // algorithm.block) for p in rounds.due(step))
    return WORKERS * 4 * scales


def _ends(simulation: Simulation, step: int) -> bool:
    """Whether what is sent holds the embedding and the head, which are no layers of equal size."""
    algorithm, layers = simulation.algorithm, simulation.workers[0].layers
    if all(layer.is_block for layer in layers):
        return False
    if not isinstance(algorithm, StreamingDiLoCo):
        return True
    parts, rounds = algorithm.plan(layers)
    return len(parts) - 1 in rounds.due(step)


def memory(scale: Scale) -> Rows:
    """Every vector of real numbers that worker 0 keeps between its steps, of a model of 108 layers, 3 a fragment."""
    workload = model(batch_size=1, width=8, depth=108, heads=1, context=8)
    rows = []
    for method, algorithm in methods(3).items():
        simulation = Simulation(algorithm, workload, workers=WORKERS, seed=0, optimizer=ADAM, gradients="single")
        saved = simulation.run(Budget(steps=1, snapshots=1)).save()[0]
        blocks = sum(layer.span.stop - layer.span.start for layer in simulation.workers[0].layers if layer.is_block)
        for name, array in saved.items():
            if (
                array.dim() != 1
                or not array.is_floating_point()
                or not name.startswith(("replica", "optimizer", "kept"))
            ):
                continue  # counters, random streams, the place in the data; codes that are on their way
            rows.append(
                {
                    "method": method, "array": name, "values": array.numel(), "parameters": workload.parameters,
                    "block_parameters": blocks, "layers": 108, "fragment_layers": 3,
                }
            )  # fmt: skip
    return rows
