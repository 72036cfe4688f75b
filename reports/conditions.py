"""What a setting's runs had in common: what was trained on, how it was dealt out, and which path carried the bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.paths import bytes_by_path
from bench.records import Results
from reports import words
from reports.language import noted, t

FEW = 12
"""Labels, groups or workers that are listed; of more only the number is told."""

KINDS = {"point-to-point": noted("point-to-point"), "collectives": noted("collectives")}
PATHS = {
    "host memory": noted("host memory"),
    "pinned host memory": noted("pinned host memory"),
    "device memory (CUDA-aware MPI)": noted("device memory (CUDA-aware MPI)"),
    "modelled": noted("modelled"),
    "not recorded": noted("not recorded"),
}
"""Kinds of communication and paths that `analysis.paths` knows; others are shown as they are."""


def conditions(results: Results, runs: pd.DataFrame) -> dict[str, Any]:
    """Facts, shares and paths of the runs of one workload with one number of workers."""
    return {"facts": _facts(runs), "shares": _shares(results, runs), "paths": _paths(results, runs)}


def loaded(text: str) -> Mapping[str, Any]:
    """A JSON object; empty if it is none."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _facts(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """What the workload says of itself; what differs between runs is told apart."""
    found: dict[str, dict[str, None]] = {}
    for text in runs.sort_values("run_id")["workload_facts"]:
        facts = loaded(str(text))
        for name, value in facts.items():
            found.setdefault(name, {})[str(value)] = None
    known = runs[runs["parameters"] >= 0]
    size = [(t("model"), t("{n} parameters", n=f"{int(p):,}")) for p in sorted(known["parameters"].unique())]
    devices = [(t("device"), device) for device in sorted(set(runs["device"]) - {""})]
    return [*size, *((name, t("; or ").join(values)) for name, values in found.items()), *devices]


def _shares(results: Results, runs: pd.DataFrame) -> dict[str, Any] | None:
    """Each worker's share of the training set, where they differ; of the first seed."""
    known = runs[runs["run_id"].isin(results.shares["run_id"])]
    first = known.sort_values(["seed", "run_id"]).head(1)
    if first.empty or not _dealt(first):
        return None
    own = results.shares[results.shares["run_id"] == first["run_id"].iloc[0]].sort_values("rank")
    rows = [
        {"rank": int(row["rank"]), "samples": f"{int(row['samples']):,}", "holds": _holds(row)}
        for row in own.to_dict("records")
    ]
    return {"seed": int(first["seed"].iloc[0]), "rows": rows, "many": len(rows) > FEW}


def _dealt(runs: pd.DataFrame) -> bool:
    partition = loaded(str(runs["workload_settings"].iloc[0])).get("partition", {})
    return isinstance(partition, dict) and partition.get("by", "whole") != "whole"


def _holds(row: Mapping[str, Any]) -> str:
    labels, groups = json.loads(row["labels"]), json.loads(row["groups"])
    if groups:
        rest = int(row["group_count"]) - len(groups)
        return words.listed([*groups, words.plural(rest, "other")]) if rest else words.commas(groups)
    if len(labels) > FEW:
        return t("{n} labels", n=len(labels))
    return words.commas([t("label {label}: {count}", label=k, count=f"{n:,}") for k, n in labels.items()])


def _paths(results: Results, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Bytes of completed runs by transport, kind of communication and path."""
    done = runs[runs["status"] == "completed"]
    moved = bytes_by_path(done, results.events[results.events["run_id"].isin(done["run_id"])])
    moved = moved.merge(done[["run_id", "transport", "simulated"]], on="run_id")
    keys = ["simulated", "transport", "communication", "path"]
    sums = moved.groupby(keys, sort=True).agg(
        runs=("run_id", "nunique"), nbytes=("nbytes", "sum"), wire_nbytes=("wire_nbytes", "sum")
    )
    return [
        {
            **{str(key): value for key, value in row.items()},
            "title": words.transport(str(row["transport"])),
            "kind": t(KINDS.get(str(row["communication"]), str(row["communication"]))),
            "through": t(PATHS.get(str(row["path"]), str(row["path"]))),
            "nbytes": words.number(row["nbytes"] / 1e6),
            "wire_nbytes": words.number(row["wire_nbytes"] / 1e6),
        }
        for row in sums.reset_index().to_dict("records")
    ]
