"""When the held-out loss reached the target, in seconds, samples and bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = (
    "time_to_target_s",
    "samples_to_target",
    "nbytes_to_target",
    "wire_nbytes_to_target",
    "target_earliest_s",
    "target_latest_s",
)


def time_to_target(heldout: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """First time at which the held-out loss is at or below the run's target and stays there in all later snapshots.

    The time is that of a snapshot: nothing is interpolated, because the loss between two snapshots is not known. It is
    known that the target was passed after the snapshot before; the bounds say so.

    Args:
        heldout: rows of `bench.records.HELDOUT`, any order.
        runs: rows of `bench.records.RUNS`; `target_loss` NaN means that no target was set.

    Returns:
        One row per run, in the order of `runs`: `run_id`, `target_loss` [nat], `time_to_target_s`,
        `samples_to_target`, `nbytes_to_target`, `wire_nbytes_to_target` (all NaN if the target was never reached), and
        bounds on the true time: `target_earliest_s` (the snapshot before; the last snapshot if never reached; infinite
        if the run diverged) and `target_latest_s` (the time itself; infinite if never reached).

    Source: `time_to_target_s` in the glossary, shared by MLPerf Training and AlgoPerf ("time to result").

    Example:
        A dip that does not last (1.9 at 2 s) does not count:

        >>> runs = pd.DataFrame({"run_id": ["a"], "target_loss": [2.0], "status": ["completed"]})
        >>> heldout = pd.DataFrame({"run_id": "a", "t_s": [1.0, 2.0, 3.0, 4.0], "heldout_loss": [3.0, 1.9, 2.1, 1.5],
        ...     "samples": [10, 20, 30, 40], "nbytes": [1, 2, 3, 4], "wire_nbytes": [2, 4, 6, 8]})
        >>> row = time_to_target(heldout, runs).iloc[0]
        >>> row.time_to_target_s, row.target_earliest_s, int(row.samples_to_target), int(row.wire_nbytes_to_target)
        (np.float64(4.0), np.float64(3.0), 40, 8)
    """
    by_run = {str(key): group.sort_values("t_s") for key, group in heldout.groupby("run_id", sort=False)}
    rows = []
    for run_id, target, status in zip(runs["run_id"], runs["target_loss"], runs["status"], strict=True):
        values = dict.fromkeys(COLUMNS, float("nan"))
        curve = by_run.get(run_id)
        if curve is not None and not np.isnan(target):
            times = curve["t_s"].to_numpy(dtype=np.float64)
            above = np.flatnonzero(~(curve["heldout_loss"].to_numpy(dtype=np.float64) <= target))
            first = int(above[-1]) + 1 if len(above) else 0
            if first < len(times):
                at = curve.iloc[first]
                values["time_to_target_s"] = values["target_latest_s"] = float(times[first])
                values["target_earliest_s"] = float(times[first - 1]) if first else 0.0
                for name in ("samples", "nbytes", "wire_nbytes"):
                    values[f"{name}_to_target"] = float(at[name])
            else:
                values["target_earliest_s"] = float("inf") if status == "diverged" else float(times[-1])
                values["target_latest_s"] = float("inf")
        rows.append({"run_id": run_id, "target_loss": float(target), **values})
    return pd.DataFrame(rows, columns=["run_id", "target_loss", *COLUMNS])
