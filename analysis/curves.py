"""Held-out curves as a whole: the area under them up to a common end, and their mean over the seeds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics import mean_over_runs

AXES = ("t_s", "samples", "wire_nbytes")
"""What a held-out curve can be drawn against."""
COMPARED = ["study", "workload", "workers", "transport"]
"""Runs that agree in these share a horizon."""


def mean_height(x: NDArray[np.float64], y: NDArray[np.float64], end: float) -> float:
    """Mean height of a curve from its first point to `end`, by the trapezoidal rule [unit of y].

    Args:
        x: ascending [points].
        y: [points].
        end: where to stop; in between two points the curve is a straight line.

    Returns:
        Area divided by its width; NaN if the curve does not reach `end`, has no width, or is not finite up to there.

    Source: the trapezoidal rule.

    Example:
        >>> mean_height(np.array([0.0, 1.0, 3.0]), np.array([4.0, 2.0, 0.0]), 2.0)
        2.25
    """
    if len(x) < 2 or not x[0] < end <= x[-1]:
        return math.nan
    inside = x < end
    heights = np.append(y[inside], np.interp(end, x, y))
    return float(np.trapezoid(heights, np.append(x[inside], end)) / (end - x[0]))


def area_under_curve(heldout: pd.DataFrame, runs: pd.DataFrame, value: str = "heldout_loss") -> pd.DataFrame:
    """Mean height of each run's held-out curve against time, samples and bytes, up to a common horizon.

    One number for the whole curve, where the time to a target is one for a single point of it, and the last point one
    for the end: lower means lower losses all along. The horizon is the end of the shortest curve among the completed
    runs of one study, workload, number of workers and transport, so that the areas have one width. Against bytes the
    algorithm that sends least sets it, and one that sends nothing leaves no area at all.

    Args:
        heldout: rows of `bench.records.HELDOUT`, any order.
        runs: rows of `bench.records.RUNS`.
        value: column of `heldout`.

    Returns:
        One row per run, in the order of `runs`: `run_id` and for each of `AXES`: `mean_over_AXIS` [unit of `value`] and
        `horizon_AXIS` [s, samples or byte]. NaN for a run that is not completed, or whose curve ends before.

    Source: the trapezoidal rule on the snapshots; between two snapshots the loss is not known.

    Example:
        The second run goes on for longer; only what both have counts.

        >>> runs = pd.DataFrame({"run_id": ["a", "b"], "status": "completed", "study": "s", "workload": "w",
        ...     "workers": 2, "transport": "mpi"})
        >>> heldout = pd.DataFrame({"run_id": ["a", "a", "b", "b"], "t_s": [0.0, 1.0, 0.0, 2.0],
        ...     "samples": [0, 8, 0, 8], "wire_nbytes": 0, "heldout_loss": [4.0, 2.0, 4.0, 2.0]})
        >>> found = area_under_curve(heldout, runs)
        >>> found["mean_over_t_s"].tolist(), found["mean_over_samples"].tolist(), found["horizon_t_s"].tolist()
        ([3.0, 3.5], [3.0, 3.0], [1.0, 1.0])
    """
    done = runs[runs["status"] == "completed"]
    known = heldout[heldout["run_id"].isin(done["run_id"])].sort_values("t_s", kind="stable")
    by_run = {str(run_id): own for run_id, own in known.groupby("run_id", sort=False, observed=True)}
    found: dict[str, dict[str, float]] = {}
    for _, group in done.groupby(COMPARED, sort=False, observed=True):
        curves = {run_id: by_run[run_id] for run_id in group["run_id"] if run_id in by_run}
        for axis in AXES:
            horizon = min((float(own[axis].max()) for own in curves.values()), default=math.nan)
            for run_id, own in curves.items():
                x, y = own[axis].to_numpy(dtype=np.float64), own[value].to_numpy(dtype=np.float64)
                at = found.setdefault(run_id, {})
                at[f"mean_over_{axis}"], at[f"horizon_{axis}"] = mean_height(x, y, horizon), horizon
    nothing = {f"{name}_{axis}": math.nan for axis in AXES for name in ("mean_over", "horizon")}
    return pd.DataFrame(
        [{"run_id": run_id, **nothing, **found.get(run_id, {})} for run_id in runs["run_id"]],
        columns=["run_id", *nothing],
    )


def over_runs(heldout: pd.DataFrame, runs: pd.DataFrame, value: str = "consensus_distance") -> pd.DataFrame:
    """A held-out column at each planned snapshot: mean over the seeds, with its interval.

    With `consensus_distance` the consensus distance over time, with `heldout_loss` the curve of learning.

    Args:
        heldout: rows of `bench.records.HELDOUT`, any order.
        runs: rows of `bench.records.RUNS`; completed ones count.
        value: column of `heldout`.

    Returns:
        One row per study, workload, workers, transport, label and snapshot that all of its runs have: these, the means
        `t_s` [s], `samples`, `wire_nbytes` [byte], `mean` [unit of `value`], `low`, `high`, `n`, `interval` (see
        `analysis.statistics.mean_over_runs`).

    Source: as for `analysis.statistics.mean_over_runs`.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a", "b"], "status": "completed", "study": "s", "workload": "w",
        ...     "workers": 2, "transport": "mpi", "label": "easgd"})
        >>> heldout = pd.DataFrame({"run_id": ["a", "b"], "snapshot": 1, "t_s": [1.0, 1.5], "samples": 8,
        ...     "wire_nbytes": 4, "consensus_distance": [0.5, 1.0]})
        >>> over_runs(heldout, runs)[["t_s", "mean", "low", "high", "n"]].to_numpy().tolist()
        [[1.25, 0.75, 0.5, 1.0, 2.0]]
    """
    keys = [*COMPARED, "label"]
    done = runs.loc[runs["status"] == "completed", ["run_id", *keys]]
    joined = heldout.merge(done, on="run_id")
    rows = []
    for key, group in joined.groupby(keys, sort=True, observed=True):
        curves = group["run_id"].nunique()
        for snapshot, own in group.groupby("snapshot", sort=True):
            if len(own) < curves:
                continue
            found = mean_over_runs(own[value].to_numpy(dtype=np.float64))
            rows.append(
                {**dict(zip(keys, key, strict=True)), "snapshot": snapshot}
                | {axis: float(own[axis].mean()) for axis in AXES}
                | {name: getattr(found, name) for name in ("mean", "low", "high", "n", "interval")}
            )
    return pd.DataFrame(rows, columns=[*keys, "snapshot", *AXES, "mean", "low", "high", "n", "interval"])
