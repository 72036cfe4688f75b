"""Cells as the JSON that pytest-benchmark writes, so that `pytest-benchmark compare` puts them side by side.

Each cell gives up to two benchmarks, whose rounds are its runs:

- `time_to_target[LABEL]`: seconds to the target, if all runs reached it;
- `seconds_per_sample[LABEL]`: the duration over the samples of all workers; its OPS is the throughput in samples/s.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.summary import KEYS
from reports.adapters.choice import Choice, named, nested

VERSION = "5.3.1"
"""Of pytest-benchmark, whose file this is like."""


def document(choice: Choice) -> tuple[dict[str, Any], list[str]]:
    """The JSON, and what had to be left out of it, one sentence each."""
    benchmarks, left_out = [], []
    for cell, runs in choice.cells():
        done = runs[runs["status"] == "completed"]
        left_out += [f"{run_id}: diverged" for run_id in runs.loc[runs["status"] == "diverged", "run_id"]]
        reached = int((done["time_to_target_s"] > 0).sum())
        if reached == len(runs):
            benchmarks.append(_benchmark("time_to_target", cell, done, done["time_to_target_s"].tolist()))
        else:
            left_out.append(f"{named(cell)}: time to target: {reached} of {len(runs)} runs have one")
        if (rates := done["samples_per_s"])[rates > 0].size:
            benchmarks.append(_benchmark("seconds_per_sample", cell, done, (1 / rates[rates > 0]).tolist()))
    runs = choice.runs
    found = {
        "machine_info": _machine(runs),
        "commit_info": _commit(runs),
        "benchmarks": benchmarks,
        "datetime": str(runs["started_utc"].max()),
        "version": VERSION,
    }
    return found, left_out


def _benchmark(what: str, cell: Mapping[str, Any], runs: pd.DataFrame, values: Sequence[float]) -> dict[str, Any]:
    place = f"{cell['study']}/{cell['workload']}/n{cell['workers']}/{cell['transport']}"
    name = f"{what}[{cell['label']}]"
    return {
        "group": f"{what}: {place}",
        "name": name,
        "fullname": f"{place}::{name}",
        "params": {key: _plain(cell[key]) for key in KEYS},
        "param": str(cell["label"]),
        "extra_info": {
            "simulated": bool(runs["simulated"].any()),
            "seeds": [int(seed) for seed in runs["seed"]],
            "run_ids": [str(run_id) for run_id in runs["run_id"]],
        },
        "options": {},
        "stats": stats(values),
    }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def stats(values: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of at least one value > 0 [s].

    Quartiles by Tukey's way for an even number of values (medians of the halves), by the weighted one (method 3) else.
    """
    data, total = sorted(values), math.fsum(values)
    mean = statistics.mean(values)
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    q1, q3 = _first_quartile(data), -_first_quartile([-x for x in reversed(data)])
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    beyond = sum(abs(x - mean) > spread for x in data)
    outside = sum(not low <= x <= high for x in data)
    return {
        "min": data[0],
        "max": data[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{outside}",
        "ld15iqr": next(x for x in data if x >= low),
        "hd15iqr": next(x for x in reversed(data) if x <= high),
        "ops": len(data) / total,
        "total": total,
        "data": list(values),
        "iterations": 1,
    }


def _first_quartile(data: Sequence[float]) -> float:
    """Of sorted values."""
    quarter, rest = divmod(len(data), 4)
    if rest in (0, 2):
        return statistics.median(data[: len(data) // 2])
    if len(data) == 1:
        return data[0]
    if rest == 1:
        return 0.25 * data[quarter - 1] + 0.75 * data[quarter]
    return 0.75 * data[quarter] + 0.25 * data[quarter + 1]


def _machine(runs: pd.DataFrame) -> dict[str, Any]:
    """What the first run's provenance says of the machine."""
    given = nested({"provenance": runs["provenance"].iloc[0]}, "provenance")
    ranks, versions = given.get("ranks"), given.get("versions")
    hosts = {rank["host"] for rank in ranks if "host" in rank} if isinstance(ranks, list) else set()
    return {
        "node": ", ".join(sorted(map(str, hosts))),
        "platform": str(given.get("platform", "")),
        "python_version": str(versions.get("python", "")) if isinstance(versions, dict) else "",
        "cores": given.get("cores"),
        "devices": sorted(set(runs["device"])),
    }


def _commit(runs: pd.DataFrame) -> dict[str, Any]:
    given = nested({"provenance": runs["provenance"].iloc[0]}, "provenance")
    return {
        "id": str(given.get("commit") or "unversioned"),
        "time": None,
        "author_time": None,
        "dirty": bool(given.get("uncommitted_changes")),
        "project": "paceline",
        "branch": "(unknown)",
    }
