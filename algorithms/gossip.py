"""Gossip in rounds: one weighted average over a round's neighbourhood, made of messages; the base of its algorithms.

Source: Lian et al., Can Decentralized Algorithms Outperform Centralized Algorithms?, NeurIPS 2017, arXiv 1705.09056.
Symbols: n = size, t = round, from 1; W(t) [n, n] = mixing matrix of the topology, rows = receiver; v_j [L] = what
    rank j brings to the round.

All ranks draw the same graphs (`algorithms.topology`), so a rank waits for exactly the messages that are sent to it.
Messages of one pair with one tag arrive in order, so that rounds cannot mix, however far a neighbour is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from algorithms.interface import Algorithm, Handle, Need, Traffic
from algorithms.topology import Topology

GOSSIP = "gossip"


async def average(
    w: Handle, topology: Topology, t: int, v: Tensor, *, decode: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """sum_j W_ij(t) v_j, as a new tensor; v [L] of this rank must not change meanwhile.

    The sum runs in rank order, whoever comes first, so that every transport gives the same bits.

    Args:
        decode: what a vector stands for, where v is the wire of a compressor; for this rank's own v too.
    """
    # Each rank begins with those after it: if all began with the lowest, some would be sent to by two at once.
    for j in sorted(topology.outgoing(w.rank, w.size, t, w.seed), key=lambda j: (j - w.rank) % w.size):
        w.send(j, GOSSIP, v)
    mean: Tensor | None = None
    for j, weight in topology.incoming(w.rank, w.size, t, w.seed).items():
        other = v if j == w.rank else (await w.recv(GOSSIP, src=j)).data
        other = other if decode is None else decode(other)
        mean = torch.zeros_like(other) if mean is None else mean
        mean.add_(other, alpha=weight)
    assert mean is not None, "a rank is its own neighbour"
    return mean


def messages(topology: Topology, traffic: Traffic, rounds: Iterable[int] | None = None) -> int:
    """Vectors that all ranks together send in `rounds` (of all ranks alike); None: in every step of the run."""
    rounds = range(1, traffic.steps[0] + 1) if rounds is None else rounds
    if topology.name == "matcha":  # the one topology whose rounds differ in size
        return sum(topology.messages_per_round(traffic.size, t, traffic.seed) for t in rounds)
    return topology.messages_per_round(traffic.size, 1, traffic.seed) * sum(1 for _ in rounds)


@dataclass(frozen=True, kw_only=True)
class Gossip(Algorithm):
    """Base: each step has one round, and all that is exchanged is averaged with the weights of W.

    Subclasses say in the type of `topology` which graphs they take; those on a fixed symmetric W refuse the others.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    lockstep: ClassVar[bool] = True
    sequential: ClassVar[bool] = False  # gossip refuses a single worker
    vectors: ClassVar[int] = 1  # parameter vectors that go to each neighbour in a step

    topology: str = "ring"
    edge_probability: float | None = None  # erdos-renyi: of each pair of workers; None: 2 ln(n) / n, at most 1

    def __post_init__(self) -> None:
        self.graph()

    def graph(self) -> Topology:
        """Who averages with whom."""
        return Topology(self.topology, edge_probability=self.edge_probability)

    def validate(self, size: int) -> None:
        """The topology must exist on `size` workers, at least two."""
        self.graph().check(size)

    def payload_nbytes(self, traffic: Traffic) -> int | None:
        """Each worker sends `vectors` parameter vectors to each neighbour in each round."""
        return self.vectors * messages(self.graph(), traffic) * traffic.nbytes

    def symbols(self, size: int) -> dict[str, float]:
        """degree: neighbours that a worker sends to in a round, mean over workers and rounds."""
        return {"degree": self.graph().mean_degree(size)}

    def conserved(self) -> bool:
        """W is doubly stochastic."""
        return True
