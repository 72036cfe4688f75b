"""Predicted against measured: the simulator's runs beside those of the same settings on real ranks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics import mean_over_runs

MEASURES: dict[str, tuple[str, str]] = {
    "samples_per_s": ("samples/s", "samples of all workers divided by the duration"),
    "wire_nbytes_per_sample": ("byte", "bytes put on the wire by all ranks, per sample"),
    "exposed_comm_share": ("of duration", "waiting not hidden by computing, mean over the workers"),
    "final_heldout_loss": ("nat", "held-out loss of the evaluated model at the last snapshot, where budgets are equal"),
}
"""Name -> (unit, meaning) of each number of `pairs` that is given measured and predicted."""

CELL = ("workload", "workers", "label")
"""What a measured run and its prediction share; and the study, but for what is asked in its name ("demo@1Gbit")."""


def asked_study(study: str) -> str:
    """The study that a prediction is of: its name without the change that is asked about.

    Source: the names that `bench.predict.as_predicted` gives.

    Example:
        >>> asked_study("demo@1Gbit,4-a-node"), asked_study("demo")
        ('demo', 'demo')
    """
    return study.partition("@")[0]


def pairs(runs: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """Measured and predicted throughput [samples/s], bytes, waiting and loss of the same settings, a row each pair.

    A pair is comparable if study, workload, number of workers, algorithm and all their settings are the same and the
    prediction is one of the network that was measured: no "what if" (its study says so in its name), calibrated with
    the same transport, and where the study limited its ranks' rate, with that limit. The simulator's own network is
    taken for the measured one if nothing says otherwise: calibrate it, or the pair compares with a guess.

    Only completed runs count. Of a seed that was predicted twice on one network, with gradients and without, the run
    with a loss is taken.

    Args:
        runs: rows of `bench.records.RUNS`.
        numbers: rows of `analysis.summary.per_run` for them.

    Returns:
        One row per measured group (`study`, `workload`, `workers`, `transport`, `label`) and network on which it was
        predicted, sorted: these, `predicted_study`, `network` (JSON, of the simulator), `algorithm`,
        `rate_Gbit_per_s` (NaN if not limited), `comparable`, `reason` ("" if comparable), for each of `MEASURES` its
        mean and interval over the seeds `measured_NAME`, `measured_NAME_low`, `measured_NAME_high`, the same with
        `predicted_`, `measured_seeds`, `predicted_seeds`, and `ratio`, `ratio_low`, `ratio_high`: predicted over
        measured samples/s; the bounds are those of the two intervals at their farthest, NaN if one side is one run.

    Source: means and intervals are those of `analysis.statistics.mean_over_runs`.

    Example:
        >>> same = dict(workload="w", workers=2, label="a", algorithm="a", status="completed", seed=0, budget_s=1.0,
        ...     budget_steps=-1, settings="{}", workload_settings="{}", batch_size=1, samples=100, wire_nbytes=800)
        >>> runs = pd.DataFrame([
        ...     {**same, "run_id": "m", "study": "s", "transport": "mpi", "simulated": False, "network": "{}"},
        ...     {**same, "run_id": "p", "study": "s", "transport": "simulated", "simulated": True, "network": "{}"}])
        >>> numbers = pd.DataFrame({"run_id": ["m", "p"], "samples_per_s": [100.0, 104.0],
        ...     "exposed_comm_share": [0.2, 0.1], "final_heldout_loss": [0.5, 0.4]})
        >>> pair = pairs(runs, numbers).iloc[0]
        >>> bool(pair["comparable"]), float(pair["ratio"]), float(pair["predicted_wire_nbytes_per_sample"])
        (True, 1.04, 8.0)
    """
    known = ["samples_per_s", "exposed_comm_share", "final_heldout_loss"]
    table = runs[runs["status"] == "completed"].drop(columns=known, errors="ignore")
    table = table.merge(numbers[["run_id", *known]], on="run_id")
    with np.errstate(divide="ignore", invalid="ignore"):
        table["wire_nbytes_per_sample"] = table["wire_nbytes"] / table["samples"]
    table["of_study"] = table["study"].map(asked_study)
    table = table.assign(no_loss=table["final_heldout_loss"].isna()).sort_values(["no_loss", "run_id"])
    predicted = table[table["simulated"]].drop_duplicates(["study", *CELL, "network", "seed"])
    measured = table[~table["simulated"]]
    cells = {key: group for key, group in predicted.groupby(["of_study", *CELL])}
    rows = []
    for key, group in measured.groupby(["study", *CELL, "transport", "network"], sort=True):
        study, *cell, transport, _ = key  # the network of a measured run is the rate that it was limited to
        candidates = cells.get((asked_study(str(study)), *cell))
        if candidates is None:
            continue
        named = {"study": study, **dict(zip(CELL, cell, strict=True)), "transport": transport}
        for (of, network), own in candidates.groupby(["study", "network"], sort=True):
            rows.append({**named, "predicted_study": of, "network": network, **_compared(group, own)})
    ends = ("", "_low", "_high")
    columns = ["study", *CELL, "transport", "predicted_study", "network", "algorithm", "rate_Gbit_per_s"]
    columns += ["comparable", "reason", "measured_seeds", "predicted_seeds", "ratio", "ratio_low", "ratio_high"]
    columns += [f"{side}_{name}{end}" for name in MEASURES for side in ("measured", "predicted") for end in ends]
    found = pd.DataFrame(rows, columns=columns)
    sides = ("measured", "predicted")
    found.attrs["units"] = {f"{side}_{name}": unit for name, (unit, _) in MEASURES.items() for side in sides}
    return found


def within(table: pd.DataFrame, tolerance: float = 0.1) -> pd.DataFrame:
    """Whether each prediction is within a share `tolerance` of what was measured, and how sure that is.

    Args:
        table: rows of `pairs`; only the comparable ones are kept.
        tolerance: 0.1 for 10 %.

    Returns:
        The rows with `off` (ratio - 1), `within` (1 - tolerance <= ratio <= 1 + tolerance), and `sure` (the whole
        interval lies on that side; never so without an interval).

    Source: the definition.

    Example:
        >>> rows = pd.DataFrame({"comparable": [True, True, False], "ratio": [1.04, 0.8, 1.0],
        ...     "ratio_low": [1.01, np.nan, 1.0], "ratio_high": [1.07, np.nan, 1.0]})
        >>> within(rows)[["within", "sure"]].values.tolist()
        [[True, True], [False, False]]
    """
    table = table[table["comparable"].astype(bool)].copy()
    low, high = 1 - tolerance, 1 + tolerance
    table["off"] = table["ratio"] - 1
    table["within"] = table["ratio"].between(low, high)
    inside = (table["ratio_low"] >= low) & (table["ratio_high"] <= high)
    outside = (table["ratio_low"] > high) | (table["ratio_high"] < low)
    table["sure"] = np.where(table["within"], inside, outside)
    return table


def scaling(runs: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Predicted rows of a summary with the wire [s, Gbit/s] that each was predicted for, to be laid over it.

    Args:
        runs: rows of `bench.records.RUNS`.
        summary: what `analysis.summary.summary` gives for them.

    Returns:
        The rows of simulated transports with a result, with `of_study` (see `asked_study`), `latency_s` and
        `bandwidth_Gbit_per_s` between nodes (inside, if all workers are on one; at most the limit of a rank); NaN where
        the runs of a row do not agree on them.

    Source: the network that `bench.records.RUNS` keeps of each simulated run.

    Example:
        >>> same = dict(study="s", workload="w", workers=2, transport="simulated", label="a", simulated=True)
        >>> runs = pd.DataFrame([{**same, "network":
        ...     '{"network": {"latency_s": 1e-4, "bandwidth_Gbit_per_s": 10.0}}'}])
        >>> float(scaling(runs, pd.DataFrame([{**same, "seeds": 1}]))["bandwidth_Gbit_per_s"].iloc[0])
        10.0
    """
    keys = ["study", "workload", "workers", "transport", "label"]
    joined = [_wire(text, workers) for text, workers in zip(runs["network"], runs["workers"], strict=True)]
    wires = pd.DataFrame(joined, columns=["latency_s", "bandwidth_Gbit_per_s"], index=runs.index)
    wires = pd.concat([runs[keys], wires], axis=1)
    wires = wires.groupby(keys, as_index=False).agg(_agreed)
    found = summary[summary["simulated"].astype(bool) & (summary["seeds"] > 0)].merge(wires, on=keys)
    return found.assign(of_study=found["study"].map(asked_study))


def _agreed(values: pd.Series) -> float:
    return float(values.iloc[0]) if values.nunique() == 1 else math.nan


def _compared(measured: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, Any]:
    """The numbers of one pair, and whether they may be compared."""
    rate = _number(_json(measured["network"].iloc[0]), "rate_Gbit_per_s")
    reason = _why_not(measured, predicted, rate)
    row: dict[str, Any] = {
        "algorithm": measured["algorithm"].iloc[0],
        "rate_Gbit_per_s": rate,
        "comparable": not reason,
        "reason": reason,
        "measured_seeds": len(measured),
        "predicted_seeds": len(predicted),
    }
    same_budget = _budgets(measured) == _budgets(predicted)
    for name in MEASURES:
        for side, group in (("measured", measured), ("predicted", predicted)):
            values = group[name].to_numpy(dtype=np.float64)
            mean = mean_over_runs(values if name != "final_heldout_loss" or same_budget else values[:0])
            row |= {f"{side}_{name}": mean.mean, f"{side}_{name}_low": mean.low, f"{side}_{name}_high": mean.high}
    quotients = {"ratio": ("", ""), "ratio_low": ("_low", "_high"), "ratio_high": ("_high", "_low")}
    for name, (above, below) in quotients.items():
        divisor = row[f"measured_samples_per_s{below}"]
        row[name] = row[f"predicted_samples_per_s{above}"] / divisor if divisor else math.nan
    return row


def _budgets(runs: pd.DataFrame) -> set[tuple[float, int]]:
    return set(zip(runs["budget_s"].fillna(-1.0), runs["budget_steps"], strict=True))


def _why_not(measured: pd.DataFrame, predicted: pd.DataFrame, rate: float) -> str:
    """Why a prediction says nothing about what was measured; "" if it does."""
    study, of = str(measured["study"].iloc[0]), str(predicted["study"].iloc[0])
    if study != of:
        return f"another network: {of.partition('@')[2] or 'as calibrated'}"
    for column, what in (
        ("settings", "other settings of the algorithm"),
        ("workload_settings", "other settings of the workload"),
        ("batch_size", "another batch size"),
    ):
        if set(measured[column]) != set(predicted[column]):
            return what
    network = _json(predicted["network"].iloc[0]).get("network", {})
    transport, with_ = str(measured["transport"].iloc[0]), str(network.get("measured_with") or "")
    if with_ and with_ != transport:
        return f"calibrated with {with_}, measured with {transport}"
    limit = _number(network.get("limit") or {}, "rate_Gbit_per_s")
    if not (math.isnan(rate) and math.isnan(limit)) and not math.isclose(rate, limit, rel_tol=1e-9):
        was, will = ("not limited" if math.isnan(r) else f"limited to {r:g} Gbit/s" for r in (rate, limit))
        return f"each rank was {was}, and is predicted {will}"
    return ""


def _wire(text: str, workers: int) -> tuple[float, float]:
    """(latency [s], bandwidth [Gbit/s]) that joins the workers of a simulated run: between nodes, or inside the one on
    which all are, or what each rank is limited to; NaN if not known."""
    network = _json(text).get("network", {})
    one_node = isinstance(network.get("inside"), dict) and workers <= _number(network, "ranks_per_node")
    wire = network["inside"] if one_node else network
    limit = _number(network.get("limit") or {}, "rate_Gbit_per_s")
    return _number(wire, "latency_s"), float(np.fmin(_number(wire, "bandwidth_Gbit_per_s"), limit))


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(table: Mapping[str, Any], key: str) -> float:
    value = table.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
