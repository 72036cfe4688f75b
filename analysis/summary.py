"""One row per run, and one row per algorithm and setting with means and intervals over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.staleness import staleness
from analysis.statistics import mean_over_runs
from analysis.targets import time_to_target
from analysis.throughput import throughput
from analysis.timing import time_split
from bench.records import STATUSES, Results

KEYS = ("study", "workload", "workers", "transport", "label")
"""What tells two rows of `summary` apart; runs that differ only in their seed share a row."""

METRICS: dict[str, tuple[str, str]] = {
    "time_to_target_s": ("s", "first time the held-out loss is at or below the target and stays there"),
    "samples_to_target": ("samples", "samples of all workers by that time"),
    "wire_nbytes_to_target": ("byte", "bytes put on the wire by all ranks by that time"),
    "final_heldout_loss": ("nat", "held-out loss of the evaluated model at the last snapshot"),
    "heldout_metric": ("", "the workload's held-out metric at the last snapshot"),
    "samples_per_s": ("samples/s", "samples of all workers divided by the duration"),
    "goodput_Gbit_per_s": ("Gbit/s", "payload the algorithm asked to move, all ranks, divided by the duration"),
    "wire_Gbit_per_s": ("Gbit/s", "bytes put on the wire, all ranks, divided by the duration"),
    "peak_wire_Gbit_per_s": ("Gbit/s", "bytes put on the wire in the busiest 100 ms, all ranks"),
    "staleness_mean": ("writes", "mean number of writes to the target between reading and applying a gradient"),
    "staleness_p95": ("writes", "95 % of the gradients were applied at this staleness or less"),
    "exposed_comm_s": ("s", "waiting not hidden by computing, mean over the workers"),
    "exposed_comm_share": ("of duration", "the same divided by the duration"),
    "overlap_fraction": (
        "",
        "part of the time with communication in flight that cost no waiting, mean over the workers",
    ),
    "consensus_distance": (
        "",
        "root mean square distance of the workers from their mean at the last snapshot",
    ),
}
"""Name -> (unit, meaning) of each number of `per_run` that `summary` averages."""


def per_run(results: Results) -> pd.DataFrame:
    """Every derived number of every run, whatever its status; take care to average completed runs only.

    Args:
        results: what `bench.records.load` gives.

    Returns:
        One row per run: `run_id`, `KEYS`, `algorithm`, `seed`, `status`, `simulated`, `diverged_at_s`, `duration_s`,
        all `METRICS`, and `target_loss`, `target_earliest_s`, `target_latest_s` (see `time_to_target`). What a run does
        not have is NaN.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> len(per_run(Results(*empty)))
        0
    """
    runs, events = results.runs, results.events
    table = runs[
        ["run_id", *KEYS, "algorithm", "seed", "status", "simulated", "diverged_at_s", "duration_s", "metric"]
    ].copy()
    table = table.merge(time_to_target(results.heldout, runs), on="run_id", how="left")
    table = table.merge(throughput(runs, events), on="run_id", how="left")
    table = table.merge(staleness(events), on="run_id", how="left")

    split = time_split(events, runs)
    split = split[split["role"] == "worker"]
    waits = split.groupby("run_id")[["exposed_comm_s", "overlap_fraction", "duration_s"]].mean()
    waits["exposed_comm_share"] = waits["exposed_comm_s"] / waits["duration_s"]
    table = table.merge(waits.drop(columns="duration_s").reset_index(), on="run_id", how="left")

    last = results.heldout.sort_values("t_s").groupby("run_id").tail(1)
    last = last[["run_id", "heldout_loss", "heldout_metric", "consensus_distance"]]
    table = table.merge(last.rename(columns={"heldout_loss": "final_heldout_loss"}), on="run_id", how="left")
    table.attrs["units"] = {name: unit for name, (unit, _) in METRICS.items()}
    return table


def summary(results: Results) -> pd.DataFrame:
    """One row per (study, workload, workers, transport, label), with means and intervals over seeds.

    Only completed runs enter a mean. Diverged runs are results, but not numbers: they are counted, and count as never
    reaching the target. Failed and crashed runs are counted and nothing else. If any completed or diverged run never
    reached the target, the mean time to target is NaN (a mean over the lucky seeds would flatter): see `reached`.

    Args:
        results: what `bench.records.load` gives.

    Returns:
        Columns `KEYS`, `algorithm`, `simulated`, `metric` (name), `target_loss`, `seeds` (completed runs), `completed`,
        `diverged`, `failed`, `crashed` (numbers of runs), `diverged_at_s` (earliest), `reached` (completed runs that
        reached the target), `duration_s` (mean), bounds over the completed and diverged runs `target_earliest_s` and
        `target_latest_s`, `target_resolution_s` (longest time between the snapshots around the target), and for each of
        `METRICS` five columns: the mean, `_low`, `_high`, `_n`, `_interval` (how the interval was made).
        `attrs["units"]` documents the units.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> summary(Results(*empty)).empty
        True
    """
    return summarise(per_run(results))


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` from a table made by `per_run`."""
    rows: list[dict[str, Any]] = []
    for key, group in table.groupby(list(KEYS), sort=True):
        completed, diverged = group[group["status"] == "completed"], group[group["status"] == "diverged"]
        first = (completed if len(completed) else group).iloc[0]
        results = pd.concat([completed, diverged]) if len(diverged) else completed
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        row.update({name: first[name] for name in ("algorithm", "simulated", "metric", "target_loss")})
        row["seeds"] = len(completed)
        row.update({status: int((group["status"] == status).sum()) for status in STATUSES})
        row["diverged_at_s"] = diverged["diverged_at_s"].min() if len(diverged) else np.nan
        row["reached"] = int(completed["time_to_target_s"].notna().sum())
        row["duration_s"] = completed["duration_s"].mean()
        row["target_earliest_s"] = results["target_earliest_s"].min()
        # A run without a held-out curve has no bounds: then nothing is known about the group's latest time.
        row["target_latest_s"] = results["target_latest_s"].max(skipna=False)
        row["target_resolution_s"] = (completed["target_latest_s"] - completed["target_earliest_s"]).max()
        for name in METRICS:
            values = completed[name].to_numpy(dtype=np.float64)
            if "_to_target" in name and row["reached"] < len(results):
                values = values[:0]
            mean = mean_over_runs(values[np.isfinite(values)])
            row[name], row[f"{name}_low"], row[f"{name}_high"] = mean.mean, mean.low, mean.high
            row[f"{name}_n"], row[f"{name}_interval"] = mean.n, mean.interval
        rows.append(row)
    columns = [*KEYS, "algorithm", "simulated", "metric", "target_loss", "seeds", *STATUSES]
    columns += ["diverged_at_s", "reached", "duration_s", "target_earliest_s", "target_latest_s", "target_resolution_s"]
    columns += [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high", "_n", "_interval")]
    frame = pd.DataFrame(rows, columns=columns)
    units = {name: unit for name, (unit, _) in METRICS.items()}
    frame.attrs["units"] = {f"{name}{end}": unit for name, unit in units.items() for end in ("", "_low", "_high")}
    return frame
