"""PowerGossip: gossip in rounds in which a low-rank approximation of two neighbours' difference travels.

Source: Vogels, Karimireddy, Jaggi, Practical Low-Rank Communication Compression in Decentralized Deep Learning,
    NeurIPS 2020, arXiv 2008.01425, Algorithm 2.
Symbols: X_i [a, b] = one matrix of worker i's model, W = symmetric mixing matrix, r = rank; of each edge (i, j), i < j,
    and each matrix: D = X_i - X_j, P [a, r] and Q [b, r] = its factors, the same at both ends.
Update, at all edges at once:
    X_i <- optimizer(X_i, g_i(X_i))
    odd steps:   P <- orthonormal basis of P;   Q <- D^T P, of which i sends X_i^T P and j sends X_j^T P
    even steps:  Q <- orthonormal basis of Q;   P <- D Q,   of which i sends X_i Q and j sends X_j Q
    X_i <- X_i - W_ij P Q^T;   X_j <- X_j + W_ij P Q^T
So D is multiplied once a step, alternately from both sides: power iteration, warm from step to step, on a difference
that neither end ever sees as a whole. P Q^T is a projection of D, so that there is no consensus step to tune.
Differences from the paper: the optimiser may be any; its state stays local. Vectors (biases), and matrices that are no
larger than their factors, travel whole, in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from algorithms.d2 import FixedGraph
from algorithms.gossip import GOSSIP, Gossip, messages
from algorithms.interface import Layer, Traffic, Worker
from algorithms.low_rank import Split
from algorithms.shared import shared_generator


@dataclass(frozen=True, kw_only=True)
class PowerGossip(Gossip):
    """Gossip on low-rank approximations of differences."""

    name: ClassVar[str] = "power-gossip"
    summary: ClassVar[str] = "gossip in rounds on low-rank approximations of differences, nothing to tune"
    paper: ClassVar[str] = "Vogels, Karimireddy, Jaggi 2020, arXiv 2008.01425"
    bytes_per_step: ClassVar[str] = "degree * (factors / 2 + whole) * itemsize"
    state: ClassVar[str] = "M + degree * factors * itemsize + opt"

    topology: FixedGraph = "ring"  # who averages with whom
    edge_probability: float | None = None  # erdos-renyi: of each pair of workers; None: 2 ln(n) / n, at most 1
    rank: int = 1  # r of each matrix's approximation

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1: got {self.rank} (1 is the paper's most compressed)")

    def check_model(self, layers: Sequence[Layer]) -> None:
        """The shapes of the model's tensors must be known."""
        unknown = [layer.name for layer in layers if not layer.shapes]
        if unknown:
            raise ValueError(
                f"power-gossip approximates matrices, and the shapes of this model's tensors are not known: layer "
                f"{unknown[0]!r} (take a workload with a model of its own, or choco-sgd)"
            )

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, split = w.replica(), w.optimizer(self.optimizer), Split.of(w.layers, self.rank)
        weights = {j: v for j, v in self.graph().incoming(w.rank, w.size, 1, w.seed).items() if j != w.rank}
        # Each begins with those after it, as in `algorithms.gossip`.
        order = sorted(weights, key=lambda j: (j - w.rank) % w.size)
        factors = {j: w.keep(f"factors {j}", self._first(split, w, j, x.data)) for j in order}
        async for t in w.steps():
            x.apply_(await w.gradient(x), opt)
            bases = {j: split.bases(factors[j], t) for j in order}
            sent = {j: split.sent(x.data, bases[j], t) for j in order}
            for j in order:
                w.send(j, GOSSIP, sent[j])
            change = torch.zeros_like(x.data)
            for j, weight in weights.items():
                other = (await w.recv(GOSSIP, src=j)).data
                # Both ends subtract the same way round, so that they keep the same bits as their factors.
                difference = sent[j] - other if w.rank < j else other - sent[j]
                split.add_(change, difference, bases[j], t, -weight if w.rank < j else weight)
                split.keep_(factors[j], difference, t)
            x.add_(change)

    @staticmethod
    def _first(split: Split, w: Worker, j: int, like: Tensor) -> Tensor:
        """Random factors of the edge to j, the same at both ends."""
        size = split.factors(1) + split.factors(2)
        if like.is_meta:
            return torch.empty(size, dtype=like.dtype, device=like.device)
        low, high = sorted((w.rank, j))
        drawn = shared_generator(w.seed, f"power gossip {low} {high}").standard_normal(size)
        return torch.from_numpy(drawn).to(like)

    def payload_nbytes(self, traffic: Traffic) -> int | None:
        """Each worker sends one factor of each matrix, and the rest whole, to each neighbour in each round."""
        split, rounds = Split.of(traffic.layers, self.rank), range(1, traffic.steps[0] + 1)
        values = sum(split.factors(t) + split.whole for t in rounds)
        return messages(self.graph(), traffic, range(1, 2)) * values * traffic.itemsize

    def model_symbols(self, layers: Sequence[Layer]) -> dict[str, float]:
        """factors: values of both factors of all matrices; whole: values that travel as they are."""
        split = Split.of(layers, self.rank)
        return {"factors": float(split.factors(1) + split.factors(2)), "whole": float(split.whole)}
