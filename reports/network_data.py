"""The grid of networks as the sliders read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.language import t
from reports.network_sentences import sure as best_shown
from reports.network_texts import Criterion, latency_text, places, ranked, script_texts
from reports.style import Look


def grid_data(
    name: str,
    own: pd.DataFrame,
    curves: pd.DataFrame,
    criteria: Sequence[Criterion],
    target: float,
    look_of: Mapping[str, Look],
) -> dict[str, Any]:
    """The grid as the script reads it; what is not there is null."""
    labels = sorted(own["label"].unique())
    latencies = places(own, "latency_s")
    points = []
    for latency_s in latencies:
        for gbit in places(own[own["latency_s"] == latency_s], "bandwidth_Gbit_per_s"):
            at, lines = (
                frame[(frame["latency_s"] == latency_s) & (frame["bandwidth_Gbit_per_s"] == gbit)]
                for frame in (own, curves)
            )
            rows = [_row(row, labels, lines, criteria) for row in at.sort_values("label").to_dict("records")]
            sure = {one.name: best_shown(ranked(at, one), one) for one in criteria}
            points.append({"latency": latency_s, "bandwidth": gbit, "sure": sure, "rows": rows})
    return {
        "name": name,
        "target": _json(target),
        "labels": [{"name": label, "look": look_of[label].number, "dash": look_of[label].svg_dash} for label in labels],
        "criteria": [
            {"name": one.name, "heading": t(one.heading), "unit": one.unit, "lower": one.lower, "first": t(one.first)}
            for one in criteria
        ],
        "bandwidths": places(own, "bandwidth_Gbit_per_s"),
        "latencies": latencies,
        "latency_texts": [latency_text(latency_s) for latency_s in latencies],
        "points": points,
        "texts": script_texts(),
    }


def _row(
    row: Mapping[Any, Any], labels: Sequence[str], lines: pd.DataFrame, criteria: Sequence[Criterion]
) -> dict[str, Any]:
    """An algorithm on one network."""
    line = lines[lines["label"] == row["label"]]
    return {
        "label": labels.index(row["label"]),
        "runs": int(row["completed"] + row["diverged"]),
        "reached": int(row["reached"]),
        "values": {one.name: [_json(row[f"{one.name}{end}"]) for end in ("", "_low", "_high")] for one in criteria},
        "t_s": [_json(value, 5) for value in line["t_s"]],
        "loss": [_json(value, 5) for value in line["heldout_loss"]],
    }


def _json(value: float, digits: int | None = None) -> float | None:
    """A number for JSON, which has no NaN; curves need not be exact, since they are only looked at."""
    if not math.isfinite(value):
        return None
    return float(value) if digits is None else float(f"{value:.{digits}g}")
