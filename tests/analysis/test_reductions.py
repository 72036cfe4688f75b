"""Tables reduced to numbers, against closed forms of the synthetic results."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.comparison import faster, saving, winner
from analysis.completeness import missing
from analysis.staleness import staleness, staleness_histogram
from analysis.statistics import chance_of_separation, mean_over_runs
from analysis.summary import METRICS, per_run, summarise, summary
from analysis.targets import time_to_target
from analysis.throughput import throughput
from analysis.timing import PARTS, time_split
from bench.records import KINDS, Results, load
from tests.support.synthetic import BATCH, PAYLOAD, SCHEDULES, WORKERS, Schedule, write_results

STEPS = 100


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_results(tmp_path_factory.mktemp("results"), steps=STEPS))


@pytest.fixture(scope="module")
def runs(results: Results) -> pd.DataFrame:
    return per_run(results).set_index(["label", "transport", "seed"])


@pytest.fixture(scope="module")
def rows(results: Results) -> pd.DataFrame:
    return summary(results).set_index(["label", "transport"])


@pytest.fixture(scope="module")
def split(results: Results) -> pd.DataFrame:
    named = results.runs[["run_id", "label", "transport", "seed"]]
    return time_split(results.events, results.runs).merge(named, on="run_id").set_index(["label", "transport", "rank"])


# -- where the time went ---------------------------------------------------------------------------------------------


def test_parts_add_up_to_the_duration_exactly(split: pd.DataFrame) -> None:
    assert (split[list(PARTS)].sum(axis=1) - split["duration_s"]).abs().max() < 1e-12
    assert (split[list(PARTS)] >= 0).all(axis=None)


@pytest.mark.parametrize("rank", range(WORKERS))
def test_allreduce_waits_for_the_slowest_and_then_for_the_wire(split: pd.DataFrame, rank: int) -> None:
    row = split.loc[("allreduce-sgd", "mpi", rank)].iloc[0]
    assert row["gradient_s"] == pytest.approx((10 + 2 * rank) * STEPS / 1000, abs=1e-12)
    assert row["exposed_straggler_s"] == pytest.approx(2 * (3 - rank) * STEPS / 1000, abs=1e-12)
    assert row["exposed_transfer_s"] == pytest.approx(4 * STEPS / 1000, abs=1e-12)
    assert row["apply_s"] == pytest.approx(STEPS / 1000, abs=1e-12)
    assert row["other_s"] == 0
    assert row["overlap_fraction"] == 0


@pytest.mark.parametrize("rank", range(WORKERS))
def test_local_sgd_gathers_five_steps_of_delay_in_one_wait(split: pd.DataFrame, rank: int) -> None:
    row = split.loc[("local-sgd", "mpi", rank)].iloc[0]
    exchanges = STEPS // 5
    assert row["exposed_straggler_s"] == pytest.approx(5 * 2 * (3 - rank) * exchanges / 1000, abs=1e-12)
    assert row["exposed_transfer_s"] == pytest.approx(4 * exchanges / 1000, abs=1e-12)


def test_gossip_hides_twelve_of_fourteen_milliseconds(split: pd.DataFrame) -> None:
    rows = split.loc["d-psgd"].loc["mpi"]
    assert rows["exposed_comm_s"].to_numpy() == pytest.approx(2 * STEPS / 1000, abs=1e-12)
    assert rows["exposed_straggler_s"].to_numpy() == pytest.approx(0, abs=1e-12)
    assert rows["overlap_fraction"].to_numpy() == pytest.approx(12 / 14)


def test_only_those_who_ask_wait_in_ad_psgd(split: pd.DataFrame) -> None:
    rows = split.loc["ad-psgd"].loc["mpi"]
    assert rows.groupby("rank")["exposed_comm_s"].first().tolist() == pytest.approx([0.3, 0, 0.3, 0])
    assert rows["serve_s"].max() == 0  # it falls into the gradient, which is counted first


def test_a_server_is_idle_when_it_does_not_serve(split: pd.DataFrame) -> None:
    row = split.loc[("easgd", "mpi", WORKERS)].iloc[0]
    assert row["role"] == "server"
    assert 0 < row["serve_s"] <= WORKERS * 2 * (STEPS // 5) / 1000
    assert row["idle_s"] == pytest.approx(row["duration_s"] - row["serve_s"])
    assert split.loc["easgd"].loc["mpi"].query("role == 'worker'")["exposed_comm_s"].max() == 0


def _frame(*rows: tuple[int, str, float, float, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["rank", "kind", "t0_s", "t1_s", "label", "peer"]).assign(run_id="a")


def _run(lockstep: bool = True, duration_s: float = 5.0) -> pd.DataFrame:
    return pd.DataFrame({"run_id": ["a"], "duration_s": [duration_s], "workers": [2], "lockstep": [lockstep]})


NEIGHBOURS = _frame(
    (0, "gradient", 0, 1, "", -1), (0, "send", 1, 1.5, "x", 1), (0, "wait", 1, 4, "x", 1), (0, "apply", 4, 5, "", -1),
    (1, "gradient", 0, 3, "", -1), (1, "send", 3, 4, "x", 0), (1, "apply", 3, 5, "", -1),
)  # fmt: skip


def test_neighbours_in_lockstep_wait_for_the_later_one_to_send() -> None:
    row = time_split(NEIGHBOURS, _run()).iloc[0]
    assert (row["exposed_straggler_s"], row["exposed_transfer_s"]) == (2, 1)


def test_without_lockstep_nobody_is_called_a_straggler() -> None:
    row = time_split(NEIGHBOURS, _run(lockstep=False)).iloc[0]
    assert (row["exposed_straggler_s"], row["exposed_transfer_s"]) == (0, 3)


def test_nothing_is_attributed_if_a_worker_never_joined() -> None:
    events = _frame((0, "allreduce", 1, 4, "g", -1), (0, "wait", 1, 4, "g", -1), (1, "gradient", 0, 4, "", -1))
    row = time_split(events, _run()).iloc[0]
    assert (row["exposed_straggler_s"], row["exposed_transfer_s"]) == (0, 3)


def test_rows_are_cut_at_the_duration_and_writing_records_is_no_communication() -> None:
    events = _frame((0, "gradient", 0, 9, "", -1), (1, "wait", 1, 2, "records", -1))
    split = time_split(events, _run())
    assert split["gradient_s"].tolist() == [5, 0]
    assert split["exposed_comm_s"].tolist() == [0, 0]


def test_a_worker_that_has_done_its_steps_costs_the_harness_nothing() -> None:
    events = _frame((0, "gradient", 0, 1, "", -1), (0, "apply", 2, 3, "", -1), (1, "gradient", 0, 4.5, "", -1),
                    (2, "serve", 0, 1, "x", 0))  # fmt: skip
    split = time_split(events, _run()).set_index("rank")
    assert split["finished_s"].tolist() == [2, 0.5, 0] and split["other_s"].tolist() == [1, 0, 0]
    assert split["idle_s"].tolist() == [0, 0, 4]


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_any_rows_add_up_and_neither_their_order_nor_codes_for_text_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 400
    t0 = rng.uniform(-0.5, 6, n).round(3)
    events = pd.DataFrame(
        {
            "run_id": rng.choice(["a", "b", "no such run"], n), "rank": rng.integers(0, 4, n),
            "kind": rng.choice(KINDS, n), "t0_s": t0, "t1_s": t0 + rng.exponential(0.1, n).round(3),
            "label": rng.choice(["x", "y", "records"], n), "peer": rng.integers(-1, 4, n),
        }
    )  # fmt: skip
    runs = pd.DataFrame({"run_id": ["b", "a"], "duration_s": [5.0, 4.0], "workers": [3, 4], "lockstep": [True, False]})
    split = time_split(events, runs)
    assert (split[list(PARTS)].sum(axis=1) - split["duration_s"]).abs().max() < 1e-12
    assert (split[[*PARTS, "hidden_comm_s"]] >= 0).all(axis=None) and len(split) == 8
    coded = events.sample(frac=1, random_state=seed).astype(dict.fromkeys(["run_id", "kind", "label"], "category"))
    pd.testing.assert_frame_equal(time_split(coded, runs), split, check_exact=True)
    alone = pd.concat([time_split(events, runs[runs["run_id"] == name]) for name in ("a", "b")], ignore_index=True)
    pd.testing.assert_frame_equal(alone, split, check_exact=True)


# -- rates and staleness ---------------------------------------------------------------------------------------------


def test_rates_count_all_workers(runs: pd.DataFrame) -> None:
    row = runs.loc[("allreduce-sgd", "mpi", 0)]
    duration = STEPS * 21 / 1000
    assert row["samples_per_s"] == pytest.approx(WORKERS * STEPS * BATCH / duration)
    assert row["goodput_Gbit_per_s"] == pytest.approx(8e-9 * WORKERS * STEPS * PAYLOAD / duration)
    assert row["wire_Gbit_per_s"] == pytest.approx(1.5 * row["goodput_Gbit_per_s"])  # 2(n-1)/n for n = 4
    assert row["wire_Gbit_per_s"] < row["peak_wire_Gbit_per_s"] < 1.3 * row["wire_Gbit_per_s"]


def test_peak_finds_the_burst_and_loses_no_byte() -> None:
    runs = pd.DataFrame({"run_id": ["a"], "samples": [1], "nbytes": [0], "wire_nbytes": [0], "duration_s": [10.0]})
    events = pd.DataFrame(
        {"t0_s": [0.0, 3.02, 3.31], "t1_s": [10.0, 3.02, 3.31], "wire_nbytes": [10**6, 10**6, 1]}
    ).assign(run_id="a", kind="send")
    assert throughput(runs, events)["peak_wire_Gbit_per_s"].iloc[0] == pytest.approx((1e6 + 1e4) * 8e-9 / 0.1)


def test_staleness_follows_the_pattern(runs: pd.DataFrame) -> None:
    row = runs.loc[("ad-psgd", "mpi", 0)]
    assert (row["staleness_mean"], row["staleness_p95"], row["staleness_max"]) == (1.5, 3, 3)
    row = runs.loc[("easgd", "mpi", 0)]
    assert (row["staleness_mean"], row["staleness_p95"], row["staleness_max"]) == (0.2, 1, 1)
    assert runs.loc[("allreduce-sgd", "mpi", 0), "staleness_max"] == 0


def test_histogram_adds_up(results: Results) -> None:
    histogram = staleness_histogram(results.events)
    assert histogram.groupby("run_id")["share"].sum().to_numpy() == pytest.approx(1)
    counted = staleness(results.events).set_index("run_id")["gradients_applied"]
    assert (histogram.groupby("run_id")["gradients"].sum() == counted.sort_index()).all()


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.label)
def test_target_is_reached_at_the_planned_snapshot(runs: pd.DataFrame, schedule: Schedule) -> None:
    for late, seed in enumerate((0, 1)):
        row, snapshot = runs.loc[(schedule.label, "simulated", seed)], schedule.reaches["simulated"] + late
        assert row["time_to_target_s"] == pytest.approx(row["duration_s"] * snapshot / 20)
        assert row["target_earliest_s"] == pytest.approx(row["duration_s"] * (snapshot - 1) / 20)


def test_targets_at_the_edges() -> None:
    runs = pd.DataFrame(
        {
            "run_id": ["first", "never", "diverged", "no target", "no curve"],
            "target_loss": [2.0, 0.1, 2.0, math.nan, 2.0],
            "status": ["completed", "completed", "diverged", "completed", "completed"],
        }
    )
    curve = pd.DataFrame({"t_s": [0.0, 1.0], "heldout_loss": [2.0, 1.0], "samples": 1, "nbytes": 1, "wire_nbytes": 1})
    wild = curve.assign(heldout_loss=[1.0, math.nan])
    named = {"first": curve, "never": curve, "diverged": wild, "no target": curve}
    found = time_to_target(pd.concat([c.assign(run_id=n) for n, c in named.items()]), runs).set_index("run_id")
    assert found.loc["first", "time_to_target_s"] == 0
    assert found["time_to_target_s"].isna().tolist() == [False, True, True, True, True]
    assert found["target_earliest_s"].tolist()[1:3] == [1, math.inf]
    assert found["target_latest_s"].tolist()[1:3] == [math.inf, math.inf]


# -- means over seeds ------------------------------------------------------------------------------------------------


def test_two_runs_give_their_range(runs: pd.DataFrame, rows: pd.DataFrame) -> None:
    row, times = rows.loc[("ad-psgd", "mpi")], runs.sort_index().loc[("ad-psgd", "mpi"), "time_to_target_s"]
    assert row["time_to_target_s"] == pytest.approx(times.mean())
    assert (row["time_to_target_s_low"], row["time_to_target_s_high"]) == (times.min(), times.max())
    assert row["time_to_target_s_interval"] == "range of n=2"


def test_failed_and_crashed_runs_enter_no_mean(runs: pd.DataFrame, rows: pd.DataFrame) -> None:
    row = rows.loc[("d-psgd", "mpi")]
    assert (row["seeds"], row["failed"], row["time_to_target_s_interval"]) == (1, 1, "n=1, no interval")
    assert row["final_heldout_loss"] == runs.loc[("d-psgd", "mpi", 0), "final_heldout_loss"]
    broken = rows.loc[("ad-psgd-broken", "mpi")]
    assert (broken["seeds"], broken["crashed"]) == (0, 2)
    assert broken[list(METRICS)].isna().all()


def test_a_diverged_run_is_counted_and_never_averaged(runs: pd.DataFrame, rows: pd.DataFrame) -> None:
    row = rows.loc[("easgd-wild", "mpi")]
    assert (row["completed"], row["diverged"], row["reached"]) == (1, 1, 1)
    assert row["final_heldout_loss"] == runs.loc[("easgd-wild", "mpi", 1), "final_heldout_loss"]
    assert math.isnan(row["time_to_target_s"])
    assert row["target_latest_s"] == math.inf


def test_units_are_documented(results: Results) -> None:
    units = summary(results).attrs["units"]
    assert units["wire_Gbit_per_s_high"] == "Gbit/s" and units["time_to_target_s"] == "s"


def test_intervals() -> None:
    assert mean_over_runs([]).interval == "no value"
    assert mean_over_runs([1.0, math.nan]).n == 1
    some = mean_over_runs([1.0, 2.0, 4.0, 8.0, 9.0])
    assert some.low < some.mean < some.high
    assert some == mean_over_runs([1.0, 2.0, 4.0, 8.0, 9.0])
    assert some.interval == "95 % BCa bootstrap, n=5"


# -- claims ----------------------------------------------------------------------------------------------------------


def _row(label: str, earliest: float, latest: float, n: int = 2, reached: int | None = None) -> dict[str, object]:
    reached = n if reached is None else reached
    return dict(label=label, completed=n, diverged=0, seeds=n, reached=reached, target_earliest_s=earliest,
                target_latest_s=latest, target_resolution_s=0.5, time_to_target_s_low=earliest + 0.5,
                time_to_target_s_high=latest)  # fmt: skip


def test_one_run_is_no_evidence() -> None:
    assert not faster(_row("a", 0, 1, n=1), _row("b", 8, 9)).shown


def test_difference_below_the_time_between_snapshots_is_not_shown() -> None:
    # The ranges [1, 2] and [2.2, 3] do not overlap, but b may have passed the target from 1.7 s on.
    assert not faster(_row("a", 0.5, 2), _row("b", 1.7, 3)).shown
    assert faster(_row("a", 0.5, 2), _row("b", 2.0, 3)).shown


def test_a_rival_that_never_arrives_loses_to_one_that_always_does() -> None:
    never = _row("b", 5, math.inf, reached=0)
    claim = faster(_row("a", 1, 2), never)
    assert claim.shown and claim.chance == chance_of_separation(2, 2) == 1 / 3
    assert not faster(never, _row("a", 1, 2)).shown


def test_many_runs_are_judged_by_their_intervals() -> None:
    a, b = _row("a", 0, 3, n=6), _row("b", 2, 5, n=6)
    a["time_to_target_s_high"], b["time_to_target_s_low"] = 2.0, 2.4
    assert not faster(a, b).shown  # closer than the time between snapshots
    b["time_to_target_s_low"] = 2.6
    assert faster(a, b).shown


def test_winner_of_the_synthetic_study(results: Results) -> None:
    verdict = winner(summary(results), "digits-mlp", "mpi")
    assert (verdict.best, verdict.clear, verdict.baseline) == ("ad-psgd", False, "allreduce-sgd")
    assert verdict.ties == ("easgd", "d-psgd")  # one snapshot apart; one run only
    claim = verdict.against("allreduce-sgd")
    assert claim is not None and claim.shown


def test_winner_without_a_target_is_judged_by_the_final_loss(results: Results) -> None:
    table = per_run(results)
    table[["time_to_target_s", "target_earliest_s", "target_latest_s"]] = math.nan
    verdict = winner(summarise(table), "digits-mlp", "simulated")
    assert (verdict.criterion, verdict.best) == ("final_heldout_loss", "ad-psgd")


def test_rows_that_cannot_be_compared_are_refused(results: Results) -> None:
    table = summary(results)
    with pytest.raises(ValueError, match="workers"):
        winner(pd.concat([table, table.assign(workers=8)]), "digits-mlp", "mpi")


def test_saving_is_negative_if_more_is_needed() -> None:
    mean, at_least, at_most = saving(dict(t=3.0, t_low=2.0, t_high=4.0), dict(t=2.0, t_low=2.0, t_high=2.0), "t")
    assert (mean, at_least, at_most) == (-0.5, -1.0, 0.0)


# -- what is missing -------------------------------------------------------------------------------------------------


def test_missing_rank_and_curve_are_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "r", seeds=(0,), steps=5, bad=False)
    run = next((folder / "runs").glob("*allreduce-sgd.mpi*"))
    (run / "events-r2-p0.parquet").unlink()
    (run / "heldout.parquet").write_bytes(b"torn")
    results = load(folder)
    sentences = missing(results.runs, results.events, results.heldout)
    assert sentences == [f"{run.name}: no events of rank 2", f"{run.name}: no held-out losses (heldout.parquet)"]
    assert len(results.skipped) == 1 and "heldout.parquet" in results.skipped[0]
    assert len(summary(results)) == len(results.runs)
