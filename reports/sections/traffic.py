"""How many bits went over the wire when: steady streams, bursts and their peaks."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.throughput import wire_over_time
from reports import words
from reports.chosen import events_of, first_runs, transports, varied
from reports.drawing import POINTS
from reports.figures_over_time import Traffic, traffic
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.shown import Shown, ShownTable

WINDOW_S = 0.1  # that of the column "peak on the wire"
FEWEST = 20  # windows of a shorter run
ALGORITHMS = 16


def section(material: Material) -> Section | None:
    """Gbit/s over time for each transport; None if nothing was sent."""
    assert material.setting is not None
    shown, rows = [], []
    for transport in transports(material.table):
        runs = first_runs(material.table, transport)
        summary = material.summary[material.summary["transport"] == transport]
        strips = [strip for label in varied(summary, list(runs), material.look_of, ALGORITHMS)
                  if (strip := _strip(material, label, runs[label]))]  # fmt: skip
        if not any(strip.peak > 0 for strip in strips):
            continue
        strips.sort(key=lambda strip: (-strip.peak, strip.label))
        where = f"{material.setting.described}, {words.transport(transport)}"
        svg = traffic(material.id(f"{transport}-traffic"), strips, where)
        notes = []
        if len(strips) < len(runs):
            notes.append(
                t(
                    "{n} of {all} algorithms are shown: the baseline, and the fastest to the target of the others, one "
                    "of each kind first.",
                    n=len(strips),
                    all=len(runs),
                )
            )
        shown.append(Panel(transport, [svg], notes))
        rows += [_row(transport, strip) for strip in strips]
    hint = t(
        "Bytes that all ranks together put on the wire, one run of each algorithm (its smallest seed), on one scale. "
        "The triangle marks the busiest {window} (in runs shorter than {short}, the busiest twentieth). A network must "
        "carry the peak, not the mean.",
        window=f"{1000 * WINDOW_S:.0f}\u00a0ms",
        short=words.seconds(WINDOW_S * FEWEST),
    )
    return panels(material, "traffic", t("Traffic over time"), hint, shown, [_table(material, rows)] if rows else [])


def _strip(material: Material, label: str, run_id: str) -> Traffic | None:
    results = material.results
    run = results.runs[results.runs["run_id"] == run_id]
    duration_s = float(run["duration_s"].iloc[0])
    if not duration_s > 0:
        return None
    events = events_of(results.events, [run_id], ["run_id", "kind", "t0_s", "t1_s", "wire_nbytes"])
    width = WINDOW_S if duration_s >= FEWEST * WINDOW_S else duration_s / FEWEST
    fine = wire_over_time(run, events, width)
    together = math.ceil(len(fine) / POINTS)  # windows in a point of the line
    coarse = fine.groupby(fine.index // together)[["t0_s", "t1_s", "wire_Gbit_per_s"]].mean()
    busiest = fine.iloc[int(fine["wire_Gbit_per_s"].argmax())]
    return Traffic(
        label,
        material.look_of[label],
        [float(x) for x in (coarse["t0_s"] + coarse["t1_s"]) / 2],
        [float(y) for y in coarse["wire_Gbit_per_s"]],
        float(run["wire_nbytes"].iloc[0]) * 8e-9 / duration_s,
        float(busiest["wire_Gbit_per_s"]),
        float(busiest["t0_s"] + busiest["t1_s"]) / 2,
    )


def _row(transport: str, strip: Traffic) -> dict[str, Any]:
    return {
        "label": strip.label,
        "transport": words.transport(transport),
        "mean_Gbit_per_s": strip.mean,
        "peak_Gbit_per_s": strip.peak,
        "peak_over_mean": strip.peak / strip.mean if strip.mean > 0 else math.nan,
        "peak_s": strip.peak_s if strip.peak > 0 else math.nan,
    }


def _table(material: Material, rows: list[dict[str, Any]]) -> ShownTable:
    assert material.setting is not None
    columns = [
        Shown("label", t("Algorithm")),
        Shown("transport", t("On")),
        Shown("mean_Gbit_per_s", t("Mean"), "Gbit/s", t("bytes on the wire of all ranks over the run's duration")),
        Shown("peak_Gbit_per_s", t("Peak"), "Gbit/s", t("the same in the busiest window")),
        Shown("peak_over_mean", t("Peak over mean")),
        Shown("peak_s", t("Peak at"), "s", t("middle of the busiest window, since the start of the run")),
    ]
    caption = t("Traffic of one run of each algorithm: {setting}", setting=material.setting.described)
    return ShownTable(material.id("traffic"), caption, columns, pd.DataFrame(rows), "label")
