"""Gradient tracking (DIGing; GNSD with stochastic gradients): each worker follows the mean gradient of all by gossip.

Source: Nedic, Olshevsky, Shi, Achieving Geometric Convergence for Distributed Optimization over Time-Varying Graphs,
    SIAM J. Optim. 2017, arXiv 1607.03218 (DIGing); Lu, Zhang, Sun, Hong, GNSD: a Gradient-Tracking Based Nonconvex
    Stochastic Algorithm for Decentralized Optimization, IEEE DSW 2019; adapt-then-combine: Xu, Zhu, Soh, Xie,
    Augmented Distributed Gradient Methods, IEEE CDC 2015.
Symbols: X [n, P] = the workers' models, G = their gradients at X, G_ = those of the step before, Q = trackers,
    W = mixing matrix; Q = G_ = 0 before the first step.
Update:
    cta:  Q <- W Q + G - G_;       X <- W X - lr Q
    atc:  Q <- W (Q + G - G_);     X <- W (X - lr Q)
    In both, the mean of Q over the workers is the mean of G.
Differences from the paper: under atc the first tracker is W G, not G (the same recursion, from zero).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from algorithms.gossip import Gossip, average
from algorithms.interface import Worker


@dataclass(frozen=True, kw_only=True)
class GradientTracking(Gossip):
    """Gossip on models and on trackers of the mean gradient."""

    name: ClassVar[str] = "gradient-tracking"
    summary: ClassVar[str] = "gossip without the bias of unlike data: each worker tracks the mean gradient of all"
    paper: ClassVar[str] = "Nedic et al. 2017, arXiv 1607.03218; Lu et al. 2019"
    plain_sgd: ClassVar[bool] = True
    vectors: ClassVar[int] = 2
    bytes_per_step: ClassVar[str] = "2 * degree * M"
    state: ClassVar[str] = "3 * M + opt"

    topology: Literal["ring", "torus", "hypercube", "star", "complete", "exponential", "erdos-renyi"] = "ring"  # fixed
    edge_probability: float | None = None  # erdos-renyi: of each pair of workers; None: 2 ln(n) / n, at most 1
    order: Literal["cta", "atc"] = "cta"  # cta: one message, beside the gradient; atc: two, one after the other

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, graph = w.replica(), w.optimizer(self.optimizer), self.graph()
        q, before = w.keep("tracker", torch.zeros_like(x.data)), w.keep("gradient", torch.zeros_like(x.data))
        async for t in w.steps():
            if self.order == "cta":
                pending = w.start(w.gradient(x))
                mean_x, mean_q = (await average(w, graph, t, torch.cat([x.data, q]))).tensor_split(2)
                g = await pending
                q.copy_(mean_q + (g.data - before))
                x.assign_(mean_x)
                x.apply_(g.with_data(q), opt)
            else:
                g = await w.gradient(x)
                q.copy_(await average(w, graph, t, q + (g.data - before)))
                x.apply_(g.with_data(q), opt)
                x.assign_(await average(w, graph, t, x.data))
            before.copy_(g.data)
