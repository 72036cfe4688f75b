"""How alike the replicas' outer gradients are, layer by layer, round by round."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from algorithms.diloco import DiLoCo
from algorithms.exchange import Exchange
from algorithms.interface import Worker
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import OUTER, PERIOD, model, seeds_and_steps, trained

Log = dict[int, dict[int, Tensor]]  # step -> rank -> outer gradient [P]


@dataclass(frozen=True, kw_only=True)
class Listening(Exchange):
    """An exchange that keeps what each worker hands to it."""

    log: Log

    async def mean(self, w: Worker, tag: str, v: Tensor, t: int) -> Tensor | None:
        """The mean over the workers of v [L]."""
        self.log[t][w.rank] = v.clone()
        return await super().mean(w, tag, v, t)


@dataclass(frozen=True, kw_only=True)
class HeardDiLoCo(DiLoCo):
    """DiLoCo whose outer gradients are kept."""

    log: Log = field(default_factory=lambda: defaultdict(dict))

    def exchange(self) -> Exchange:
        """How outer gradients are averaged."""
        return Listening(log=self.log)


def cosines(scale: Scale) -> Rows:
    """Cosine of the angle between the two replicas' outer gradients, for each seed, round and layer.

    `block` is the number of the transformer layer, from 0; -1 for embedding and head.
    """
    rows = []
    for seed, steps in seeds_and_steps(scale):
        workload, algorithm = model(), HeardDiLoCo(period=PERIOD, outer=OUTER)
        simulation = trained(algorithm, workload, seed=seed, steps=steps)
        layers = simulation.workers[0].layers
        blocks = [layer.name for layer in layers if layer.is_block]
        for number, (_, of_rank) in enumerate(sorted(algorithm.log.items()), start=1):
            for layer in layers:
                one, other = of_rank[0][layer.span], of_rank[1][layer.span]
                rows.append(
                    {
                        "seed": seed, "round": number, "rounds": len(algorithm.log), "layer": layer.name,
                        "block": blocks.index(layer.name) if layer.is_block else -1,
                        "cosine": float(torch.nn.functional.cosine_similarity(one, other, dim=0)),
                    }
                )  # fmt: skip
    return rows
