"""The rules of the gossip papers' claims on evidence made up for them, and their experiments at a small size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.allreduce_sgd import AllreduceSGD
from algorithms.d_psgd import DPSGD
from algorithms.topology import Topology
from analysis.papers.catalogue import paper
from analysis.papers.dsgd_aau.gossip_rounds import expected_rate
from analysis.papers.dsgd_aau.gossip_time import expected_ratio
from analysis.papers.evidence import Evidence
from bench.cluster import Compute
from bench.experiments import gossip_rounds, pace_of_gossip
from bench.experiments.averaging import rounds, unit_vectors
from tests.support.learning_evidence import evidence, seeds

CLAIMS = {claim.id: claim for claim in paper("dsgd-aau").claims}


def verdict(claim: str, found: Evidence) -> str:
    return CLAIMS[claim].decide(found).verdict


def of_table(folder: Path, claim: str, part: str, rows: Any) -> str:
    return verdict(claim, evidence(folder, tables={part: rows}))


def test_c10_needs_little_left_at_rank_one_and_less_in_every_later_round(tmp_path: Path) -> None:
    def verdict(at_400: float = 0.03, later: float = 0.01, rank: int = 1) -> str:
        left = {100: 0.25, 400: at_400, 1600: later}
        rows = [{"rank": rank, "seed": s, "rounds": count, "left": x} for s in (0, 1) for count, x in left.items()]
        return of_table(tmp_path, "C10", "low-rank", rows)

    assert verdict() == "reproduced"
    assert verdict(at_400=0.06) == "partly"
    assert verdict(later=0.04) == "contradicted"
    assert verdict(rank=4) == "not shown"


# -- formulas ----------------------------------------------------------------------------------------------------------


def test_c1_and_c3_allow_no_other_number(tmp_path: Path) -> None:
    rows = [{"topology": name, "workers": 16, "rate": expected_rate(name, 16)} for name in gossip_rounds.SIZES]
    assert of_table(tmp_path, "C1", "consensus", rows) == "reproduced"
    assert of_table(tmp_path, "C1", "consensus", [*rows, rows[0] | {"rate": 0.95}]) == "contradicted"
    gaps = [{"workers": 6, "gap": 0.5}, {"workers": 10, "gap": 0.4}]
    assert of_table(tmp_path, "C3", "exponential-gap", gaps) == "reproduced"
    assert of_table(tmp_path, "C3", "exponential-gap", [*gaps, {"workers": 5, "gap": 0.75}]) == "contradicted"


def test_c2_needs_exactness_at_powers_of_two_alone(tmp_path: Path) -> None:
    for left, other, expected in ((1e-16, 0.1, "reproduced"), (1e-9, 0.1, "contradicted"), (1e-16, 0, "contradicted")):
        rows = [{"workers": 8, "rounds": 3, "left": left}, {"workers": 6, "rounds": 3, "left": other}]
        assert of_table(tmp_path, "C2", "one-peer-rounds", rows) == expected


def test_c6_needs_divergence_below_a_third_and_none_above(tmp_path: Path) -> None:
    below = {"topology": "torus", "workers": 16, "lazy": False, "smallest": -0.6, "diverged": 40, "refused": True}
    above = below | {"lazy": True, "smallest": 0.2, "diverged": 0, "refused": False}
    assert of_table(tmp_path, "C6", "d2-stability", [below, above]) == "reproduced"
    assert of_table(tmp_path, "C6", "d2-stability", [below | {"diverged": 0}, above]) == "contradicted"
    assert of_table(tmp_path, "C6", "d2-stability", [below, above | {"diverged": 90}]) == "contradicted"
    assert of_table(tmp_path, "C6", "d2-stability", [below]) == "not shown"


def test_c7_needs_the_mean_and_the_bias(tmp_path: Path) -> None:
    good = {"workers": 4, "push_sum": 1e-15, "row_stochastic": 0.6}
    for wrong in ({}, {"push_sum": 1e-6}, {"row_stochastic": 1e-3}):
        assert of_table(tmp_path, "C7", "directed", [good, good | wrong]) == ("contradicted" if wrong else "reproduced")


def compressed(**left: float) -> list[dict[str, Any]]:
    found = {"low1": 0.03, "high1": 1e9, "low10": 1e-5, "high10": math.inf, "plain": 1e-15} | left
    cases = [("low1", "top-k", 0.01, 0.05), ("high1", "top-k", 0.01, 0.45), ("low10", "top-k", 0.1, 0.15),
             ("high10", "top-k", 0.1, 0.9), ("plain", "identity", 1.0, 1.0)]  # fmt: skip
    return [
        {"compressor": name, "fraction": share, "gamma": gamma, "rounds": 600, "left": found[key]}
        for key, name, share, gamma in cases
        if key in found
    ]


def test_c9_needs_both_sides_of_the_thresholds(tmp_path: Path) -> None:
    assert of_table(tmp_path, "C9", "compression", compressed()) == "reproduced"
    assert of_table(tmp_path, "C9", "compression", compressed(high1=0.5)) == "partly"
    assert of_table(tmp_path, "C9", "compression", compressed(high1=0.5, low10=3.0)) == "contradicted"
    assert of_table(tmp_path, "C9", "compression", compressed()[:3]) == "not shown"


@pytest.mark.parametrize(
    ("even", "uneven", "expected"),
    [
        (1e-3, (0.5, 0.4), "reproduced"),
        (1e-3, (0.5, 0.01), "partly"),
        (1e-3, (0.01, 0.01), "contradicted"),
        (0.1, (0.5, 0.4), "contradicted"),
        (1e-3, (), "not shown"),
    ],
)
def test_c15_needs_exactness_and_bias(tmp_path: Path, even: float, uneven: Any, expected: str) -> None:
    rows = [{"workers": 4, "slowest": 1.0, "scaled": False, "lr": 0.1, "distance": even}]
    rows += [{"workers": 4, "slowest": 3.0, "scaled": False, "lr": 0.1, "distance": one} for one in uneven]
    assert of_table(tmp_path, "C15", "push-bias", rows) == expected


# -- time --------------------------------------------------------------------------------------------------------------


def test_c8_needs_the_longer_of_the_two(tmp_path: Path) -> None:
    rows = [{"algorithm": "sgp", "workers": 4, "transfer_s": 2.0, "step_s": 3.0}]
    for step_s, expected in ((2.05, "reproduced"), (2.5, "contradicted")):
        own = [*rows, {"algorithm": "overlap-sgp", "workers": 4, "transfer_s": 2.0, "step_s": step_s}]
        assert of_table(tmp_path, "C8", "overlap", own) == expected
    assert of_table(tmp_path, "C8", "overlap", rows) == "not shown"


def paces(case: str, first: Any, second: Any, count: int = 3) -> list[dict[str, Any]]:
    return [
        {"algorithm": name, case: value, "seed": seed, "gradients_per_s": pace + 0.001 * seed}
        for value, pace_of in ((first[0], first[1]), (second[0], second[1]))
        for name, pace in pace_of.items()
        for seed in range(count)
    ]


@pytest.mark.parametrize(
    ("even", "uneven", "count", "expected"),
    [(0.9, 0.6, 3, "reproduced"), (0.5, 0.6, 3, "partly"), (0.5, 0.3, 3, "contradicted"), (0.9, 0.6, 2, "not shown")],
)
def test_c11_has_two_ratios(tmp_path: Path, even: float, uneven: float, count: int, expected: str) -> None:
    rest = {"allreduce-sgd": 0.2, "ad-psgd": 0.8}
    rows = paces("slow", (1.0, rest | {"prague": even}), (5.0, rest | {"prague": uneven}), count)
    assert of_table(tmp_path, "C11", "prague", rows) == expected


@pytest.mark.parametrize(
    ("pace", "count", "expected"),
    [(0.6, 3, "reproduced"), (0.3, 3, "partly"), (0.1, 3, "contradicted"), (0.6, 2, "not shown")],
)
def test_c12_needs_twice_the_pace(tmp_path: Path, pace: float, count: int, expected: str) -> None:
    rest = {"allreduce-sgd": 0.2, "d-psgd": 0.2}
    rows = paces("shared", (False, rest | {"ad-psgd": 0.9}), (True, rest | {"ad-psgd": pace}), count)
    assert of_table(tmp_path, "C12", "shared-network", rows) == expected


def test_c16_needs_the_formula_or_at_least_who_is_faster(tmp_path: Path) -> None:
    points = [(n, a, b) for n in (4, 16) for a in (0.0, 0.1) for b in (0.1, 1.0)]

    def found(change: float) -> list[dict[str, Any]]:
        return [
            {"workers": n, "latency_s": a, "transfer_s": b, "gossip_s": 1.0,
             "allreduce_s": expected_ratio(n, a, b) ** change}
            for n, a, b in points
        ]  # fmt: skip

    for change, expected in ((1.0, "reproduced"), (0.5, "partly"), (-1.0, "contradicted")):
        assert of_table(tmp_path, "C16", "crossover", found(change)) == expected
    assert of_table(tmp_path, "C16", "crossover", found(1.0)[:4]) == "not shown"


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "share", "count", "expected"),
    [
        (0.902, 0.25, 3, "reproduced"),
        (0.902, 0.5, 3, "partly"),
        (0.80, 0.25, 3, "contradicted"),
        (0.902, 0.25, 2, "not shown"),
    ],
)
def test_c4_needs_the_accuracy_and_the_bytes(
    tmp_path: Path, ours: float, share: float, count: int, expected: str
) -> None:
    runs = seeds(count, "one-peer", 0.1, ours, workers=16, nbytes=share * 1e9)
    runs += seeds(count, "static", 0.2, 0.9, workers=16)
    assert verdict("C4", evidence(tmp_path, {"one-peer": runs})) == expected


BIAS = [("d-psgd atc", 0.1, 1.0), ("d-psgd atc", 0.05, 0.55), ("d2", 0.2, 1e-14), ("gradient-tracking", 0.1, 1e-14)]


@pytest.mark.parametrize(
    ("gain", "bias", "count", "expected"),
    [
        (0.05, {}, 3, "reproduced"),
        (0.01, {}, 3, "partly"),
        (-0.05, {}, 3, "contradicted"),
        (0.05, {2: 1e-3}, 3, "contradicted"),
        (0.05, {1: 0.9}, 3, "contradicted"),
        (0.05, {}, 2, "not shown"),
    ],
)
def test_c5_needs_quadratics_and_accuracy(
    tmp_path: Path, gain: float, bias: dict[int, float], count: int, expected: str
) -> None:
    table = [
        {"algorithm": name, "lr": lr, "workers": 8, "error": bias.get(k, error)}
        for k, (name, lr, error) in enumerate(BIAS)
    ]
    runs = seeds(count, "d-psgd", 0.1, 0.8)
    for name in ("d2", "exact-diffusion", "gradient-tracking"):
        runs += seeds(count, name, 0.1, 0.8 + gain)
    assert verdict("C5", evidence(tmp_path, {"unlike-data": runs}, {"bias": table})) == expected


@pytest.mark.parametrize(
    ("share", "loss", "count", "expected"),
    [(0.5, 0.51, 3, "reproduced"), (0.5, 0.7, 3, "partly"), (0.8, 0.7, 3, "contradicted"), (0.5, 0.5, 2, "not shown")],
)
def test_c13_needs_half_the_bytes_at_the_same_loss(
    tmp_path: Path, share: float, loss: float, count: int, expected: str
) -> None:
    runs = seeds(count, "half", 0.2, 0.9, nbytes=share * 1e9, loss=loss) + seeds(count, "whole", 0.2, 0.9)
    assert verdict("C13", evidence(tmp_path, {"matchings": runs})) == expected


@pytest.mark.parametrize(
    ("gain", "count", "expected"),
    [(0.02, 3, "reproduced"), (-0.02, 3, "contradicted"), (0.0, 3, "not shown"), (0.02, 2, "not shown")],
)
def test_c14_needs_an_interval_above_zero(tmp_path: Path, gain: float, count: int, expected: str) -> None:
    runs = seeds(count, "slowmo", 0.1, 0.8 + gain) + seeds(count, "local-sgd", 0.1, 0.8)
    assert verdict("C14", evidence(tmp_path, {"slow-momentum": runs})) == expected


# -- experiments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "workers"), [("ring", 4), ("ring", 8), ("torus", 9), ("torus", 16), ("torus", 12),
                                               ("star", 5), ("hypercube", 8), ("exponential", 8)])  # fmt: skip
def test_the_closed_forms_are_the_norms_of_the_matrices(name: str, workers: int) -> None:
    norm = np.linalg.norm(Topology(name).mixing(workers) - 1 / workers, ord=2)
    assert expected_rate(name, workers) == pytest.approx(norm, abs=1e-12)


def test_the_power_method_finds_the_rate_and_unit_vectors_the_matrix() -> None:
    assert gossip_rounds._rate(DPSGD(topology="ring"), 4) == pytest.approx(1 / 3, abs=1e-9)
    read_off = rounds(DPSGD(topology="star"), unit_vectors(4), 1).numpy()
    np.testing.assert_allclose(read_off, Topology("star").mixing(4), atol=1e-15)


def test_pace_is_what_the_network_and_the_slowest_allow() -> None:
    """All-reduce of 4 with one three times slower: 3 s and 2 * 3 / 4 models of 0.1 s."""
    found = pace_of_gossip.pace(
        AllreduceSGD(), 4, 63.0, Compute(gradient_s=1.0, slow={"1": 3.0}), pace_of_gossip.network(0.1)
    )
    assert found.gradients_per_s == pytest.approx(1 / 3.15, rel=1e-6)
    slow = pace_of_gossip.network(0.1, slow={2: 10.0}, ranks=4)
    assert {(link.src, link.dst) for link in slow.link} == {(2, 0), (2, 1), (2, 3), (0, 2), (1, 2), (3, 2)}
