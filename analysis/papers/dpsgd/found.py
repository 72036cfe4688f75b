"""What the rules read: the last held-out loss of each run with its settings, and the rows of the probes with seeds.

A run that diverged has an infinite loss, so that every comparison counts it as the worst.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.papers.evidence import Evidence, Missing
from analysis.probes import tables
from bench.records import Table

Losses = NDArray[np.float64]


def most(n: int) -> int:
    """How many of n runs are "nearly all": seven of eight, rounded up.

    Example:
        >>> most(3), most(8), most(16)
        (3, 7, 14)
    """
    return math.ceil(7 * n / 8)


def finals(evidence: Evidence, part: str) -> pd.DataFrame:
    """One row per run of a study that completed or diverged.

    Returns:
        `run_id`, `label` (without the grid's values), `workload`, `workers`, `seed`, `lr`, `sigma` (NaN if it has
        none), `loss`: the last held-out loss [nat], infinite if the run diverged.

    Raises:
        Missing: the study has not been run.
    """
    results = evidence.results(part)
    last = results.heldout.sort_values("t_s").groupby("run_id").tail(1).set_index("run_id")["heldout_loss"]
    rows = []
    for run in results.runs.to_dict("records"):
        if run["status"] not in ("completed", "diverged"):
            continue
        settings = json.loads(run["settings"])
        loss = float(last.get(run["run_id"], math.nan)) if run["status"] == "completed" else math.inf
        rows.append(
            {
                "run_id": run["run_id"], "label": str(run["label"]).split("@")[0], "workload": run["workload"],
                "workers": run["workers"], "seed": run["seed"], "lr": float(settings["optimizer"]["lr"]),
                "sigma": float(settings.get("sigma", math.nan)), "loss": loss if math.isfinite(loss) else math.inf,
            }
        )  # fmt: skip
    if not rows:
        raise Missing(f"{part}: no run completed or diverged")
    return pd.DataFrame(rows)


def losses(table: pd.DataFrame, label: str, **settings: float | str) -> Losses:
    """The last losses [seeds] of one algorithm with these settings, by seed; empty if there is no such run.

    Example:
        >>> table = pd.DataFrame({"label": ["a", "a"], "lr": [0.1, 0.2], "seed": [0, 0], "loss": [1.0, 2.0]})
        >>> losses(table, "a", lr=0.2).tolist()
        [2.0]
    """
    rows = table[table["label"] == label]
    for name, value in settings.items():
        rows = rows[np.isclose(rows[name], value)] if isinstance(value, float) else rows[rows[name] == value]
    found: Losses = rows.sort_values("seed")["loss"].to_numpy(dtype=np.float64)
    return found


def largest(table: pd.DataFrame, label: str, by: str, below: float) -> float:
    """The largest value of the column `by` at which nearly all (`most`) of an algorithm's runs end below a loss; NaN if
    there is none.

    Example:
        >>> table = pd.DataFrame({"label": "a", "lr": [0.1, 0.2, 0.4], "seed": 0, "loss": [0.1, 0.1, 2.0]})
        >>> largest(table, "a", "lr", 0.2)
        0.2
    """
    own = table[table["label"] == label]
    values = sorted(own[by].astype(float).unique())
    good = [
        float(value)
        for value in values
        if int((losses(own, label, **{by: float(value)}) < below).sum()) >= most(int((own[by] == value).sum()))
    ]
    return max(good, default=math.nan)


def probed(evidence: Evidence, part: str, table: Table) -> pd.DataFrame:
    """The rows of one kind of probe of a study, with `label` and `seed` of their runs.

    Raises:
        Missing: the study has not been run, or not probed.
    """
    runs = evidence.results(part).runs[["run_id", "label", "seed"]]
    rows = tables.load([evidence.folder / part])[table.name].merge(runs, on="run_id")
    if rows.empty:
        raise Missing(f"{part}: no rows of {table.name} (the study has not been probed)")
    return rows


def seen(values: Losses) -> str:
    """Losses in words, in the order of the seeds.

    Example:
        >>> seen(np.array([0.1, 2.0, np.inf]))
        '0.1, 2, diverged'
    """
    return ", ".join(f"{v:.3g}" if math.isfinite(v) else "diverged" for v in values)
