"""How old gradients were when they were applied, in writes to the target between reading and applying."""

from __future__ import annotations

import numpy as np
import pandas as pd


def _applied(events: pd.DataFrame) -> pd.DataFrame:
    return events.loc[(events["kind"] == "apply") & (events["staleness_updates"] >= 0), ["run_id", "staleness_updates"]]


def _percentile_95(values: pd.Series[int]) -> int:
    return int(np.quantile(values.to_numpy(), 0.95, method="inverted_cdf"))


def staleness(events: pd.DataFrame) -> pd.DataFrame:
    """Staleness of the applied gradients of each run.

    Args:
        events: rows of `bench.records.EVENTS`; only those with kind = apply count.

    Returns:
        One row per run that applied a gradient: `run_id`, `staleness_mean`, `staleness_p95`, `staleness_max` [writes],
        `gradients_applied`. The 95th percentile is a value that occurred: the smallest s such that at least 95 % of
        the gradients had staleness s or less.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "kind": "apply", "staleness_updates": [0] * 94 + [1] * 2 + [3] * 4})
        >>> staleness(events).iloc[0, 1:].tolist()
        [0.14, 1.0, 3.0, 100.0]
    """
    grouped = _applied(events).groupby("run_id", sort=False)["staleness_updates"]
    return pd.DataFrame(
        {
            "staleness_mean": grouped.mean(),
            "staleness_p95": grouped.agg(_percentile_95),
            "staleness_max": grouped.max(),
            "gradients_applied": grouped.size(),
        }
    ).reset_index()


def staleness_histogram(events: pd.DataFrame) -> pd.DataFrame:
    """How many gradients of each run were applied at each staleness.

    Args:
        events: rows of `bench.records.EVENTS`; only those with kind = apply count.

    Returns:
        One row per run and staleness that occurred: `run_id`, `staleness_updates` [writes], `gradients`, `share` (of
        the run's applied gradients; sums to 1 per run), sorted.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "kind": "apply", "staleness_updates": [0, 2, 0, 0]})
        >>> staleness_histogram(events)[["staleness_updates", "share"]].to_numpy().tolist()
        [[0.0, 0.75], [2.0, 0.25]]
    """
    counts = _applied(events).groupby(["run_id", "staleness_updates"]).size().rename("gradients").reset_index()
    counts["share"] = counts["gradients"] / counts.groupby("run_id")["gradients"].transform("sum")
    return counts
