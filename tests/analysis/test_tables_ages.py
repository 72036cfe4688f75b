"""Ages of gradients in seconds and rates per rank, against closed forms: the time line tiled, and Little's law."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.ages import applied_gradients, over_time
from analysis.staleness import distribution, staleness
from analysis.throughput import rank_throughput, throughput
from bench.records import Results, load
from bench.run import run_cell
from bench.study import resolve
from tests.support.synthetic import HEADER, PAYLOAD, WORKERS, write_results

STEPS = 60


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_results(tmp_path_factory.mktemp("results"), seeds=(0,), steps=STEPS, bad=False))


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    fill = dict(run_id="a", rank=0, t0_s=math.nan, peer=-1, version_read=-1, staleness_updates=-1)
    return pd.DataFrame([{**fill, "t0_s": row["t1_s"], **row} for row in rows])


def gradient(rank: int, t0_s: float, t1_s: float, version: int) -> dict[str, Any]:
    return dict(kind="gradient", rank=rank, t0_s=t0_s, t1_s=t1_s, version_read=version)


def apply(rank: int, t_s: float, version: int, stale: int) -> dict[str, Any]:
    return dict(kind="apply", rank=rank, t1_s=t_s, version_read=version, staleness_updates=stale)


def runs(workers: int, duration_s: float = 10.0) -> pd.DataFrame:
    return pd.DataFrame({"run_id": ["a"], "workers": [workers], "duration_s": [duration_s]})


def queue(workers: int, writes: int, seed: int = 0) -> tuple[pd.DataFrame, float]:
    """A parameter server at no distance: workers of exponential speed that read as soon as they have written."""
    rng = np.random.default_rng(seed)
    now, read = rng.exponential(1.0, workers), np.zeros(workers, dtype=int)
    began, rows = np.zeros(workers), []
    for version in range(writes):
        k = int(now.argmin())
        t = float(now[k])
        rows.append(gradient(k, float(began[k]), t, 7))  # the worker's own version says nothing to the server
        rows.append(apply(workers, t, int(read[k]), version - int(read[k])))
        rows.append(dict(kind="serve", rank=workers, t1_s=t, peer=k))
        began[k], read[k], now[k] = t, version + 1, t + rng.exponential(1.0)
    return frame(*rows), t


def test_at_a_server_the_ages_of_each_worker_tile_its_time() -> None:
    workers = 5
    events, _ = queue(workers, 3000)
    found = applied_gradients(events, runs(workers))
    assert (found["worker"] >= 0).all() and (found["rank"] == workers).all()
    last = events[events["kind"] == "gradient"].groupby("rank")["t1_s"].max()
    assert found.groupby("worker")["staleness_s"].sum().to_numpy() == pytest.approx(last.to_numpy(), abs=1e-6)


def test_ages_obey_littles_law_and_writes_the_geometric_one() -> None:
    workers, writes = 4, 20_000
    events, end = queue(workers, writes)
    row = distribution(applied_gradients(events, runs(workers))).iloc[0]
    # Always as many gradients on the way as workers: rate x mean age = workers, up to what is on the way at the end.
    assert writes / end * row["s_mean"] == pytest.approx(workers, rel=2 * workers / writes)
    # Arrivals of a gradient's M - 1 rivals during its own exponential time: geometric with mean M - 1.
    assert row["updates_mean"] == pytest.approx(workers - 1, abs=5 * math.sqrt(workers * (workers - 1) / writes))


def test_the_order_of_rows_in_the_table_does_not_matter() -> None:
    events, _ = queue(3, 400)
    events.loc[events["kind"] == "serve", "t1_s"] += 1e-6  # rows that end together must be in the order of writing
    shuffled = events.sample(frac=1, random_state=1)
    ages = (applied_gradients(e, runs(3)).sort_values("t_s")["staleness_s"].to_numpy() for e in (events, shuffled))
    np.testing.assert_array_equal(*ages)


def test_ranks_and_runs_are_kept_apart() -> None:
    one, two = queue(2, 300, seed=1)[0], queue(3, 300, seed=2)[0].assign(run_id="b")
    both = pd.concat([one, two]).sort_values("t1_s", kind="stable")
    known = pd.DataFrame({"run_id": ["a", "b"], "workers": [2, 3]})
    together = applied_gradients(both.astype({"run_id": "category", "kind": "category"}), known)
    for name, events, workers in (("a", one, 2), ("b", two, 3)):
        alone = applied_gradients(events, known[known["workers"] == workers])
        mine = together[together["run_id"] == name].reset_index(drop=True).astype({"run_id": alone["run_id"].dtype})
        pd.testing.assert_frame_equal(mine, alone, check_categorical=False)


def test_a_handler_s_row_may_end_after_the_asker_has_gone_on() -> None:
    # The server is put aside between its answer (at 2.0) and the end of its row (4.0): the worker's next gradient lies
    # in between, and is not the one that was applied.
    events = frame(
        gradient(0, 0.0, 1.5, 0), apply(1, 2.0, 0, 0), gradient(0, 2.1, 3.0, 0),
        dict(kind="serve", rank=1, t0_s=1.9, t1_s=4.0, peer=0),
    )  # fmt: skip
    assert applied_gradients(events, runs(1))["staleness_s"].tolist() == [2.0]


def test_what_has_no_gradient_has_no_age() -> None:
    events = frame(
        apply(0, 1.0, 3, 0),  # no gradient was read at version 3
        apply(1, 2.0, 0, 0),  # at a server, and nobody was answered
        apply(1, 3.0, 0, 0), dict(kind="serve", rank=1, t1_s=3.0, peer=0),  # its gradient ends later
        gradient(0, 3.5, 4.0, 0),
    )  # fmt: skip
    found = applied_gradients(events, runs(1))
    assert found["staleness_s"].isna().all() and (found["worker"] == -1).all() and len(found) == 3
    assert distribution(found)[["gradients", "updates_mean"]].to_numpy().tolist() == [[3, 0]]
    assert distribution(found)["s_p95"].isna().all()


def test_a_gradient_in_parts_is_one_gradient() -> None:
    found = applied_gradients(frame(gradient(0, 1.0, 2.0, 5), apply(0, 2.5, 5, 0), apply(0, 3.0, 5, 1)), runs(1))
    assert found["staleness_s"].tolist() == [1.5, 2.0]


def test_no_rows_are_no_ages() -> None:
    events = frame(apply(0, 1.0, 0, 0)).iloc[:0]
    assert applied_gradients(events, runs(1)).empty
    assert distribution(applied_gradients(events, runs(1))).empty
    assert over_time(applied_gradients(events, runs(1)), runs(1)).empty


@pytest.mark.parametrize("label", ["allreduce-sgd", "easgd"])
def test_own_gradients_age_by_the_steps_own_length(results: Results, label: str) -> None:
    run = results.runs[(results.runs["label"] == label) & (results.runs["transport"] == "mpi")]
    found = applied_gradients(results.events[results.events["run_id"].isin(run["run_id"])], run)
    wait = 4 if label == "allreduce-sgd" else 0  # the transfer after the slowest, 16 ms
    for rank, ages in found.groupby("rank"):
        own = 10 + 2 * int(rank)
        expected = (16 if wait else own) + wait + 1
        assert ages["staleness_s"].to_numpy() == pytest.approx(expected / 1000, abs=1e-9)
    by_rank = distribution(found, ("run_id", "rank"))
    assert by_rank["gradients"].tolist() == [STEPS] * WORKERS


def test_windows_cover_the_run_and_lose_no_gradient(results: Results) -> None:
    found = applied_gradients(results.events, results.runs)
    table = over_time(found, results.runs, windows=7)
    assert table.groupby("run_id")["gradients"].sum().sum() == len(found)
    assert (table["updates_max"] <= 3).all() and table["window"].between(0, 6).all()
    whole = staleness(results.events).set_index("run_id")["staleness_mean"]
    weighted = (table["updates_mean"] * table["gradients"]).groupby(table["run_id"]).sum()
    mean = weighted / table.groupby("run_id")["gradients"].sum()
    assert mean[whole.index].to_numpy() == pytest.approx(whole.to_numpy())


@pytest.mark.parametrize("n", [1, 2, 19, 20, 21, 100, 999])
def test_percentiles_are_the_smallest_values_that_cover_their_share(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 50, n)
    other = pd.DataFrame({"run_id": "b", "staleness_updates": [5]})
    table = distribution(pd.concat([pd.DataFrame({"run_id": "a", "staleness_updates": values}), other]))
    row = table.set_index("run_id").loc["a"]
    for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
        assert row[f"updates_{name}"] == np.quantile(values, share, method="inverted_cdf")


# -- the simulator, which knows when everything happened ---------------------------------------------------------------


def test_a_simulated_parameter_server_obeys_littles_law(tmp_path: Path) -> None:
    study = resolve(
        {
            "name": "little", "workers": 4, "transports": ["simulated"], "save": "none", "budget": {"seconds": 4},
            "compute": {"gradient_s": 0.01}, "network": {"latency_s": 0.0, "bandwidth_Gbit_per_s": 1e6},
            "workload": {"name": "quadratic", "dimension": 3, "optimizer": {"name": "sgd", "lr": 0.01}},
            "algorithm": {"name": "async-sgd"},
        }
    )  # fmt: skip
    (cell,) = study.cells()
    run_cell(cell, tmp_path, world=None)
    results = load(tmp_path)
    row = distribution(applied_gradients(results.events, results.runs)).iloc[0]
    rate = row["gradients"] / float(results.runs["duration_s"].iloc[0])
    assert rate * row["s_mean"] == pytest.approx(4, rel=0.02)
    assert row["updates_mean"] == pytest.approx(3, abs=0.05)


# -- rates per rank ----------------------------------------------------------------------------------------------------


def test_ranks_rates_add_up_to_the_runs(results: Results) -> None:
    by_rank = rank_throughput(results.runs, results.events)
    total = by_rank.groupby("run_id")[["goodput_Gbit_per_s", "wire_Gbit_per_s"]].sum()
    whole = throughput(results.runs, results.events).set_index("run_id").loc[total.index]
    for name in total:
        assert total[name].to_numpy() == pytest.approx(whole[name].to_numpy())
    assert (by_rank["peak_wire_Gbit_per_s"] >= by_rank["wire_Gbit_per_s"] - 1e-12).all()


def test_a_servers_wire_carries_what_all_workers_carry_together(results: Results) -> None:
    run = results.runs[(results.runs["label"] == "easgd") & (results.runs["transport"] == "mpi")]
    table = rank_throughput(run, results.events).set_index("rank")
    exchanges, duration = STEPS // 5, float(run["duration_s"].iloc[0])
    own = exchanges * PAYLOAD * 8e-9 / duration
    assert table.loc[0, "goodput_Gbit_per_s"] == pytest.approx(own)
    assert table.loc[0, "wire_Gbit_per_s"] == pytest.approx(own * (PAYLOAD + HEADER) / PAYLOAD)
    assert table.loc[WORKERS, ["goodput_Gbit_per_s", "received_Gbit_per_s"]].tolist() == pytest.approx(
        [WORKERS * own] * 2
    )


def test_the_peak_is_that_of_a_plain_sum_over_windows() -> None:
    rng = np.random.default_rng(3)
    t0 = rng.uniform(0, 5, 300)
    t1 = t0 + rng.exponential(0.15, 300) * (rng.random(300) < 0.9)  # some at an instant
    nbytes = rng.integers(1, 10**6, 300)
    t0, t1 = t0.round(9), t1.round(9)
    fill = np.zeros(200)
    for a, b, size in zip(t0, t1, nbytes, strict=True):
        for w in range(200):
            lo, hi = max(a, 0.1 * w), min(b, 0.1 * (w + 1))
            if a == b:
                fill[w] += size if math.floor(a / 0.1) == w else 0
            elif hi > lo:
                fill[w] += size * (hi - lo) / (b - a)
    events = pd.DataFrame({"run_id": "a", "kind": "send", "t0_s": t0, "t1_s": t1, "wire_nbytes": nbytes})
    table = pd.DataFrame({"run_id": ["a"], "samples": [1], "nbytes": [0], "wire_nbytes": [0], "duration_s": [9.0]})
    assert throughput(table, events)["peak_wire_Gbit_per_s"].iloc[0] == pytest.approx(fill.max() * 8e-9 / 0.1)
