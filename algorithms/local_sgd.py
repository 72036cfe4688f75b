"""Local SGD (periodic model averaging): workers train alone and average their models every `period` steps.

Source: Stich, Local SGD Converges Fast and Communicates Little, ICLR 2019, arXiv 1805.09767, Algorithm 1;
    McDonald et al. 2010; McMahan et al., arXiv 1602.05629 (FedAvg).
Symbols: x_i = replica, H = `period`, n = size.
Update:
    x_i <- optimizer(x_i, g_i(x_i))
    every H steps:  x_i <- (1/n) sum_j x_j
Differences from the paper: the optimiser may be any; its state stays local and is not averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from algorithms.interface import Algorithm, Need, Worker


@dataclass(frozen=True, kw_only=True)
class LocalSGD(Algorithm):
    """Model averaging every `period` steps."""

    name: ClassVar[str] = "local-sgd"
    summary: ClassVar[str] = "workers train alone and average their models every `period` steps"
    needs: ClassVar[frozenset[Need]] = frozenset({"collectives"})
    lockstep: ClassVar[bool] = True

    period: int = 8  # H [steps]; larger: less communication, more drift

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period must be at least 1 step: got {self.period}")

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for t in w.steps():
            x.apply_(await w.gradient(x), opt)
            if t % self.period == 0:
                x.assign_(await w.allreduce_mean(x.data, label="model"))

    def payload_nbytes(self, steps: Sequence[int], nbytes: int) -> int:
        """Each worker hands its model to an all-reduce every `period` steps."""
        return sum(t // self.period for t in steps) * nbytes
