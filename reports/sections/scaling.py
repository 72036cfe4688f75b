"""What more workers brought: throughput and efficiency against their number."""

from __future__ import annotations

import pandas as pd

from analysis.efficiency import GROUP, hardware_and_statistical, speed_up
from reports import words
from reports.chosen import ORDER
from reports.figures_summary import scaling
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.shown import Shown, ShownTable


def section(material: Material) -> Section | None:
    """For each study, workload and transport with several numbers of workers; None if there is none."""
    summary = material.summary[material.summary["seeds"] > 0]
    several = summary.groupby(GROUP, observed=True)["workers"].transform("nunique") > 1
    summary = summary[several]
    if summary.empty:
        return None
    found = speed_up(summary)
    found = found.merge(_factors(summary), on=[*GROUP, "label", "workers"], how="left")
    numbers = summary[[*GROUP, "label", "workers", "samples_per_s", "samples_per_s_low", "samples_per_s_high"]]
    found = found.merge(numbers, on=[*GROUP, "label", "workers"])
    found = found[found.groupby([*GROUP, "label"])["workers"].transform("nunique") > 1]
    order = {name: place for place, name in enumerate(ORDER)}
    found = found.assign(place=found["transport"].map(order).fillna(len(order)))
    groups = found.groupby(["study", "workload", "place", "transport"], sort=True)
    shown = []
    for number, ((study, workload, _, transport), own) in enumerate(groups, start=1):
        about = f"{workload}, {study}" if found["study"].nunique() > 1 else str(workload)
        where = f"{about}, {words.transport(str(transport))}"
        figures = [
            scaling(
                f"scaling-{number}-throughput", _throughput(own), "samples_per_s", material.look_of, where,
                "Throughput against the number of workers", "samples/s of all workers",
            ),
            scaling(
                f"scaling-{number}-efficiency", _efficiency(own), "efficiency", material.look_of, where,
                "Efficiency against the number of workers", "efficiency (smallest size = 1)",
            ),
        ]  # fmt: skip
        shown.append(Panel(str(transport), figures, about=about))
    hint = t(
        "Efficiency is the throughput per worker over that with the smallest number of workers of the same algorithm; "
        "bars are worst and best cases of both intervals. Dotted: ideal scaling, from the slowest algorithm at the "
        "smallest size. Throughput says nothing of learning: the time to the target is how long a sample takes "
        "(hardware efficiency) times how many samples are needed (statistical efficiency), in the table."
    )
    return panels(material, "scaling", t("What more workers brought"), hint, shown, [_table(found)], layout="grid")


def _factors(summary: pd.DataFrame) -> pd.DataFrame:
    names = ["hardware_efficiency", "statistical_efficiency", "time_ratio"]
    return hardware_and_statistical(summary)[[*GROUP, "label", "workers", *names]]


def _throughput(own: pd.DataFrame) -> pd.DataFrame:
    smallest = own["workers"].min()
    start = own.loc[own["workers"] == smallest, "samples_per_s"].min()
    columns = {"samples_per_s": "value", "samples_per_s_low": "low", "samples_per_s_high": "high"}
    rows = own[["label", "workers", *columns]].rename(columns=columns)
    return rows.assign(ideal=start * rows["workers"] / smallest)


def _efficiency(own: pd.DataFrame) -> pd.DataFrame:
    per_worker = own["smallest"] / own["workers"]
    rows = own[["label", "workers"]].assign(value=own["throughput_efficiency"], ideal=1.0)
    return rows.assign(
        low=own["throughput_speed_up_low"] * per_worker, high=own["throughput_speed_up_high"] * per_worker
    )


def _table(found: pd.DataFrame) -> ShownTable:
    relative = t("relative to the algorithm's own smallest number of workers; lower is better")
    columns = [
        Shown("label", t("Algorithm")),
        Shown("workload", t("Workload")),
        *([Shown("study", t("Study"))] if found["study"].nunique() > 1 else []),
        Shown("on", t("On")),
        Shown("workers", t("Workers")),
        Shown("samples_per_s", t("Throughput"), "samples/s", low="samples_per_s_low", high="samples_per_s_high"),
        Shown("throughput_speed_up", t("Speed-up of throughput"), t("times"),
              low="throughput_speed_up_low", high="throughput_speed_up_high"),
        Shown("throughput_efficiency", t("Efficiency"), "", t("throughput per worker, smallest size = 1")),
        Shown("time_speed_up", t("Speed-up to the target"), t("times"),
              low="time_speed_up_low", high="time_speed_up_high"),
        Shown("hardware_efficiency", t("Time per sample"), t("times"), relative),
        Shown("statistical_efficiency", t("Samples to the target"), t("times"), relative),
    ]  # fmt: skip
    rows = found.sort_values([*GROUP, "label", "workers"], ignore_index=True)
    rows = rows.assign(on=[words.transport(str(name)) for name in rows["transport"]])
    return ShownTable("scaling", t("Speed-up and efficiency by number of workers"), columns, rows, "label")
