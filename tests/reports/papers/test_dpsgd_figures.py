"""The figures of the paper on self-adjusting learning rates show what its rules read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.papers.dpsgd import PAPER
from analysis.papers.dpsgd.found import finals, losses
from analysis.papers.evidence import Evidence, Missing
from reports.language import language
from reports.papers.base import Draw, PaperFigure
from reports.papers.dpsgd import FIGURES
from tests.support.dpsgd_evidence import HIGH, LOW, inside, minima, studied, sweep, tabled
from tests.support.paper_figures import drawn, material


def figures(evidence: Evidence) -> dict[str, PaperFigure]:
    return drawn(PAPER, FIGURES, evidence)


def frame(figure: PaperFigure) -> pd.DataFrame:
    assert figure.table is not None
    return figure.table.frame


def starred(seeds: int = 3) -> list[dict[str, Any]]:
    return [
        {"label": label, "lr": 0.8, "sigma": sigma, "seed": seed, "loss": 0.9 + seed}
        for label, sigma in (("ssgd-star-other", 0.003), ("ssgd-star", 0.01), ("ssgd-star-other", 0.03))
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("draw", FIGURES)
def test_without_its_part_a_figure_is_missing(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        draw(Evidence(tmp_path, "quick"), material())


def test_ends_over_rates_are_those_of_the_rule(tmp_path: Path) -> None:
    rows = sweep({"dpsgd-own": 1.0, "dpsgd": 0.8, "ssgd": 0.7}) + starred()
    rows[0]["loss"] = 0.15  # one seed of DPSGD at the least rate
    evidence = studied(tmp_path, "sweep", rows)
    found = figures(evidence)
    assert set(found) == {"dpsgd-sweep", "dpsgd-constant-noise"}
    shown, table = frame(found["dpsgd-sweep"]), finals(evidence, "sweep")
    for row in shown.to_dict("records"):
        values = losses(table, row["label"], lr=row["at"])
        assert (row["median"], row["low"], row["high"]) == (sorted(values)[1], values.min(), values.max())
        assert (row["trained"], row["n"]) == ((values < 0.2).sum(), 3)
    assert "all seeds of DPSGD train: 1, of SSGD: 0.7" in found["dpsgd-sweep"].text
    assert "0.100 (0.100 to 0.150) at 0.500" in found["dpsgd-sweep"].svg


def test_constant_noise_stands_beside_those_without_it(tmp_path: Path) -> None:
    evidence = studied(tmp_path, "sweep", sweep({"dpsgd-own": 1.0, "ssgd": 0.7}) + starred())
    shown = frame(figures(evidence)["dpsgd-constant-noise"])
    assert shown.loc[shown["name"] == "SSGD*", "at"].tolist() == [0.003, 0.01, 0.03]
    assert shown.loc[shown["name"] == "SSGD*", "median"].tolist() == [1.9] * 3
    assert shown.loc[shown["name"] == "SSGD", ["at", "median"]].to_numpy().tolist() == [[0.0, 2.0]]
    assert math.isnan(shown.loc[shown["name"] == "DPSGD", "at"].iloc[0])
    without = figures(studied(tmp_path, "sweep", sweep({"dpsgd-own": 1.0, "ssgd": 0.7})))
    assert set(without) == {"dpsgd-sweep"}


def test_runs_that_diverged_are_named_and_stand_on_the_edge(tmp_path: Path) -> None:
    rows = sweep({"dpsgd-own": 0.8, "ssgd": 0.7}, failing=math.inf)
    found = figures(studied(tmp_path, "wikitext", rows))["dpsgd-wikitext"]
    last = frame(found).query("label == 'ssgd' and at == 1.25").iloc[0]
    assert math.isinf(last["median"]) and last["trained"] == 0
    assert found.table is not None and found.table.columns[2].text is not None
    assert found.table.columns[2].text(last["median"]) == "diverged"
    top = 1.25 * math.log(33_278)
    assert f"{top:.1f} at 1.25" in found.svg


def test_what_is_seen_from_inside_is_the_medians_that_the_rules_compare(tmp_path: Path) -> None:
    found = figures(inside(tmp_path, LOW, HIGH))
    assert set(found) == {"dpsgd-effective-rate", "dpsgd-noise", "dpsgd-spread"}
    rate = found["dpsgd-effective-rate"]
    assert "0.10 to 0.10 before step 80 and 0.90 to 0.90 from step 400" in rate.text and "1.0 to 1.0 late" in rate.text
    own = frame(rate).query("line == 'DPSGD'").set_index("x")
    assert own.loc[0, "y"] == pytest.approx(0.1) and own.loc[600, "y"] == pytest.approx(0.9)
    assert (frame(rate).query("line == 'SSGD at the same places'")["y"] == 1).all()
    assert "20 to 20 times" in found["dpsgd-noise"].text and "1.0 to 1.0 times" in found["dpsgd-noise"].text
    assert "5.0 to 5.0 before" in found["dpsgd-spread"].text and "0.50 to 0.50 from" in found["dpsgd-spread"].text


def test_curvature_and_planes_are_of_the_last_snapshot_of_runs_that_trained(tmp_path: Path) -> None:
    found = figures(minima(tmp_path, [0.5, 1.0, 0.7], 0.1, theirs=3.0))
    shown = frame(found["dpsgd-curvature"])
    eigenvalues = shown[shown["part"] == "largest eigenvalue"]
    assert eigenvalues.query("line == 'DPSGD'")["y"].tolist() == [0.5, 1.0, 0.7]
    assert eigenvalues.query("line == 'SSGD'")["y"].tolist() == [3.0] * 3
    assert "DPSGD 0.700, SSGD 3.00" in found["dpsgd-curvature"].text
    # 0.5 nat above the lowest: a^2 + b^2 <= 1 for DPSGD (seed 0), <= 1/6 for SSGD, on a grid of 5 x 5.
    assert frame(found["dpsgd-planes"])["share"].tolist() == [1 / 25, 13 / 25]
    (tmp_path / "other").mkdir()
    assert figures(minima(tmp_path / "other", [0.5, 1.0, 0.7], 0.5)) == {}, "nobody trained"


def test_formula_and_smoothing(tmp_path: Path) -> None:
    rows = [
        {"case": "mnist-mlp", "step": step, "paper": paper, "measured": 2.0, "first_order": 1.0}
        for step, paper in ((40, 8.0), (200, 1.0), (300, 0.5))
    ]
    formula = figures(tabled(tmp_path, "diversity", rows))["dpsgd-formula"]
    assert frame(formula).query("line == 'alpha^2 tr(H^2 C)'")["y"].tolist() == [4.0, 0.5, 0.25]
    assert "0.25 to 0.50" in formula.text, "early steps do not count"
    rows = [
        {"seed": 0, "step": 40, "sigma": s, "factor": s, "eigenvalue": v}
        for s, v in ((0.0, 3.0), (1.0, 2.0), (8.0, 4.0))
    ]
    smooth = figures(tabled(tmp_path, "smoothing", rows))["dpsgd-smoothing"]
    assert frame(smooth)["y"].tolist() == [3.0, 2.0, 4.0]
    assert "from 3.00 without noise to 4.00 with 8 times" in smooth.text


def test_one_slow_learner(tmp_path: Path) -> None:
    law = {"ssgd": lambda s: 1 / s, "dpsgd": lambda s: 1 / s, "ad-psgd": lambda s: (15 + 1 / s) / 16}
    rows = [
        {"label": label, "workload": f"slow-{s}", "seed": 0, "samples": 1e6 * f(s)}
        for label, f in law.items()
        for s in (1, 10, 100)
    ]
    found = figures(studied(tmp_path, "slow", rows))["dpsgd-slow"]
    shown = frame(found).set_index(["name", "slower"])["share"]
    assert shown["SSGD", 100] == pytest.approx(0.01) and shown["AD-PSGD", 10] == pytest.approx(15.1 / 16)


def test_optimisers_and_larger_steps(tmp_path: Path) -> None:
    rows = [
        {"label": label, "lr": lr, "seed": seed, "loss": best * (1 if lr == 0.1 else 9) + 0.01 * seed}
        for label, best in (("dpsgd-own", 0.1), ("lamb", 0.2), ("adamw", 0.3), ("ssgd", 0.4))
        for lr in (0.1, 0.2)
        for seed in range(3)
    ]
    found = figures(studied(tmp_path, "optimizers", rows))["dpsgd-optimisers"]
    assert "DPSGD 0.110 nat at 0.1" in found.text and "LAMB 0.210 nat at 0.1" in found.text
    rows = [
        {"label": label, "workload": f"N{step}", "seed": seed, "loss": 0.15 if step <= edge else 0.3}
        for label, edge in (("dpsgd-own", 2048), ("ssgd", 1024))
        for step in (1024, 1536, 2048)
        for seed in range(3)
    ]
    found = figures(studied(tmp_path, "batches", rows))["dpsgd-batches"]
    assert "DPSGD 2048, SSGD 1024 samples" in found.text
    assert frame(found).query("label == 'ssgd'")["trained"].tolist() == [3, 0, 0]


def test_captions_speak_japanese_and_figures_english(tmp_path: Path) -> None:
    with language("ja"):
        found = figures(studied(tmp_path, "sweep", sweep({"dpsgd-own": 1.0, "ssgd": 0.7})))["dpsgd-sweep"]
    assert "学習率" in found.text and "learning rate" in found.svg
