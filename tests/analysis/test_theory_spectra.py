"""Spectra of mixing matrices, against closed forms of the graphs that the algorithms use."""

from __future__ import annotations

import math

import numpy as np
import pytest

from algorithms.topology import Topology, lazy
from analysis.theory.spectra import product, spectrum


def rounds_of(name: str, workers: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """All rounds of a period of the one-peer graph."""
    return [Topology(name).matrix(workers, t) for t in range(1, (workers - 1).bit_length() + 1)]


@pytest.mark.parametrize("workers", [3, 4, 5, 8, 16, 31])
def test_ring(workers: int) -> None:
    found = spectrum(Topology("ring").mixing(workers))
    eigenvalues = sorted(1 / 3 + 2 / 3 * math.cos(2 * math.pi * k / workers) for k in range(workers))
    assert (found.second, found.smallest) == pytest.approx((eigenvalues[-2], eigenvalues[0]), abs=1e-12)
    assert found.gap == pytest.approx(1 - max(abs(eigenvalues[-2]), abs(eigenvalues[0])), abs=1e-12)
    assert found.symmetric


@pytest.mark.parametrize(("workers", "sides"), [(9, (3, 3)), (16, (4, 4)), (25, (5, 5)), (32, (4, 8)), (64, (8, 8))])
def test_torus(workers: int, sides: tuple[int, int]) -> None:
    found = spectrum(Topology("torus").mixing(workers))
    a, b = (np.cos(2 * np.pi * np.arange(side) / side) for side in sides)
    eigenvalues = np.sort((0.2 + 0.4 * (a[:, None] + b)).ravel())
    assert (found.second, found.smallest) == pytest.approx((eigenvalues[-2], eigenvalues[0]), abs=1e-12)
    printed = {16: 0.6, 32: 0.8828, 64: 0.8828, 25: 0.7236}
    if workers in printed:
        assert 1 - found.gap == pytest.approx(printed[workers], abs=5e-5)


@pytest.mark.parametrize("dimensions", [1, 2, 4, 6])
def test_hypercube(dimensions: int) -> None:
    found = spectrum(Topology("hypercube").mixing(2**dimensions))
    value = (dimensions - 1) / (dimensions + 1)
    # One flip among k + 1 changes the eigenvalue by 2 / (k + 1); all k flips give the smallest.
    assert (found.second, found.smallest) == pytest.approx((value, -value), abs=1e-12)


@pytest.mark.parametrize("workers", [3, 8, 16])
def test_star_and_complete(workers: int) -> None:
    star, complete = (spectrum(Topology(name).mixing(workers)) for name in ("star", "complete"))
    assert star.second == pytest.approx(1 - 1 / workers, abs=1e-12) and star.gap == pytest.approx(1 / workers)
    assert (complete.second, complete.smallest, complete.gap) == (0, 0, 1)


@pytest.mark.parametrize("workers", [4, 6, 16, 33, 5, 7])
def test_exponential_is_a_circulant(workers: int) -> None:
    found = spectrum(Topology("exponential").mixing(workers))
    hops = [2**m for m in range((workers - 1).bit_length())]
    waves = np.exp(2j * np.pi * np.outer(np.arange(1, workers), [0, *hops]) / workers).sum(1) / (len(hops) + 1)
    assert found.second == pytest.approx(np.abs(waves).max(), abs=1e-12)
    assert found.smallest == pytest.approx(waves.real.min(), abs=1e-12)
    assert found.contraction == pytest.approx(found.second, abs=1e-12)  # normal
    printed = {5: 0.25, 7: 0.354, 33: 0.608}
    expected = printed.get(workers, 1 - 2 / (1 + len(hops)))
    assert found.second == pytest.approx(expected, abs=5.1e-4)
    assert not found.symmetric


@pytest.mark.parametrize("workers", [4, 8, 32])
def test_one_peer_rounds_average_exactly_in_a_period_if_n_is_a_power_of_two(workers: int) -> None:
    whole = product(rounds_of("one-peer-exponential", workers))
    assert whole == pytest.approx(np.full((workers, workers), 1 / workers), abs=1e-15)
    assert (spectrum(whole).second, spectrum(whole).gap) == (0, 1)


@pytest.mark.parametrize(("workers", "residual"), [(6, 1 / 12), (12, 1 / 24)])
def test_one_peer_rounds_do_not_otherwise(workers: int, residual: float) -> None:
    rounds = rounds_of("one-peer-exponential", workers)
    whole = product(rounds)
    assert np.abs(whole - 1 / workers).max() == pytest.approx(residual, abs=1e-12)
    # Rounds of circulants commute, so the modulus of the product is the product of theirs.
    waves = np.ones(workers - 1)
    for m in range(len(rounds)):
        waves = waves * np.abs(np.cos(np.pi * np.arange(1, workers) * 2**m / workers))
    assert spectrum(whole).second == pytest.approx(waves.max(), abs=1e-12)


def test_lazy_weights_halve_the_way_to_one() -> None:
    ring = Topology("ring").mixing(8)
    assert spectrum(lazy(ring)).second == pytest.approx((1 + spectrum(ring).second) / 2)
    assert spectrum(lazy(ring)).smallest == pytest.approx((1 + spectrum(ring).smallest) / 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gap_is_how_fast_a_random_graph_forgets(seed: int) -> None:
    mixing = Topology("erdos-renyi").mixing(12, seed)
    found = spectrum(mixing)
    x = np.random.default_rng(seed).standard_normal(12)
    distances = []
    for _ in range(400):
        x = mixing @ (x - x.mean())
        distances.append(float(np.linalg.norm(x)))
        x = x / distances[-1]
    assert distances[-1] == pytest.approx(1 - found.gap, rel=1e-6)


def test_rounds_apply_in_their_order_in_time() -> None:
    first, then = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    a, b = np.eye(3)[[1, 0, 2]], np.eye(3)[[0, 2, 1]]
    assert (product([a, b]) == b @ a).all() and (b @ a != a @ b).any()
    assert (product([first, then]) == then @ first).all()


@pytest.mark.parametrize(
    ("mixing", "words"),
    [
        (np.ones((2, 3)), "must be square"),
        (np.ones((1, 1)), "at least 2 workers"),
        (np.array([[0.5, 0.5], [1.0, 0.0]]), "sum is off by 0.5"),
    ],
)
def test_what_does_not_average_is_refused(
    mixing: np.ndarray[tuple[int, ...], np.dtype[np.float64]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        spectrum(mixing)
