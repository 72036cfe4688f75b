"""How old the gradients were, over the run and in seconds."""

from __future__ import annotations

import pandas as pd

from analysis.ages import applied_gradients, over_time
from analysis.staleness import distribution
from reports import words
from reports.chosen import events_of, first_runs, transports
from reports.figures_over_time import ages
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.shown import Shown, ShownTable

COLUMNS = ["run_id", "rank", "kind", "t0_s", "t1_s", "peer", "version_read", "staleness_updates"]
"""Of the events, that the ages need."""


def section(material: Material) -> Section | None:
    """Staleness over time for each transport; None if no gradient was ever outdated."""
    assert material.setting is not None
    results, shown, parts = material.results, [], []
    for transport in transports(material.table):
        chosen = first_runs(material.table, transport)
        label_of = {run_id: label for label, run_id in chosen.items()}
        runs = results.runs[results.runs["run_id"].isin(label_of)]
        applied = pd.concat(
            [
                applied_gradients(events_of(results.events, [run_id], COLUMNS), runs[runs["run_id"] == run_id])
                for run_id in label_of
            ]
            or [pd.DataFrame()],
            ignore_index=True,
        )
        if applied.empty or not applied["staleness_updates"].max() > 0:
            continue
        whole = distribution(applied)
        old = whole.loc[whole["updates_max"] > 0, "run_id"]
        course = over_time(applied[applied["run_id"].isin(old).to_numpy(dtype=bool)], runs)
        by_label = {label_of[str(run_id)]: own for run_id, own in course.groupby("run_id", observed=True)}
        where = f"{material.setting.described}, {words.transport(transport)}"
        svg = ages(material.id(f"{transport}-ages"), dict(sorted(by_label.items())), material.look_of, where)
        shown.append(Panel(transport, [svg]))
        named = whole.assign(
            label=[label_of[str(run_id)] for run_id in whole["run_id"]],
            transport=words.transport(transport),
        )
        parts.append(named.sort_values("label"))
    hint = t(
        "Mean staleness in each twentieth of one run of each algorithm (its smallest seed). A level line: the run is "
        "in its steady state. In seconds, in the table: from beginning to compute a gradient to having applied it."
    )
    tables = [_table(material, pd.concat(parts, ignore_index=True))] if parts else []
    return panels(material, "ages", t("How outdated the gradients were over the run"), hint, shown, tables)


def _table(material: Material, frame: pd.DataFrame) -> ShownTable:
    assert material.setting is not None
    writes, age = t("writes to the model between reading and applying"), t("from beginning a gradient to applying it")
    columns = [
        Shown("label", t("Algorithm")),
        Shown("transport", t("On")),
        Shown("gradients", t("Gradients"), "", t("applied in the run")),
        Shown("updates_mean", t("Mean"), t("writes"), writes),
        Shown("updates_p50", t("Median"), t("writes"), writes, text="{:g}".format),
        Shown("updates_p95", t("95 %"), t("writes"), writes, text="{:g}".format),
        Shown("updates_max", t("Most"), t("writes"), writes, text="{:g}".format),
        Shown("s_mean", t("Mean"), "s", age),
        Shown("s_p50", t("Median"), "s", age),
        Shown("s_p95", t("95 %"), "s", age),
        Shown("s_max", t("Most"), "s", age),
    ]
    caption = t("Staleness of one run of each algorithm: {setting}", setting=material.setting.described)
    return ShownTable(material.id("ages"), caption, columns, frame, "label")
