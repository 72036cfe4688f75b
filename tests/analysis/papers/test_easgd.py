"""The rules of EASGD's claims: none can pass whatever it is given. And its experiments, at a tiny size."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.papers.claim import Decision
from analysis.papers.easgd import PAPER
from analysis.papers.evidence import Evidence, Missing
from analysis.theory.easgd import largest_moving_rate
from analysis.theory.easgd_noise import SynchronousEASGD
from bench.budget import Budget
from bench.experiments.easgd import EXPERIMENTS, identities, noise, stability
from tests.support.easgd_evidence import moment_rows, stability_rows, studied, sweep, tabled, timed

CLAIMS = {claim.id: claim for claim in PAPER.claims}


def decided(claim: str, evidence: Evidence) -> Decision:
    return CLAIMS[claim].decide(evidence)


# -- exact claims ------------------------------------------------------------------------------------------------------


def test_a1(tmp_path: Path) -> None:
    assert decided("A1", tabled(tmp_path, "stability-map", stability_rows(1.0))).verdict == "reproduced"
    assert decided("A1", tabled(tmp_path, "stability-map", stability_rows(0.5))).verdict == "contradicted"
    assert decided("A1", tabled(tmp_path, "stability-map", stability_rows(1.0)[:99])).verdict == "not shown"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [({2: 0.999, 3: 1.00097}, "reproduced"), ({2: 0.999, 3: 0.99997}, "contradicted"), ({3: 1.00097}, "not shown")],
)
def test_a2(tmp_path: Path, found: dict[int, float], verdict: str) -> None:
    evidence = tabled(tmp_path, "admm", [{"workers": p, "growth_per_round": g} for p, g in found.items()])
    assert decided("A2", evidence).verdict == verdict


def test_a3(tmp_path: Path) -> None:
    assert decided("A3", tabled(tmp_path, "center-moments", moment_rows(1.0))).verdict == "reproduced"
    assert decided("A3", tabled(tmp_path, "center-moments", moment_rows(1.1))).verdict == "contradicted"
    assert decided("A3", tabled(tmp_path, "center-moments", moment_rows(1.0)[:4])).verdict == "not shown"


def test_a4_and_a5(tmp_path: Path) -> None:
    def error(power: float, samples: float = 2e6) -> Evidence:
        rows = [
            {
                "workers": p, "beta": b, "samples": samples,
                "mean_square": SynchronousEASGD(eta=0.1, beta=b, workers=p).workers_times_mse / p**power,
            }
            for p in (1, 4, 8, 16) for b in (0.9, 0.5, 0.1)
        ]  # fmt: skip
        return tabled(tmp_path, "center-error", rows)

    assert decided("A4", error(1.0)).verdict == "reproduced"
    assert decided("A4", error(0.8)).verdict == "contradicted"
    assert decided("A4", error(1.0, samples=1e4)).verdict == "not shown"

    def average(value: float, count: int = 3) -> Evidence:
        rows = [{"workers": 4, "steps": 100, "alpha": k, "variance": value / 400} for k in range(count)]
        return tabled(tmp_path, "double-average", rows)

    assert decided("A5", average(1.02)).verdict == "reproduced"
    assert decided("A5", average(1.2)).verdict == "contradicted"
    assert decided("A5", average(1.0, count=2)).verdict == "not shown"


def test_a7(tmp_path: Path) -> None:
    def rows(edge: float) -> list[dict[str, Any]]:
        return [
            {"workers": 4, "eta_h": 0.05, "period": t, "growth": 0.5 if t < edge else 2.0} for t in range(6, 17)
        ]  # fmt: skip

    assert decided("A7", tabled(tmp_path, "downpour-periods", rows(11.5))).verdict == "reproduced"
    assert decided("A7", tabled(tmp_path, "downpour-periods", rows(8.5))).verdict == "contradicted"
    assert decided("A7", tabled(tmp_path, "downpour-periods", rows(11.5)[:3])).verdict == "not shown"


def test_a14_and_a15(tmp_path: Path) -> None:
    def net(away: float, moved: float = 0.5, count: int = 2) -> Evidence:
        rows = [{"net": f"n{k}", "delta": 0.9, "worker": away, "center": 0.0, "moved": moved} for k in range(count)]
        return tabled(tmp_path, "heavy-ball", rows)

    assert decided("A14", net(1e-9)).verdict == "reproduced"
    assert decided("A14", net(1e-3)).verdict == "contradicted"
    assert decided("A14", net(0.0, moved=0.0)).verdict == "contradicted", "models that stand still prove nothing"
    assert decided("A14", net(0.0, count=1)).verdict == "not shown"

    def tree(away: float, factor: int = 1) -> Evidence:
        star = 2 * 16 * 10 * 800
        common = {"workers": 16, "steps": 10, "model_nbytes": 800}
        rows = [
            {"degree": 16, "upper_period": 1, "root_nbytes": star, "away": away},
            {"degree": 4, "upper_period": 4, "root_nbytes": factor * star // 4, "away": math.nan},
        ]
        return tabled(tmp_path, "tree", [row | common for row in rows])

    assert decided("A15", tree(0.0)).verdict == "reproduced"
    assert decided("A15", tree(1e-9)).verdict == "contradicted"
    assert decided("A15", tree(0.0, factor=2)).verdict == "contradicted"


# -- learning claims ---------------------------------------------------------------------------------------------------

PERIODS = (1, 4, 16, 64)


def test_a6(tmp_path: Path) -> None:
    def runs(error: Callable[[int, int], float], **more: Any) -> Evidence:
        return studied(tmp_path, {"periods": sweep("downpour", error, periods=PERIODS, **more)})

    found = decided("A6", runs(lambda tau, p: 0.1 + 0.01 * tau))
    assert (found.verdict, found.n) == ("reproduced", 12), "the worse learning rate is not chosen"
    assert decided("A6", runs(lambda tau, p: 0.1 + 0.1 * (tau == 64))).verdict == "partly"
    assert decided("A6", runs(lambda tau, p: 0.9 - 0.01 * tau)).verdict == "contradicted"
    assert decided("A6", runs(lambda tau, p: 0.1)).verdict == "not shown"
    assert decided("A6", runs(lambda tau, p: 0.1 + 0.01 * tau, seeds=2)).verdict == "not shown"


def test_a8(tmp_path: Path) -> None:
    def runs(*errors: Callable[[int, int], float], **more: Any) -> Evidence:
        rows = [
            row
            for name, error in zip(("easgd", "eamsgd"), errors, strict=True)
            for row in sweep(name, error, periods=PERIODS, **more)
        ]
        return studied(tmp_path, {"periods": rows})

    flat, rising = (lambda tau, p: 0.1), (lambda tau, p: 0.1 + 0.01 * tau)
    assert decided("A8", runs(flat, flat)).verdict == "reproduced"
    assert decided("A8", runs(flat, rising)).verdict == "partly"
    assert decided("A8", runs(rising, rising)).verdict == "contradicted"
    assert decided("A8", runs(flat, flat, status="diverged")).verdict == "contradicted"
    assert decided("A8", runs(flat, flat, seeds=1)).verdict == "not shown"


def test_a9(tmp_path: Path) -> None:
    def runs(*errors: Callable[[int, int], float], **more: Any) -> Evidence:
        rows = [
            row
            for name, error in zip(("easgd", "eamsgd"), errors, strict=True)
            for row in sweep(name, error, workers=(4, 8, 16), **more)
        ]
        return studied(tmp_path, {"workers": rows})

    falls, rises = (lambda tau, p: 0.1 + 0.1 / p), (lambda tau, p: 0.1 + 0.01 * p)
    assert decided("A9", runs(falls, falls)).verdict == "reproduced"
    assert decided("A9", runs(falls, rises)).verdict == "partly"
    assert decided("A9", runs(rises, rises)).verdict == "contradicted"
    assert decided("A9", runs(falls, falls, seeds=2)).verdict == "not shown"


def test_a10(tmp_path: Path) -> None:
    def runs(ours: float, theirs: float, seeds: int = 3) -> Evidence:
        """Each falls below all levels at its time; snapshots are 1 apart."""
        rows = [
            row
            for name, at in (("eamsgd", ours), ("downpour", theirs), ("mdownpour", theirs))
            for row in sweep(name, lambda tau, p: 0.0, workers=(4, 16), seeds=seeds)
            for row in [row | {"t_s": range(41), "errors": [0.9 if t < at else 0.05 for t in range(41)]}]
        ]
        return studied(tmp_path, {"workers-paying": rows, "workers": rows})

    assert decided("A10", runs(10, 20)).verdict == "reproduced"
    assert decided("A10", runs(20, 10)).verdict == "contradicted"
    assert decided("A10", runs(10, 99)).verdict == "reproduced", "who never gets there is last"
    assert decided("A10", runs(99, 99)).verdict == "not shown"
    assert decided("A10", runs(10, 20, seeds=2)).verdict == "not shown"


def test_a12(tmp_path: Path) -> None:
    def runs(msgd: float, seeds: int = 3) -> Evidence:
        rows = sweep("msgd", lambda tau, p: msgd, workers=(1,), seeds=seeds)
        for name in ("sgd", "asgd", "mvasgd"):
            rows += sweep(name, lambda tau, p: 0.2, workers=(1,), seeds=seeds)
        return studied(tmp_path, {"sequential": rows})

    assert decided("A12", runs(0.1)).verdict == "reproduced"
    assert decided("A12", runs(0.3)).verdict == "contradicted"
    assert decided("A12", runs(0.2)).verdict == "not shown"
    assert decided("A12", runs(0.1, seeds=2)).verdict == "not shown"


def test_a13(tmp_path: Path) -> None:
    def rows(distance: Callable[[float], float], seeds: int = 3) -> Evidence:
        alphas = (0.1, 0.2, 0.4, 0.8)
        made = [{"alpha": a, "seed": k, "distance": distance(a)} for a in alphas for k in range(seeds)]
        return tabled(tmp_path, "exploration", made)

    assert decided("A13", rows(lambda a: 1 / a)).verdict == "reproduced"
    assert decided("A13", rows(lambda a: a)).verdict == "contradicted"
    assert decided("A13", rows(lambda a: 1 / a, seeds=2)).verdict == "not shown"


def test_a11(tmp_path: Path) -> None:
    def told(wait_ms: Callable[[int, int], float], **more: Any) -> Decision:
        return decided("A11", timed(tmp_path, wait_ms, **more))

    right = told(lambda p, tau: p / tau)
    assert right.verdict == "reproduced" and right.measured == pytest.approx(10)
    assert told(lambda p, tau: p / tau, slower=0.5).verdict == "partly", "gradients are not flat"
    assert told(lambda p, tau: p).verdict == "partly", "waiting does not fall with tau"
    assert told(lambda p, tau: 1 / p).verdict == "contradicted"
    assert told(lambda p, tau: p / tau, spare=8).verdict == "contradicted"
    assert told(lambda p, tau: p / tau, workers=1).verdict == "not shown"


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_without_evidence_nothing_is_decided(claim: str, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        decided(claim, Evidence(tmp_path, "quick"))


def test_failed_runs_are_no_evidence(tmp_path: Path) -> None:
    rows = sweep("downpour", lambda tau, p: 0.1 * tau, periods=(1, 4, 16), status="failed")
    with pytest.raises(Missing, match="failed"):
        decided("A6", studied(tmp_path, {"periods": rows}))


# -- experiments -------------------------------------------------------------------------------------------------------


def test_every_experiment_is_a_part() -> None:
    assert {part.name for part in PAPER.parts if part.kind == "experiment"} == set(EXPERIMENTS)
    assert {part for claim in PAPER.claims for part in claim.parts} == {part.name for part in PAPER.parts}


def test_the_center_of_a_run_is_added_up_once_a_step() -> None:
    # Without noise and from 1, the mean of the center over its steps is known.
    total = torch.zeros(1, dtype=torch.float64)
    run = noise._run(4, 0.9, 1, seed=0, start=1.0, watched=total)
    run.workload._noise = 0.0  # type: ignore[attr-defined]
    run.run(Budget(steps=7, snapshots=1))
    theory = SynchronousEASGD(eta=noise.ETA, beta=0.9, workers=4)
    assert float(total[0]) == pytest.approx(theory.center_mean(7, workers_at=1.0, center_at=1.0)[1:].sum(), rel=1e-12)


@pytest.mark.thorough
def test_the_map_at_a_tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "DIMENSION", 6)
    monkeypatch.setitem(stability.ALPHAS, "quick", 3)
    rows = pd.DataFrame(stability.easgd_map("quick"))
    assert len(rows) == 3 * 3 * 6
    limit = np.array([largest_moving_rate(e) if e <= 2 else -1.0 for e in rows["eta_h"]])
    clear = np.abs(rows["alpha"] - limit) > 0.02
    assert ((rows["growth_per_round"] < 1) == (rows["alpha"] < limit))[clear].all()
    assert 10 < (rows["growth_per_round"] < 1).sum() < 50


def test_a_tree_of_depth_one_and_a_deeper_one(tmp_path: Path) -> None:
    evidence = tabled(tmp_path, "tree", identities.tree("quick"))
    assert decided("A15", evidence).verdict == "reproduced"
