"""Predicted against measured: which runs belong together, and numbers that can be worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.predictions import MEASURES, pairs, scaling, within

WIRE = {"latency_s": 1e-4, "bandwidth_Gbit_per_s": 10.0}


def run(
    run_id: str, transport: str, samples_per_s: float, *, loss: float = 0.5, share: float = 0.25, **changes: Any
) -> dict[str, Any]:
    """A row of RUNS with, for brevity, its numbers of `per_run` beside it."""
    simulated = transport == "simulated"
    row = {
        "run_id": run_id, "study": "demo", "workload": "w", "workers": 4, "label": "easgd-4", "algorithm": "easgd",
        "transport": transport, "simulated": simulated, "status": "completed", "seed": 0, "budget_s": 2.0,
        "budget_steps": -1, "settings": '{"period": 4}', "workload_settings": '{"x": 1}', "batch_size": 8,
        "samples": round(2 * samples_per_s), "wire_nbytes": round(20 * samples_per_s),
        "network": json.dumps({"network": WIRE}) if simulated else "{}",
        "samples_per_s": samples_per_s, "final_heldout_loss": loss, "exposed_comm_share": share,
    }  # fmt: skip
    assert set(changes) <= set(row)
    return {**row, **changes}


def compared(*rows: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return pairs(table, table[["run_id", "samples_per_s", "final_heldout_loss", "exposed_comm_share"]])


def test_means_intervals_and_ratio_of_two_seeds_each() -> None:
    (row,) = compared(
        run("m0", "mpi", 90.0, loss=0.4),
        run("m1", "mpi", 110.0, seed=1, loss=0.6),
        run("p0", "simulated", 100.0),
        run("p1", "simulated", 108.0, seed=1),
    ).to_dict("records")
    assert (row["measured_samples_per_s"], row["predicted_samples_per_s"]) == (100.0, 104.0)
    assert (row["measured_samples_per_s_low"], row["measured_samples_per_s_high"]) == (90.0, 110.0)
    assert row["ratio"] == 1.04
    # Of two runs the interval is the range; the ratio's bounds are the farthest quotients.
    assert (row["ratio_low"], row["ratio_high"]) == (100 / 110, 108 / 90)
    assert (row["measured_final_heldout_loss"], row["predicted_final_heldout_loss"]) == (0.5, 0.5)
    assert row["measured_wire_nbytes_per_sample"] == row["predicted_wire_nbytes_per_sample"] == 10.0
    assert row["predicted_exposed_comm_share"] == 0.25
    assert (row["measured_seeds"], row["predicted_seeds"]) == (2, 2)
    assert row["comparable"] and row["reason"] == "" and math.isnan(row["rate_Gbit_per_s"])


def test_one_run_has_a_ratio_but_no_bounds() -> None:
    (row,) = compared(run("m", "mpi", 50.0), run("p", "simulated", 60.0)).to_dict("records")
    assert row["ratio"] == 1.2 and math.isnan(row["ratio_low"]) and math.isnan(row["ratio_high"])


def test_every_transport_is_a_pair_of_its_own_and_what_has_no_prediction_is_left_out() -> None:
    table = compared(
        run("m", "mpi", 50.0),
        run("h", "horovod", 40.0),
        run("p", "simulated", 60.0),
        run("m8", "mpi", 50.0, workers=8),
        run("other", "mpi", 50.0, label="easgd-8"),
        run("text", "mpi", 50.0, workload="v"),
        run("elsewhere", "mpi", 50.0, study="demo-2"),
    )
    assert table[["transport", "workers", "ratio"]].values.tolist() == [["horovod", 4, 1.5], ["mpi", 4, 1.2]]


def test_runs_without_a_result_do_not_count() -> None:
    (row,) = compared(
        run("m", "mpi", 50.0),
        run("m1", "mpi", 5.0, seed=1, status="crashed"),
        run("p", "simulated", 60.0),
        run("p1", "simulated", 6.0, seed=1, status="diverged"),
    ).to_dict("records")
    assert (row["ratio"], row["measured_seeds"], row["predicted_seeds"]) == (1.2, 1, 1)
    assert compared(run("m", "mpi", 50.0), run("p", "simulated", 60.0, status="failed")).empty


@pytest.mark.parametrize(
    ("measured", "predicted", "reason"),
    [
        ({}, {"study": "demo@1Gbit"}, "another network: 1Gbit"),
        ({}, {"settings": '{"period": 8}'}, "other settings of the algorithm"),
        ({}, {"workload_settings": "{}"}, "other settings of the workload"),
        ({}, {"batch_size": 16}, "another batch size"),
        (
            {},
            {"network": json.dumps({"network": {**WIRE, "measured_with": "horovod"}})},
            "calibrated with horovod, measured with mpi",
        ),
        (
            {"network": '{"rate_Gbit_per_s": 0.1}'},
            {},
            "each rank was limited to 0.1 Gbit/s, and is predicted not limited",
        ),
        (
            {},
            {"network": json.dumps({"network": {**WIRE, "limit": {"rate_Gbit_per_s": 0.1}}})},
            "each rank was not limited, and is predicted limited to 0.1 Gbit/s",
        ),
    ],
)
def test_what_is_not_comparable_says_why(measured: Any, predicted: Any, reason: str) -> None:
    table = compared(run("m", "mpi", 50.0, **measured), run("p", "simulated", 50.0, **predicted))
    assert table[["comparable", "reason"]].values.tolist() == [[False, reason]]
    assert within(table).empty


def test_a_limited_rate_is_met_by_the_same_limit() -> None:
    network = json.dumps({"network": {**WIRE, "limit": {"rate_Gbit_per_s": 0.1}}})
    (row,) = compared(
        run("m", "mpi", 50.0, network='{"rate_Gbit_per_s": 0.1}'), run("p", "simulated", 50.0, network=network)
    ).to_dict("records")
    assert row["comparable"] and row["rate_Gbit_per_s"] == 0.1


def test_two_rates_of_one_study_are_not_averaged() -> None:
    table = compared(
        run("m", "mpi", 50.0),
        run("m1", "mpi", 5.0, network='{"rate_Gbit_per_s": 0.1}'),
        run("p", "simulated", 50.0),
    )
    assert sorted(zip(table["ratio"], table["comparable"], strict=True)) == [(1.0, True), (10.0, False)]


def test_two_calibrations_of_one_study_are_two_pairs() -> None:
    other = json.dumps({"network": {**WIRE, "latency_s": 1e-3}})
    table = compared(
        run("m", "mpi", 50.0), run("p", "simulated", 50.0), run("q", "simulated", 25.0, seed=1, network=other)
    )
    assert sorted(table["ratio"]) == [0.5, 1.0]


def test_losses_after_different_budgets_are_not_compared_but_rates_are() -> None:
    (row,) = compared(run("m", "mpi", 50.0), run("p", "simulated", 50.0, budget_s=1.0)).to_dict("records")
    assert row["comparable"] and row["ratio"] == 1.0
    assert math.isnan(row["measured_final_heldout_loss"]) and math.isnan(row["predicted_final_heldout_loss"])


def test_of_a_seed_that_was_predicted_with_and_without_gradients_the_one_with_a_loss_is_taken() -> None:
    (row,) = compared(
        run("m", "mpi", 50.0), run("a", "simulated", 50.0, loss=math.nan), run("b", "simulated", 50.0, loss=0.7)
    ).to_dict("records")
    assert (row["predicted_seeds"], row["predicted_final_heldout_loss"]) == (1, 0.7)


def test_cost_only_predictions_have_a_ratio_and_no_loss() -> None:
    (row,) = compared(run("m", "mpi", 50.0), run("a", "simulated", 55.0, loss=math.nan)).to_dict("records")
    assert row["ratio"] == 1.1 and math.isnan(row["predicted_final_heldout_loss"])


def test_a_table_without_pairs_has_all_columns() -> None:
    table = compared(run("m", "mpi", 50.0))
    assert table.empty and {f"predicted_{name}_low" for name in MEASURES} <= set(table)
    assert within(table).empty and scaling(pd.DataFrame([run("m", "mpi", 1.0)]), _summary("m", "mpi")).empty


def test_within_knows_what_the_interval_allows_to_say() -> None:
    ratio = {"ratio": 1.02, "ratio_low": 0.95, "ratio_high": 1.09}
    table = pd.DataFrame(
        [
            ratio,
            ratio | {"ratio_high": 1.11},  # may be outside
            {"ratio": 1.2, "ratio_low": 1.11, "ratio_high": 1.3},  # surely outside
            {"ratio": 0.85, "ratio_low": 0.8, "ratio_high": 0.92},  # may be inside
            {"ratio": 0.9, "ratio_low": math.nan, "ratio_high": math.nan},  # on the edge, one run
            {"ratio": 1.1, "ratio_low": math.nan, "ratio_high": math.nan},
        ]
    ).assign(comparable=True)
    found = within(table, 0.1)
    assert found["within"].tolist() == [True, True, False, False, True, True]
    assert found["sure"].tolist() == [True, False, True, False, False, False]
    np.testing.assert_allclose(found["off"], [0.02, 0.02, 0.2, -0.15, -0.1, 0.1])
    assert within(table, 0.2)["within"].tolist() == [True] * 6


def _summary(study: str, transport: str) -> pd.DataFrame:
    row = {"study": study, "workload": "w", "workers": 4, "transport": transport, "label": "easgd-4", "seeds": 1}
    return pd.DataFrame([{**row, "simulated": transport == "simulated"}])


def test_a_summary_learns_its_wires_and_does_not_guess_where_runs_differ() -> None:
    other = json.dumps({"network": {**WIRE, "latency_s": 1e-3}})
    runs = pd.DataFrame(
        [run("a", "simulated", 1.0, study="demo@10G"), run("b", "simulated", 1.0, study="demo@10G", network=other)]
    )
    (row,) = scaling(runs, _summary("demo@10G", "simulated")).to_dict("records")
    assert row["of_study"] == "demo" and row["bandwidth_Gbit_per_s"] == 10.0 and math.isnan(row["latency_s"])


@pytest.mark.parametrize(
    ("network", "wire"),
    [
        (WIRE, (1e-4, 10.0)),
        (WIRE | {"ranks_per_node": 4, "inside": {"latency_s": 1e-6, "bandwidth_Gbit_per_s": 80.0}}, (1e-6, 80.0)),
        (WIRE | {"ranks_per_node": 2, "inside": {"latency_s": 1e-6, "bandwidth_Gbit_per_s": 80.0}}, (1e-4, 10.0)),
        (WIRE | {"limit": {"rate_Gbit_per_s": 0.1}}, (1e-4, 0.1)),
        (WIRE | {"limit": None}, (1e-4, 10.0)),
    ],
)
def test_the_wire_is_the_one_that_joins_the_workers(network: Any, wire: tuple[float, float]) -> None:
    runs = pd.DataFrame([run("a", "simulated", 1.0, network=json.dumps({"network": network}))])
    (row,) = scaling(runs, _summary("demo", "simulated")).to_dict("records")
    assert (row["latency_s"], row["bandwidth_Gbit_per_s"]) == wire
