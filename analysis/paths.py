"""Which path carried how many bytes: host memory, pinned host memory, device memory, NCCL, or the simulator's model."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

KIND = {"send": "point-to-point", "allreduce": "collectives"}
"""Kind of an event -> kind of communication."""
UNKNOWN = "not recorded"


def bytes_by_path(runs: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Bytes of each kind of communication, with the path that they took.

    Args:
        runs: rows of `bench.records.RUNS`; the paths stand in `provenance`.
        events: rows of `bench.records.EVENTS`; those of other runs are left out.

    Returns:
        One row per run and kind that moved bytes: run_id, communication ("point-to-point" | "collectives"), path,
        nbytes [byte] (what was asked for) and wire_nbytes [byte], over all ranks.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "provenance": ['{"paths": {"collectives": "NCCL"}}']})
        >>> events = pd.DataFrame({"run_id": ["a", "a"], "kind": ["allreduce", "send"], "nbytes": [4, 0],
        ...                        "wire_nbytes": [6, 0]})
        >>> bytes_by_path(runs, events).to_dict("records")
        [{'run_id': 'a', 'communication': 'collectives', 'path': 'NCCL', 'nbytes': 4, 'wire_nbytes': 6}]
    """
    of_these = events["run_id"].isin(runs["run_id"]) & events["kind"].isin(list(KIND)) & (events["nbytes"] > 0)
    moved = events.loc[of_these, ["run_id", "kind", "nbytes", "wire_nbytes"]]
    sums = moved.groupby(["run_id", "kind"], observed=True).sum().reset_index()
    paths = {run: _paths(text) for run, text in zip(runs["run_id"], runs["provenance"], strict=True)}
    kinds = sums["kind"].map(KIND)
    return pd.DataFrame(
        {
            "run_id": sums["run_id"],
            "communication": kinds,
            "path": [paths[run].get(kind, UNKNOWN) for run, kind in zip(sums["run_id"], kinds, strict=True)],
            "nbytes": sums["nbytes"],
            "wire_nbytes": sums["wire_nbytes"],
        }
    )


def _paths(provenance: str) -> dict[str, Any]:
    try:
        found = json.loads(provenance).get("paths", {})
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}
