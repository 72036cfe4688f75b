"""The figures of the EASGD paper show what its rules read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.papers.easgd import PAPER
from analysis.papers.easgd.workers import times
from analysis.papers.evidence import Evidence, Missing
from analysis.theory.easgd import largest_moving_rate
from analysis.theory.easgd_noise import SynchronousEASGD
from reports.papers.base import Draw, PaperFigure
from reports.papers.easgd import FIGURES
from reports.papers.easgd.stability import edges
from tests.support.easgd_evidence import moment_rows, stability_rows, studied, sweep, tabled, timed
from tests.support.paper_figures import drawn, material

PERIODS = (1, 4, 16, 64)


def figures(evidence: Evidence) -> dict[str, PaperFigure]:
    return drawn(PAPER, FIGURES, evidence)


def frame(figure: PaperFigure) -> pd.DataFrame:
    assert figure.table is not None
    return figure.table.frame


@pytest.mark.parametrize("draw", FIGURES)
def test_without_its_part_a_figure_is_missing(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        draw(Evidence(tmp_path, "quick"), material())


def over_periods(error: Callable[[int, int], float], **more: Any) -> list[dict[str, Any]]:
    flat = [row for name in ("easgd", "eamsgd") for row in sweep(name, lambda tau, p: 0.1, periods=PERIODS)]
    return flat + sweep("downpour", error, periods=PERIODS, **more)


def test_errors_over_time_and_period_are_those_of_the_best_rate(tmp_path: Path) -> None:
    found = figures(studied(tmp_path, {"periods": over_periods(lambda tau, p: 0.1 + 0.01 * tau)}))
    assert set(found) == {"easgd-periods-time", "easgd-periods"}
    course = frame(found["easgd-periods-time"]).query("line == 'DOWNPOUR' and part == 'tau = 64'")
    assert course["y"].tolist() == pytest.approx([90.0, 74.01]) and course["n"].tolist() == [3, 3]
    assert course["low"].tolist() == pytest.approx([90.0, 74.0])
    over = frame(found["easgd-periods"]).query("line == 'DOWNPOUR'")
    assert over["x"].tolist() == list(PERIODS) and over["y"].tolist() == pytest.approx([11.01, 14.01, 26.01, 74.01])
    error = 0.01 / math.sqrt(3)
    assert (over["high"] - over["y"]).tolist() == pytest.approx([error] * 4)
    assert "DOWNPOUR ends at 74.0" in found["easgd-periods-time"].text


def test_runs_that_diverged_count_as_guessing(tmp_path: Path) -> None:
    rows = over_periods(lambda tau, p: 0.2)
    for row in rows:
        if row["algorithm"] == "downpour" and row["period"] == 64:
            row |= {"status": "diverged", "errors": row["errors"][:1]}
    found = figures(studied(tmp_path, {"periods": rows}))
    over = frame(found["easgd-periods"]).query("line == 'DOWNPOUR'")
    assert over["y"].tolist()[-1] == pytest.approx(90)


def test_cifar_and_one_worker(tmp_path: Path) -> None:
    rows = sweep("msgd", lambda tau, p: 0.1, workers=(1,)) + sweep("sgd", lambda tau, p: 0.2, workers=(1,))
    evidence = studied(tmp_path, {"sequential": rows, "cifar": over_periods(lambda tau, p: 0.3)})
    found = figures(evidence)
    assert set(found) == {"easgd-cifar", "easgd-sequential"}
    assert "MSGD 10.0 ± 0.0058 % and SGD 20.0" in found["easgd-sequential"].text
    assert "CIFAR-10" in found["easgd-cifar"].text and set(found["easgd-cifar"].claims) == {"A6b", "A8b"}


def test_more_workers(tmp_path: Path) -> None:
    rows = [r for name in ("easgd", "eamsgd") for r in sweep(name, lambda t, p: 0.1 + 0.1 / p, workers=(4, 8, 16))]
    found = figures(studied(tmp_path, {"workers": rows}))
    assert set(found) == {"easgd-workers-time", "easgd-workers"}
    over = frame(found["easgd-workers"]).query("line == 'EASGD'")
    assert over["y"].tolist() == pytest.approx([12.51, 11.26, 10.635])
    assert set(frame(found["easgd-workers-time"])["part"]) == {"p = 4", "p = 8", "p = 16"}


@pytest.mark.thorough
def test_times_to_thresholds_are_those_of_the_rule(tmp_path: Path) -> None:
    rows = [
        row | {"t_s": range(41), "errors": [0.9 if t < at else 0.05 for t in range(41)]}
        for name, at in (("eamsgd", 10), ("downpour", 20), ("mdownpour", 99))
        for row in sweep(name, lambda tau, p: 0.0, workers=(4, 16))
    ]
    evidence = studied(tmp_path, {"workers-paying": rows, "workers": rows})
    found = figures(evidence)["easgd-thresholds"]
    shown = frame(found)
    paying = shown[shown["price"] == "half a gradient"].drop(columns=["name", "price", "percent"])
    expected = times(evidence, "workers-paying")
    pd.testing.assert_frame_equal(paying.reset_index(drop=True), expected)
    assert "10.0 at 15.0" in found.svg
    assert np.isinf(shown.loc[shown["algorithm"] == "mdownpour", "time_s"]).all()
    assert "easgd-thresholds" not in figures(studied(tmp_path, {"workers": rows})), "free exchanges alone"


def test_the_simulated_edge_is_between_the_rates_around_it(tmp_path: Path) -> None:
    found = edges(pd.DataFrame(stability_rows(0.9)))
    limit = 0.9 * found["eta_h"].map(largest_moving_rate)
    assert len(found) > 30 and (np.abs(found["alpha"] - limit) <= 0.05).all()
    assert found["eta_h"].max() <= 2
    made = figures(tabled(tmp_path, "stability-map", stability_rows(0.9)))["easgd-stability"]
    shown = frame(made)
    assert (shown["ratio"] - shown["alpha"] / shown["eta_h"].map(largest_moving_rate)).abs().max() < 1e-12
    assert "p = 1, simulated" in made.svg and "closed form" in made.svg


@pytest.mark.filterwarnings("error")
def test_an_edge_beside_a_rate_that_leaves_nothing() -> None:
    rows = [{"workers": 1, "eta_h": 1.0, "alpha": a, "growth_per_round": g} for a, g in ((0.5, 0.0), (1.0, 2.0))]
    assert 0.5 < edges(pd.DataFrame(rows))["alpha"].item() <= 1.0


def test_nothing_to_draw_where_nothing_grows(tmp_path: Path) -> None:
    calm = [row | {"growth_per_round": 0.9} for row in stability_rows(1.0)]
    assert figures(tabled(tmp_path, "stability-map", calm)) == {}


def test_admm_is_drawn_with_the_run_of_the_papers_example(tmp_path: Path) -> None:
    rows = [{"workers": p, "eta": 0.001, "rho": 2.5, "growth_per_round": g} for p, g in ((2, 0.999), (3, 1.00097))]
    found = figures(tabled(tmp_path, "admm", rows))["easgd-admm"]
    assert "0.99900 per round with p = 2 and 1.00097 per round with p = 3" in found.text and "run: 1.00097" in found.svg
    assert frame(found)["theory"].tolist() == pytest.approx([0.99900, 1.00097], abs=1e-5)


def test_downpours_limit(tmp_path: Path) -> None:
    rows = [{"workers": 4, "eta_h": 0.05, "period": t, "growth": 0.5 if t < 12 else 2.0} for t in (10, 11, 12, 13)]
    found = figures(tabled(tmp_path, "downpour-periods", rows))["easgd-downpour-limit"]
    assert "4 of 4 cases" in found.text and frame(found)["limit"].iloc[0] == pytest.approx(11.5, abs=0.1)
    wrong = [row | {"growth": 0.5} for row in rows]
    assert "2 of 4 cases" in figures(tabled(tmp_path, "downpour-periods", wrong))["easgd-downpour-limit"].text


def test_noise_of_the_center(tmp_path: Path) -> None:
    moments = figures(tabled(tmp_path, "center-moments", moment_rows(1.0)))["easgd-moments"]
    theory = SynchronousEASGD(eta=0.1, beta=0.9, workers=4).center_variance(19)
    assert frame(moments)["y"].tolist() == pytest.approx(theory[2:20].tolist())
    rows = [
        {
            "workers": p, "beta": b, "eta": 0.1, "samples": 1e6, "standard_error": 1e-5,
            "mean_square": 1.02 * SynchronousEASGD(eta=0.1, beta=b, workers=p).workers_times_mse / p,
        }
        for p in (1, 4, 16) for b in (0.9, 0.1)
    ]  # fmt: skip
    error = figures(tabled(tmp_path, "center-error", rows))["easgd-error"]
    assert "at most 2.0\u00a0% away" in error.text and len(frame(error)) == 6
    rows = [{"alpha": a, "seed": k, "distance": 1 / a} for a in (0.1, 0.2, 0.4) for k in range(3)]
    distance = figures(tabled(tmp_path, "exploration", rows))["easgd-exploration"]
    assert frame(distance)["y"].tolist() == [10.0, 5.0, 2.5]


def test_the_time_of_a_step_adds_up(tmp_path: Path) -> None:
    found = figures(timed(tmp_path, lambda p, tau: p / tau))["easgd-breakdown"]
    shown = frame(found).set_index(["workers", "period"])
    assert shown.loc[(4, 1), "comm_s"] == pytest.approx(4.0) and shown.loc[(4, 10), "comm_s"] == pytest.approx(0.4)
    assert shown["compute_s"].tolist() == pytest.approx([10.0] * 6)
    assert (shown["compute_s"] + shown["comm_s"] + shown["other_s"]).tolist() == pytest.approx([50.0] * 6)
    assert "10 times with p = 1" in found.text
