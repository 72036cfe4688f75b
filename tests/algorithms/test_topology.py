"""Mixing schedules are doubly stochastic and all ranks agree on them; their spectra are the textbook's."""

from __future__ import annotations

import math
from itertools import permutations, product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from algorithms import matcha, topology
from algorithms.shared import shared_generator
from algorithms.topology import (
    DIRECTED,
    Topology,
    expected_contraction,
    lazy,
    metropolis,
    smallest_eigenvalue,
    spectral_gap,
)

Array = NDArray[np.float64]

MIXING = tuple(name for name in Topology.NAMES if name != "irregular")
STATIC = tuple(name for name in MIXING if Topology(name).static)
SIZES = (4, 5, 8, 16)


def exists(name: str, size: int) -> bool:
    """Whether the topology is meant to exist on so many workers."""
    if name == "torus":
        return any(a * b == size for a in range(3, size) for b in range(3, size))
    return name != "hypercube" or size in (2, 4, 8, 16, 32, 64)


def names_and_sizes(names: tuple[str, ...] = Topology.NAMES) -> list[tuple[str, int]]:
    return [(name, size) for name, size in product(names, SIZES) if exists(name, size)]


def rho(matrix: Array) -> float:
    return 1 - spectral_gap(matrix)


# -- matrices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), names_and_sizes(MIXING))
def test_mixing_is_doubly_stochastic_and_symmetric_where_claimed(name: str, size: int) -> None:
    gossip = Topology(name)
    for t, seed in product((1, 2, 3, 7, 1000), (0, 1, 2**40)):
        mixing = gossip.matrix(size, t, seed)
        np.testing.assert_allclose(mixing.sum(axis=0), 1, atol=1e-12)
        np.testing.assert_allclose(mixing.sum(axis=1), 1, atol=1e-12)
        assert not gossip.symmetric or (mixing == mixing.T).all()
        if name != "matcha":
            assert (mixing >= 0).all() and (np.diag(mixing) > 0).all()
        if gossip.static:
            assert (mixing == gossip.mixing(size, seed)).all()


def test_directed_topologies_are_not_symmetric() -> None:
    for name in DIRECTED - {"irregular"}:
        matrix = Topology(name).matrix(8)
        assert not Topology(name).symmetric and (matrix != matrix.T).any()


@pytest.mark.parametrize(("name", "size"), names_and_sizes())
def test_push_matrix_is_column_stochastic(name: str, size: int) -> None:
    for t, seed in product((1, 2, 7), (0, 1)):
        push = Topology(name).push_matrix(size, t, seed)
        np.testing.assert_allclose(push.sum(axis=0), 1, atol=1e-12)
        assert (push >= 0).all() and (np.diag(push) > 0).all()


@pytest.mark.parametrize("name", MIXING)
def test_mean_is_conserved_over_1000_rounds(name: str) -> None:
    size, gossip = (9 if name == "torus" else 8), Topology(name)
    x = np.random.default_rng(0).normal(loc=1, size=(size, 3))
    mean = x.mean(axis=0)
    for t in range(1, 1001):
        x = gossip.matrix(size, t) @ x
    np.testing.assert_allclose(x.mean(axis=0), mean, rtol=1e-12)
    np.testing.assert_allclose(x, np.broadcast_to(mean, x.shape), rtol=1e-9)


@given(st.sampled_from(Topology.NAMES), st.integers(2, 24), st.integers(1, 40), st.integers(0, 3))
def test_rows_peers_and_matrices_agree(name: str, size: int, t: int, seed: int) -> None:
    if not exists(name, size):
        return
    gossip, ranks = Topology(name), range(size)
    push = gossip.push_matrix(size, t, seed)
    for i in ranks:
        assert gossip.receivers(i, size, t, seed) == [j for j in ranks if j != i and push[j, i]]
        assert gossip.senders(i, size, t, seed) == [j for j in ranks if j != i and push[i, j]]
        assert set(gossip.receivers(i, size, t, seed)) <= set(gossip.neighbours(i, size, seed))
    assert gossip.messages_per_round(size, t, seed) == np.count_nonzero(push) - size
    if name == "irregular":
        return
    mixing = gossip.matrix(size, t, seed)
    for i in ranks:
        row = gossip.incoming(i, size, t, seed)
        assert list(row) == sorted(row) and i in row
        assert {j for j in ranks if j != i and mixing[i, j]} == row.keys() - {i}
        assert list(mixing[i]) == [row.get(j, 0.0) for j in ranks]
        assert gossip.outgoing(i, size, t, seed) == [j for j in ranks if j != i and mixing[j, i]]


def test_answers_are_the_callers_own() -> None:
    gossip = Topology("ring")
    gossip.incoming(0, 8).clear()
    gossip.receivers(0, 8).clear()
    gossip.neighbours(0, 8).clear()
    assert gossip.incoming(0, 8).keys() == {0, 1, 7} and gossip.receivers(0, 8) == gossip.neighbours(0, 8) == [1, 7]
    with pytest.raises(ValueError, match="read-only"):
        gossip.mixing(8)[0, 0] = 1


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random-ring", "random-pair", "erdos-renyi", "matcha"])
def test_a_schedule_depends_on_seed_and_round_alone(name: str) -> None:
    """Each rank asks for other things in another order; here one asks backwards, after the caches are emptied."""
    gossip, size, rounds = Topology(name), 9, range(1, 30)
    forwards = {t: gossip.matrix(size, t, seed=5) for t in rounds}
    for cached in (topology._order, topology._plan, topology._active, topology._graph, topology._neighbours):
        cached.cache_clear()
    topology._mixing.cache_clear()
    topology._metropolis_rows.cache_clear()
    matcha._plan.cache_clear()
    Topology(name).matrix(size, 3, seed=6)
    for t in reversed(rounds):
        assert (Topology(name).matrix(size, t, seed=5) == forwards[t]).all()
    assert any((gossip.matrix(size, t, seed=6) != forwards[t]).any() for t in rounds)
    changes = sum((forwards[t] != forwards[t + 1]).any() for t in rounds[:-1])
    assert changes == 0 if gossip.static else changes > 20


def test_shared_generator() -> None:
    def draw(seed: int, purpose: str, t: int = 0) -> float:
        return float(shared_generator(seed, purpose, t).random())

    assert draw(1, "mixing", 2) == draw(1, "mixing", 2)
    several = [draw(1, "mixing", 2), draw(2, "mixing", 2), draw(1, "mixing", 3), draw(1, "graph", 2), draw(1, "mixing")]
    assert len(set(several)) == len(several)


@pytest.mark.parametrize(("name", "size"), [*names_and_sizes(), ("random-ring", 2), ("random-pair", 3)])
def test_mean_degree_is_the_mean_of_the_messages(name: str, size: int) -> None:
    gossip = Topology(name)
    rounds = 400 if name == "matcha" else 12
    sent = [gossip.messages_per_round(size, t, 1) for t in range(1, rounds + 1)]
    expected = gossip.mean_degree(size, 1) * size
    assert np.mean(sent) == pytest.approx(expected, rel=0.1 if name == "matcha" else 1e-12)


@pytest.mark.parametrize(
    ("name", "size", "degree"),
    [
        ("ring", 2, 1), ("ring", 7, 2), ("random-ring", 2, 1), ("random-ring", 9, 2), ("random-pair", 8, 1),
        ("random-pair", 5, 0.8), ("torus", 16, 4), ("hypercube", 16, 4), ("star", 8, 1.75), ("complete", 8, 7),
        ("complete-bipartite", 8, 4), ("exponential", 8, 3), ("exponential", 9, 4), ("one-peer-exponential", 16, 1),
        ("directed-ring", 5, 1), ("irregular", 8, (7 + 6 * 2 + 1) / 8),
    ],
)  # fmt: skip
def test_mean_degree(name: str, size: int, degree: float) -> None:
    assert Topology(name).mean_degree(size) == pytest.approx(degree)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_random_rounds_are_uniform(size: int) -> None:
    """Each pair meets equally often: 5 standard deviations of the count."""
    for name in ("random-pair", "random-ring"):
        rounds = 1000
        met = np.sum([Topology(name).matrix(size, t) > 0 for t in range(1, rounds + 1)], axis=0)
        p = Topology(name).mean_degree(size) / (size - 1)
        assert np.abs(met[~np.eye(size, dtype=bool)] - p * rounds).max() <= 5 * math.sqrt(rounds * p * (1 - p))


# -- spectra -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "value"),
    [
        ("ring", 3, 0.0), ("ring", 4, 1 / 3), ("ring", 5, 0.5393), ("ring", 8, 0.8047), ("ring", 16, 0.9493),
        ("ring", 32, 0.9872), ("ring", 64, 0.9968),
        ("torus", 16, 0.6), ("torus", 32, 0.8828), ("torus", 64, 0.8828), ("torus", 25, 0.7236),
        ("hypercube", 16, 0.6), ("hypercube", 64, 0.7143),
        ("exponential", 5, 0.25), ("exponential", 7, 0.354), ("exponential", 9, 0.442), ("exponential", 31, 0.562),
        ("exponential", 33, 0.608),
    ],
)  # fmt: skip
def test_rho_table(name: str, size: int, value: float) -> None:
    digits = 5e-4 if name == "exponential" else 5e-5
    assert rho(Topology(name).mixing(size)) == pytest.approx(value, abs=digits * 1.01)


@pytest.mark.parametrize("size", [*range(3, 18), 32, 64])
def test_rho_formulas(size: int) -> None:
    tau = math.ceil(math.log2(size))
    formulas = {
        "complete": 0.0,
        "star": 1 - 1 / size,
        "directed-ring": math.cos(math.pi / size),
        "exponential": 1 - 2 / (1 + tau),  # even n; less for odd n
        "hypercube": (tau - 1) / (tau + 1),
    }
    if size > 4:
        formulas["ring"] = 1 / 3 + 2 / 3 * math.cos(2 * math.pi / size)
    sides = topology.torus_sides(size)
    if sides:
        smallest = 1 / 5 + 2 / 5 * sum(math.cos(math.pi * (a - a % 2) / a) for a in sides)
        assert smallest_eigenvalue(Topology("torus").mixing(size)) == pytest.approx(smallest, abs=1e-12)
        formulas["torus"] = max(1 / 5 + 2 / 5 * (1 + math.cos(2 * math.pi / max(sides))), -smallest)
    for name, value in formulas.items():
        if not exists(name, size):
            continue
        found = rho(Topology(name).mixing(size))
        if name == "exponential" and size % 2:
            assert found < value - 1e-3
        else:
            assert found == pytest.approx(value, abs=1e-9)


def test_torus_is_as_square_as_can_be() -> None:
    assert [topology.torus_sides(n) for n in (9, 12, 16, 24, 32, 64, 256)] == [
        (3, 3), (3, 4), (4, 4), (4, 6), (4, 8), (8, 8), (16, 16)
    ]  # fmt: skip
    assert Topology("torus").neighbours(0, 12) == [1, 3, 4, 8]


@pytest.mark.parametrize(("size", "p", "value"), [(16, 0.3, 0.912), (32, 0.2, 0.917), (64, 0.15, 0.852)])
def test_metropolis_on_random_graphs(size: int, p: float, value: float) -> None:
    assert rho(metropolis(nx.erdos_renyi_graph(size, p, seed=0))) == pytest.approx(value, abs=5.1e-4)


@pytest.mark.parametrize(("name", "size"), names_and_sizes(STATIC))
def test_consensus_rate_is_rho(name: str, size: int) -> None:
    mixing = Topology(name).mixing(size)
    x = np.random.default_rng(0).normal(size=size)
    x -= x.mean()
    for _ in range(3000):
        x = mixing @ x
        rate = float(np.linalg.norm(x))
        if rate < 1e-12:  # one round was enough
            break
        x = (x - x.mean()) / rate
    assert rate == pytest.approx(rho(mixing), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "size"), [("random-ring", 8), ("random-ring", 16), ("random-pair", 8), ("random-pair", 16)]
)
def test_consensus_rate_of_random_rounds(name: str, size: int) -> None:
    gossip = Topology(name)
    formula = {"random-ring": (size - 3) / (3 * (size - 1)), "random-pair": (1 - 1 / (size - 1)) / 2}[name]
    assert expected_contraction(gossip.matrix(size)) == pytest.approx(formula, rel=1e-12)
    x = np.random.default_rng(0).normal(size=(size, 200))
    x -= x.mean(axis=0)
    factors = [np.linalg.norm(gossip.matrix(size, t, seed=3) @ x) ** 2 / np.linalg.norm(x) ** 2 for t in range(1, 201)]
    assert np.mean(factors) == pytest.approx(formula, rel=0.05)


@pytest.mark.parametrize("name", ["random-ring", "random-pair", "groups of 2", "groups of 3"])
def test_expected_contraction_of_all_draws(name: str) -> None:
    """lambda_2(E[W'W]) is the formula; the expectation here is over all orders of 6 ranks."""
    size = 6
    if name.startswith("groups"):
        group = int(name[-1])
        mixing = np.kron(np.eye(size // group), np.full((group, group), 1 / group))
        formula = (size / group - 1) / (size - 1)
    else:
        mixing = Topology(name).matrix(size)
        formula = {"random-ring": (size - 3) / (3 * (size - 1)), "random-pair": (1 - 1 / (size - 1)) / 2}[name]
    orders = list(permutations(range(size)))
    mean = sum((mixing.T @ mixing)[np.ix_(order, order)] for order in orders) / len(orders)
    assert np.linalg.eigvalsh(mean)[-2] == pytest.approx(formula, rel=1e-12)
    assert expected_contraction(mixing) == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize("size", range(2, 20))
def test_one_peer_exponential_averages_exactly_iff_a_power_of_two(size: int) -> None:
    tau = math.ceil(math.log2(size))
    gossip, result = Topology("one-peer-exponential"), np.eye(size)
    for t in range(5, 5 + tau):  # from any round on
        result = gossip.matrix(size, t) @ result
    residual = np.abs(result - 1 / size).max()
    if size == 1 << tau:
        assert residual <= 1e-13
    else:
        assert residual > 1e-2
    if size in (6, 12):
        assert residual == pytest.approx({6: 0.083, 12: 0.042}[size], abs=5e-4)


@pytest.mark.parametrize("size", SIZES)
def test_smallest_eigenvalue_and_lazy(size: int) -> None:
    ring = Topology("ring").mixing(size)
    if size % 2 == 0:
        assert smallest_eigenvalue(ring) == pytest.approx(-1 / 3, abs=1e-12)
    for name in STATIC:
        if exists(name, size) and Topology(name).symmetric:
            mixing = lazy(Topology(name).mixing(size))
            assert smallest_eigenvalue(mixing) >= -1e-12
            np.testing.assert_allclose(mixing.sum(axis=1), 1, atol=1e-12)
    with pytest.raises(ValueError, match="symmetric"):
        smallest_eigenvalue(Topology("exponential").mixing(8))


def test_gap_of_no_mixing_is_zero() -> None:
    assert spectral_gap(np.eye(6)) == pytest.approx(0)
    assert Topology("complete").spectral_gap(9) == pytest.approx(1)


# -- random and irregular graphs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16, 64])
def test_erdos_renyi_is_connected(size: int) -> None:
    gossip = Topology("erdos-renyi")
    pairs = size * (size - 1) / 2
    p = min(1.0, 2 * math.log(size) / size)
    counts = []
    for seed in range(20):
        graph = gossip.graph(size, seed)
        assert nx.is_connected(graph) and sorted(graph) == list(range(size))
        assert gossip.spectral_gap(size, seed) > 1e-3
        counts.append(graph.number_of_edges())
    if size == 64:  # nearly every draw is connected, so the count is binomial
        assert np.mean(counts) == pytest.approx(pairs * p, abs=5 * math.sqrt(pairs * p * (1 - p) / 20))
    assert Topology("erdos-renyi", edge_probability=1.0).graph(size).number_of_edges() == pairs


@pytest.mark.parametrize("size", [3, 4, 5, 8, 16])
def test_push_sum_on_an_irregular_graph_finds_the_mean_and_gossip_does_not(size: int) -> None:
    push = Topology("irregular").push_matrix(size)
    x = np.random.default_rng(1).normal(size=size)
    mean, numerator, weight = x.mean(), x, np.ones(size)
    for _ in range(500):
        numerator, weight = push @ numerator, push @ weight
    assert weight.sum() == pytest.approx(size, abs=1e-12) and np.abs(weight - 1).max() > 0.1
    np.testing.assert_allclose(numerator / weight, mean, atol=1e-10)
    assert np.abs(numerator - mean).max() > 1e-2
    row_stochastic = (push > 0) / (push > 0).sum(axis=1, keepdims=True)
    assert abs(np.linalg.matrix_power(row_stochastic, 500) @ x - mean).max() > 1e-2


# -- MATCHA ------------------------------------------------------------------------------------------------------------

GRAPHS = {
    "ring": nx.cycle_graph(8),
    "star": nx.star_graph(6),
    "complete-7": nx.complete_graph(7),
    "complete-8": nx.complete_graph(8),
    "petersen": nx.petersen_graph(),  # degree 3, no colouring with 3 colours
    "barbell": nx.barbell_graph(5, 2),
    "lollipop": nx.lollipop_graph(6, 4),
    "random": nx.erdos_renyi_graph(16, 0.3, seed=0),
}


def plan_parts(graph: nx.Graph, budget: float) -> tuple[matcha.Plan, Array, Array]:
    """Plan, Laplacians of its matchings, probabilities."""
    plan = matcha.plan(graph, budget)
    laplacians = np.stack([matcha.laplacian(matching, len(graph)) for matching in plan.matchings])
    return plan, laplacians, np.array(plan.probabilities)


def lambda_2(laplacian: Array) -> float:
    return float(np.linalg.eigvalsh(laplacian)[1])


@given(st.integers(2, 24), st.floats(0.05, 1), st.integers(0, 1000))
def test_matchings_partition_the_edges(size: int, p: float, seed: int) -> None:
    graph = nx.gnp_random_graph(size, p, seed=seed)
    edges = sorted((min(edge), max(edge)) for edge in graph.edges)
    found = matcha.matchings(edges, size)
    if not edges:
        assert found == []
        return
    assert len(found) <= max(degree for _, degree in graph.degree) + 1
    assert sorted(edge for matching in found for edge in matching) == edges
    for matching in found:
        ends = [rank for edge in matching for rank in edge]
        assert len(ends) == len(set(ends))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", GRAPHS)
def test_expected_square_is_what_the_draws_give(name: str) -> None:
    graph = GRAPHS[name]
    plan, laplacians, p = plan_parts(graph, 0.5)
    draws = np.random.default_rng(0).random((40_000, len(p))) < p
    patterns, counts = np.unique(draws, axis=0, return_counts=True)
    mixings = np.eye(len(graph)) - plan.step * np.tensordot(patterns.astype(float), laplacians, 1)
    found = np.einsum("k,kji,kjl->il", counts / counts.sum(), mixings, mixings, optimize=True)
    np.testing.assert_allclose(found, matcha.expected_square(laplacians, p, plan.step), atol=1e-2)


@pytest.mark.thorough
@pytest.mark.parametrize("budget", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", GRAPHS)
def test_matcha_contracts_with_the_best_step(name: str, budget: float) -> None:
    plan, laplacians, p = plan_parts(GRAPHS[name], budget)
    best = matcha.contraction(laplacians, p, plan.step)
    assert best < 1
    for other in (0.9, 0.999, 1.001, 1.1):
        assert matcha.contraction(laplacians, p, other * plan.step) >= best - 1e-12


def best_lambda_2(laplacians: Array, budget: float) -> float:
    """An upper bound on lambda_2(Lbar) over all p, within 0.1 % of the best: Kelley's cutting planes, an own method."""
    m = len(laplacians)
    p, best, cuts = np.full(m, budget), 0.0, []
    while True:
        values, vectors = np.linalg.eigh(np.tensordot(p, laplacians, 1) + 1.0)
        best = max(best, float(values[0]))
        cuts += [[-v @ one @ v for one in laplacians] + [1.0] for v in vectors.T[:3]]
        rows, limits = np.array([*cuts, [1.0] * m + [0.0]]), [0.0] * len(cuts) + [budget * m]
        found = linprog([0.0] * m + [-1.0], A_ub=rows, b_ub=limits, bounds=[(0, 1)] * m + [(0, None)])
        if -found.fun <= best * 1.001:
            return float(-found.fun)
        p = found.x[:m]


@pytest.mark.parametrize("budget", [0.2, 0.5])
@pytest.mark.parametrize("name", GRAPHS)
def test_probabilities_are_allowed_and_within_one_percent_of_the_best(name: str, budget: float) -> None:
    _, laplacians, p = plan_parts(GRAPHS[name], budget)
    assert (p >= 0).all() and (p <= 1).all() and p.sum() <= budget * len(p) + 1e-12
    assert lambda_2(np.tensordot(p, laplacians, 1)) >= 0.99 * best_lambda_2(laplacians, budget)


@pytest.mark.parametrize("name", GRAPHS)
def test_full_budget_is_the_fixed_graph_with_its_best_constant(name: str) -> None:
    graph = GRAPHS[name]
    plan, laplacians, p = plan_parts(graph, 1.0)
    assert (p == 1).all()
    values = np.linalg.eigvalsh(laplacians.sum(axis=0))
    assert plan.step == pytest.approx(2 / (values[1] + values[-1]))
    # The search finds it, too: nearly all of the probability draws the whole graph.
    assert matcha.best_step(laplacians, np.full(len(p), 1 - 1e-9)) == pytest.approx(plan.step, rel=1e-4)


def test_full_budget_on_the_complete_graph_averages_at_once() -> None:
    for size in (*SIZES, 2, 3):
        gossip = Topology("matcha", edge_probability=1.0, budget=1.0)
        for t in (1, 2, 9):
            np.testing.assert_allclose(gossip.matrix(size, t), 1 / size, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_matcha_budget_is_a_share_of_the_messages(seed: int) -> None:
    gossip = Topology("matcha")
    share = gossip.mean_degree(16, seed) * 16 / (2 * gossip.graph(16, seed).number_of_edges())
    assert share == pytest.approx(0.5, abs=0.05)


def test_matcha_draws_each_matching_with_its_probability() -> None:
    gossip, rounds = Topology("matcha"), 2000
    plan = matcha.plan(gossip.graph(8, 4), 0.5)
    for matching, p in zip(plan.matchings, plan.probabilities, strict=True):
        i, j = matching[0]
        active = sum(j in gossip.receivers(i, 8, t, 4) for t in range(1, rounds + 1))
        assert abs(active - p * rounds) <= 5 * math.sqrt(rounds * p * (1 - p)) + 1e-9


# -- sides, sizes, errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [("complete-bipartite", n) for n in range(2, 12)]
    + [("ring", 8), ("star", 5), ("hypercube", 8), ("torus", 16), ("complete", 2)],
)
def test_sides_of_a_bipartite_graph(name: str, size: int) -> None:
    gossip = Topology(name)
    active, passive = gossip.sides(size)
    assert 0 in passive and active | passive == set(range(size)) and not active & passive
    for rank in active:
        assert set(gossip.neighbours(rank, size)) <= passive


@pytest.mark.parametrize(
    ("name", "size"), [("ring", 3), ("ring", 5), ("complete", 4), ("torus", 9), ("random-pair", 4)]
)
def test_odd_cycles_have_no_sides(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="odd cycle"):
        Topology(name).sides(size)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"name": "rign"}, "unknown topology: 'rign'"),
        ({"name": "matcha", "budget": 0.0}, "budget must be above 0 and at most 1: got 0.0"),
        ({"name": "matcha", "budget": 1.5}, "budget must be above 0"),
        ({"name": "ring", "budget": 0.25}, "budget is for matcha"),
        ({"name": "erdos-renyi", "edge_probability": 0.0}, "edge_probability must be above 0"),
        ({"name": "ring", "edge_probability": 0.5}, "edge_probability is for erdos-renyi and matcha"),
    ],
)
def test_bad_settings(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Topology(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", Topology.NAMES)
def test_one_worker_cannot_gossip(name: str) -> None:
    for call in (Topology(name).check, Topology(name).graph, lambda n: Topology(name).receivers(0, n)):
        with pytest.raises(ValueError, match=r"at least 2"):
            call(1)


@pytest.mark.thorough
@pytest.mark.parametrize("name", Topology.NAMES)
def test_check_and_use_agree_on_the_sizes(name: str) -> None:
    for size in range(2, 20):
        if exists(name, size):
            Topology(name).check(size)
            Topology(name).push_matrix(size)
        else:
            for call in (Topology(name).check, Topology(name).graph, Topology(name).matrix):
                with pytest.raises(ValueError, match=f"got {size}"):
                    call(size)


def test_what_a_topology_does_not_have() -> None:
    irregular = Topology("irregular")
    for call in (irregular.matrix, irregular.mixing, irregular.spectral_gap):
        with pytest.raises(ValueError, match="push-sum only"):
            call(8)
    with pytest.raises(ValueError, match="push-sum only"):
        irregular.outgoing(0, 8)
    with pytest.raises(ValueError, match="must be static"):
        Topology("random-ring").mixing(8)
    with pytest.raises(ValueError, match="undirected"):
        Topology("exponential").sides(8)
    with pytest.raises(ValueError, match="edge_probability is too small"):
        Topology("erdos-renyi", edge_probability=0.001).check(16)
