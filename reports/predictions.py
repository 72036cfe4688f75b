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
from reports.language import noted, retold, t
from reports.style import Look

TOLERANCE = 0.1
"""Throughput predicted this near to the measured one is called right."""
REASONS = (
    noted("another network: as calibrated"),
    noted("another network: {network}"),
    noted("other settings of the algorithm"),
    noted("other settings of the workload"),
    noted("another batch size"),
    noted("each rank was {was}, and is predicted {predicted}"),
)
LIMITS = (noted("not limited"), noted("limited to {rate} Gbit/s"))
"""Why `analysis.predictions` does not compare a pair."""
AGAINST_WORKERS = {
    "samples_per_s": noted("Throughput against workers, {wire}"),
    "time_to_target_s": noted("Time to target against workers, {wire}"),
}
AGAINST_BANDWIDTH = {
    "samples_per_s": noted("Throughput against bandwidth, {workers}"),
    "time_to_target_s": noted("Time to target against bandwidth, {workers}"),
}


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
        "rows": len(judged),
        "agreement": figures.agreement("agreement", judged, looks, TOLERANCE) if len(judged) else None,
        "ratios": figures.ratios("ratios", judged, looks, TOLERANCE) if len(judged) else None,
        "panels": panels,
    }


def _where(row: Mapping[str, Any]) -> str:
    rate, workers = float(row["rate_Gbit_per_s"]), words.plural(int(row["workers"]), "worker")
    said = {"workload": row["workload"], "workers": workers, "transport": words.transport(str(row["transport"]))}
    if math.isnan(rate):
        return t("{workload} with {workers} over {transport}", **said)
    return t("{workload} with {workers} over {transport} limited to {rate} Gbit/s", rate=f"{rate:g}", **said)


def _headline(judged: pd.DataFrame) -> str:
    inside, total = int(judged["within"].sum()), len(judged)
    worst = judged.iloc[int(judged["off"].abs().argmax())]
    tolerance, off = words.percent(TOLERANCE), words.percent(abs(float(worst["off"])))
    if inside == total == 1:
        return t(
            "The simulator is within {tolerance} of the measured throughput for the one pair that there is, off by "
            "{off}.",
            tolerance=tolerance, off=off,
        )  # fmt: skip
    if inside == total:
        return t(
            "The simulator is within {tolerance} of the measured throughput for all {total} pairs; the farthest is off "
            "by {off}.",
            tolerance=tolerance, total=total, off=off,
        )  # fmt: skip
    return t(
        "The simulator is within {tolerance} of the measured throughput for {inside} of {pairs}. Farthest off: {label} "
        "on {where}, predicted at {ratio} times what was measured.",
        tolerance=tolerance, inside=inside, pairs=words.plural(total, "pair"), label=worst["label"],
        where=_where({str(name): value for name, value in worst.items()}), ratio=words.number(float(worst["ratio"])),
    )  # fmt: skip


def _sentences(judged: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """What a reader should take from it."""
    found = []
    off = judged[~judged["within"]]
    if len(off):
        high, low = int((off["off"] > 0).sum()), int((off["off"] < 0).sum())
        sides = [t("{n} too high", n=high)] * (high > 0) + [t("{n} too low", n=low)] * (low > 0)
        found.append(
            t(
                "Do not decide by the simulator where it is off ({sides}): something there costs time that it does not "
                "know, or the machine was busy with something else. The columns on waiting and bytes show where to "
                "look.",
                sides=words.listed(sides),
            )
        )
    groups = [g for _, g in judged.groupby(["study", "workload", "workers", "transport", "network"]) if len(g) > 1]
    if groups:
        same = sum(g["measured_samples_per_s"].idxmax() == g["predicted_samples_per_s"].idxmax() for g in groups)
        found.append(
            t(
                "The algorithm with the highest measured throughput is also predicted to have it in {same} of "
                "{comparisons} with several algorithms.",
                same=same,
                comparisons=words.plural(len(groups), "comparison"),
            )
        )
    said = {
        "sure": int(judged["sure"].sum()), "pairs": words.plural(len(judged), "pair"),
        "tolerance": words.percent(TOLERANCE),
    }  # fmt: skip
    found.append(
        t(
            "For {sure} of {pairs} the intervals over seeds leave no doubt about being within or beyond {tolerance}.",
            **said,
        )
        if len(off)
        else t("For {sure} of {pairs} the intervals over seeds leave no doubt about being within {tolerance}.", **said)
    )
    studies = set(judged["predicted_study"])
    if not _calibrated(runs[runs["simulated"] & runs["study"].isin(studies)]):
        found.append(
            t(
                "Network and compute times of these predictions, or of some, are what the study says, not what a "
                "calibration measured: read them as a guess. paceline calibrate measures, paceline predict uses it."
            )
        )
    return found


def _calibrated(runs: pd.DataFrame) -> bool:
    """Whether all runs were made from a cluster file."""
    return all(" --cluster" in text for text in runs["provenance"])  # in the command, which stands there


def _excluded(paired: pd.DataFrame) -> list[str]:
    """Why predictions of measured cells are not compared, each reason once."""
    reasons = paired[~paired["comparable"].astype(bool)]["reason"].value_counts()
    return [
        t("{reason} ({pairs})", reason=_reason(str(reason)), pairs=words.plural(int(count), "pair"))
        for reason, count in sorted(reasons.items())
    ]


def _reason(text: str) -> str:
    """Why a pair is not compared, in the reader's language."""
    return retold(text, REASONS, LIMITS)


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
                drawn.append((t(AGAINST_WORKERS[value], wire=_wire(network)), svg))
        # Of several latencies the section on networks tells: one line through all of them would zigzag.
        finite = own[np.isfinite(own["bandwidth_Gbit_per_s"]) & (own["latency_s"].nunique() == 1)]
        several = finite.groupby("workers")["bandwidth_Gbit_per_s"].nunique()
        for workers in several[several > 1].index[-1:]:
            at = own[own["workers"] == workers]
            count = words.plural(int(workers), "worker")
            for value in figures.VALUES:
                svg = figures.scaling(
                    f"p{number}-b-{value}", "bandwidth_Gbit_per_s", value, at, looks, f"{workload}, {count}"
                )
                drawn.append((t(AGAINST_BANDWIDTH[value], workers=count), svg))
        shown = [{"title": title, "svg": svg} for title, svg in drawn if svg]
        if shown:
            title = t("{workload}, study {study}", workload=workload, study=study)
            panels.append({"title": title, "figures": shown})
    return panels


def _wire(rows: pd.DataFrame) -> str:
    """The wire between nodes, in words."""
    gbit, latency_s = (_one(rows[name]) for name in ("bandwidth_Gbit_per_s", "latency_s"))
    if math.isnan(gbit) or math.isnan(latency_s):
        return t("several networks")
    latency = words.number(1e6 * latency_s)
    if math.isinf(gbit):
        return t("no limit of bandwidth and {latency} us", latency=latency)
    return t("{gbit} Gbit/s and {latency} us", gbit=f"{gbit:.3g}", latency=latency)


def _one(values: Sequence[float] | pd.Series) -> float:
    found = set(values)
    return float(found.pop()) if len(found) == 1 else math.nan
