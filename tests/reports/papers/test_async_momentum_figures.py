"""The figures of asynchrony as momentum show what their rules read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.asynchrony.mean_path import heavy_ball_path
from analysis.asynchrony.server import exponential, quadratic, simulate
from analysis.asynchrony.tuning import best_momentum, penalty_curves
from analysis.papers.async_momentum import PAPER, rates, servers
from analysis.papers.async_momentum.tuning import FIGURE_4, FIGURE_8, grid
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import mean_over_runs
from analysis.theory.delays import constant_limit, memoryless_limit
from reports.papers.async_momentum import FIGURES, momentum
from reports.papers.base import Draw, PaperFigure
from tests.support.momentum_evidence import (
    edge_rows,
    falling,
    geometric,
    mean_rows,
    square_rows,
    studied,
    swept,
    tabled,
)
from tests.support.paper_figures import drawn, material


def figures(found: Evidence) -> dict[str, PaperFigure]:
    return drawn(PAPER, FIGURES, found)


def frame(figure: PaperFigure) -> pd.DataFrame:
    assert figure.table is not None
    return figure.table.frame


@pytest.mark.parametrize("draw", [draw for draw in FIGURES if draw is not momentum.theory])
def test_without_its_part_a_figure_is_missing(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        draw(Evidence(tmp_path, "quick"), material())


@pytest.mark.thorough
def test_theory_beside_the_papers_points_needs_no_run(tmp_path: Path) -> None:
    found = figures(Evidence(tmp_path, "quick"))
    assert set(found) == {"async-theory"}
    shown = frame(found["async-theory"])
    assert shown.query("line == 'read off figure 6'")["y"].tolist() == list(rates.FIGURE_6)
    ours = shown.query("line == 'theorem 7, computed'")
    assert ours["y"].tolist() == [rates.best_explicit(k / 10) for k in range(10)]
    off = np.abs(ours["y"].to_numpy() - rates.FIGURE_6).max()
    assert f"At most {off:.4f}" in found["async-theory"].text


def test_momenta_are_those_of_the_grid(tmp_path: Path) -> None:
    evidence = swept(tmp_path, falling)
    found = figures(evidence)
    assert set(found) == {"async-best", "async-penalty", "async-price", "async-theory"}
    runs, _ = grid(evidence)
    known, shown = best_momentum(runs), frame(found["async-best"])
    own = shown.query("line == 'best of the grid, 95 % interval'")
    for drawn_as, column in (("x", "workers"), ("y", "momentum"), ("low", "low"), ("high", "high")):
        assert own[drawn_as].tolist() == known[column].tolist()
    assert shown.query("line == 'figure 8 of the paper'")["y"].tolist() == list(FIGURE_8.values())
    assert "0.9 (M = 1), 0.5 (M = 2)" in found["async-best"].text
    curves, costs = penalty_curves(runs), frame(found["async-penalty"])
    assert costs.query("line == 'M = 16'")["y"].tolist() == curves.query("workers == 16")["penalty"].tolist()
    assert "1.89 (M = 16)" in found["async-penalty"].text
    price = frame(found["async-price"])
    tuned = price.query("line == 'momentum and rate tuned'")
    assert tuned["y"].tolist() == pytest.approx(known["statistical_penalty"].tolist())
    steps = runs.query("workers == 16 and momentum == 0 and lr == 0.1")["cost"] / known["cost"].iloc[0]
    over = mean_over_runs(steps.to_numpy())
    assert tuned.set_index("x").loc[16, ["low", "high"]].tolist() == [over.low, over.high]
    usual = price.query("line == 'momentum 0.9, rate tuned'").set_index("x")["y"]
    assert usual[16] == pytest.approx(float(tuned.set_index("x")["y"][16]) * 1.9, rel=0.01)
    assert price.query("line == 'figure 4 of the paper, tuned'")["y"].tolist() == list(FIGURE_4.values())


@pytest.mark.thorough
def test_what_is_never_reached_stands_at_the_edge_or_is_left_out(tmp_path: Path) -> None:
    found = figures(swept(tmp_path, lambda m, mu: math.inf if mu == 0.9 else 10.0 * m))
    costs = frame(found["async-penalty"])
    assert (costs.loc[costs["x"] == 0.9, "y"] == momentum.TOP).all() and "never (M = 16)" in found["async-penalty"].text
    usual = frame(found["async-price"]).query("line == 'momentum 0.9, rate tuned'")
    assert usual["y"].isna().all()
    assert set(figures(swept(tmp_path, lambda m, mu: math.inf))) == {"async-theory"}


def test_the_law_is_the_counted_one(tmp_path: Path) -> None:
    rows = geometric(lambda m: 1 / m)
    figure = figures(tabled(tmp_path, "staleness", rows))["async-law"]
    counted = {(row["workers"], row["staleness"]): row["gradients"] for row in rows}
    shown = frame(figure)
    for m in (2, 4, 8):
        total = sum(n for (workers, _), n in counted.items() if workers == m)
        own = shown[shown["line"] == f"M = {m}"]
        assert own["y"].tolist() == [counted[m, tau] / total for tau in own["x"]]
        assert min(counted[m, tau] for tau in own["x"]) >= 20
    assert "1.000 (M = 2), 3.000 (M = 4), 7.000 (M = 8)" in figure.text


def test_ranks_are_means_over_their_runs(tmp_path: Path) -> None:
    evidence, made, events = Evidence(tmp_path, "quick"), [], []
    for k, seed in enumerate(range(3)):
        made.append({"workers": 4, "seed": seed, "steps": 10.0})
        for t in range(420):
            common = {"run_id": f"mpi-staleness-{k}", "rank": 4, "t0_s": t, "t1_s": float(t)}
            late = 2 + 2 * (t % 4 == 0)  # a quarter of them is 4 writes late, the others are 2
            events.append(common | {"kind": "apply", "peer": -1, "staleness_updates": late})
            events.append(common | {"kind": "serve", "peer": t % 4, "staleness_updates": -1})
    studied(evidence, "mpi-staleness", made, pd.DataFrame(events))
    figure = figures(evidence)["async-ranks"]
    shares = frame(figure).set_index("x")["y"]
    assert shares[2] == 0.75 and shares[4] == 0.25 and shares[3] == 0.0
    assert "2.500 (M = 4, n = 3)" in figure.text


def test_paths_stand_beside_their_theories(tmp_path: Path) -> None:
    means = mean_rows(lambda m: 1 - 1 / m, [(m, 0.0) for m in (2, 4)])
    tabled(tmp_path, "mean-path", [row | {"runs": 500 if row["workers"] == 4 else row["runs"]} for row in means])
    rows = []
    for a in np.geomspace(0.02, 0.33, 12):
        w = [1.0]
        for t in range(40):
            w.append(w[-1] - a * w[max(t - 3, 0)])
        rows += [
            {"workers": 4, "law": "fixed", "a": a, "write": t, "mean": m,
             "staleness": json.dumps([0, 0, 0, 5]) if a == 0.02 and t < 40 else ""}
            for t, m in enumerate(w)
        ]  # fmt: skip
    figure = figures(tabled(tmp_path, "other-laws", rows))["async-paths"]
    shown = frame(figure)
    rates_ = sorted({row["a"] for row in mean_rows(lambda m: 1 - 1 / m, [(2, 0.0)])})
    a = min(rates_, key=lambda rate: abs(math.log(rate / (0.25 * memoryless_limit(2)))))
    ball = heavy_ball_path(quadratic([a]), [1.0], writes=30, lr=1.0, implicit=0.5)[:, 0]
    assert shown.query("line == 'M = 2'")["y"].to_numpy() == pytest.approx(ball)
    late = shown.query("line == 'M = 4, equal times'")["y"].to_numpy()
    largest = max(row["a"] for row in rows if row["a"] <= 0.75 * constant_limit(3))
    assert late.tolist() == [row["mean"] for row in rows if row["a"] == largest]
    theorem = shown.query("line == 'theorem 2, counted law'")["y"].to_numpy()
    assert theorem == pytest.approx(late[::3], abs=1e-9), "workers in turn are what theorem 2 says"
    assert "the mean over 500 to 10,000 runs" in figure.text


def test_instruments(tmp_path: Path) -> None:
    made = []
    for workers in (2, 4):
        for kind, noise, writes, runs in (("noiseless", 0.0, 900, 1), ("noisy", 0.01, 100, 40)):
            found = simulate(
                quadratic(np.logspace(-np.log10(50), 0, 20)), np.ones(20), workers=workers, writes=writes, lr=0.05,
                noise=noise, service=exponential, replicas=runs, seed=workers,
            )  # fmt: skip
            made += [
                {"kind": kind, "workers": workers, "run": k, "write": t, "center": w}
                for k, path in enumerate(found.path)
                for t, w in enumerate(path)
            ]
    shown = frame(figures(tabled(tmp_path, "trajectories", made))["async-sensors"])
    sensor, fit = (shown[shown["line"].str.startswith(name)] for name in ("sensor", "least squares"))
    assert sensor["y"].tolist() == pytest.approx([0.5, 0.75], abs=0.02) and sensor["low"].isna().all()
    assert (fit["low"] < fit["y"]).all() and (fit["y"] < fit["high"]).all() and (fit["n"] == 40).all()


def test_limits_are_where_growth_begins(tmp_path: Path) -> None:
    tabled(tmp_path, "mean-path", square_rows(1.0))
    table = edge_rows(1.1, [0, 3, 7])
    shown = frame(figures(tabled(tmp_path, "edges", table))["async-limits"])
    plain = shown.query("line == 'async-sgd, constant staleness'").set_index("x")["y"]
    for delay in (3, 7):
        own = pd.DataFrame([row for row in table if row["staleness"] == delay and row["server"] == "async-sgd"])
        assert plain[delay] == rates.edge(own) == pytest.approx(1.1 * constant_limit(delay), rel=0.01)
    square = shown.query("line == 'memoryless, mean square'")
    assert square["x"].tolist() == [1, 3] and square["y"].iloc[0] == pytest.approx(memoryless_limit(2), rel=0.01)


def test_groups_are_tuned_for_steps(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, "quick")
    made = [
        {"workers": 8, "group_size": 8 // g, "seed": s, "steps": (50 + 5 * g) * 8 / g, "done": 800}
        for g in (1, 2, 4, 8)
        for s in range(3)
    ]
    studied(evidence, "groups", made)
    found, shown = servers.tuned_groups(servers.group_runs(evidence)), frame(figures(evidence)["async-groups"])
    columns = {"seconds per step": "step_s", "steps to the loss": "steps", "seconds to the loss": "time_s"}
    for line, column in columns.items():
        assert shown[shown["line"] == line]["y"].tolist() == pytest.approx(found[column].tolist())
    assert shown.query("line == 'steps to the loss'")["y"].tolist() == pytest.approx([55, 60, 70, 90])


def test_servers_over_their_rates(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, "quick")
    made = [
        {"algorithm": name, "workers": 16, "seed": s, "steps": 10.0, "lr": lr, "accuracy": accuracy - lr + 0.01 * s}
        for name, accuracy in (("async-sgd", 0.9), ("sa-asgd", 0.95))
        for lr in (0.1, 0.3)
        for s in range(3)
    ]
    studied(evidence, "mitigation", made)
    figure = figures(evidence)["async-mitigation"]
    shown = frame(figure)
    assert shown.query("line == 'async-sgd'")["y"].tolist() == pytest.approx([19.0, 39.0])
    assert "async-sgd 19\u00a0% at rate 0.1, sa-asgd 14\u00a0% at rate 0.1" in figure.text
