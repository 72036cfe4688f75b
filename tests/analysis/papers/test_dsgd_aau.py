"""The rules of DSGD-AAU's claims on evidence made up for them, and the experiments behind them at a small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from algorithms.d_psgd import DPSGD
from algorithms.dsgd_aau import DSGDAAU
from analysis.papers.catalogue import paper
from analysis.papers.dsgd_aau.pathsearch import CONSERVED
from analysis.papers.evidence import Evidence, Missing
from bench.experiments import pathsearch
from bench.experiments.catalogue import experiments
from bench.experiments.linear_speedup import mean_square
from tests.support.learning_evidence import curve, evidence, seeds
from tests.support.straggler_evidence import RISING, pair, raced, slopes, slowed

PAPER = paper("dsgd-aau")
CLAIMS = {claim.id: claim for claim in PAPER.claims}


def verdict(claim: str, found: Evidence) -> str:
    return CLAIMS[claim].decide(found).verdict


def test_every_claim_has_its_evidence_and_none_decides_without(tmp_path: Path) -> None:
    names = {part.name for part in PAPER.parts}
    assert {part for claim in PAPER.claims for part in claim.parts} == names
    assert {part.name for part in PAPER.parts if part.kind == "experiment"} == set(experiments("dsgd-aau"))
    expected = {f"B{k}" for k in range(1, 12)} | {f"C{k}" for k in range(1, 17)}
    assert {claim.id for claim in PAPER.claims} == expected | {"B4s", "B5s"}
    for claim in PAPER.claims:
        with pytest.raises(Missing):
            claim.decide(Evidence(tmp_path, "quick"))


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (slopes(-0.45), "reproduced"),
        (slopes(0.2), "partly"),
        (slopes(-0.5, ours_over_k=-0.3), "contradicted"),
        (slopes(-0.5, control=-0.3), "partly"),
        (slopes(-0.5, points=3), "not shown"),
    ],
)
def test_b1_needs_all_slopes(tmp_path: Path, table: Any, expected: str) -> None:
    assert verdict("B1", evidence(tmp_path, tables={"linear-speedup": table})) == expected


def test_b2_allows_no_epoch_of_another_length(tmp_path: Path) -> None:
    good = {"workers": 8, "seed": 0, "iterations": 7, "tree": True, "idle": 0}
    for wrong in ({}, {"iterations": 8}, {"iterations": 6}, {"tree": False}, {"idle": 1}):
        found = evidence(tmp_path, tables={"epochs": [good, good | wrong]})
        assert verdict("B2", found) == ("contradicted" if wrong else "reproduced")


def test_b3_needs_the_sums_the_mean_and_real_ranks(tmp_path: Path) -> None:
    good = {"workers": 8, "closed": 3, "row_error": 1e-16, "column_error": 1e-16, "least": 0.0, "mean_error": 1e-16}
    ran = [curve("dsgd-aau", 0.1, 0.9, verdict=CONSERVED)]

    def found(wrong: Any, runs: Any) -> str:
        return verdict("B3", evidence(tmp_path, {"ranks": runs}, {"mixing": [good | wrong]}))

    assert found({}, ran) == "reproduced"
    for wrong in ({"row_error": 1e-11}, {"column_error": 1e-11}, {"mean_error": 1e-11}, {"least": -0.1}):
        assert found(wrong, ran) == "contradicted"
    assert found({}, [curve("dsgd-aau", 0.1, 0.9, verdict="NO")]) == "contradicted"
    assert found({}, [curve("d-psgd", 0.1, 0.9, verdict=CONSERVED)]) == "not shown"


@pytest.mark.parametrize(
    ("ours", "theirs", "count", "expected"),
    [
        (0.9, 0.8, 3, "reproduced"),
        (0.8, 0.9, 3, "contradicted"),
        (0.9, 0.9, 3, "not shown"),
        (0.9, 0.8, 2, "not shown"),
    ],
)
def test_b4_needs_to_be_ahead_of_all_at_both_times(
    tmp_path: Path, ours: float, theirs: float, count: int, expected: str
) -> None:
    for claim, part in (("B4", "stragglers"), ("B4s", "stragglers-six")):
        assert verdict(claim, evidence(tmp_path / claim, {part: raced(ours, theirs, count)})) == expected


def test_b4_is_partly_so_if_one_rival_keeps_up(tmp_path: Path) -> None:
    runs = [row | {"end": row["end"] + 0.1 * (row["label"] == "prague")} for row in raced(0.9, 0.8)]
    assert verdict("B4", evidence(tmp_path, {"stragglers": runs})) == "partly"


@pytest.mark.parametrize(
    ("ours", "theirs", "count", "expected"),
    [
        ((0.90, 0.95), (0.90, 0.1), 3, "reproduced"),
        ((0.90, 0.85), (0.95, 0.1), 3, "partly"),  # behind at the best rates, but holds where AD-PSGD fails
        ((0.90, 0.85), (0.95, 0.9), 3, "contradicted"),
        ((0.90, 0.1), (0.95, 0.1), 3, "contradicted"),  # both fail
        ((0.90, 0.85), (0.90, 0.9), 3, "not shown"),
        ((0.90, 0.95), (0.90, 0.1), 2, "not shown"),
    ],
)
def test_b5_tells_best_rates_from_the_largest(
    tmp_path: Path, ours: tuple[float, float], theirs: tuple[float, float], count: int, expected: str
) -> None:
    for claim, part in (("B5", "stragglers"), ("B5s", "stragglers-six")):
        assert verdict(claim, evidence(tmp_path / claim, {part: pair(ours, theirs, count)})) == expected


@pytest.mark.parametrize(
    ("iterations", "count", "expected"),
    [(200, 3, "reproduced"), (600, 3, "partly"), (2000, 3, "contradicted"), (200, 2, "not shown")],
)
def test_b6_counts_iterations_to_the_same_accuracy(tmp_path: Path, iterations: int, count: int, expected: str) -> None:
    pace = [
        {"workers": 32, "seed": seed, "iterations": iterations, "gradients": 1000, "seconds": 2.0}
        for seed in range(count)
    ]
    runs = pair((0.9, 0.1), (0.9, 0.1), count)
    assert verdict("B6", evidence(tmp_path, {"stragglers": runs}, {"pace": pace})) == expected


@pytest.mark.parametrize(
    ("nbytes", "count", "expected"),
    [(0.6e9, 3, "reproduced"), (1.3e9, 3, "contradicted"), (0.6e9, 2, "not shown")],
)
def test_b9_counts_bytes_to_the_same_accuracy(tmp_path: Path, nbytes: float, count: int, expected: str) -> None:
    runs = pair((0.9, 0.1), (0.9, 0.1), count, nbytes=nbytes)
    assert verdict("B9", evidence(tmp_path, {"stragglers": runs})) == expected


@pytest.mark.parametrize(
    ("changed", "count", "expected"),
    [
        ({}, 3, "reproduced"),
        ({(0.1, 6): 3.5}, 3, "partly"),
        ({(0.1, 40): 1.2}, 3, "contradicted"),
        ({(0.4, 10): 1.5}, 3, "contradicted"),
        ({(0.1, 40): 20.0}, 3, "not shown"),  # never reached
        ({}, 2, "not shown"),
    ],
)
def test_b7_needs_both_to_grow(tmp_path: Path, changed: Any, count: int, expected: str) -> None:
    found = evidence(tmp_path, {"slowdown": slowed({**RISING, **changed}, count)})
    assert verdict("B7", found) == expected


@pytest.mark.parametrize(
    ("times", "count", "expected"),
    [
        ({32: 1.6, 64: 1.1, 128: 0.7}, 3, "reproduced"),
        ({32: 1.6, 128: 0.7}, 3, "reproduced"),  # twice 1.5
        ({32: 1.6, 64: 1.3, 128: 1.0}, 3, "partly"),
        ({32: 1.0, 64: 1.0, 128: 1.2}, 3, "contradicted"),
        ({32: 1.6, 64: 1.1}, 3, "not shown"),
        ({32: 1.6, 64: 1.1, 128: 0.7}, 2, "not shown"),
    ],
)
def test_b8_asks_for_every_doubling_at_its_own_rate(
    tmp_path: Path, times: dict[int, float], count: int, expected: str
) -> None:
    runs = []
    for workers, reach_s in times.items():
        runs += seeds(count, "dsgd-aau", 0.1 * (workers / 32) ** 0.5, 0.9, workers=workers, reach_s=reach_s)
        if workers > 32:
            runs += seeds(count, "dsgd-aau", 0.1, 0.9, workers=workers, reach_s=1.9)
    assert verdict("B8", evidence(tmp_path, {"workers": runs})) == expected


@pytest.mark.parametrize(
    ("nbytes", "workers", "expected"),
    [(50, 128, "reproduced"), (2000, 128, "partly"), (50_000, 128, "contradicted"), (50, 32, "not shown")],
)
def test_b10_counts_control_beside_models(tmp_path: Path, nbytes: int, workers: int, expected: str) -> None:
    rows = [
        {"workers": n, "iterations": 1, "gradients": 1, "models": 10, "control_nbytes": 10 * nbytes,
         "control_messages": 1}
        for n in (8, workers)
    ]  # fmt: skip
    assert verdict("B10", evidence(tmp_path, tables={"control": rows})) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(0.04, 0.94, "reproduced"), (0.2, 0.94, "partly"), (0.2, 0.5, "contradicted")],
)
def test_b11_has_two_bounds(tmp_path: Path, ours: float, theirs: float, expected: str) -> None:
    rows = [
        {"algorithm": name, "workers": 16, "slow": slow, "gradients_per_s": pace if slow == 100 else 1.0}
        for name, pace in (("dsgd-aau S", ours), ("ad-psgd", theirs))
        for slow in (1.0, 100.0)
    ]
    assert verdict("B11", evidence(tmp_path, tables={"persistent-straggler": rows})) == expected
    assert verdict("B11", evidence(tmp_path, tables={"persistent-straggler": rows[::2]})) == "not shown"


# -- experiments -------------------------------------------------------------------------------------------------------


def test_the_wiretap_sees_every_iteration_once() -> None:
    """Rule S: n - 1 links in a row are a spanning tree of the graph; those who average are neighbours in pairs."""
    closed = pathsearch.iterations(DSGDAAU(topology="ring"), 5, 20, seed=3)
    ring = nx.cycle_graph(5)
    assert len(closed) >= 8
    for first in range(0, len(closed) - 4, 4):
        assert nx.is_tree(nx.Graph([link for link, _ in closed[first : first + 4]]))
    for link, members in closed:
        assert ring.has_edge(*link) and set(link) <= members
        assert all(set(ring[i]) & members for i in members)


def test_the_mean_square_is_the_noise_floor_in_lock_step() -> None:
    """From the minimiser's neighbourhood on: lr noise^2 / (n (2 - lr)), and the way there 1 / (K lr (2 - lr))."""
    found, closed = mean_square(DSGDAAU(), 2, 400, 10.0)
    assert closed > 300 and found > 0
    found, closed = mean_square(DPSGD(), 4, 400, 10.0)
    lr = 0.05
    floor = lr * 100 / (4 * (2 - lr))
    way = (1 - floor) / (400 * lr * (2 - lr))
    assert closed == 400 and found == pytest.approx(floor + way, rel=0.15)
