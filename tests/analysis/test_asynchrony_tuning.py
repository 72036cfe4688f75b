"""The best explicit momentum of a grid of runs: tables worked out by hand, the model system, and real runs.

B6, B7 and B8: Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774, figures 3, 4 and 8.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import paceline
from analysis.asynchrony.recorded import implicit_momentum, staleness_by_worker
from analysis.asynchrony.server import quadratic, simulate
from analysis.asynchrony.tuning import best_momentum, momentum_grid, penalty_curves, trend
from analysis.targets import time_to_target
from bench.records import load

NEVER = math.nan


def grid(costs: dict[tuple[int, float, float], list[float]]) -> pd.DataFrame:
    """(workers, momentum, lr) -> the cost with seed 0, 1, .."""
    return pd.DataFrame(
        [(*setting, seed, cost) for setting, of_seeds in costs.items() for seed, cost in enumerate(of_seeds)],
        columns=["workers", "momentum", "lr", "seed", "cost"],
    )


BY_HAND = {
    (1, 0.0, 0.1): [40.0, 44.0, 36.0],
    (1, 0.0, 0.2): [30.0, NEVER, 20.0],  # faster where it works, but it does not always
    (1, 0.5, 0.1): [20.0, 22.0, 18.0],
    (1, 0.9, 0.1): [50.0, 60.0, 55.0],
    (4, -0.3, 0.1): [60.0, 60.0, 63.0],
    (4, 0.0, 0.1): [60.0, 62.0, 58.0],
    (4, 0.9, 0.1): [NEVER, 500.0, NEVER],
    (4, 0.9, 0.2): [NEVER, NEVER, NEVER],
}


def test_penalty_curves_by_hand() -> None:
    curves = penalty_curves(grid(BY_HAND)).set_index(["workers", "momentum"])
    assert curves["cost"].tolist() == [40.0, 20.0, 55.0, 61.0, 60.0, math.inf]
    assert curves["penalty"].tolist() == pytest.approx([2.0, 1.0, 2.75, 61 / 60, 1.0, math.inf])
    assert curves["reached"].tolist() == [3, 3, 3, 3, 3, 1]
    assert curves["lr"].tolist() == [0.1] * 6  # where none reaches the target with all seeds, that with which most did
    assert (curves["seeds"] == 3).all()


def test_best_momentum_by_hand() -> None:
    best = best_momentum(grid(BY_HAND)).set_index("workers")
    assert best["momentum"].tolist() == [0.5, 0.0]
    assert best["statistical_penalty"].tolist() == [1.0, 3.0]
    assert best.loc[1, ["low", "high", "as_good_low", "as_good_high"]].tolist() == [0.5] * 4
    # Seed 0 alone cannot tell -0.3 from 0, and 61 is within 5 % of 60.
    assert best.loc[4, ["low", "high", "as_good_low", "as_good_high"]].tolist() == [-0.3, 0.0, -0.3, 0.0]
    assert not best["is_flat"].any()
    assert best["at_edge"].tolist() == [False, False]
    tight = best_momentum(grid(BY_HAND), flat=0.01).set_index("workers")
    assert tight.loc[4, "as_good_low"] == 0.0


def test_a_flat_minimum_an_edge_and_no_minimum_are_told() -> None:
    flat = {(2, mu, 0.1): [100.0 + mu] for mu in (-0.5, 0.0, 0.5)}
    edge = {(4, mu, 0.1): [100.0 * (1 + mu)] for mu in (-0.5, 0.0, 0.5)}
    never = {(8, mu, 0.1): [NEVER] for mu in (-0.5, 0.0, 0.5)}
    best = best_momentum(grid(flat | edge | never)).set_index("workers")
    assert best["is_flat"].tolist() == [True, False, False]
    assert best["at_edge"].tolist() == [True, True, False]
    assert math.isnan(best.loc[8, "momentum"])
    assert best[["low", "high"]].isna().all(axis=None)  # one seed has no interval
    assert best.loc[8, "seeds"] == 1


def test_the_interval_chooses_anew_in_each_draw() -> None:
    """Two momenta, four seeds, equal means but for one seed: drawn with probability (3/4)^4 = 32 %, so both are in it;
    a difference in all seeds leaves one."""
    close = {(2, 0.0, 0.1): [10.0, 10.0, 10.0, 10.0], (2, 0.3, 0.1): [10.1, 10.1, 10.1, 5.0]}
    assert best_momentum(grid(close)).loc[0, ["momentum", "low", "high"]].tolist() == [0.3, 0.0, 0.3]
    clear = {(2, 0.0, 0.1): [10.0, 10.0, 10.0, 10.0], (2, 0.3, 0.1): [9.0, 9.5, 9.9, 5.0]}
    assert best_momentum(grid(clear)).loc[0, ["momentum", "low", "high"]].tolist() == [0.3] * 3


def test_the_order_of_the_runs_does_not_matter() -> None:
    runs = grid(BY_HAND)
    shuffled = runs.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(best_momentum(runs), best_momentum(shuffled))
    pd.testing.assert_frame_equal(penalty_curves(runs), penalty_curves(shuffled))


def test_tables_that_cannot_be_compared_are_refused() -> None:
    runs = grid(BY_HAND)
    with pytest.raises(ValueError, match=r"a table of runs with the columns .* is needed: missing \['cost'\]"):
        penalty_curves(runs.drop(columns="cost"))
    with pytest.raises(ValueError, match="missing rows"):
        best_momentum(runs.iloc[:0])
    with pytest.raises(ValueError, match="each setting may have one run per seed: got two of"):
        penalty_curves(pd.concat([runs, runs.iloc[:1]]))
    with pytest.raises(
        ValueError, match=r"all settings of 1 workers must be run with the same seeds: momentum 0, lr 0\.1"
    ):
        penalty_curves(runs.iloc[1:])
    with pytest.raises(ValueError, match="flat must be at least 0: got -1"):
        best_momentum(runs, flat=-1.0)


@pytest.mark.parametrize("momenta", [[0.6, 0.6, 0.3, 0.6, 0.0], [0.1, 0.2, 0.3], [0.3, 0.0, -0.2, -0.2, -0.7, -0.6]])
def test_the_trend_is_spearmans_with_all_orders_counted(momenta: list[float]) -> None:
    workers = 2 ** np.arange(len(momenta))
    rho, p = trend(pd.DataFrame({"workers": workers, "momentum": momenta}))
    assert rho == pytest.approx(spearmanr(workers, momenta).statistic, abs=1e-12)
    orders = [spearmanr(workers, order).statistic for order in itertools.permutations(momenta)]
    assert p == pytest.approx(np.mean(np.array(orders) <= rho + 1e-9), abs=1e-12)


def test_trends_of_many_and_of_few() -> None:
    many = pd.DataFrame({"workers": np.arange(1, 13), "momentum": [0.9, 0.8, 0.85, *np.linspace(0.7, -0.5, 9)]})
    rho, p = trend(many)
    assert rho < -0.97
    assert p < 1e-6
    for few in ([0.1, 0.1, 0.1], [0.3, 0.1], [math.nan, 0.3, 0.1]):
        found = trend(pd.DataFrame({"workers": np.arange(1, len(few) + 1), "momentum": few}))
        assert all(map(math.isnan, found))


def writes_to_target(workers: int, momentum: float, lr: float, seeds: int) -> np.ndarray:
    """Writes after which the loss of a quadratic, condition number 10, stays below 1e-4 of what it was [seeds]."""
    curvatures, writes = np.geomspace(0.1, 1, 10), int(40 * workers**0.7)
    with np.errstate(over="ignore", invalid="ignore"):
        runs = simulate(
            quadratic(curvatures), np.ones(10), workers=workers, writes=writes, lr=lr, momentum=momentum,
            replicas=seeds, seed=1,
        )  # fmt: skip
        above = ~(runs.path**2 @ curvatures <= 1e-4 * curvatures.sum())
    first = writes + 1 - above[:, ::-1].argmax(1)
    return np.where(above[:, -1], NEVER, first)


@pytest.mark.thorough
def test_the_best_momentum_falls_with_the_number_of_workers() -> None:
    """B6: Spearman below -.8, single minima flat; B7: a momentum of .9 costs at least half as much again as the best;
    B8: more workers need more writes."""
    rows = [
        (workers, momentum, lr, seed, cost)
        for workers in (1, 2, 4, 8, 16, 32)
        for momentum in np.linspace(-0.9, 0.9, 9)
        for lr in 0.1 * 1.25 ** np.arange(15)
        for seed, cost in enumerate(writes_to_target(workers, momentum, lr, 40))
    ]
    runs = pd.DataFrame(rows, columns=["workers", "momentum", "lr", "seed", "cost"])
    best = best_momentum(runs)
    rho, p = trend(best)
    assert rho < -0.8
    assert p < 0.05
    assert best["momentum"].iloc[0] > 0 > best["momentum"].iloc[-1]
    assert (np.diff(best["statistical_penalty"]) > 0).all()
    # With 16 workers and more a third of the grid is within 5 % of the best.
    assert (best["as_good_high"] - best["as_good_low"]).iloc[-2:].min() > 0.6
    curves = penalty_curves(runs)
    assert (curves.loc[curves["momentum"] == 0.9, "penalty"] >= 1.5).all()
    # The gain of negative momentum over none is small on a quadratic: no factor of two.
    plain = curves[np.isclose(curves["momentum"], 0) & (curves["workers"].between(4, 16))]
    assert plain["penalty"].between(1, 1.2).all()


STUDY = """
name = "grid"
seeds = [0, 1, 2]
workers = [2, 8]
transports = ["simulated"]
[network]
latency_s = 0.0
bandwidth_Gbit_per_s = inf
[[workload]]
name = "quadratic"
optimizer = {{ name = "sgd", lr = 0.1 }}
target_loss = 0.5
budget = {{ seconds = 1.5, snapshots = 60 }}
compute = {{ gradient_s = 0.01, distribution = "exponential" }}
{algorithms}
"""


@pytest.mark.slow
def test_a_study_from_its_runs_to_the_best_momentum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`paceline run` in the simulator: grid, penalty and implicit momentum of what it wrote."""
    algorithms = "\n".join(
        f'[[algorithm]]\nname = "async-sgd"\nlabel = "{momentum}"\nmomentum = {momentum}' for momentum in (-0.5, 0.5)
    )
    (tmp_path / "study.toml").write_text(STUDY.format(algorithms=algorithms))
    assert paceline.main(["run", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out")]) == 0
    results = load(tmp_path / "out")
    runs = momentum_grid(results.runs, time_to_target(results.heldout, results.runs))
    assert sorted(runs["momentum"].unique()) == [-0.5, 0.5]
    assert (runs["lr"] == 0.1).all()
    best = best_momentum(runs).set_index("workers")
    assert best.loc[2, "momentum"] == 0.5  # at this small rate momentum is what speed there is
    assert best.loc[8, "statistical_penalty"] > 1.5
    found = implicit_momentum(results.events, results.runs)
    assert (found["momentum"] - found["momentum_expected"]).abs().max() < 0.01
    by_worker = staleness_by_worker(results.events, results.runs)
    assert len(by_worker) == 2 * 3 * (2 + 8)
    np.testing.assert_allclose(by_worker["staleness_mean"], by_worker["staleness_by_share"], rtol=0.15)
    mixed = results.runs.assign(algorithm=["other", *results.runs["algorithm"][1:]])
    with pytest.raises(ValueError, match="runs must be of one algorithm: got other, async-sgd"):
        momentum_grid(mixed, time_to_target(results.heldout, results.runs))


def test_runs_without_a_momentum_make_no_grid() -> None:
    facts = {"algorithm": "easgd", "workload": "w", "transport": "mpi", "workers": 4, "seed": 0, "status": "completed"}
    runs = pd.DataFrame({"run_id": ["a"], **facts, "batch_size": 1, "settings": '{"optimizer": {"lr": 0.1}}'})
    with pytest.raises(ValueError, match="runs must have a momentum: a has none"):
        momentum_grid(runs, pd.DataFrame({"run_id": ["a"], "samples_to_target": [1.0]}))
    outer = runs.assign(settings='{"optimizer": {"lr": 0.1, "momentum": 0.9}}')
    costs = pd.DataFrame({"run_id": ["a"], "time_to_target_s": [3.0]})
    assert momentum_grid(outer, costs, cost="time_to_target_s").iloc[0].tolist() == [4.0, 0.9, 0.1, 0.0, 3.0]
