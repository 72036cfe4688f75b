"""Evidence of learning curves that were never run, for the rules of papers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.papers.evidence import TABLE, Evidence
from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results

SPREAD = (0.0, 0.004, -0.004, 0.002, -0.002)
"""How far the seeds' final accuracies are apart."""


def curve(
    label: str, lr: float, end: float, *, seed: int = 0, reach_s: float = 1.0, workers: int = 32, workload: str = "w",
    nbytes: float = 1e9, samples: float = 32_000, duration_s: float = 2.0, loss: float = 0.5, verdict: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A run whose accuracy rises in a straight line to `end` at `reach_s` and stays; bytes and samples rise on."""
    return dict(
        label=label, lr=lr, end=end, seed=seed, reach_s=reach_s, workers=workers, workload=workload, nbytes=nbytes,
        samples=samples, duration_s=duration_s, loss=loss, verdict=verdict,
    )  # fmt: skip


def seeds(count: int, *arguments: Any, **more: Any) -> list[dict[str, Any]]:
    """The same for some seeds, whose accuracies differ a little."""
    rows = [curve(*arguments, seed=seed, **more) for seed in range(count)]
    return [row | {"end": row["end"] + SPREAD[row["seed"]]} for row in rows]


def evidence(
    folder: Path,
    studies: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Evidence:
    """Evidence of studies made of `curve`s, and of experiments' tables."""
    found = Evidence(folder, "quick")
    for part, rows in (studies or {}).items():
        found._results[part] = _results(rows)
    for part, own in (tables or {}).items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        pd.DataFrame(own).to_parquet(folder / part / TABLE)
    return found


def _results(rows: Sequence[Mapping[str, Any]]) -> Results:
    runs, heldout = [], []
    for number, row in enumerate(rows):
        run_id = f"{row['label']}-{number}"
        runs.append(
            {
                "run_id": run_id,
                "label": f"{row['label']}@lr={row['lr']:g}",
                "algorithm": row["label"],
                "workload": row["workload"],
                "workers": row["workers"],
                "seed": row["seed"],
                "status": "completed",
                "verdict": row["verdict"],
                "settings": json.dumps({"optimizer": {"lr": row["lr"]}}),
            }
        )
        for t_s in np.linspace(0, row["duration_s"], 41):
            heldout.append(
                {
                    "run_id": run_id,
                    "t_s": t_s,
                    "heldout_loss": row["loss"],
                    "heldout_metric": 0.1 + (row["end"] - 0.1) * min(1.0, t_s / row["reach_s"]),
                    "samples": row["samples"] * t_s / row["duration_s"],
                    "wire_nbytes": row["nbytes"] * t_s / row["duration_s"],
                }
            )
    frames = [table.schema.empty_table().to_pandas() for table in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
    frames[0], frames[3] = pd.DataFrame(runs), pd.DataFrame(heldout)
    return Results(*frames)
