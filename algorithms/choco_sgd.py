"""CHOCO-SGD: gossip in which only compressed differences to public copies of the models travel.

Source: Koloskova, Stich, Jaggi, Decentralized Stochastic Optimization and Gossip Algorithms with Compressed
    Communication, ICML 2019, arXiv 1902.00340, Algorithm 2, in the form that keeps two vectors.
Symbols: x_i = replica, x^_i = its public copy, s_i = sum_j W_ij x^_j, q_i = what worker i sends, Q = compressor,
    W = symmetric mixing matrix, gamma = consensus step.
Update:
    x_i <- optimizer(x_i, g_i(x_i))
    q_i  = Q(x_i - x^_i)                      sent to the neighbours; x^ = s = 0 at first
    x^_i <- x^_i + q_i
    s_i <- s_i + sum_j W_ij q_j
    x_i <- x_i + gamma (s_i - x^_i)
Differences from the paper: the optimiser may be any; its state stays local.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from algorithms.d2 import FixedGraph
from algorithms.gossip import Gossip, average, messages
from algorithms.interface import Layer, Traffic, Worker
from algorithms.sparsify import INDEX_NBYTES, MOST_PLACES, Compressor, CompressorName, compressor

# The authors' tuning: ring of 9, logistic regression, 1 % of the values, or 4 bits. Without compression 1 is D-PSGD.
TUNED = {"identity": 1.0, "top-k": 0.04, "random-k": 0.01, "low-bit": 0.34}


@dataclass(frozen=True, kw_only=True)
class ChocoSGD(Gossip):
    """Gossip on compressed differences."""

    name: ClassVar[str] = "choco-sgd"
    summary: ClassVar[str] = "gossip in rounds on compressed differences"
    paper: ClassVar[str] = "Koloskova et al. 2019, arXiv 1902.00340"
    bytes_per_step: ClassVar[str] = "degree * M * (values + extra / itemsize)"
    state: ClassVar[str] = "3 * M + opt"

    topology: FixedGraph = "ring"  # who averages with whom
    edge_probability: float | None = None  # erdos-renyi: of each pair of workers; None: 2 ln(n) / n, at most 1
    compressor: CompressorName = "top-k"  # what remains of a difference
    fraction: float = 0.01  # top-k, random-k: share of the values that travel, in (0, 1]
    bits: int = 4  # low-bit: per value, the sign included; 2, 4 or 8
    gamma: float | None = None  # consensus step in (0, 1]; too large diverges. None: 1, .04, .01, .34 by compressor

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_compressor()
        for setting, users in (("fraction", ("top-k", "random-k")), ("bits", ("low-bit",))):
            if getattr(self, setting) != getattr(ChocoSGD, setting) and self.compressor not in users:
                raise ValueError(f"{setting} is for {' and '.join(users)}: compressor is {self.compressor!r} (omit it)")
        if not 0 < self.step <= 1:
            raise ValueError(f"gamma must be above 0 and at most 1: got {self.gamma} (try {TUNED[self.compressor]})")

    @property
    def step(self) -> float:
        """gamma."""
        return TUNED[self.compressor] if self.gamma is None else self.gamma

    def warnings(self, size: int) -> list[str]:
        """The default gamma was tuned elsewhere."""
        if self.gamma is not None or self.compressor == "identity":
            return []
        return [
            f"gamma {self.step} was tuned for {self.compressor} on a ring of 9 workers and 2000 parameters: elsewhere "
            "it may be slow or diverge (set gamma)"
        ]

    def check_model(self, layers: Sequence[Layer]) -> None:
        """The model must not be too large for the places of its values."""
        if self.compressor in ("top-k", "random-k") and layers[-1].span.stop > MOST_PLACES:
            raise ValueError(
                f"places of values are int32, so {self.compressor} takes at most 2^31 parameters: got "
                f"{layers[-1].span.stop} (compressor = 'low-bit')"
            )

    def make_compressor(self) -> Compressor:
        """Q."""
        return compressor(self.compressor, fraction=self.fraction, bits=self.bits)

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, graph, q = w.replica(), w.optimizer(self.optimizer), self.graph(), self.make_compressor()
        public, s = w.keep("public", torch.zeros_like(x.data)), w.keep("mixed", torch.zeros_like(x.data))
        decode = partial(q.decode, length=x.data.numel(), dtype=x.data.dtype)
        async for t in w.steps():
            x.apply_(await w.gradient(x), opt)
            wire = q.encode(x.data - public, w.rng)
            public.add_(decode(wire))
            change = await average(w, graph, t, wire, decode=decode)
            s.add_(change)
            x.add_(self.step * (s - public))

    def payload_nbytes(self, traffic: Traffic) -> int | None:
        """Each worker sends one compressed difference to each neighbour in each round."""
        return messages(self.graph(), traffic) * self.make_compressor().nbytes(traffic.parameters, traffic.itemsize)

    def symbols(self, size: int) -> dict[str, float]:
        """values: share of the values that travel as they are; extra: other bytes per value (places, codes)."""
        values, extra = {
            "identity": (1.0, 0.0),
            "low-bit": (0.0, self.bits / 8),
        }.get(self.compressor, (self.fraction, INDEX_NBYTES * self.fraction))
        return {**super().symbols(size), "values": values, "extra": extra}
