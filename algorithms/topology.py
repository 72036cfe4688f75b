"""Graphs on which workers gossip, and their mixing matrices, round by round.

Symbols: n = `size`; t = round, from 1; W(t) [n, n] = mixing matrix, W[i, j] = weight that worker i gives to worker j's
model (rows = receiver); J = 11'/n. Under push-sum, P(t) [n, n] = push matrix, P[i, j] = share of worker j that goes to
worker i. Source for weights and spectra: Boyd, Diaconis, Xiao, Fastest mixing Markov chain on a graph, SIAM Review
2004; Metropolis-Hastings weights W_ij = 1 / (1 + max(d_i, d_j)). Exponential graphs: Ying et al., Exponential Graph is
Provably Efficient for Decentralized Deep Training, NeurIPS 2021, arXiv 2110.13363.

Whatever is random is drawn from `shared_generator`, so all ranks know the whole round without a message: who sends and
who receives always match, and nobody waits for a message that is not sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from algorithms import matcha
from algorithms.shared import shared_generator

Array = NDArray[np.float64]

RANDOM_GRAPH = frozenset({"erdos-renyi", "matcha"})  # drawn once per seed
RANDOM_ROUNDS = frozenset({"random-ring", "random-pair", "matcha"})  # drawn anew in each round
DIRECTED = frozenset({"exponential", "one-peer-exponential", "directed-ring", "irregular"})

DRAWS = 1000  # of a random graph until it is connected


@dataclass(frozen=True)
class Topology:
    """Who averages with whom in each round, by name.

    | name | links | weights |
    |---|---|---|
    | `ring` | i and i +- 1 (for n = 2 a single edge) | 1/3 |
    | `random-ring` | a ring through a new random order in each round | 1/3 |
    | `random-pair` | random pairs, new in each round; for odd n one rank keeps its model | 1/2 |
    | `torus` | 4 neighbours on the most square a x b grid with a, b >= 3; rank = row * b + column | 1/5 |
    | `hypercube` | i and i with one bit flipped; n = 2^k | 1/(k + 1) |
    | `star` | rank 0 and all others | Metropolis |
    | `complete` | all | 1/n |
    | `complete-bipartite` | even ranks and odd ranks | Metropolis |
    | `exponential` | i sends to i + 2^m, m < tau = ceil(log2 n) | 1/(tau + 1) |
    | `one-peer-exponential` | i sends to i + 2^((t - 1) mod tau) | 1/2 |
    | `erdos-renyi` | each pair with `edge_probability`; connected | Metropolis |
    | `matcha` | random matchings of an Erdos-Renyi graph, `budget` of them per round | `algorithms.matcha` |
    | `directed-ring` | i sends to i + 1 | 1/2 |
    | `irregular` | a star and a directed ring at once; push-sum only | none |

    Raises:
        ValueError: unknown name, a number out of range, or a setting that the named topology does not use.
    """

    name: str = "ring"
    edge_probability: float | None = None  # erdos-renyi, and matcha's base graph; None: 2 ln(n) / n, at most 1
    budget: float = 0.5  # matcha: expected share of the matchings that are active in a round

    NAMES = (
        "ring",
        "random-ring",
        "random-pair",
        "torus",
        "hypercube",
        "star",
        "complete",
        "complete-bipartite",
        "exponential",
        "one-peer-exponential",
        "erdos-renyi",
        "matcha",
        "directed-ring",
        "irregular",
    )

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            raise ValueError(f"unknown topology: {self.name!r} (allowed: {', '.join(self.NAMES)})")
        if self.edge_probability is not None:
            if self.name not in RANDOM_GRAPH:
                raise ValueError(f"edge_probability is for erdos-renyi and matcha: topology is {self.name!r} (omit it)")
            if not 0 < self.edge_probability <= 1:
                raise ValueError(f"edge_probability must be above 0 and at most 1: got {self.edge_probability}")
        if not 0 < self.budget <= 1:
            raise ValueError(f"budget must be above 0 and at most 1: got {self.budget}")
        if self.budget != Topology.budget and self.name != "matcha":
            raise ValueError(f"budget is for matcha: topology is {self.name!r} (omit it)")

    def check(self, size: int) -> None:
        """Whether this topology exists on `size` workers.

        Raises:
            ValueError: it does not.
        """
        if size < 2:
            raise ValueError(f"gossip needs at least 2 workers: got {size}")
        if self.name == "torus" and not torus_sides(size):
            raise ValueError(
                f"a torus needs a x b workers with a, b >= 3: got {size} (allowed: 9, 12, 15, 16, 18, 20, 21, 24, ...)"
            )
        if self.name == "hypercube" and size & (size - 1):
            raise ValueError(f"a hypercube needs a power of two of workers: got {size}")
        if self.name in RANDOM_GRAPH:
            self.graph(size)

    @property
    def static(self) -> bool:
        """Whether W(t) does not depend on t."""
        return self.name not in RANDOM_ROUNDS and self.name != "one-peer-exponential"

    @property
    def symmetric(self) -> bool:
        """Whether W(t) equals its transpose in every round, on any number of workers."""
        return self.name not in DIRECTED

    # -- one round ---------------------------------------------------------------------------------------------------

    def receivers(self, rank: int, size: int, t: int = 1, seed: int = 0) -> list[int]:
        """Ranks that `rank` sends to in round t, ascending, itself not included."""
        return self._peers(rank, size, t, seed, direction=1)

    def senders(self, rank: int, size: int, t: int = 1, seed: int = 0) -> list[int]:
        """Ranks that send to `rank` in round t, ascending, itself not included."""
        return self._peers(rank, size, t, seed, direction=-1)

    def outgoing(self, rank: int, size: int, t: int = 1, seed: int = 0) -> list[int]:
        """Ranks other than `rank` that give it weight in W(t), ascending: those that need its model.

        Raises:
            ValueError: the topology has no mixing matrix.
        """
        self._check_balanced()
        return self.receivers(rank, size, t, seed)

    def incoming(self, rank: int, size: int, t: int = 1, seed: int = 0) -> dict[int, float]:
        """Row `rank` of W(t): rank -> weight, ascending, itself included.

        Raises:
            ValueError: the topology has no mixing matrix.
        """
        self._check_balanced()
        if self.static and self.symmetric:
            return dict(_metropolis_rows(self, size, self._graph_seed(seed))[rank])
        senders = self.senders(rank, size, t, seed)
        if self.name == "matcha":
            other = self._plan(size, seed).step
            own = 1.0 - len(senders) * other
        else:
            own = other = 1.0 / (1 + len(senders))
        return {j: own if j == rank else other for j in sorted([*senders, rank])}

    def messages_per_round(self, size: int, t: int = 1, seed: int = 0) -> int:
        """Number of models that all ranks together send in round t."""
        return sum(len(self.receivers(rank, size, t, seed)) for rank in range(size))

    def mean_degree(self, size: int, seed: int = 0) -> float:
        """Expected number of models that a rank sends in a round: mean over ranks, and over rounds where they vary."""
        if self.name == "matcha":
            return self._plan(size, seed).mean_degree(size)
        return self.messages_per_round(size, 1, seed) / size  # in all others it is the same in every round

    # -- matrices, for tests and analysis ----------------------------------------------------------------------------

    def matrix(self, size: int, t: int = 1, seed: int = 0) -> Array:
        """Mixing matrix W(t) [n, n], rows = receiver: doubly stochastic (matcha: entries may be below 0).

        Raises:
            ValueError: the topology has no mixing matrix.
        """
        weights = np.zeros((size, size))
        for i in range(size):
            row = self.incoming(i, size, t, seed)
            weights[i, list(row)] = list(row.values())
        return weights

    def push_matrix(self, size: int, t: int = 1, seed: int = 0) -> Array:
        """Push matrix P(t) [n, n], columns = sender: 1 / (1 + receivers) for the sender and each receiver."""
        shares = np.zeros((size, size))
        for j in range(size):
            targets = [j, *self.receivers(j, size, t, seed)]
            shares[targets, j] = 1.0 / len(targets)
        return shares

    # -- fixed graphs ------------------------------------------------------------------------------------------------

    def graph(self, size: int, seed: int = 0) -> nx.Graph:
        """All links that any round may use: an nx.Graph, or an nx.DiGraph (sender to receiver) if directed.

        Raises:
            ValueError: the topology does not exist on `size` workers.
        """
        return _graph(self, size, self._graph_seed(seed))

    def neighbours(self, rank: int, size: int, seed: int = 0) -> list[int]:
        """Ranks that `rank` may send to in any round, ascending, itself not included."""
        return list(_neighbours(self, size, self._graph_seed(seed))[0][rank])

    def mixing(self, size: int, seed: int = 0) -> Array:
        """W [n, n] of a static topology, read-only.

        Raises:
            ValueError: the topology has none, or a new one in each round.
        """
        if not self.static:
            raise ValueError(f"topology must be static: {self.name!r} has another matrix in each round")
        return _mixing(self, size, self._graph_seed(seed))

    def spectral_gap(self, size: int, seed: int = 0) -> float:
        """1 - ||W - J||_2 of a static topology: 1 for the complete graph, near 0 for a long ring."""
        return spectral_gap(self.mixing(size, seed))

    def sides(self, size: int, seed: int = 0) -> tuple[frozenset[int], frozenset[int]]:
        """The two sides (active, passive) of a bipartite graph; the active side is the one without rank 0.

        Raises:
            ValueError: the graph is directed or has an odd cycle, so that it has no two sides.
        """
        return _sides(self, size, seed)

    # -- how ---------------------------------------------------------------------------------------------------------

    def _check_balanced(self) -> None:
        if self.name == "irregular":
            raise ValueError("topology must have a doubly stochastic matrix: 'irregular' works with push-sum only")

    def _graph_seed(self, seed: int) -> int:
        return seed if self.name in RANDOM_GRAPH else 0  # one entry in the caches for all seeds

    def _plan(self, size: int, seed: int) -> matcha.Plan:
        return _plan(self, size, seed)

    def _peers(self, rank: int, size: int, t: int, seed: int, direction: int) -> list[int]:
        assert t >= 1 and 0 <= rank < size, f"rank {rank} of {size}, round {t}: rounds count from 1"
        if self.name in ("directed-ring", "exponential", "one-peer-exponential"):
            hops = _hops(self, size)
            if self.name == "one-peer-exponential":
                hops = (hops[(t - 1) % len(hops)],)
            return sorted((rank + direction * hop) % size for hop in hops)
        if self.name in ("random-ring", "random-pair"):
            order, place = _order(self, size, t, seed)
            here = place[rank]
            if self.name == "random-pair":
                return [order[here ^ 1]] if here ^ 1 < size else []
            return sorted({order[here - 1], order[(here + 1) % size]})
        if self.name == "matcha":
            active = _active(self, size, t, seed)
            return sorted(partner[rank] for partner in active if rank in partner)
        return list(_neighbours(self, size, self._graph_seed(seed))[0 if direction > 0 else 1][rank])


def torus_sides(size: int) -> tuple[int, int] | None:
    """The most square a x b = size with 3 <= a <= b, if any."""
    return next(((a, size // a) for a in range(math.isqrt(size), 2, -1) if size % a == 0), None)


@lru_cache(maxsize=256)
def _hops(topology: Topology, size: int) -> tuple[int, ...]:
    """Hops of a circulant: i sends to (i + hop) mod n."""
    topology.check(size)
    if topology.name == "directed-ring":
        return (1,)
    return tuple(1 << m for m in range((size - 1).bit_length()))  # bit_length(n - 1) = ceil(log2 n)


@lru_cache(maxsize=1024)
def _order(topology: Topology, size: int, t: int, seed: int) -> tuple[list[int], list[int]]:
    """A random order of the ranks in round t: place -> rank, and rank -> place."""
    topology.check(size)
    order = shared_generator(seed, "mixing", t).permutation(size)
    return order.tolist(), np.argsort(order).tolist()


@lru_cache(maxsize=64)
def _plan(topology: Topology, size: int, seed: int) -> matcha.Plan:
    return matcha.plan(_graph(topology, size, seed), topology.budget)


@lru_cache(maxsize=1024)
def _active(topology: Topology, size: int, t: int, seed: int) -> tuple[dict[int, int], ...]:
    """The matchings that are active in round t."""
    plan = _plan(topology, size, seed)
    drawn = shared_generator(seed, "mixing", t).random(len(plan.probabilities)) < plan.probabilities
    return tuple(partner for partner, active in zip(plan.partners, drawn, strict=True) if active)


@lru_cache(maxsize=256)
def _graph(topology: Topology, size: int, seed: int) -> nx.Graph:
    name = topology.name
    if name in RANDOM_GRAPH:
        return _erdos_renyi(topology, size, seed)
    topology.check(size)
    graph = nx.DiGraph() if name in DIRECTED else nx.Graph()
    graph.add_nodes_from(range(size))
    if name == "ring":
        graph.add_edges_from((i, (i + 1) % size) for i in range(size) if size > 2 or i == 0)
    elif name == "torus":
        sides = torus_sides(size)
        assert sides
        a, b = sides
        graph.add_edges_from((b * r + c, b * ((r + 1) % a) + c) for r in range(a) for c in range(b))
        graph.add_edges_from((b * r + c, b * r + (c + 1) % b) for r in range(a) for c in range(b))
    elif name == "hypercube":
        graph.add_edges_from((i, i ^ (1 << m)) for i in range(size) for m in range((size - 1).bit_length()))
    elif name == "star":
        graph.add_edges_from((0, i) for i in range(1, size))
    elif name in ("complete", "random-ring", "random-pair"):
        graph.add_edges_from((i, j) for i in range(size) for j in range(i + 1, size))
    elif name == "complete-bipartite":
        graph.add_edges_from((i, j) for i in range(0, size, 2) for j in range(1, size, 2))
    elif name == "irregular":
        # Leaf n - 1 has one receiver, the others two, the centre n - 1: shares out and shares in do not balance.
        graph.add_edges_from((i, (i + 1) % size) for i in range(size))
        graph.add_edges_from((0, i) for i in range(1, size))
        graph.add_edges_from((i, 0) for i in range(1, size))
    else:
        graph.add_edges_from((i, (i + hop) % size) for i in range(size) for hop in _hops(topology, size))
    return graph


def _erdos_renyi(topology: Topology, size: int, seed: int) -> nx.Graph:
    """Each pair is an edge with the same probability; drawn again until connected."""
    if size < 2:
        raise ValueError(f"gossip needs at least 2 workers: got {size}")
    p = topology.edge_probability or min(1.0, 2 * math.log(size) / size)
    rng = shared_generator(seed, "graph")
    left, right = np.triu_indices(size, k=1)
    for _ in range(DRAWS):
        drawn = rng.random(len(left)) < p
        graph = nx.Graph()
        graph.add_nodes_from(range(size))
        graph.add_edges_from(zip(left[drawn].tolist(), right[drawn].tolist(), strict=True))
        if nx.is_connected(graph):
            return graph
    raise ValueError(
        f"edge_probability is too small: {p:g} on {size} workers gave no connected graph in {DRAWS} draws "
        f"(2 ln(n) / n = {2 * math.log(size) / size:.2g} is usually enough)"
    )


@lru_cache(maxsize=256)
def _neighbours(topology: Topology, size: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """For each rank: whom it sends to, and who sends to it."""
    graph = _graph(topology, size, seed)
    after = [sorted(graph.neighbors(rank)) for rank in range(size)]
    return after, [sorted(graph.predecessors(rank)) for rank in range(size)] if graph.is_directed() else after


@lru_cache(maxsize=64)
def _sides(topology: Topology, size: int, seed: int) -> tuple[frozenset[int], frozenset[int]]:
    """See `Topology.sides`."""
    graph = topology.graph(size, seed)
    if graph.is_directed():
        raise ValueError(f"topology must be undirected: got {topology.name!r} (a ring or complete-bipartite would do)")
    if not nx.is_bipartite(graph):
        raise ValueError(
            f"topology must be bipartite: {topology.name!r} on {size} workers has an odd cycle "
            "(a ring needs an even number of workers; complete-bipartite takes any)"
        )
    passive = frozenset(rank for rank, colour in nx.algorithms.bipartite.color(graph).items() if colour == 0)
    if 0 not in passive:
        passive = frozenset(range(size)) - passive
    return frozenset(range(size)) - passive, passive


def metropolis(graph: nx.Graph) -> Array:
    """Metropolis-Hastings weights [n, n] of an undirected graph on 0..n-1: symmetric, doubly stochastic, W_ii > 0.

    On a graph of equal degree d all weights are 1 / (d + 1).
    """
    size = graph.number_of_nodes()
    weights = np.zeros((size, size))
    for i, j in graph.edges:
        weights[i, j] = weights[j, i] = 1.0 / (1 + max(graph.degree[i], graph.degree[j]))
    weights[np.diag_indices(size)] = 1.0 - weights.sum(axis=1)
    return weights


@lru_cache(maxsize=64)
def _mixing(topology: Topology, size: int, seed: int) -> Array:
    """W of a static topology."""
    weights = metropolis(_graph(topology, size, seed)) if topology.symmetric else topology.matrix(size, 1, seed)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=64)
def _metropolis_rows(topology: Topology, size: int, seed: int) -> list[dict[int, float]]:
    """The rows of W without its zeros."""
    after, _ = _neighbours(topology, size, seed)
    weights = _mixing(topology, size, seed).tolist()
    return [{j: weights[i][j] for j in sorted([i, *after[i]])} for i in range(size)]


# -- spectra -----------------------------------------------------------------------------------------------------------


def spectral_gap(mixing: Array) -> float:
    """1 - ||W - J||_2 of a doubly stochastic matrix W [n, n], symmetric or not.

    Example:
        >>> round(spectral_gap(Topology("ring").mixing(8)), 4)   # 1 - (1/3 + 2/3 cos(2 pi / 8))
        0.1953
    """
    return float(1.0 - np.linalg.norm(mixing - 1.0 / len(mixing), ord=2))


def smallest_eigenvalue(mixing: Array) -> float:
    """Smallest eigenvalue of a symmetric matrix W [n, n]. D2 needs more than -1/3; a ring of even n has exactly that.

    Raises:
        ValueError: W is not symmetric.

    Example:
        >>> ring = Topology("ring").mixing(8)
        >>> round(smallest_eigenvalue(ring), 4), round(smallest_eigenvalue(lazy(ring)), 4)
        (-0.3333, 0.3333)
    """
    if not (mixing == mixing.T).all():
        raise ValueError("mixing matrix must be symmetric: a directed topology has complex eigenvalues")
    return float(np.linalg.eigvalsh(mixing)[0])


def lazy(mixing: Array) -> Array:
    """(I + W) / 2: the same neighbours, no eigenvalue below 0."""
    return np.asarray((np.eye(len(mixing)) + mixing) / 2)


def expected_contraction(mixing: Array) -> float:
    """(||W||_F^2 - 1) / (n - 1): expected factor on the squared consensus distance in a round.

    For a random W [n, n] that treats all ranks alike, all of whose draws have the same Frobenius norm (random-ring,
    random-pair, a random partition into groups). From E[W'W] = (1 - c) J + c I.
    """
    return float((np.linalg.norm(mixing) ** 2 - 1) / (len(mixing) - 1))
