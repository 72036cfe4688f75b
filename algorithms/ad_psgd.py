"""AD-PSGD (asynchronous decentralised parallel SGD): no rounds; a worker averages with one random neighbour per step.

Source: Lian, Zhang, Zhang, Liu, Asynchronous Decentralized Parallel Stochastic Gradient Descent, ICML 2018,
    arXiv 1710.06952, Algorithm 1, with the bipartite graph of its section on deadlock.
Symbols: x_i = replica, g_i = gradient at the x_i that was read, j = random neighbour.
Update (worker i active, worker j passive):
    g_i = gradient at x_i
    (x_i, x_j) <- ((x_i + x_j)/2, (x_i + x_j)/2)         atomically; passive workers answer at any time
    x_i <- optimizer(x_i, g_i)
Overlapped (`overlap`, as in the paper's implementation): i sends v = x_i when it begins with its gradient, j answers
    with u = x_j and moves to (u + v)/2, and x_i <- x_i + (u - v)/2 when the answer is there, before or after g_i is.
    So a step lasts as long as the longer of the two, and the mean is conserved whatever happens to x_i meanwhile.
Differences from the paper: the optimiser may be any; its state stays local. Overlapped too, an active worker averages
once per gradient; the paper's averaging thread runs on its own.
Why two sides: if i could answer k while it waits for j, x_i would change between its sending and its averaging, and the
mean of all models would drift. Active workers only ask, passive workers only answer, so neither can happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from algorithms.interface import Algorithm, Message, Need, Traffic, Worker
from algorithms.replica import Replica
from algorithms.topology import Topology

GOSSIP = "gossip"


def average_(x: Replica, message: Message) -> Tensor:
    """Move x half-way to the model in the message; answer with x as it was before."""
    before = x.data.clone()
    x.mix_(message.data, weight=0.5)
    return before


async def exchange_(w: Worker, x: Replica, j: int) -> None:
    """Average with worker j while x may change: by half the difference between the models that were exchanged."""
    sent = x.data.clone()
    answer = await w.request(j, GOSSIP, sent)
    x.add_((answer - sent) / 2)


@dataclass(frozen=True, kw_only=True)
class ADPSGD(Algorithm):
    """Asynchronous gossip on a bipartite graph."""

    name: ClassVar[str] = "ad-psgd"
    summary: ClassVar[str] = "asynchronous gossip: average with one random neighbour per step, no rounds"
    paper: ClassVar[str] = "Lian, Zhang, Zhang, Liu 2018, arXiv 1710.06952"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    bytes_per_step: ClassVar[str] = "2 * active / n * M"
    state: ClassVar[str] = "M + opt"
    sequential: ClassVar[bool] = False  # a single worker is refused

    topology: Literal["ring", "complete-bipartite"] = "ring"  # who may average with whom; a ring needs an even n
    overlap: bool = False  # average beside the gradient, not after it; hides the exchange, uses older models

    def validate(self, size: int) -> None:
        """The graph must have two sides."""
        Topology(self.topology).sides(size)

    def is_active(self, rank: int, size: int) -> bool:
        """Whether `rank` asks (and never answers)."""
        return rank in Topology(self.topology).sides(size)[0]

    def symbols(self, size: int) -> dict[str, float]:
        """active: workers that ask."""
        return {"active": len(Topology(self.topology).sides(size)[0])}

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        neighbours = Topology(self.topology).neighbours(w.rank, w.size)
        active = self.is_active(w.rank, w.size)
        if not active:
            w.serve(GOSSIP, partial(average_, x))
        async for _ in w.steps():
            if active and self.overlap:
                gradient = w.start(w.gradient(x))
                exchange = w.start(exchange_(w, x, neighbours[w.rng.integers(len(neighbours))]))
                x.apply_(await gradient, opt)
                await exchange
                continue
            g = await w.gradient(x)
            if active:
                j = neighbours[w.rng.integers(len(neighbours))]
                x.mix_(await w.request(j, GOSSIP, x.data), weight=0.5)
            x.apply_(g, opt)

    def payload_nbytes(self, traffic: Traffic) -> int:
        """Each step of an active worker moves one model there and one back."""
        steps = (t for rank, t in enumerate(traffic.steps) if self.is_active(rank, traffic.size))
        return 2 * sum(steps) * traffic.nbytes

    def conserved(self) -> bool:
        """An exchange moves both ends to their common mean."""
        return True
