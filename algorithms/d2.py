"""D2 and exact diffusion: gossip that takes out the bias that unlike data give to D-PSGD.

Source: Tang, Lian, Yan, Zhang, Liu, D2: Decentralized Training over Decentralized Data, ICML 2018, arXiv 1803.07068;
    Yuan, Ying, Zhao, Sayed, Exact Diffusion for Distributed Optimization and Learning, IEEE Trans. Signal Process.
    2019, arXiv 1702.05122.
Symbols: X [n, P] = the workers' models, G = their gradients, W = symmetric mixing matrix, t = step; c_i = correction.
Update:
    D2:   X_1 = W (X_0 - lr G_0);   X_{t+1} = W (2 X_t - X_{t-1} - lr G_t + lr G_{t-1})
          kept as   H = X - lr (G + C);   X <- W H;   C <- C + (H - W H) / lr,   from C = 0, so that sum_i c_i = 0
    exact diffusion:   Psi' = X - lr G;   Phi = Psi' + X - Psi;   X <- (I + W)/2 Phi;   Psi = Psi',   from Psi = X_0
Differences from the paper: D2's last step is kept as C = (X_{t-1} - X_t)/lr - G_{t-1}: the same numbers in one vector
    instead of two, right also where the learning rate changes. A step with lr = 0 averages and leaves C as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from algorithms.gossip import Gossip, average
from algorithms.interface import Worker
from algorithms.topology import lazy, smallest_eigenvalue

FixedGraph = Literal["ring", "torus", "hypercube", "star", "complete", "erdos-renyi"]

LIMIT = -1 / 3  # D2's iteration has roots of modulus 1 where an eigenvalue of W is -1/3, larger ones below
ROUNDING = 1e-9
REMEDY = "set lazy = true, for the weights (I + W) / 2"


@dataclass(frozen=True, kw_only=True)
class D2(Gossip):
    """Gossip corrected by the last step's disagreement."""

    name: ClassVar[str] = "d2"
    summary: ClassVar[str] = "gossip without the bias of unlike data: corrects each step by the last one's disagreement"
    paper: ClassVar[str] = "Tang et al. 2018, arXiv 1803.07068"
    plain_sgd: ClassVar[bool] = True
    bytes_per_step: ClassVar[str] = "degree * M"
    state: ClassVar[str] = "2 * M + opt"

    topology: FixedGraph = "ring"  # who averages with whom; the smallest eigenvalue of W must not be below -1/3
    edge_probability: float | None = None  # erdos-renyi: of each pair of workers; None: 2 ln(n) / n, at most 1
    lazy: bool = False  # weights (I + W) / 2 instead of W: slower mixing, stable on every graph

    def validate(self, size: int) -> None:
        """D2 diverges where W has an eigenvalue below -1/3."""
        super().validate(size)
        if self.topology == "erdos-renyi" and not self.lazy:
            raise ValueError(f"topology 'erdos-renyi' may have an eigenvalue below -1/3, by the seed: {REMEDY}")
        if self.smallest_eigenvalue(size) < LIMIT - ROUNDING:
            raise ValueError(
                f"smallest eigenvalue of W must be above -1/3: got {self.smallest_eigenvalue(size):.4g} with topology "
                f"{self.topology!r} on {size} workers ({REMEDY})"
            )

    def warnings(self, size: int) -> list[str]:
        """At -1/3 exactly (a ring of even length) one mode is not damped."""
        if self.lazy or self.smallest_eigenvalue(size) > LIMIT + ROUNDING:
            return []
        return [
            f"d2 is marginally stable: W of topology {self.topology!r} on {size} workers has the eigenvalue -1/3, "
            f"so that one mode of disagreement is not damped ({REMEDY})"
        ]

    def smallest_eigenvalue(self, size: int) -> float:
        """Of the matrix that averages."""
        mixing = self.graph().mixing(size)
        return smallest_eigenvalue(lazy(mixing) if self.lazy else mixing)

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, graph = w.replica(), w.optimizer(self.optimizer), self.graph()
        c = w.keep("correction", torch.zeros_like(x.data))
        async for t in w.steps():
            lr, g = opt.lr, await w.gradient(x)
            x.apply_(g.with_data(g.data + c), opt)
            h = x.data.clone()
            mean = await average(w, graph, t, h)
            x.assign_((h + mean) / 2 if self.lazy else mean)
            if lr > 0:
                c.add_(h - x.data, alpha=1 / lr)


@dataclass(frozen=True, kw_only=True)
class ExactDiffusion(Gossip):
    """Adapt, correct, combine."""

    name: ClassVar[str] = "exact-diffusion"
    summary: ClassVar[str] = "gossip without the bias of unlike data: adapt, correct by the last step, combine"
    paper: ClassVar[str] = "Yuan et al. 2019, arXiv 1702.05122"
    plain_sgd: ClassVar[bool] = True
    bytes_per_step: ClassVar[str] = "degree * M"
    state: ClassVar[str] = "2 * M + opt"

    topology: FixedGraph = "ring"  # who averages with whom, with the weights (I + W) / 2
    edge_probability: float | None = None  # erdos-renyi: of each pair of workers; None: 2 ln(n) / n, at most 1

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, graph = w.replica(), w.optimizer(self.optimizer), self.graph()
        psi = w.keep("adapted", x.data)
        async for t in w.steps():
            correction = x.data - psi
            x.apply_(await w.gradient(x), opt)
            psi.copy_(x.data)
            x.move_(correction)
            x.assign_((x.data + await average(w, graph, t, x.data)) / 2)
