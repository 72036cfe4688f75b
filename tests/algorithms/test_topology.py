"""Mixing matrices are doubly stochastic; their spectra are the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.topology import Topology, spectral_gap


@given(st.sampled_from(Topology.NAMES), st.integers(2, 40))
def test_mixing_is_symmetric_and_doubly_stochastic(name: str, size: int) -> None:
    topology = Topology(name)
    mixing = topology.mixing(size)
    np.testing.assert_allclose(mixing.sum(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(mixing.sum(axis=1), 1, atol=1e-12)
    assert (mixing == mixing.T).all() and (mixing >= -1e-15).all()
    for rank in range(size):
        others = [j for j in range(size) if j != rank and mixing[rank, j] > 0]
        assert others == topology.neighbours(rank, size)
    assert topology.spectral_gap(size) > 0


@pytest.mark.parametrize(("size", "rho"), [(3, 0.0), (4, 1 / 3), (5, 0.5393), (8, 0.8047), (16, 0.9493), (32, 0.9872)])
def test_ring(size: int, rho: float) -> None:
    assert 1 - Topology("ring").spectral_gap(size) == pytest.approx(rho, abs=1e-4)
    if size > 4:
        assert 1 - Topology("ring").spectral_gap(size) == pytest.approx(1 / 3 + 2 / 3 * math.cos(2 * math.pi / size))


@pytest.mark.parametrize("size", [2, 3, 9])
def test_complete_graph_averages_at_once(size: int) -> None:
    assert Topology("complete").spectral_gap(size) == pytest.approx(1)
    assert spectral_gap(np.eye(size)) == pytest.approx(0)


@given(st.integers(2, 30))
def test_sides_of_a_bipartite_graph(size: int) -> None:
    topology = Topology("complete-bipartite")
    active, passive = topology.sides(size)
    assert 0 in passive and active | passive == set(range(size)) and not active & passive
    for rank in active:
        assert set(topology.neighbours(rank, size)) <= passive


@pytest.mark.parametrize("size", [3, 5, 7])
def test_odd_ring_has_no_sides(size: int) -> None:
    with pytest.raises(ValueError, match="odd cycle"):
        Topology("ring").sides(size)


def test_bad_names_and_sizes() -> None:
    with pytest.raises(ValueError, match="unknown topology"):
        Topology("rign")
    with pytest.raises(ValueError, match="at least 2"):
        Topology("ring").graph(1)
