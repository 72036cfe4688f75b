"""Speed-up, the two efficiencies, areas under curves, fronts and findings, on tables whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.claims import budgets, finding, findings, tuning
from analysis.comparison import winner
from analysis.curves import AXES, area_under_curve, mean_height, over_runs
from analysis.efficiency import hardware_and_statistical, speed_up
from analysis.pareto import dominated, pareto_front
from analysis.summary import METRICS, TIME_SHARES, of_events, per_run, summarise, summary
from analysis.timing import time_split
from bench.records import Results, load
from tests.support.synthetic import write_results

INF = math.inf


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_results(tmp_path_factory.mktemp("results"), steps=40))


def rows(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**dict(study="s", workload="w", workers=4, transport="mpi"), **columns})


# -- speed-up and efficiency -------------------------------------------------------------------------------------------


def scaling() -> pd.DataFrame:
    return rows(
        label=["sgd", "sgd", "sgd", "easgd", "easgd"], workers=[1, 2, 8, 8, 2],
        samples_per_s=[100.0, 150.0, 200.0, 600.0, 180.0], samples_per_s_low=[90.0, 140.0, 180.0, 500.0, 170.0],
        samples_per_s_high=[110.0, 160.0, 220.0, 700.0, 190.0], time_to_target_s=[60.0, 40.0, math.nan, 15.0, 45.0],
        samples_to_target=[6000.0, 6000.0, math.nan, 9000.0, 8100.0],
    )  # fmt: skip


def test_speed_up_is_against_the_own_smallest_and_against_one_worker_of_the_baseline() -> None:
    table = speed_up(scaling(), baseline="sgd").set_index(["label", "workers"])
    row = table.loc[("easgd", 8)]
    assert row["smallest"] == 2
    assert row["throughput_speed_up"] == pytest.approx(600 / 180)
    assert (row["throughput_speed_up_low"], row["throughput_speed_up_high"]) == (500 / 190, 700 / 170)
    assert row["throughput_efficiency"] == pytest.approx(600 / 180 / 4)
    assert row["time_speed_up"] == 3 and row["time_efficiency"] == 0.75
    assert (row["throughput_speed_up_over_baseline"], row["time_speed_up_over_baseline"]) == (6, 4)
    first = table.loc[("sgd", 1)]
    assert (first["time_speed_up"], first["time_speed_up_low"], first["time_speed_up_over_baseline"]) == (1, 1, 1)
    late = table.loc[("sgd", 8)]
    assert math.isnan(late["time_speed_up"]) and late["throughput_efficiency"] == 0.25
    assert speed_up(scaling(), baseline="none")["time_speed_up_over_baseline"].isna().all()


@pytest.mark.parametrize("reference", [None, "sgd"])
def test_hardware_times_statistical_is_the_ratio_of_the_times(reference: str | None) -> None:
    table = hardware_and_statistical(scaling(), reference)
    product = table["hardware_efficiency"] * table["statistical_efficiency"]
    assert product.to_numpy() == pytest.approx(table["time_ratio"].to_numpy(), rel=1e-14)
    times = scaling().set_index(["label", "workers"])["time_to_target_s"]
    for row in table.to_dict("records"):
        expected = times[(row["label"], row["workers"])] / times[(row["reference"], row["reference_workers"])]
        assert row["time_ratio"] == expected
    found = {(row["label"], row["workers"]) for row in table.to_dict("records")}
    if reference is None:
        assert found == {("sgd", 1), ("sgd", 2), ("easgd", 2), ("easgd", 8)}
    else:  # sgd never got there with 8 workers, so nothing is compared with it there
        assert found == {("sgd", 1), ("sgd", 2), ("easgd", 2)}


def test_a_reference_that_never_got_there_is_not_replaced_by_a_later_one() -> None:
    table = scaling()
    table.loc[(table["label"] == "sgd") & (table["workers"] == 1), ["time_to_target_s", "samples_to_target"]] = math.nan
    assert set(hardware_and_statistical(table)["label"]) == {"easgd"}


def test_real_tables_have_the_identity_too(results: Results) -> None:
    table = hardware_and_statistical(summary(results), "allreduce-sgd")
    assert len(table) >= 8 and (table["hardware_efficiency"] > 0).all()
    assert (table["hardware_efficiency"] * table["statistical_efficiency"]).to_numpy() == pytest.approx(
        table["time_ratio"].to_numpy()
    )
    same = table[table["label"] == "allreduce-sgd"]
    assert (same[["hardware_efficiency", "statistical_efficiency", "time_ratio"]] == 1).all(axis=None)


# -- areas -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=12), st.floats(0.05, 1), st.floats(-3, 3), st.floats(-2, 2))
def test_the_mean_height_of_a_line_is_its_middle(widths: list[float], part: float, slope: float, start: float) -> None:
    x = np.concatenate([[0.0], np.cumsum(widths)])
    end = float(x[0] + part * (x[-1] - x[0]))
    assert mean_height(x, start + slope * x, end) == pytest.approx(start + slope * end / 2, abs=1e-9)


def test_a_curve_that_does_not_reach_the_end_has_no_area() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([3.0, 2.0, math.nan])
    assert mean_height(x, y, 1.0) == 2.5
    assert all(math.isnan(mean_height(x, y, end)) for end in (1.5, 2.0, 3.0, 0.0))
    assert math.isnan(mean_height(np.zeros(3), y, 0.0))


def test_runs_that_are_compared_share_a_horizon_and_others_do_not(results: Results) -> None:
    table = area_under_curve(results.heldout, results.runs).merge(results.runs, on="run_id")
    done = table[table["status"] == "completed"]
    assert done[[f"mean_over_{axis}" for axis in AXES]].notna().all(axis=None)
    assert table[table["status"] != "completed"]["mean_over_t_s"].isna().all()
    for transport, group in done.groupby("transport"):
        assert group["horizon_t_s"].nunique() == 1
        ends = results.heldout[results.heldout["run_id"].isin(group["run_id"])].groupby("run_id")["t_s"].max()
        assert group["horizon_t_s"].iloc[0] == ends.min(), transport
    losses = results.heldout.groupby("run_id")["heldout_loss"].agg(["min", "max"])
    own = done.set_index("run_id")["mean_over_t_s"]
    assert ((own > losses.loc[own.index, "min"]) & (own < losses.loc[own.index, "max"])).all()


def test_consensus_over_time_is_a_mean_over_seeds(results: Results) -> None:
    table = over_runs(results.heldout, results.runs)
    own = table[(table["label"] == "ad-psgd") & (table["transport"] == "mpi")]
    assert own["snapshot"].tolist() == list(range(21)) and (own["mean"] == 0.25).all() and (own["n"] == 2).all()
    loss = over_runs(results.heldout, results.runs, "heldout_loss")
    ids = results.runs.query("label == 'ad-psgd' and transport == 'mpi'")["run_id"]
    expected = results.heldout[results.heldout["run_id"].isin(ids)].groupby("snapshot")["heldout_loss"].mean()
    found = loss[(loss["label"] == "ad-psgd") & (loss["transport"] == "mpi")]["mean"]
    np.testing.assert_allclose(found, expected)


# -- fronts ------------------------------------------------------------------------------------------------------------

points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=10)


@given(points)
def test_fronts(listed: list[tuple[int, int]]) -> None:
    by = dominated(np.array(listed, dtype=np.float64))
    for i, p in enumerate(listed):
        for j, q in enumerate(listed):
            assert by[i, j] == (q != p and q[0] <= p[0] and q[1] <= p[1])
    front = ~by.any(axis=1)
    assert front.any()
    for i in np.flatnonzero(~front):  # whoever is beaten is beaten by somebody on the front
        assert (by[i] & front).any()


def test_infinity_is_worse_and_not_a_number_is_refused() -> None:
    assert dominated(np.array([[1.0, INF], [1.0, 5.0]])).any(axis=1).tolist() == [True, False]
    with pytest.raises(ValueError, match="NaN"):
        dominated(np.array([[1.0, math.nan]]))


def test_fronts_are_within_a_setting(results: Results) -> None:
    table = pareto_front(summary(results))
    assert table.groupby("transport")["on_front"].any().all()
    fastest = table.sort_values("time_to_target_s").groupby("transport").head(1)
    assert fastest["on_front"].all()
    both = pd.concat([summary(results), summary(results).assign(workers=8, time_to_target_s=0.1)])
    assert pareto_front(both).query("workers == 4").reset_index(drop=True).equals(table)


# -- better, worse, not shown ------------------------------------------------------------------------------------------


def result(label: str, low: float, high: float, n: int = 2, reached: int | None = None, **more: Any) -> dict[str, Any]:
    reached = n if reached is None else reached
    mean = (low + high) / 2 if reached == n else math.nan
    row = dict(
        label=label, completed=n, diverged=0, seeds=n, reached=reached, time_to_target_s=mean,
        time_to_target_s_low=low if reached == n else math.nan,
        time_to_target_s_high=high if reached == n else math.nan,
        target_earliest_s=low - 0.5, target_latest_s=high if reached == n else INF, target_resolution_s=0.5,
        final_heldout_loss=mean, final_heldout_loss_low=low, final_heldout_loss_high=high, final_heldout_loss_n=n,
    )  # fmt: skip
    return row | more


CASES = {
    "apart": (result("a", 1, 2), result("b", 4, 5), "better"),
    "overlap": (result("a", 1, 3), result("b", 2, 4), "not shown"),
    "closer than the snapshots": (result("a", 1, 2), result("b", 2.4, 3), "not shown"),
    "one run": (result("a", 1, 1, n=1), result("b", 4, 5), "not shown"),
    "never": (result("a", 1, 2), result("b", 3, 3, reached=0), "better"),
    "six each": (result("a", 1, 2, n=6), result("b", 2.6, 3, n=6), "better"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_word_turns_round_with_the_question(case: str) -> None:
    a, b, word = CASES[case]
    there, back = finding(a, b), finding(b, a)
    assert (there.word, back.word) == (word, {"better": "worse"}.get(word, word))
    assert (there.n_a, there.n_b) == (back.n_b, back.n_a) == (a["completed"], b["completed"])
    assert there.reason.startswith(back.reason.split(":")[0]) or word == "not shown"
    if not math.isnan(there.value):
        assert there.value * back.value == pytest.approx(1)
        assert there.low * back.high == pytest.approx(1)
        assert word != "better" or there.high < 1


def test_without_a_target_the_loss_decides() -> None:
    a, b = result("a", 1, 2, reached=0), result("b", 4, 5, reached=1)
    found = finding(a, b)
    assert (found.criterion, found.word, found.measure) == ("final_heldout_loss", "better", "difference A-B")
    assert math.isnan(found.value) or found.value < 0
    assert (found.low, found.high) == (-4, -2)
    assert finding(b, a).word == "worse" and (finding(b, a).low, finding(b, a).high) == (2, 4)


def test_findings_agree_with_the_winner(results: Results) -> None:
    table = summary(results)
    found = findings(table)
    mpi = found[found["transport"] == "mpi"]
    labels = table[(table["transport"] == "mpi") & (table["completed"] + table["diverged"] > 0)]["label"]
    assert len(mpi) == math.comb(len(labels), 2) and not (mpi["a"] == mpi["b"]).any()
    verdict = winner(table, "digits-mlp", "mpi")
    of_best = mpi[mpi["a"] == verdict.best]
    assert set(of_best.loc[of_best["word"] != "better", "b"]) == set(verdict.ties)
    assert set(found["word"]) <= {"better", "worse", "not shown"}


def test_tuning_stands_beside_the_result(results: Results) -> None:
    runs = results.runs.copy()
    mine = runs["label"] == "easgd"
    runs.loc[mine, "tuning_trials"], runs.loc[mine, "tuning_searched"] = 12, "lr in 0.01..1"
    table = summary(replace(results, runs=runs))
    found = findings(table)
    assert set(found.loc[found["a"] == "easgd", "tuning_a"]) == {"12 trials: lr in 0.01..1"}
    assert set(found.loc[found["a"] != "easgd", "tuning_a"]) == {"not stated"}
    assert not budgets(table)["alike"].any()
    assert budgets(table.assign(tuning_trials=3))["alike"].all()
    assert not budgets(table.assign(tuning_trials=-1))["alike"].any()
    assert tuning({"tuning_trials": 1, "tuning_searched": ""}) == "1 trial"


# -- the table of runs -------------------------------------------------------------------------------------------------


def test_shares_of_a_workers_time_add_up_to_one(results: Results) -> None:
    table = per_run(results)
    parts = table[[name for name in TIME_SHARES if name != "exposed_comm_share"]]
    known = parts.dropna()
    assert len(known) == (results.runs["status"] != "crashed").sum()
    assert known.sum(axis=1).to_numpy() == pytest.approx(1)
    exposed = table["straggler_share"] + table["transfer_share"]
    np.testing.assert_allclose(exposed, table["exposed_comm_share"], atol=1e-12)


def test_what_is_at_hand_is_not_made_again(results: Results) -> None:
    split = time_split(results.events, results.runs)
    traced = of_events(results.events, results.runs, split)
    without = replace(results, events=results.events.iloc[:0])
    pd.testing.assert_frame_equal(per_run(without, traced=traced), per_run(results))
    late = of_events(results.events, results.runs, split.assign(other_s=split["duration_s"]))
    assert (late["harness_share"].dropna() == 1).all()


def test_energy_to_the_target_is_that_of_the_time_to_it(results: Results) -> None:
    runs = results.runs.assign(energy_J=100 * results.runs["duration_s"])
    table = per_run(replace(results, runs=runs))
    np.testing.assert_allclose(table["energy_J_to_target"], 100 * table["time_to_target_s"])
    row = summarise(table).set_index(["label", "transport"]).loc[("ad-psgd", "mpi")]
    assert row["energy_J_to_target"] == pytest.approx(100 * row["time_to_target_s"])
    assert per_run(results)[["energy_J", "energy_J_to_target"]].isna().all(axis=None)


def test_every_metric_is_in_the_tables_and_has_a_unit(results: Results) -> None:
    runs = per_run(results)
    table = summarise(runs)
    for name in METRICS:
        assert name in runs and {name, f"{name}_low", f"{name}_n"} <= set(table)
    assert table.attrs["units"]["energy_J"] == "J" and table.attrs["units"]["staleness_s_mean"] == "s"
