"""AD-PSGD (asynchronous decentralised parallel SGD): no rounds; a worker averages with one random neighbour per step.

Source: Lian, Zhang, Zhang, Liu, Asynchronous Decentralized Parallel Stochastic Gradient Descent, ICML 2018,
    arXiv 1710.06952, Algorithm 1, with the bipartite graph of its section on deadlock.
Symbols: x_i = replica, g_i = gradient at the x_i that was read, j = random neighbour.
Update (worker i active, worker j passive):
    g_i = gradient at x_i
    (x_i, x_j) <- ((x_i + x_j)/2, (x_i + x_j)/2)         atomically; passive workers answer at any time
    x_i <- optimizer(x_i, g_i)
Differences from the paper: the optimiser may be any; its state stays local.
Why two sides: if i could answer k while it waits for j, x_i would change between its sending and its averaging, and the
mean of all models would drift. Active workers only ask, passive workers only answer, so neither can happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from algorithms.interface import Algorithm, Message, Need, Worker
from algorithms.replica import Replica
from algorithms.topology import Topology

GOSSIP = "gossip"


def average_(x: Replica, message: Message) -> Tensor:
    """Move x half-way to the model in the message; answer with x as it was before."""
    before = x.data.clone()
    x.mix_(message.data, weight=0.5)
    return before


@dataclass(frozen=True, kw_only=True)
class ADPSGD(Algorithm):
    """Asynchronous gossip on a bipartite graph."""

    name: ClassVar[str] = "ad-psgd"
    summary: ClassVar[str] = "asynchronous gossip: average with one random neighbour per step, no rounds"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})

    topology: Literal["ring", "complete-bipartite"] = "ring"

    def validate(self, size: int) -> None:
        """The graph must have two sides."""
        Topology(self.topology).sides(size)

    def is_active(self, rank: int, size: int) -> bool:
        """Whether `rank` asks (and never answers)."""
        return rank in Topology(self.topology).sides(size)[0]

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        neighbours = Topology(self.topology).neighbours(w.rank, w.size)
        active = self.is_active(w.rank, w.size)
        if not active:
            w.serve(GOSSIP, partial(average_, x))
        async for _ in w.steps():
            g = await w.gradient(x)
            if active:
                j = int(w.rng.choice(neighbours))
                x.mix_(await w.request(j, GOSSIP, x.data), weight=0.5)
            x.apply_(g, opt)

    def payload_nbytes(self, steps: Sequence[int], nbytes: int) -> int:
        """Each step of an active worker moves one model there and one back."""
        size = len(steps)
        return sum(2 * t for rank, t in enumerate(steps) if self.is_active(rank, size)) * nbytes

    def conserved(self) -> bool:
        """An exchange moves both ends to their common mean."""
        return True
