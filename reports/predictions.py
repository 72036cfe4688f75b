"""The section on predictions: how they agree with what was measured, and what they say beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.predictions import pairs, scaling, within
from reports import figures_predictions as figures
from reports import words
from reports.style import Look

TOLERANCE = 0.1
"""Throughput predicted this near to the measured one is called right."""


def predictions(
    runs: pd.DataFrame, table: pd.DataFrame, summary: pd.DataFrame, looks: Mapping[str, Look]
) -> dict[str, Any] | None:
    """What the template needs; None if nothing was predicted that was measured too, or for several sizes.

    Args:
        runs: rows of RUNS.
        table: rows of `analysis.summary.per_run`.
        summary: rows of `analysis.summary.summary`.
    """
    paired = pairs(runs, table)
    judged = within(paired, TOLERANCE)
    panels = _panels(scaling(runs, summary), summary, looks)
    if judged.empty and not panels:
        return None
    return {
        "headline": _headline(judged) if len(judged) else "",
        "sentences": _sentences(judged, runs) if len(judged) else [],
        "excluded": _excluded(paired),
        "tolerance": words.percent(TOLERANCE),
        "rows": [_row(row) for row in judged.to_dict("records")],
        "agreement": figures.agreement("agreement", judged, looks, TOLERANCE) if len(judged) else None,
        "ratios": figures.ratios("ratios", judged, looks, TOLERANCE) if len(judged) else None,
        "panels": panels,
    }


def _where(row: Mapping[str, Any]) -> str:
    rate = float(row["rate_Gbit_per_s"])
    limit = "" if math.isnan(rate) else f" limited to {rate:g} Gbit/s"
    return f"{row['workload']} with {words.plural(int(row['workers']), 'worker')} over {_title(row)}{limit}"


def _title(row: Mapping[str, Any]) -> str:
    return words.TRANSPORTS.get(str(row["transport"]), str(row["transport"]))


def _headline(judged: pd.DataFrame) -> str:
    inside, total = int(judged["within"].sum()), len(judged)
    worst = judged.loc[judged["off"].abs().idxmax()]
    opening = f"The simulator is within {words.percent(TOLERANCE)} of the measured throughput for "
    if inside == total == 1:
        return f"{opening}the one pair that there is, off by {words.percent(abs(worst['off']))}."
    if inside == total:
        return f"{opening}all {total} pairs; the farthest is off by {words.percent(abs(worst['off']))}."
    return (
        f"{opening}{inside} of {words.plural(total, 'pair')}. Farthest off: {worst['label']} on {_where(worst)}, "
        f"predicted at {words.number(worst['ratio'])} times what was measured."
    )


def _sentences(judged: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """What a reader should take from it."""
    found = []
    off = judged[~judged["within"]]
    if len(off):
        high, low = int((off["off"] > 0).sum()), int((off["off"] < 0).sum())
        sides = words.listed([f"{n} too {side}" for n, side in ((high, "high"), (low, "low")) if n])
        found.append(
            f"Do not decide by the simulator where it is off ({sides}): something there costs time that it does not "
            "know, or the machine was busy with something else. The columns on waiting and bytes show where to look."
        )
    groups = [g for _, g in judged.groupby(["study", "workload", "workers", "transport", "network"]) if len(g) > 1]
    if groups:
        same = sum(g["measured_samples_per_s"].idxmax() == g["predicted_samples_per_s"].idxmax() for g in groups)
        found.append(
            f"The algorithm with the highest measured throughput is also predicted to have it in {same} of "
            f"{words.plural(len(groups), 'comparison')} with several algorithms."
        )
    sure = int(judged["sure"].sum())
    found.append(
        f"For {sure} of {words.plural(len(judged), 'pair')} the intervals over seeds leave no doubt about "
        f"{'being within or beyond' if len(off) else 'being within'} {words.percent(TOLERANCE)}."
    )
    studies = set(judged["predicted_study"])
    if not _calibrated(runs[runs["simulated"] & runs["study"].isin(studies)]):
        found.append(
            "Network and compute times of these predictions, or of some, are what the study says, not what a "
            "calibration measured: read them as a guess. paceline calibrate measures, paceline predict uses it."
        )
    return found


def _calibrated(runs: pd.DataFrame) -> bool:
    """Whether all runs were made from a cluster file."""
    return all(" --cluster" in text for text in runs["provenance"])  # in the command, which stands there


def _excluded(paired: pd.DataFrame) -> list[str]:
    """Why predictions of measured cells are not compared, each reason once."""
    reasons = paired[~paired["comparable"].astype(bool)]["reason"].value_counts()
    return [f"{reason} ({words.plural(int(count), 'pair')})" for reason, count in sorted(reasons.items())]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table: texts, and numbers to sort by."""
    return {
        "label": row["label"],
        "workload": row["workload"],
        "workers": row["workers"],
        "where": _title(row) + ("" if math.isnan(row["rate_Gbit_per_s"]) else f", {row['rate_Gbit_per_s']:g} Gbit/s"),
        "within": bool(row["within"]),
        "ratio": {**_span(row, "ratio"), "sort": abs(row["off"])},
        "cells": [
            *(_span(row, f"{side}_samples_per_s") for side in ("measured", "predicted")),
            _both(row, "exposed_comm_share", lambda value: f"{100 * value:.0f} %"),
            _both(row, "wire_nbytes_per_sample", words.nbytes),
            _both(row, "final_heldout_loss", lambda value: words.number(value, 4)),
        ],
    }


def _span(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    text, low, high = (words.number(float(row[f"{name}{end}"])) for end in ("", "_low", "_high"))
    small = "" if words.NOTHING in (low, high) or low == high == text else f"{low} to {high}"
    return {"text": text, "small": small, "sort": row[name]}


def _both(row: Mapping[str, Any], name: str, as_text: Any) -> dict[str, Any]:
    """Measured, and what was predicted instead."""
    sides = [float(row[f"{side}_{name}"]) for side in ("measured", "predicted")]
    texts = [words.NOTHING if math.isnan(side) else as_text(side) for side in sides]
    return {"text": texts[0], "small": f"predicted {texts[1]}", "sort": "" if math.isnan(sides[0]) else sides[0]}


def _panels(rows: pd.DataFrame, summary: pd.DataFrame, looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Figures of predictions against the number of workers and the bandwidth, by study and workload."""
    panels = []
    for number, ((study, workload), own) in enumerate(rows.groupby(["of_study", "workload"], sort=True)):
        drawn = []
        networks = sorted(own.groupby("study"), key=lambda one: (one[0] != study, one[1]["bandwidth_Gbit_per_s"].max()))
        for i, (of, network) in enumerate(networks):
            where = f"{workload}, {_wire(network)}"
            beside = summary[(summary["study"] == of) & (summary["workload"] == workload) & ~summary["simulated"]]
            beside = beside[beside["seeds"] > 0]
            for value in figures.VALUES:
                svg = figures.scaling(f"p{number}-{i}-{value}", "workers", value, network, looks, where, beside)
                drawn.append((f"{_what(value)} against workers, {_wire(network)}", svg))
        finite = own[np.isfinite(own["bandwidth_Gbit_per_s"])]
        several = finite.groupby("workers")["bandwidth_Gbit_per_s"].nunique()
        for workers in several[several > 1].index[-1:]:
            at = own[own["workers"] == workers]
            count = words.plural(int(workers), "worker")
            for value in figures.VALUES:
                svg = figures.scaling(
                    f"p{number}-b-{value}", "bandwidth_Gbit_per_s", value, at, looks, f"{workload}, {count}"
                )
                drawn.append((f"{_what(value)} against bandwidth, {count}", svg))
        shown = [{"title": title, "svg": svg} for title, svg in drawn if svg]
        if shown:
            panels.append({"title": f"{workload}, study {study}", "figures": shown})
    return panels


def _what(value: str) -> str:
    return {"samples_per_s": "Throughput", "time_to_target_s": "Time to target"}[value]


def _wire(rows: pd.DataFrame) -> str:
    """The wire between nodes, in words."""
    gbit, latency_s = (_one(rows[name]) for name in ("bandwidth_Gbit_per_s", "latency_s"))
    if math.isnan(gbit) or math.isnan(latency_s):
        return "several networks"
    if math.isinf(gbit):
        return f"no limit of bandwidth and {1e6 * latency_s:.3g}\u00a0us"
    return f"{gbit:.3g}\u00a0Gbit/s and {1e6 * latency_s:.3g}\u00a0us"


def _one(values: Sequence[float] | pd.Series) -> float:
    found = set(values)
    return float(found.pop()) if len(found) == 1 else math.nan
