"""The comparison table of one setting: a row per algorithm and transport, and the runs that gave no result."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.records import STATUSES
from reports import words
from reports.definitions import DEFINITIONS


def in_reading_order(rows: pd.DataFrame, transports: Sequence[str]) -> list[dict[str, Any]]:
    """Rows in reading order: measured first, the fastest first, those without a result last."""
    order = rows.assign(place=rows["transport"].map(transports.index), none=rows["seeds"] == 0)
    order = order.sort_values(
        ["place", "none", "time_to_target_s", "final_heldout_loss", "label"], na_position="last", kind="stable"
    )
    return [{str(k): v for k, v in row.items()} for row in order.to_dict("records")]


def metrics(rows: pd.DataFrame) -> str:
    """Names of the held-out metrics of these rows."""
    named = sorted(set(rows["metric"]) - {""})
    return words.listed(named)


def row_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the comparison table: texts, and numbers to sort by."""
    badges = [(status, f"{row[status]} {status}") for status in STATUSES if row[status]]
    return {
        "label": row["label"],
        "transport": row["transport"],
        "title": words.TRANSPORTS.get(row["transport"], row["transport"]),
        "simulated": bool(row["simulated"]),
        "badges": [badge for badge in badges if badge[0] != "completed"],
        "n": row["seeds"],
        "cells": [_cell(row, d.name) for d in DEFINITIONS] if row["seeds"] else None,
        "reason": words.listed([text for _, text in badges]),
    }


def _cell(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    value, low, high = float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])
    factor = 100.0 if name == "overlap_fraction" else 1.0
    digits = 4 if name in ("final_heldout_loss", "heldout_metric") else 3
    as_text = (lambda v: f"{v:g}") if name == "staleness_p95" else (lambda v: words.number(v * factor, digits))
    text, lowest, highest = as_text(value), as_text(low), as_text(high)
    if math.isnan(value):
        text = words.NOTHING
    small = "" if math.isnan(low) or lowest == highest == text else f"{lowest} to {highest}"
    if name == "time_to_target_s" and math.isnan(value):
        tried = row["completed"] + row["diverged"]
        text = "no target" if math.isnan(row["target_loss"]) else f"reached in {row['reached']} of {tried}"
        if row["completed"] and math.isnan(row["final_heldout_loss"]):
            text = "no loss"  # only time and bytes were simulated
    if name == "exposed_comm_s" and not math.isnan(value):
        text += f" ({words.percent(float(row['exposed_comm_share']))})"
    return {
        "text": text,
        "small": small,
        "sort": "" if math.isnan(value) else f"{value:.9g}",
        "note": row[f"{name}_interval"],
        "is_number": not math.isnan(value),
    }


def reason(run: Mapping[str, Any]) -> str:
    """Why a run is no result, in one line."""
    if run["status"] == "diverged":
        return f"a loss was not finite at {words.seconds(float(run['diverged_at_s']))}"
    verdict = [line.strip() for line in str(run["verdict"]).splitlines() if line.strip()]
    if run["status"] == "crashed":
        error = [line.strip() for line in str(run["error"]).splitlines() if line.strip()]
        return ": ".join(dict.fromkeys([*verdict[:1], *error[-1:]])) or "no reason was recorded"
    parts = [part for line in verdict for part in line.split("; ")]
    broken = [part for part in parts if re.search(r"\bNO\b|fail", part)]
    return "; ".join(broken) or "; ".join(parts) or "no reason was recorded"


def bad_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run that gave no result, and why."""
    keep = ("run_id", "label", "transport", "seed", "status")
    return {**{name: run[name] for name in keep}, "reason": reason(run)}
