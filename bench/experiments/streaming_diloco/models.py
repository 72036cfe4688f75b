"""Which model to evaluate: the outer one, the mean of the replicas, or a replica."""

from __future__ import annotations

import torch

from algorithms.streaming_diloco import StreamingDiLoCo
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import OUTER, PERIOD, anchor, model, seeds_and_steps, trained


def models(scale: Scale) -> Rows:
    """Held-out loss [nat] of each of the three at the end of overlapped 4-bit Streaming DiLoCo, for each seed."""
    rows = []
    for seed, steps in seeds_and_steps(scale):
        workload = model()
        algorithm = StreamingDiLoCo(period=PERIOD, outer=OUTER, fragment_layers=1, delay=1, wire="e3m0")
        simulation = trained(algorithm, workload, seed=seed, steps=steps)
        replicas = torch.stack([handle.replica().data for handle in simulation.workers])
        found = {"outer": anchor(simulation), "mean": replicas.mean(0), "replica": replicas[0]}
        rows += [{"variant": name, "seed": seed, "loss": workload.heldout(x).loss} for name, x in found.items()]
    return rows
