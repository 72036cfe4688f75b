"""Eager DiLoCo: a whole round overlaps the averaging of the round before; the own part of the mean is always fresh.

Source: Kale, Douillard, Donchev, Eager Updates for Overlapped Communication and Computation in DiLoCo, arXiv
    2502.12996.
Symbols: x_i = replica, theta_i = `anchor`, H = `period`, D_i^k = theta_i - x_i at the end of round k, after H steps;
    D_i^0 = 0, D^k = (1/n) sum_j D_j^k, n = size.
Update at the end of round k, when the mean D^(k-1) has been on its way for H steps; sending of D_i^k begins:
    eager:   E_i = D_i^k / n + (D^(k-1) - D_i^(k-1) / n)             the others' part is one round old
    naive:   E_i = D^(k-1)                                           all of it is, as everybody's delayed update
    theta_i <- outer(theta_i, E_i);   x_i <- theta_i
With "eager" every worker has its own theta_i and its own state of the outer optimiser; with "naive" they are equal.
Differences from the paper: its text was not at hand; the formulas are those that its summaries give. What was before
the first round counts as zero, so that "naive" does the first round twice from the same point. The outer learning rate
is that of Streaming DiLoCo.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from algorithms.diloco import OUTER
from algorithms.interface import Need, Traffic, Worker
from algorithms.optim import BUFFERS, OptimizerSettings
from algorithms.outer import OuterOptimizer, check_outer


@dataclass(frozen=True, kw_only=True)
class EagerDiLoCo(OuterOptimizer):
    """DiLoCo whose averaging overlaps a whole round."""

    name: ClassVar[str] = "eager-diloco"
    summary: ClassVar[str] = "DiLoCo whose averaging overlaps a whole round, with the own part always fresh"
    paper: ClassVar[str] = "Kale, Douillard, Donchev 2025, arXiv 2502.12996"
    needs: ClassVar[frozenset[Need]] = frozenset({"collectives"})
    lockstep: ClassVar[bool] = True
    evaluated_model: ClassVar[str] = "mean:anchor"
    bytes_per_step: ClassVar[str] = "M / period"
    state: ClassVar[str] = "(2 + buffers + eager) * M + opt"
    default_outer: ClassVar[OptimizerSettings] = OptimizerSettings(name="nesterov", lr=0.4, momentum=0.9)

    period: int = 30  # H [steps]; larger: less communication, more drift
    outer: OptimizerSettings | None = None  # sgd, momentum, nesterov, adamw; None: nesterov, lr 0.4, momentum 0.9
    variant: Literal["eager", "naive"] = "eager"  # naive: the whole mean is one round old

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period must be at least 1 step: got {self.period} (the paper's are 30 and 100)")
        check_outer(self.resolved_outer)

    def growth(self, size: int) -> float:
        """Factor per round of the mean anchor's distance to the minimiser, in the end, on a quadratic with long rounds:
        there D_i = theta_i - minimiser. NaN for "adamw", which is not linear.

        With f = the fresh share (1/n; naive: 0): the largest |z| with (z - 1)(z - mu) z = -lr q(z) (f z + 1 - f), where
        q(z) = (1 + mu) z - mu for Nesterov's method and z for heavy ball.
        """
        outer, fresh = self.resolved_outer, 1 / size if self.variant == "eager" else 0.0
        mu = 0.0 if outer.name == "sgd" else outer.resolved_momentum
        q = [1 + mu, -mu] if outer.name == "nesterov" else [1.0, 0.0]
        left, right = np.poly([0, 1, mu]), outer.lr * np.polymul(q, [fresh, 1 - fresh])
        return math.nan if outer.name == "adamw" else float(abs(np.roots(np.polyadd(left, right))).max())

    def warnings(self, size: int) -> list[str]:
        """Where long rounds must diverge, here sooner because of the delay."""
        if not self.growth(size) >= 1:
            return super().warnings(size)
        return [
            f"outer.lr {self.resolved_outer.lr:g}: with this outer optimizer, {size} workers and the delay of a round, "
            "rounds long enough to reach a minimiser diverge even on a quadratic (use a smaller outer.lr)"
        ]

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, outer = w.replica(), w.optimizer(self.optimizer), w.optimizer(self.resolved_outer)
        anchor, zero = w.keep("anchor", x.data), torch.zeros_like(x.data)
        own = w.keep("own", zero) if self.variant == "eager" else None  # D_i^(k-1)
        started: Awaitable[Tensor] | None = None
        async for t in w.steps():
            x.apply_(await w.gradient(x), opt)
            if t % self.period:
                continue
            started = started or w.resumed(OUTER)  # sent before a restart
            mean, moved = zero if started is None else await started, anchor - x.data
            started = w.start(w.allreduce_mean(moved, label=OUTER))
            if own is not None:
                mean = moved / w.size + (mean - own / w.size)
                own.copy_(moved)
            outer.step_(anchor, mean)
            x.assign_(anchor)

    def payload_nbytes(self, traffic: Traffic) -> int:
        """Each worker hands its outer gradient to an all-reduce every `period` steps."""
        return sum(t // self.period for t in traffic.steps) * traffic.nbytes

    def symbols(self, size: int) -> dict[str, float]:
        """buffers: vectors that the outer optimiser keeps; eager: the own outer gradient of the round before."""
        return {"buffers": len(BUFFERS[self.resolved_outer.name]), "eager": float(self.variant == "eager")}
