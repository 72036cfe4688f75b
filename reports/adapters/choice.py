"""Which runs are exported: those that were asked for and have a result; of the others is said why they are left out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.summary import KEYS
from analysis.targets import time_to_target
from analysis.throughput import throughput
from bench.records import Results
from reports.words import TRANSPORTS, plural


@dataclass(frozen=True)
class Choice:
    """Runs to export, and what is left out.

    Attributes:
        runs: rows of `bench.records.RUNS` with `samples_per_s`, `time_to_target_s`; completed or diverged.
        heldout: rows of `bench.records.HELDOUT`.
        left_out: one sentence each.
    """

    runs: pd.DataFrame
    heldout: pd.DataFrame
    left_out: tuple[str, ...]

    def cells(self) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """What tells each cell apart (`KEYS`), and its runs by seed."""
        return [
            (dict(zip(KEYS, key, strict=True)), group.sort_values(["seed", "run_id"]))
            for key, group in self.runs.groupby(list(KEYS), sort=True, observed=True)
        ]


def choose(results: Results, wanted: Mapping[str, Any]) -> Choice:
    """The runs that are wanted and have a result.

    Simulated runs must be asked for by their transport: what reads these formats cannot tell them from measured ones.

    Args:
        wanted: column of `KEYS` -> the value to keep; None keeps all.

    Raises:
        ValueError: no such value, or nothing is left.
    """
    runs, left_out = results.runs, list(results.skipped)
    for name, value in wanted.items():
        if value is None:
            continue
        known = [str(v) for v in sorted(runs[name].unique())]
        if str(value) not in known:
            close = difflib.get_close_matches(str(value), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise ValueError(f"--{name}: there is no {name} {str(value)!r} among these runs ({hint})")
        runs = runs[runs[name].astype(str) == str(value)]
    virtual = runs["simulated"]
    if wanted.get("transport") is None and virtual.any():
        left_out.append(f"{plural(int(virtual.sum()), 'simulated run')} (ask for them with --transport simulated)")
        runs = runs[~virtual]
    bad = runs[~runs["status"].isin(["completed", "diverged"])]
    left_out += [f"{run_id}: {status}" for run_id, status in zip(bad["run_id"], bad["status"], strict=True)]
    runs = runs[runs["status"].isin(["completed", "diverged"])]
    if runs.empty:
        why = f": left out: {left_out[0]}" + (f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else "")
        raise ValueError(f"no run with a result to export{why if left_out else ''}")
    heldout = results.heldout[results.heldout["run_id"].isin(runs["run_id"])]
    rates = throughput(runs, results.events[:0])[["run_id", "samples_per_s"]]
    times = time_to_target(heldout, runs)[["run_id", "time_to_target_s"]]
    return Choice(runs.merge(rates, on="run_id").merge(times, on="run_id"), heldout, tuple(left_out))


def named(cell: Mapping[str, Any]) -> str:
    """A cell in words."""
    on = TRANSPORTS.get(str(cell["transport"]), str(cell["transport"]))
    return f"{cell['study']}, {cell['workload']}, {plural(int(cell['workers']), 'worker')}, {on}, {cell['label']}"


def nested(run: Mapping[str, Any], column: str) -> dict[str, Any]:
    """A column of JSON as a table; empty if it holds none."""
    try:
        found = json.loads(str(run[column]))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
