"""Dropping values of outer gradients, at as many bytes as the 4-bit format takes.

With a scale of 32 bits for 256 values, 4 bits a value are 4.125. A kept value costs 32; which ones are kept costs
nothing if it is drawn from the shared seed, and an index of 32 bits each if the largest are. So the random choices keep
4.125 / 32 of the values and the largest are 4.125 / 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from algorithms.compression import DEFAULT_BLOCK
from algorithms.exchange import Exchange
from algorithms.interface import Worker
from algorithms.shared import shared_generator
from algorithms.streaming_diloco import StreamingDiLoCo
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import OUTER, PERIOD, anchor, model, seeds_and_steps, trained

Choice = Literal["random", "rescaled", "largest"]

BITS = 4 + 32 / DEFAULT_BLOCK
SHARE: dict[Choice, float] = {"random": BITS / 32, "rescaled": BITS / 32, "largest": BITS / 64}


@dataclass(frozen=True, kw_only=True)
class KeptValues(Exchange):
    """An exchange of outer gradients of which most values are set to zero before they are sent."""

    choice: Choice

    @property
    def reduces(self) -> bool:
        """No: everybody chooses its own values."""
        return False

    def post(self, w: Worker, tag: str, v: Tensor, t: int) -> Tensor:
        """Send what is kept of v [L]."""
        return super().post(w, tag, self.kept(v, tag, t, w.rank, w.seed), t)

    def kept(self, v: Tensor, tag: str, t: int, rank: int, seed: int) -> Tensor:
        """v [L] with zeros: FedDropout's random values, DARE's, which are scaled up for those that are missing, or the
        largest."""
        share = SHARE[self.choice]
        if self.choice == "largest":
            chosen = v.abs().topk(max(1, round(share * v.numel()))).indices
            return torch.zeros_like(v).index_copy(0, chosen, v[chosen])
        mask = torch.from_numpy(shared_generator(seed, f"values {tag} {rank}", t).random(v.numel()) < share)
        return v * mask / (share if self.choice == "rescaled" else 1.0)


@dataclass(frozen=True, kw_only=True)
class FewValues(StreamingDiLoCo):
    """Streaming DiLoCo that sends few values in place of few bits."""

    choice: Choice = "random"

    def exchange(self) -> Exchange:
        """How outer gradients are averaged."""
        return KeptValues(choice=self.choice)


def dropped_values(scale: Scale) -> Rows:
    """Held-out loss [nat] of the outer model at the end, for each choice and seed."""
    rows = []
    for choice in SHARE:
        for seed, steps in seeds_and_steps(scale):
            workload = model()
            algorithm = FewValues(period=PERIOD, outer=OUTER, fragment_layers=1, choice=choice)
            loss = workload.heldout(anchor(trained(algorithm, workload, seed=seed, steps=steps))).loss
            rows.append({"variant": choice, "seed": seed, "share": SHARE[choice], "loss": loss})
    return rows
