"""Noisy all-reduce SGD (SSGD*): all-reduce SGD whose gradients are taken at randomly displaced parameters.

Source: Zhang et al., Loss Landscape Dependent Self-Adjusting Learning Rates in Decentralized Stochastic Gradient
    Descent, arXiv 2112.01433: the comparator that asks whether weight noise of constant size explains the gain of
    decentralised SGD.
Symbols: x = replica, g_i = gradient on worker i's mini-batch, sigma = `sigma`, n = size.
Update:
    d_i ~ N(0, sigma^2 I)            drawn anew by every worker in every step
    g   = (1/n) sum_i g_i(x + d_i)
    x  <- optimizer(x, g)            the same on all workers; d_i never enters x
Differences from the paper: the optimiser may be any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from algorithms.interface import Algorithm, Need, Traffic, Worker
from algorithms.shared import for_each


@dataclass(frozen=True, kw_only=True)
class NoisyAllreduceSGD(Algorithm):
    """Synchronous SGD with isotropic weight noise of constant variance."""

    name: ClassVar[str] = "noisy-allreduce-sgd"
    summary: ClassVar[str] = "all-reduce SGD with gradients taken at randomly displaced parameters (SSGD*)"
    paper: ClassVar[str] = "Zhang et al. 2021, arXiv 2112.01433"
    needs: ClassVar[frozenset[Need]] = frozenset({"collectives"})
    lockstep: ClassVar[bool] = True
    bytes_per_step: ClassVar[str] = "M"
    state: ClassVar[str] = "M + opt"
    sequential: ClassVar[bool] = False

    sigma: float = 0.01  # standard deviation of the displacement of each parameter; 0: all-reduce SGD

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma must be finite and at least 0: got {self.sigma} (the paper's value is 0.01)")

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for _ in w.steps():
            noise = for_each(x.data, w.rng.standard_normal).to(x.data)
            x.apply_(await w.mean_gradient(x, at=x.data + self.sigma * noise), opt)

    def payload_nbytes(self, traffic: Traffic) -> int:
        """Each worker hands one gradient to each all-reduce."""
        return sum(traffic.steps) * traffic.nbytes

    def conserved(self) -> bool:
        """Nothing but gradients is exchanged."""
        return True
