"""D-PSGD (decentralised parallel SGD): in each round workers average with their neighbours in a graph.

Source: Lian et al., Can Decentralized Algorithms Outperform Centralized Algorithms?, NeurIPS 2017, arXiv 1705.09056,
    Algorithm 1 (combine-then-adapt); adapt-then-combine: Sayed, Adaptation, Learning, and Optimization over Networks,
    2014; random-ring and delay-by-one: Cui et al., arXiv 2110.11199; one-peer-exponential: Ying et al., arXiv
    2110.13363; matcha: Wang et al., arXiv 1905.09435.
Symbols: x_i = replica, W(t) = mixing matrix of `topology` in round t, g_i = gradient on worker i's mini-batch,
    n = size.
Update:
    cta:  x_i <- optimizer( sum_j W_ij(t) x_j , g_i(x_i) )        the gradient is taken before averaging
    atc:  x_i <- sum_j W_ij(t) optimizer( x_j , g_j(x_j) )
    delay-by-one is cta with W = 11'/n by an all-reduce: x_i <- optimizer( (1/n) sum_j x_j , g_i(x_i) )
Differences from the paper: the optimiser may be any; its state stays local. Replicas may start from points of
    their own (`start`), drawn as the common one is; no average brings them together before the first step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from algorithms.gossip import Gossip, average
from algorithms.interface import Need, Traffic, Worker
from algorithms.topology import Topology

DELAY = "delay-by-one"

Graph = Literal[
    "ring", "random-ring", "random-pair", "torus", "hypercube", "star", "complete", "exponential",
    "one-peer-exponential", "erdos-renyi", "matcha",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DPSGD(Gossip):
    """Gossip in rounds on a graph."""

    name: ClassVar[str] = "d-psgd"
    summary: ClassVar[str] = "gossip in rounds: average with the neighbours in a graph"
    paper: ClassVar[str] = "Lian et al. 2017, arXiv 1705.09056"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "collectives"})  # collectives: delay-by-one alone
    bytes_per_step: ClassVar[str] = "degree * M"
    state: ClassVar[str] = "M + opt"

    topology: Graph | Literal["delay-by-one"] = "ring"  # who averages with whom; delay-by-one: all, by an all-reduce
    edge_probability: float | None = None  # erdos-renyi, matcha: of each pair of workers; None: 2 ln(n) / n, at most 1
    budget: float = 0.5  # matcha: expected share of its matchings that are active in a round, in (0, 1]
    order: Literal["cta", "atc"] = "cta"  # cta overlaps messages with the gradient, atc cannot
    start: Literal["equal", "own"] = field(default="equal", metadata={"in_id": "if set"})  # own: drawn for each worker

    def __post_init__(self) -> None:
        if self.topology == DELAY and self.order == "atc":
            raise ValueError(
                f"order must be 'cta' with topology {DELAY!r}: got 'atc' (use 'complete' or allreduce-sgd)"
            )
        if self.topology == DELAY and (self.edge_probability is not None or self.budget != Topology.budget):
            raise ValueError(f"edge_probability and budget are for random graphs: topology is {DELAY!r} (omit them)")
        super().__post_init__()

    def graph(self) -> Topology:
        """Who averages with whom; delay-by-one has the weights of the complete graph."""
        name = "complete" if self.topology == DELAY else self.topology
        return Topology(name, edge_probability=self.edge_probability, budget=self.budget)

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, graph = w.replica(own=self.start == "own"), w.optimizer(self.optimizer), self.graph()
        async for t in w.steps():
            if self.order == "atc":
                x.apply_(await w.gradient(x), opt)
                x.assign_(await average(w, graph, t, x.data))
            elif self.topology == DELAY:
                mean = w.start(w.allreduce_mean(x.data, label="model"))  # first, as the gradient may block
                g = await w.gradient(x)
                x.assign_(await mean)
                x.apply_(g, opt)
            else:
                pending = w.start(w.gradient(x))
                x.assign_(await average(w, graph, t, x.data))
                x.apply_(await pending, opt)

    def payload_nbytes(self, traffic: Traffic) -> int | None:
        """Each worker sends its model to each neighbour in each round, or hands it to the all-reduce."""
        return sum(traffic.steps) * traffic.nbytes if self.topology == DELAY else super().payload_nbytes(traffic)

    def symbols(self, size: int) -> dict[str, float]:
        """degree: models that a worker sends in a round, mean over workers and rounds."""
        return {"degree": 1.0} if self.topology == DELAY else super().symbols(size)
