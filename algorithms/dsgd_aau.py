"""DSGD-AAU (adaptive asynchronous updates): finished workers average whenever a new link has both ends finished.

Source: Xiong, Yan, Wang, Li, Straggler-Resilient Decentralized Learning via Adaptive Asynchronous Updates, ACM MobiHoc
    2024, arXiv 2306.06559, Algorithms 1 and 2. CbDyBW: Xiong, Yan, Singh, Li, Straggler-Resilient Distributed Machine
    Learning with Dynamic Backup Workers, 2021, arXiv 2102.06280.
Symbols: x_i = replica, g_i = gradient at x_i, k = iteration, A(k) = workers in it, P(k) = their mixing matrix, p_i(k) =
    i's neighbours in A(k); E, P, V as in `algorithms.pathsearch`.
Update of worker i, when its gradient is done:
    x_i <- optimizer(x_i, g_i(x_i));   then it waits to be in an A(k)
    x_i <- sum_j P_ij(k) x_j,  P_ij(k) = 1 / (1 + max(p_i(k), p_j(k))),  over i and its neighbours in A(k)
    k is closed when a link that is new to P has both ends finished; A(k) = all finished with a finished neighbour
    when P connects all workers, it is empty again (an epoch: at most n - 1 iterations with rule S)
Differences from the paper: reconstructed, as its text was not at hand; the optimiser may be any, its state stays local;
    a proposal is a wave with an echo (see `algorithms.pathsearch`), and A(k) holds who had finished when it passed, so
    that equal compute times give one iteration of all; when one worker has left, nobody waits any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from algorithms.interface import Algorithm, Need, Traffic, Worker
from algorithms.pathsearch import Link, Net, Outbox, Path, Pathsearch, net, set_words
from algorithms.topology import Topology

MODEL, SEARCH, WAKE = "model", "search", "wake"
KINDS = ("finishes", "proposals", "echoes", "closes")  # counters of control messages, by their first word
ALLOWED = {
    "topology": ("erdos-renyi", "ring", "torus", "hypercube", "star", "complete", "complete-bipartite"),
    "rule": ("S", "V", "R"),
    "accept": ("one", "all"),
    "lone": ("wait", "go"),
}


@dataclass(frozen=True, kw_only=True)
class DSGDAAU(Algorithm):
    """Iterations that close as soon as a new link of the graph has both ends finished."""

    name: ClassVar[str] = "dsgd-aau"
    summary: ClassVar[str] = "asynchronous gossip: finished workers average whenever a new link has both ends finished"
    paper: ClassVar[str] = "Xiong et al. 2024, arXiv 2306.06559"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    # If each iteration has all workers and one proposal:
    bytes_per_step: ClassVar[str] = "degree * M + 16 * links / n + (96 + 16 * ceil(n / 63)) * (n - 1) / n"
    state: ClassVar[str] = "M + opt + links"
    kept_between_steps: ClassVar[bool] = False  # an iteration's proposal and votes are not

    topology: str = "erdos-renyi"  # graph: erdos-renyi, ring, torus, hypercube, star, complete or complete-bipartite
    edge_probability: float | None = None  # of the erdos-renyi graph; None: 2 ln(n) / n
    rule: Literal["S", "V", "R"] = "S"  # new link: joins two components (S), touches a new worker (V), any unused (R)
    accept: Literal["one", "all"] = "one"  # per iteration: the proposed link, or all new links among its workers
    lone: Literal["wait", "go"] = "wait"  # finished workers without a finished neighbour: wait on, or go on unaveraged

    def __post_init__(self) -> None:
        for setting, allowed in ALLOWED.items():
            if (got := getattr(self, setting)) not in allowed:
                raise ValueError(f"{setting} must be one of {', '.join(allowed)}: got {got!r} (choose one of these)")
        self._graph()

    def validate(self, size: int) -> None:
        """The graph must exist."""
        if size > 1:
            self._graph().check(size)

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        search = self._pathsearch(w)
        sent = [w.keep(kind, torch.zeros((), dtype=torch.int64)) for kind in KINDS]

        def post(out: Outbox) -> None:
            for dst, words in out:
                if words:
                    sent[words[0]].add_(1)
                w.send(dst, SEARCH if words else WAKE, torch.tensor(words, dtype=torch.int64))

        w.on(SEARCH, lambda message: post(search.take(message.src, message.data.tolist())))
        async for _ in w.steps():
            x.apply_(await w.gradient(x), opt)
            if not search.ended:
                post(search.finish())
                await w.recv(WAKE, src=w.rank)
                if search.members:  # else somebody has left
                    x.assign_(await self._average(w, x.data, search.members))
        if not search.ended:
            post(search.leave())
            await w.recv(WAKE, src=w.rank)

    async def _average(self, w: Worker, x: Tensor, members: int) -> Tensor:
        """sum_j P_ij(k) x_j, summed in rank order. Members close the same k in the same order, so models match."""
        weights = self._net(w.size, w.seed).weights(w.rank, members)
        others = [j for j in weights if j != w.rank]
        for j in others:
            w.send(j, MODEL, x)
        w.keep("models", torch.zeros((), dtype=torch.int64)).add_(len(others))
        received = {w.rank: x} | {j: (await w.recv(MODEL, src=j)).data for j in others}
        mean = torch.zeros_like(x)
        for j, weight in weights.items():
            mean.add_(received[j], alpha=weight)
        return mean

    def _pathsearch(self, w: Worker) -> Pathsearch:
        everybody = self._net(w.size, w.seed)
        links = self._links(everybody)
        path = Path(links, w.size, self.rule, w.keep("path", torch.zeros(len(links), dtype=torch.bool)))
        closed = w.keep("closed", torch.zeros((), dtype=torch.int64))
        every, lone = self.accept == "all", self.lone == "go"
        return Pathsearch(w.rank, everybody, links, path, closed, all_links=every, lone=lone)

    def _links(self, net: Net) -> list[Link]:
        """E: the links that an iteration may add to P."""
        return net.links()

    def _graph(self) -> Topology:
        return Topology(self.topology, edge_probability=self.edge_probability)

    def _net(self, size: int, seed: int) -> Net:
        return net(self._graph(), size, seed)

    def payload_nbytes(self, traffic: Traffic) -> int:
        """A model for each active neighbour; 2 words per finish and lower neighbour; three waves per iteration."""
        finishes, proposals, echoes, closes, models = (traffic.counters.get(kind, 0) for kind in (*KINDS, "models"))
        words = 2 * finishes + 4 * proposals + (4 + set_words(traffic.size)) * (echoes + closes)
        return models * traffic.nbytes + words * torch.int64.itemsize

    def symbols(self, size: int) -> dict[str, float]:
        """degree = mean number of neighbours, all of them active at best; links = those that P may hold (seed 0)."""
        everybody = self._net(size, 0)
        return {"degree": 2 * len(everybody.links()) / size, "links": len(self._links(everybody))}

    def conserved(self) -> bool:
        """P(k) is doubly stochastic."""
        return True


@dataclass(frozen=True, kw_only=True)
class CbDyBW(DSGDAAU):
    """Its predecessor: only the links of a spanning tree fixed beforehand close an iteration."""

    name: ClassVar[str] = "cb-dybw"
    summary: ClassVar[str] = "gossip with dynamic backup workers: as dsgd-aau, along a spanning tree fixed beforehand"
    paper: ClassVar[str] = "Xiong et al. 2021, arXiv 2102.06280"

    def _links(self, net: Net) -> list[Link]:
        return net.links(tree=True)
