"""What an advice needs of a results folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.targets import time_to_target
from analysis.throughput import Gbit, rank_throughput
from bench.records import HELDOUT, RUNS, Table, load

LONGEST_WINDOW_S, WINDOWS = 0.1, 20
"""Peaks are those of a window of time: 100 ms, or a twentieth of a short run."""


def look(out: Path, run_id: str, by_s: float) -> tuple[Literal["there", "not yet", "over"], float]:
    """What a run has shown, and when it was at the target [s]; infinite if it was not.

    Args:
        out: results folder.
        run_id: of the run.
        by_s: when it must have been there, so that it has stayed there for a while.

    Returns:
        "there"; "not yet"; or "over": it diverged or failed.

    Source: as for `analysis.targets.time_to_target`.

    Example:
        >>> import tempfile
        >>> from bench.records import unknown_row, write_rows
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name, "runs", "a")
        ...     folder.mkdir(parents=True)
        ...     write_rows(RUNS, [unknown_row(RUNS) | {"run_id": "a", "status": "diverged"}], folder / "run.parquet")
        ...     look(Path(name), "a", 1.0)
        ('over', inf)
    """
    runs, heldout = tables(out, run_id)
    if runs["status"].iloc[0] != "completed":
        return "over", math.inf
    at_s = float(time_to_target(heldout, runs)["target_latest_s"].iloc[0])
    return ("there" if at_s <= by_s else "not yet"), at_s


def tables(out: Path, run_id: str = "*") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of `bench.records.RUNS` and HELDOUT of a folder's runs, without their events.

    Args:
        out: results folder.
        run_id: which, as a pattern.

    Source: the tables themselves.

    Example:
        >>> [len(table) for table in tables(Path("nowhere"))]
        [0, 0]
    """
    folders = [path.parent for path in sorted((out / "runs").glob(f"{run_id}/run.parquet"))]
    files = [folder / "heldout.parquet" for folder in folders if (folder / "heldout.parquet").exists()]
    return _together(RUNS, [folder / "run.parquet" for folder in folders]), _together(HELDOUT, files)


def _together(table: Table, files: Sequence[Path]) -> pd.DataFrame:
    empty: pd.DataFrame = table.schema.empty_table().to_pandas()
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True) if files else empty


def samples_to_target(out: Path, label: str) -> float:
    """Samples of all workers to the target, the median over the runs of a label that got there.

    Args:
        out: results folder.
        label: of the algorithm.

    Source: as for `analysis.targets.time_to_target`.

    Example:
        >>> samples_to_target(Path("nowhere"), "easgd")
        nan
    """
    runs, heldout = tables(out)
    return float(time_to_target(heldout, runs[runs["label"] == label])["samples_to_target"].median())


def traffic(out: Path) -> dict[str, dict[str, float]]:
    """Label -> `sent`, bytes on the wire to the target; `goodput`, payload of a rank, and `peak`, on the wire of the
    busiest rank of a run [Gbit/s]. Completed runs count.

    Args:
        out: results folder.

    Source: as for `analysis.throughput.rank_throughput`.

    Example:
        >>> import tempfile
        >>> from bench.records import unknown_row, write_rows
        >>> row = {"run_id": "a", "label": "easgd", "status": "completed"}
        >>> row |= {"duration_s": 2.0, "nbytes": 10**9, "ranks": 2}
        >>> with tempfile.TemporaryDirectory() as name:
        ...     Path(name, "runs", "a").mkdir(parents=True)
        ...     write_rows(RUNS, [unknown_row(RUNS) | row], Path(name, "runs", "a", "run.parquet"))
        ...     traffic(Path(name))
        {'easgd': {'sent': nan, 'goodput': 2.0, 'peak': 0.0}}
    """
    results = load(out)
    found: dict[str, dict[str, float]] = {}
    for label, runs in results.runs[results.runs["status"] == "completed"].groupby("label"):
        times = time_to_target(results.heldout, runs)
        events = results.events[results.events["run_id"] == runs["run_id"].iloc[0]]
        window_s = min(LONGEST_WINDOW_S, float(runs["duration_s"].iloc[0]) / WINDOWS)
        peaks = rank_throughput(runs.iloc[:1], events, window_s)["peak_wire_Gbit_per_s"]
        rate = float((runs["nbytes"] / runs["duration_s"] / runs["ranks"]).mean())
        found[str(label)] = {
            "sent": float(times["wire_nbytes_to_target"].mean()),
            "goodput": Gbit(rate),
            "peak": float(peaks.max()) if len(peaks) else 0.0,
        }
    return found
