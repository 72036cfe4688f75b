"""D-PSGD (decentralised parallel SGD): in each round workers average with their neighbours in a fixed graph.

Source: Lian et al., Can Decentralized Algorithms Outperform Centralized Algorithms?, NeurIPS 2017, arXiv 1705.09056,
    Algorithm 1 (combine-then-adapt); adapt-then-combine: Sayed, Adaptation, Learning, and Optimization over Networks,
    2014.
Symbols: x_i = replica, W = Metropolis mixing matrix of `topology`, g_i = gradient on worker i's mini-batch.
Update:
    cta:  x_i <- optimizer( sum_j W_ij x_j , g_i(x_i) )        the gradient is taken before averaging
    atc:  x_i <- sum_j W_ij optimizer( x_j , g_j(x_j) )
Differences from the paper: the optimiser may be any; its state stays local.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from algorithms.interface import Algorithm, Need, Worker
from algorithms.topology import Topology

MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class DPSGD(Algorithm):
    """Gossip in rounds on a fixed graph."""

    name: ClassVar[str] = "d-psgd"
    summary: ClassVar[str] = "gossip in rounds: average with the neighbours in a fixed graph"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    lockstep: ClassVar[bool] = True

    topology: Literal["ring", "complete"] = "ring"
    order: Literal["cta", "atc"] = "cta"  # cta overlaps messages with the gradient, atc cannot

    def validate(self, size: int) -> None:
        """Needs two workers."""
        Topology(self.topology).graph(size)

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for _ in w.steps():
            if self.order == "cta":
                g = w.start(w.gradient(x))
                x.assign_(await self._average(w, x.data))
                x.apply_(await g, opt)
            else:
                x.apply_(await w.gradient(x), opt)
                x.assign_(await self._average(w, x.data))

    async def _average(self, w: Worker, x: Tensor) -> Tensor:
        """sum_j W_ij x_j over the neighbourhood, summed in rank order so that every transport gives the same bits."""
        topology = Topology(self.topology)
        weights = topology.mixing(w.size)[w.rank]
        neighbours = topology.neighbours(w.rank, w.size)
        models = {w.rank: x}
        for j in neighbours:
            w.send(j, MODEL, x)
        for j in neighbours:
            models[j] = (await w.recv(MODEL, src=j)).data
        mean = torch.zeros_like(x)
        for j in sorted(models):
            mean.add_(models[j], alpha=float(weights[j]))
        return mean

    def payload_nbytes(self, steps: Sequence[int], nbytes: int) -> int:
        """Each worker sends its model to each neighbour in each step."""
        topology, size = Topology(self.topology), len(steps)
        return sum(t * len(topology.neighbours(rank, size)) for rank, t in enumerate(steps)) * nbytes

    def conserved(self) -> bool:
        """W is doubly stochastic."""
        return True
