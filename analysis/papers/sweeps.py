"""Runs over a grid of learning rates as one table, and the best rate of each setting: equal tuning for everybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.papers.evidence import Evidence, Missing

GUESSING = 0.9
"""Test error of a run that diverged: that of guessing among ten classes."""


def errors(evidence: Evidence, part: str) -> pd.DataFrame:
    """The test errors of a study's runs with ten classes, one row per run.

    Args:
        part: of the evidence; its workload's held-out metric must be the accuracy.

    Returns:
        `run_id`, `algorithm`, `workers`, `period` (NaN if the algorithm has none), `lr`, `momentum`, `seed`, `status`,
        `final` (at the last snapshot), `lowest` (of all snapshots). Of diverged runs both are 0.9.

    Raises:
        Missing: the study has not been run, or runs of it failed.

    Source: arXiv 1412.6651, section 5, whose figures show the test error of the center.
    """
    results = evidence.results(part)
    runs = results.runs
    bad = runs[~runs["status"].isin(["completed", "diverged"])]
    if len(bad):
        raise Missing(f"{part}: {len(bad)} of {len(runs)} runs failed, such as {bad['run_id'].iloc[0]}")
    curves = results.heldout.assign(error=1 - results.heldout["heldout_metric"]).sort_values("t_s")
    by_run = curves.groupby("run_id", observed=True)["error"]
    table = evidence.runs(part)
    settings = table["settings"]
    found = pd.DataFrame(
        {
            "run_id": table["run_id"],
            "algorithm": table["algorithm"],
            "workers": table["workers"],
            "period": [float(s.get("period", np.nan)) for s in settings],
            "lr": [float((s.get("optimizer") or {}).get("lr", np.nan)) for s in settings],
            "momentum": [float(s.get("momentum", np.nan)) for s in settings],
            "seed": table["seed"],
            "status": table["status"],
            "final": table["run_id"].map(by_run.last()),
            "lowest": table["run_id"].map(by_run.min()),
        }
    )
    diverged = found["status"] == "diverged"
    for name in ("final", "lowest"):
        found[name] = found[name].mask(diverged | found[name].isna(), GUESSING)
    return found


def best(table: pd.DataFrame, value: str, by: Sequence[str] = ("algorithm", "workers", "period")) -> pd.DataFrame:
    """The learning rate with the least mean of a value over the seeds, for each setting.

    Args:
        table: one row per run with `lr`, `seed`, `run_id`, the columns of `by` and `value`.
        value: the column to be small.

    Returns:
        One row per setting: the columns of `by`, `lr`, `mean`, `standard_error` (NaN with one seed), `n` (seeds),
        `diverged` (at this rate), `at_edge` (whether it is the least or greatest rate tried), `rows` (run_ids).

    Source: equal numbers of trials, best mean: arXiv 1412.6651, supplement, tables 1 to 3.

    Example:
        >>> table = pd.DataFrame({"algorithm": "a", "workers": 4, "period": 1.0, "lr": [0.1, 0.1, 0.3, 0.3],
        ...     "seed": [0, 1, 0, 1], "run_id": list("abcd"), "status": "completed", "final": [0.2, 0.4, 0.1, 0.3]})
        >>> found = best(table, "final").iloc[0]
        >>> float(found.lr), round(float(found["mean"]), 3), round(float(found.standard_error), 3), found.rows
        (0.3, 0.2, 0.1, ['c', 'd'])
    """
    rows = []
    for key, setting in table.groupby(list(by), dropna=False, sort=True):
        means = setting.groupby("lr")[value].mean()
        lr = float(means.index.to_numpy()[means.to_numpy().argmin()])
        own = setting[setting["lr"] == lr]
        values = own[value].to_numpy(dtype=np.float64)
        spread = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "lr": lr,
                "mean": float(values.mean()),
                "standard_error": spread,
                "n": len(values),
                "diverged": int((own["status"] == "diverged").sum()),
                "at_edge": lr in (means.index.min(), means.index.max()) and len(means) > 1,
                "rows": own["run_id"].tolist(),
            }
        )
    return pd.DataFrame(rows)


def above(a: pd.Series, b: pd.Series, errors_apart: float = 2.0) -> bool:
    """Whether one row of `best` lies above another by more than so many standard errors of the difference.

    Source: the usual test of two means; their errors add as squares.

    Example:
        >>> low, high = pd.Series({"mean": 1.0, "standard_error": 0.3}), pd.Series({"mean": 2.0, "standard_error": 0.1})
        >>> above(high, low), above(low, high)
        (True, False)
    """
    error = float(np.hypot(a["standard_error"], b["standard_error"]))
    return bool(a["mean"] - b["mean"] > errors_apart * error)
