"""The rules of the claims on asynchrony as momentum: none can pass whatever it is given. And its experiments, tiny."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.asynchrony.server import exponential, quadratic, simulate
from analysis.papers.async_momentum import PAPER, mean_path, rates, servers
from analysis.papers.claim import Decision
from analysis.papers.evidence import Evidence, Missing
from analysis.theory.delays import memoryless_limit
from bench.experiments.async_momentum import EXPERIMENTS, edges, ensembles
from bench.experiments.quadratics import MEMORYLESS
from tests.support.momentum_evidence import (
    SETTINGS,
    edge_rows,
    falling,
    geometric,
    mean_rows,
    square_rows,
    studied,
    swept,
    tabled,
)

CLAIMS = {claim.id: claim for claim in PAPER.claims}


def decided(claim: str, evidence: Evidence) -> Decision:
    return CLAIMS[claim].decide(evidence)


# -- exact claims ------------------------------------------------------------------------------------------------------


def test_b1(tmp_path: Path) -> None:
    assert decided("B1", tabled(tmp_path, "staleness", geometric(lambda m: 1 / m))).verdict == "reproduced"
    assert decided("B1", tabled(tmp_path, "staleness", geometric(lambda m: 0.9 / m))).verdict == "contradicted"
    assert decided("B1", tabled(tmp_path, "staleness", geometric(lambda m: 1 / m, 1000))).verdict == "not shown"


def test_b3(tmp_path: Path) -> None:
    right, wrong = (lambda m: 1 - 1 / m), (lambda m: 0.8 * (1 - 1 / m))
    assert decided("B3", tabled(tmp_path, "mean-path", mean_rows(right, SETTINGS))).verdict == "reproduced"
    assert decided("B3", tabled(tmp_path, "mean-path", mean_rows(wrong, SETTINGS))).verdict == "contradicted"
    assert decided("B3", tabled(tmp_path, "mean-path", mean_rows(right, SETTINGS[:2]))).verdict == "not shown"


def drawn_rows(rng: np.random.Generator, runs: int = 250) -> list[dict[str, Any]]:
    """A table of mean paths of workers that write in random order, for which heavy ball is exact."""
    rows = []
    for workers, writes in ((4, 60), (8, 80), (16, 160)):
        momenta, shares = (0.0, 0.3, -0.5), (0.1, 0.25, 0.5)
        mu = np.repeat(momenta, len(shares))[:, None]
        a = np.array([share * memoryless_limit(workers, m) for m in momenta for share in shares])[:, None]
        x, v = np.ones((mu.size, runs)), np.zeros((mu.size, runs))
        read = np.ones((workers, mu.size, runs))
        for t in range(writes + 1):
            rows += [
                {"workers": workers, "momentum": float(mu[i, 0]), "law": "exponential", "a": float(a[i, 0]), "write": t,
                 "runs": runs, "mean": x[i].mean(), "mean_square": (x[i] ** 2).mean(), "staleness": ""}
                for i in range(mu.size)
            ]  # fmt: skip
            who = rng.integers(workers, size=runs)
            v = mu * v - a * read[who, :, np.arange(runs)].T
            x = x + v
            read[who, :, np.arange(runs)] = x.T
    return rows


@pytest.mark.thorough
def test_b3_leaves_room_for_chance_over_a_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tables = [tabled(tmp_path / str(k), "mean-path", drawn_rows(rng)) for k in range(20)]
    assert {decided("B3", table).verdict for table in tables} == {"reproduced"}
    monkeypatch.setattr(mean_path, "ERRORS", 3.0)
    assert "partly" in {decided("B3", table).verdict for table in tables}


def test_b4(tmp_path: Path) -> None:
    def rows(late: int, a_least: float = 0.02) -> Evidence:
        """Workers in turn that say a staleness of 3, but are `late` writes behind."""
        made = []
        for a in np.geomspace(a_least, 0.33, 12):
            w = [1.0]
            for t in range(40):
                w.append(w[-1] - a * w[max(t - late, 0)])
            made += [
                {
                    "workers": 4, "law": "fixed", "a": a, "write": t, "mean": m,
                    "staleness": json.dumps([0, 0, 0, 5]) if a == a_least and t < 40 else "",
                }
                for t, m in enumerate(w)
            ]  # fmt: skip
        return tabled(tmp_path, "other-laws", made)

    assert decided("B4", rows(3)).verdict == "reproduced"
    assert decided("B4", rows(0)).verdict == "contradicted"
    assert decided("B4", rows(3, a_least=0.3)).verdict == "reproduced"


def test_b5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decided("B5", Evidence(tmp_path, "quick")).verdict == "reproduced"
    monkeypatch.setattr(rates, "FIGURE_6", tuple(-value for value in rates.FIGURE_6))
    assert decided("B5", Evidence(tmp_path, "quick")).verdict == "contradicted"


def test_b10_and_c1(tmp_path: Path) -> None:
    tabled(tmp_path, "mean-path", square_rows(1.0))
    assert decided("B10", tabled(tmp_path, "edges", edge_rows(1.0))).verdict == "reproduced"
    assert decided("C1", Evidence(tmp_path, "quick")).verdict == "reproduced"
    assert decided("B10", tabled(tmp_path, "edges", edge_rows(1.1))).verdict == "contradicted"
    assert decided("C1", Evidence(tmp_path, "quick")).verdict == "contradicted"
    assert decided("B10", tabled(tmp_path, "edges", edge_rows(1.0, [3]))).verdict == "not shown"
    assert decided("C1", Evidence(tmp_path, "quick")).verdict == "not shown"
    tabled(tmp_path, "mean-path", square_rows(1.2))
    assert decided("B10", tabled(tmp_path, "edges", edge_rows(1.0))).verdict == "contradicted"


def test_the_edge_in_mean_square_is_the_limit() -> None:
    table = pd.DataFrame(square_rows(1.0))
    for workers in (2, 4):
        found = rates.square_edge(table[table["workers"] == workers], workers)
        assert found == pytest.approx(memoryless_limit(workers), rel=0.005)
    assert math.isnan(rates.square_edge(table[table["workers"] == 2], 4)), "too few writes"
    assert math.isnan(rates.edge(pd.DataFrame({"a": [1.0, 2.0], "grows": [False, False]})))


def test_c2(tmp_path: Path) -> None:
    def rows(away: float, plain: float = 1.0, count: int = 3) -> Evidence:
        made = [{"workers": m, "away": away, "plain": plain} for m in (2, 8, 16)[:count]]
        return tabled(tmp_path, "compensation", made)

    assert decided("C2", rows(1e-12)).verdict == "reproduced"
    assert decided("C2", rows(1e-6)).verdict == "contradicted"
    assert decided("C2", rows(0.0, plain=0.0)).verdict == "contradicted", "nothing was late"
    assert decided("C2", rows(0.0, count=1)).verdict == "not shown"


def test_b9(tmp_path: Path) -> None:
    def rows(said: Callable[[int], int], everyone: bool = True) -> Evidence:
        """Paths of the model system, with `said(M)` workers said to be M."""
        made = []
        for workers in (2, 4, 8, 16) if everyone else (2,):
            for kind, noise, writes, runs in (("noiseless", 0.0, 900, 1), ("noisy", 0.01, 150, 150)):
                h = np.logspace(-np.log10(50), 0, 20)
                found = simulate(
                    quadratic(h), np.ones(20), workers=said(workers), writes=writes, lr=0.05, noise=noise,
                    service=exponential, replicas=runs, seed=workers,
                )  # fmt: skip
                made += [
                    {"kind": kind, "workers": workers, "run": k, "write": t, "center": w}
                    for k, path in enumerate(found.path)
                    for t, w in enumerate(path)
                ]
        return tabled(tmp_path, "trajectories", made)

    assert decided("B9", rows(lambda m: m)).verdict == "reproduced"
    assert decided("B9", rows(lambda m: 2 * m)).verdict == "contradicted"
    assert decided("B9", rows(lambda m: m, everyone=False)).verdict == "not shown"


# -- learning claims and real ranks ------------------------------------------------------------------------------------


def test_b6_b7_b8(tmp_path: Path) -> None:
    found = swept(tmp_path, falling)
    assert [decided(claim, found).verdict for claim in ("B6", "B7", "B8")] == ["reproduced"] * 3
    assert decided("B7", found).measured == pytest.approx(1.9, rel=0.01)
    opposite = swept(tmp_path, lambda m, mu: 400 / m * (1 + abs(mu - (m - 16) / 32)))
    assert [decided(claim, opposite).verdict for claim in ("B6", "B8")] == ["contradicted"] * 2
    flat = swept(tmp_path, lambda m, mu: 100.0)
    assert decided("B7", flat).verdict == "contradicted"
    assert [decided(claim, flat).verdict for claim in ("B6", "B8")] == ["not shown", "contradicted"]
    few = swept(tmp_path, falling, seeds=2)
    assert [decided(claim, few).verdict for claim in ("B6", "B7", "B8")] == ["not shown"] * 3
    never = swept(tmp_path, lambda m, mu: math.inf)
    assert [decided(claim, never).verdict for claim in ("B6", "B7", "B8")] == ["not shown"] * 3


def test_b7_a_momentum_that_never_gets_there_costs_without_bound(tmp_path: Path) -> None:
    found = decided("B7", swept(tmp_path, lambda m, mu: math.inf if mu == 0.9 else 10.0))
    assert found.verdict == "reproduced" and math.isnan(found.measured)


def test_b11(tmp_path: Path) -> None:
    def rows(steps: Callable[[int], float], done: Callable[[int], int], seeds: int = 3) -> Evidence:
        """Samples of all members to the target, and gradients in the run, by number of groups."""
        evidence = Evidence(tmp_path, "quick")
        made = [
            {"workers": 8, "group_size": 8 // g, "seed": s, "steps": steps(g) * 8 / g, "done": done(g) * 8 // g}
            for g in (1, 2, 4, 8)
            for s in range(seeds)
        ]
        studied(evidence, "groups", made)
        return evidence

    good = rows(lambda g: 50 + 5 * g, lambda g: 100 * g)
    assert decided("B11", good).verdict == "reproduced"
    table = servers.tuned_groups(servers.group_runs(good))
    assert table["step_s"].tolist() == pytest.approx([10, 5, 2.5, 1.25])
    assert table["steps"].tolist() == pytest.approx([55, 60, 70, 90])
    assert decided("B11", rows(lambda g: 60 - 5 * g, lambda g: 100 * g)).verdict == "partly"
    assert decided("B11", rows(lambda g: 60 - 5 * g, lambda g: 800 // g)).verdict == "contradicted"
    assert decided("B11", rows(lambda g: 50 + 5 * g, lambda g: 100 * g, seeds=1)).verdict == "not shown"


def test_c3(tmp_path: Path) -> None:
    def rows(others: tuple[float, float, float], seeds: int = 3) -> Evidence:
        evidence = Evidence(tmp_path, "quick")
        accuracy = dict(zip(("async-sgd", *servers.MITIGATED), (0.9, *others), strict=True))
        made = [
            {"algorithm": name, "workers": 16, "seed": s, "steps": 10.0, "accuracy": a + 1e-3 * s}
            for name, a in accuracy.items()
            for s in range(seeds)
        ]
        studied(evidence, "mitigation", made)
        return evidence

    assert decided("C3", rows((0.95, 0.9, 0.9))).verdict == "reproduced"
    assert decided("C3", rows((0.95, 0.8, 0.9))).verdict == "partly"
    assert decided("C3", rows((0.8, 0.9, 0.9))).verdict == "contradicted"
    assert decided("C3", rows((0.9, 0.9, 0.9))).verdict == "not shown"
    assert decided("C3", rows((0.95, 0.9, 0.9), seeds=2)).verdict == "not shown"


def test_b2(tmp_path: Path) -> None:
    def rows(late: Callable[[int], int], seeds: int = 3) -> Evidence:
        evidence, made, events = Evidence(tmp_path, "quick"), [], []
        for k, (workers, seed) in enumerate((m, s) for m in (2, 4) for s in range(seeds)):
            made.append({"workers": workers, "seed": seed, "steps": 10.0})
            for t in range(400):
                common = {"run_id": f"mpi-staleness-{k}", "rank": workers, "t0_s": t, "t1_s": float(t)}
                events.append(common | {"kind": "apply", "peer": -1, "staleness_updates": late(workers)})
                events.append(common | {"kind": "serve", "peer": t % workers, "staleness_updates": -1})
        studied(evidence, "mpi-staleness", made, pd.DataFrame(events))
        return evidence

    assert decided("B2", rows(lambda m: m - 1)).verdict == "reproduced"
    assert decided("B2", rows(lambda m: m)).verdict == "contradicted"
    assert decided("B2", rows(lambda m: 1)).verdict == "partly"
    assert decided("B2", rows(lambda m: m - 1, seeds=2)).verdict == "not shown"


@pytest.mark.parametrize("claim", sorted(set(CLAIMS) - {"B5"}))  # B5 is the theory beside a figure
def test_without_evidence_nothing_is_decided(claim: str, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        decided(claim, Evidence(tmp_path, "quick"))


# -- experiments -------------------------------------------------------------------------------------------------------


def test_every_experiment_is_a_part() -> None:
    assert {part.name for part in PAPER.parts if part.kind == "experiment"} == set(EXPERIMENTS)
    assert {part for claim in PAPER.claims for part in claim.parts} == {part.name for part in PAPER.parts}


def test_a_path_holds_every_write_and_its_staleness() -> None:
    path, staleness = ensembles._path(3, 0.0, MEMORYLESS, 1, 0.5, 4, 8.0, writes=25)
    assert path.shape == (26, 4) and len(staleness) == 25
    h = 0.5 * np.logspace(-np.log10(8.0), 0, 4)
    for t, late in enumerate(staleness):
        assert path[t + 1] == pytest.approx(path[t] - h * path[t - late], abs=1e-14)


def test_a_run_that_is_given_up_after_its_last_write_has_the_path_of_one_that_goes_on() -> None:
    longer, late = ensembles._path(3, 0.3, MEMORYLESS, 1, 0.5, 4, 8.0, writes=60)
    shorter, staleness = ensembles._path(3, 0.3, MEMORYLESS, 1, 0.5, 4, 8.0, writes=25)
    assert np.array_equal(shorter, longer[:26]) and staleness == late[:25]


def test_moments_of_a_small_ensemble() -> None:
    rows = pd.DataFrame(ensembles._moments(2, 0.0, MEMORYLESS, "exponential", writes=6, runs=5))
    assert len(rows) == ensembles.DIMENSION * 7
    assert (rows.loc[rows["write"] == 0, "mean"] == 1).all()
    assert sum(sum(json.loads(s)) for s in rows["staleness"] if s) == 6 * 5


def test_compensation_by_the_registered_server(tmp_path: Path) -> None:
    evidence = tabled(tmp_path, "compensation", edges.exact_compensation("quick"))
    assert decided("C2", evidence).verdict == "reproduced"
