"""Graphs on which workers gossip, and their mixing matrices.

Symbols: n = `size`; W [n, n] = mixing matrix, W[i, j] = weight that worker i gives to worker j's model (rows =
receiver). Source for weights and spectra: Boyd, Diaconis, Xiao, Fastest mixing Markov chain on a graph, SIAM Review
2004; Metropolis-Hastings weights W_ij = 1 / (1 + max(d_i, d_j)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import networkx as nx
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Topology:
    """An undirected graph on the workers 0..n-1, by name; `graph(n)` builds it.

    Names: `ring` (for n = 2 a single edge), `complete`, and `complete-bipartite` (even ranks against odd ranks).
    """

    name: str = "ring"

    NAMES = ("ring", "complete", "complete-bipartite")

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            raise ValueError(f"unknown topology: {self.name!r} (allowed: {', '.join(self.NAMES)})")

    def graph(self, size: int) -> nx.Graph:
        """The graph on `size` nodes.

        Raises:
            ValueError: fewer than 2 workers.
        """
        return _graph(self.name, size)

    def neighbours(self, rank: int, size: int) -> list[int]:
        """Ranks joined to `rank`, ascending, itself not included."""
        return _neighbours(self.name, size)[rank]

    def mixing(self, size: int) -> NDArray[np.float64]:
        """Metropolis-Hastings mixing matrix W [n, n]: symmetric, doubly stochastic, positive diagonal on every graph
        but the bipartite ones of equal degree, where it still is at least 1 / (1 + degree)."""
        return _mixing(self.name, size)

    def spectral_gap(self, size: int) -> float:
        """1 - ||W - 11'/n||_2: 1 for the complete graph, near 0 for a long ring."""
        return spectral_gap(self.mixing(size))

    def sides(self, size: int) -> tuple[frozenset[int], frozenset[int]]:
        """The two sides (active, passive) of a bipartite graph; the active side is the one without rank 0.

        Raises:
            ValueError: the graph has an odd cycle, so that it has no two sides.
        """
        graph = self.graph(size)
        if not nx.is_bipartite(graph):
            raise ValueError(
                f"topology must be bipartite: {self.name!r} on {size} workers has an odd cycle "
                "(a ring needs an even number of workers; complete-bipartite takes any)"
            )
        passive = frozenset(rank for rank, colour in nx.algorithms.bipartite.color(graph).items() if colour == 0)
        if 0 not in passive:
            passive = frozenset(range(size)) - passive
        return frozenset(range(size)) - passive, passive


@lru_cache(maxsize=64)
def _graph(name: str, size: int) -> nx.Graph:
    if size < 2:
        raise ValueError(f"gossip needs at least 2 workers: got {size}")
    if name == "complete":
        return nx.complete_graph(size)
    if name == "complete-bipartite":
        graph = nx.Graph()
        graph.add_nodes_from(range(size))
        graph.add_edges_from((i, j) for i in range(0, size, 2) for j in range(1, size, 2))
        return graph
    graph = nx.Graph()
    graph.add_nodes_from(range(size))
    graph.add_edges_from((i, (i + 1) % size) for i in range(size) if size > 2 or i == 0)
    return graph


@lru_cache(maxsize=64)
def _neighbours(name: str, size: int) -> dict[int, list[int]]:
    graph = _graph(name, size)
    return {rank: sorted(graph.neighbors(rank)) for rank in graph}


@lru_cache(maxsize=64)
def _mixing(name: str, size: int) -> NDArray[np.float64]:
    graph = _graph(name, size)
    weights = np.zeros((size, size))
    for i, j in graph.edges:
        weights[i, j] = weights[j, i] = 1.0 / (1 + max(graph.degree[i], graph.degree[j]))
    weights[np.diag_indices(size)] = 1.0 - weights.sum(axis=1)
    weights.setflags(write=False)
    return weights


def spectral_gap(mixing: NDArray[np.float64]) -> float:
    """1 - ||W - 11'/n||_2 of a doubly stochastic matrix W [n, n].

    Example:
        >>> round(spectral_gap(Topology("ring").mixing(8)), 4)   # 1 - (1/3 + 2/3 cos(2 pi / 8))
        0.1953
    """
    size = len(mixing)
    return float(1.0 - np.linalg.norm(mixing - np.full((size, size), 1.0 / size), ord=2))
