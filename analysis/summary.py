"""One row per run, and one row per algorithm and setting with means and intervals over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.ages import applied_gradients
from analysis.curves import area_under_curve
from analysis.staleness import distribution, staleness
from analysis.statistics import mean_over_runs
from analysis.targets import time_to_target
from analysis.throughput import throughput
from analysis.timing import time_split
from bench.records import STATUSES, Results

KEYS = ("study", "workload", "workers", "transport", "label")
"""What tells two rows of `summary` apart; runs that differ only in their seed share a row."""

COPIED = ("algorithm", "tuning_trials", "tuning_searched", "simulated", "metric", "target_loss")
"""What the runs of a row have in common."""

METRICS: dict[str, tuple[str, str]] = {
    "time_to_target_s": ("s", "first time the held-out loss is at or below the target and stays there"),
    "samples_to_target": ("samples", "samples of all workers by that time"),
    "wire_nbytes_to_target": ("byte", "bytes put on the wire by all ranks by that time"),
    "energy_J_to_target": ("J", "energy of the nodes by that time, at the run's mean power"),
    "final_heldout_loss": ("nat", "held-out loss of the evaluated model at the last snapshot"),
    "mean_over_t_s": ("nat", "mean height of the held-out curve over time, up to the end of the shortest run"),
    "mean_over_samples": ("nat", "the same over samples"),
    "mean_over_wire_nbytes": ("nat", "the same over bytes on the wire"),
    "heldout_metric": ("", "the workload's held-out metric at the last snapshot"),
    "samples_per_s": ("samples/s", "samples of all workers divided by the duration"),
    "goodput_Gbit_per_s": ("Gbit/s", "payload the algorithm asked to move, all ranks, divided by the duration"),
    "wire_Gbit_per_s": ("Gbit/s", "bytes put on the wire, all ranks, divided by the duration"),
    "peak_wire_Gbit_per_s": ("Gbit/s", "bytes put on the wire in the busiest 100 ms, all ranks"),
    "staleness_mean": ("writes", "mean number of writes to the target between reading and applying a gradient"),
    "staleness_p95": ("writes", "95 % of the gradients were applied at this staleness or less"),
    "staleness_s_mean": ("s", "mean time from beginning a gradient to having applied it"),
    "staleness_s_p95": ("s", "95 % of the gradients were applied within this time"),
    "exposed_comm_s": ("s", "waiting not hidden by computing, mean over the workers"),
    "exposed_comm_share": ("of duration", "the same divided by the duration"),
    "gradient_share": ("of duration", "computing gradients, mean over the workers"),
    "straggler_share": ("of duration", "waiting for the last participant to join, mean over the workers"),
    "transfer_share": ("of duration", "other waiting: for the wire, the library or an answer, mean over the workers"),
    "serve_share": ("of duration", "answering others while not computing or waiting, mean over the workers"),
    "apply_share": ("of duration", "applying updates, mean over the workers"),
    "finished_share": ("of duration", "done while others were still at work, mean over the workers"),
    "harness_share": ("of duration", "what no row covers, mean over the workers"),
    "overlap_fraction": (
        "",
        "part of the time with communication in flight that cost no waiting, mean over the workers",
    ),
    "consensus_distance": (
        "",
        "root mean square distance of the workers from their mean at the last snapshot",
    ),
    "energy_J": ("J", "drawn by the nodes during the run"),
}
"""Name -> (unit, meaning) of each number of `per_run` that `summary` averages."""

TIME_SHARES = {
    "gradient_share": "gradient_s",
    "straggler_share": "exposed_straggler_s",
    "transfer_share": "exposed_transfer_s",
    "serve_share": "serve_s",
    "apply_share": "apply_s",
    "finished_share": "finished_s",
    "harness_share": "other_s",
    "exposed_comm_share": "exposed_comm_s",
}
"""Share of the duration -> column of `time_split`; without the last they add up to 1."""


def of_events(events: pd.DataFrame, runs: pd.DataFrame, split: pd.DataFrame | None = None) -> pd.DataFrame:
    """The part of `per_run` that events tell, so that they can be read and let go a few runs at a time.

    Args:
        events: rows of `bench.records.EVENTS`, all those of these runs.
        runs: rows of `bench.records.RUNS`.
        split: what `time_split` gives for them, if it is at hand; of millions of events it takes seconds.

    Returns:
        One row per run: `run_id`, `peak_wire_Gbit_per_s`, the columns of `staleness`, `staleness_s_mean`,
        `staleness_s_p95`, `exposed_comm_s`, `overlap_fraction`, `TIME_SHARES`. What a run does not have is NaN.

    Source: those of `throughput`, `staleness`, `applied_gradients`, `time_split`.

    Example:
        >>> from bench.records import EVENTS, RUNS
        >>> events, runs = (t.schema.empty_table().to_pandas() for t in (EVENTS, RUNS))
        >>> len(of_events(events, runs))
        0
    """
    table = throughput(runs, events)[["run_id", "peak_wire_Gbit_per_s"]]
    table = table.merge(staleness(events), on="run_id", how="left")
    ages = distribution(applied_gradients(events, runs))[["run_id", "s_mean", "s_p95"]]
    ages = ages.rename(columns={"s_mean": "staleness_s_mean", "s_p95": "staleness_s_p95"})
    table = table.merge(ages, on="run_id", how="left")
    split = time_split(events, runs) if split is None else split
    split = split[split["role"] == "worker"]
    columns = ["exposed_comm_s", "overlap_fraction", "duration_s", *TIME_SHARES.values()]
    waits = split.groupby("run_id", observed=True)[list(dict.fromkeys(columns))].mean()
    for name, part in TIME_SHARES.items():
        waits[name] = waits[part] / waits["duration_s"]
    waits = waits[["exposed_comm_s", "overlap_fraction", *TIME_SHARES]]
    return table.merge(waits.reset_index(), on="run_id", how="left")


def per_run(results: Results, *, traced: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every derived number of every run, whatever its status; take care to average completed runs only.

    Args:
        results: what `bench.records.load` gives; its events are not looked at if `traced` is given.
        traced: what `of_events` gives for all their events, if it is at hand.

    Returns:
        One row per run: `run_id`, `KEYS`, `algorithm`, `seed`, `status`, `simulated`, `diverged_at_s`, `duration_s`,
        `tuning_trials`, `tuning_searched`, `horizon_t_s`, `horizon_samples`, `horizon_wire_nbytes` (see
        `area_under_curve`), all `METRICS`, and `target_loss`, `target_earliest_s`, `target_latest_s` (see
        `time_to_target`). What a run does not have is NaN.

    Source: those of `of_events`, `time_to_target`, `throughput`, `area_under_curve`.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> len(per_run(Results(*empty)))
        0
    """
    runs = results.runs
    known = ["run_id", *KEYS, "algorithm", "seed", "status", "simulated", "diverged_at_s", "duration_s", "metric"]
    table = runs[[*known, "tuning_trials", "tuning_searched", "energy_J"]].copy()
    table = table.merge(time_to_target(results.heldout, runs), on="run_id", how="left")
    table["energy_J_to_target"] = table["energy_J"] * table["time_to_target_s"] / table["duration_s"]
    rates = throughput(runs, results.events.iloc[:0]).drop(columns="peak_wire_Gbit_per_s")
    table = table.merge(rates, on="run_id", how="left")
    traced = of_events(results.events, runs) if traced is None else traced
    table = table.merge(traced, on="run_id", how="left")
    table = table.merge(area_under_curve(results.heldout, runs), on="run_id", how="left")

    last = results.heldout.sort_values("t_s").groupby("run_id", observed=True).tail(1)
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
        Columns `KEYS`, `COPIED`, `seeds` (completed runs), `completed`,
        `diverged`, `failed`, `crashed` (numbers of runs), `diverged_at_s` (earliest), `reached` (completed runs that
        reached the target), `duration_s` (mean), bounds over the completed and diverged runs `target_earliest_s` and
        `target_latest_s`, `target_resolution_s` (longest time between the snapshots around the target), and for each of
        `METRICS` five columns: the mean, `_low`, `_high`, `_n`, `_interval` (how the interval was made).
        `attrs["units"]` documents the units.

    Source: as for `mean_over_runs` and `per_run`.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> summary(Results(*empty)).empty
        True
    """
    return summarise(per_run(results))


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` from a table made by `per_run`.

    Args:
        table: rows of `per_run`, all or a part.

    Returns:
        As `summary`.

    Source: as for `summary`.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> {"time_to_target_s_low", "energy_J"} <= set(summarise(per_run(Results(*empty))))
        True
    """
    rows: list[dict[str, Any]] = []
    for key, group in table.groupby(list(KEYS), sort=True):
        completed, diverged = group[group["status"] == "completed"], group[group["status"] == "diverged"]
        first = (completed if len(completed) else group).iloc[0]
        results = pd.concat([completed, diverged]) if len(diverged) else completed
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        row.update({name: first[name] for name in COPIED})
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
    columns = [*KEYS, *COPIED, "seeds", *STATUSES]
    columns += ["diverged_at_s", "reached", "duration_s", "target_earliest_s", "target_latest_s", "target_resolution_s"]
    columns += [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high", "_n", "_interval")]
    frame = pd.DataFrame(rows, columns=columns)
    units = {name: unit for name, (unit, _) in METRICS.items()}
    frame.attrs["units"] = {f"{name}{end}": unit for name, unit in units.items() for end in ("", "_low", "_high")}
    return frame
