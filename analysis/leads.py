"""Who would have been first, had the target been another: read off the held-out curves, target by target."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEVELS = 80
"""Targets that are tried."""
COLUMNS = ("target_loss", "label", "time_to_target_s", "than", "than_time_to_target_s", "shown")


def leads(heldout: pd.DataFrame, runs: pd.DataFrame, first: str) -> pd.DataFrame:
    """The algorithm with the lowest mean time to each of many targets, and whether it is shown to beat one of them.

    Args:
        heldout: rows of `bench.records.HELDOUT`, any order.
        runs: rows of `bench.records.RUNS` of one study, workload, number of workers and transport.
        first: label to compare with: who was first at the target that was set.

    Returns:
        One row per target that some label reached in all of its completed and diverged runs, from the easiest to the
        hardest: `target_loss` [nat], `label` (lowest mean time), `time_to_target_s`, `than` (= first),
        `than_time_to_target_s` (NaN if not all of its runs got there) and `shown`: at least two runs of both, and
        every run of `label` was there before any run of `first` can have been (between two snapshots the loss is not
        known), which is the rule of `analysis.comparison.faster`. Targets that a curve meets from its beginning are
        left out.

    Source: `analysis.targets.time_to_target`, for each target.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a", "b"], "label": ["quick", "good"], "status": "completed"})
        >>> heldout = pd.DataFrame({"run_id": ["a"] * 3 + ["b"] * 3, "t_s": [0.0, 1.0, 2.0] * 2,
        ...     "heldout_loss": [4.0, 2.0, 1.9, 4.0, 3.0, 1.0]})
        >>> found = leads(heldout, runs, "quick")
        >>> found["label"].iloc[0], found["label"].iloc[-1], bool(found["shown"].any())
        ('quick', 'good', False)
    """
    tried = runs[runs["status"].isin(["completed", "diverged"])]
    known = heldout[heldout["run_id"].isin(tried["run_id"])].sort_values("t_s", kind="stable")
    curves = {
        str(run_id): (own["t_s"].to_numpy(dtype=np.float64), _stays(own["heldout_loss"].to_numpy(dtype=np.float64)))
        for run_id, own in known.groupby("run_id", sort=True, observed=True)
    }
    diverged = set(tried.loc[tried["status"] == "diverged", "run_id"])
    by_label = {str(label): list(own["run_id"]) for label, own in tried.groupby("label", sort=True, observed=True)}
    by_label = {label: ids for label, ids in by_label.items() if all(run_id in curves for run_id in ids)}
    heights = [stays[np.isfinite(stays)] for _, stays in curves.values()]
    if first not in by_label or not any(len(own) for own in heights):
        return pd.DataFrame(columns=list(COLUMNS))
    easiest = min(own[0] for own in heights if len(own))
    levels = np.unique(np.quantile(np.concatenate(heights), np.linspace(0, 1, LEVELS)))
    rows = []
    for level in levels[levels < easiest][::-1]:
        bounds = {
            label: np.array([_reached(*curves[run_id], level, run_id in diverged) for run_id in ids])
            for label, ids in by_label.items()
        }
        means = {label: float(b[:, 1].mean()) for label, b in bounds.items()}
        label = min(means, key=lambda one: (means[one], one != first, one))
        if not math.isfinite(means[label]):
            continue
        a, b = bounds[label], bounds[first]
        shown = label != first and min(len(a), len(b)) >= 2 and a[:, 1].max() <= b[:, 0].min()
        than = means[first] if math.isfinite(means[first]) else math.nan
        rows.append((float(level), label, means[label], first, than, bool(shown)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _stays(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """At each snapshot the highest loss from there on: at or below a target means that it is held."""
    finite = np.where(np.isfinite(losses), losses, np.inf)
    return np.maximum.accumulate(finite[::-1])[::-1]


def _reached(
    times: NDArray[np.float64], stays: NDArray[np.float64], level: float, diverged: bool
) -> tuple[float, float]:
    """(earliest, latest) time at which a curve can have reached the level for good [s], as in `analysis.targets`."""
    at = int(np.searchsorted(-stays, -level, side="left"))
    if at == len(times):
        return (math.inf if diverged else float(times[-1])), math.inf
    return (float(times[at - 1]) if at else 0.0), float(times[at])
