"""Time against bytes to the target: which algorithms no other beats in both."""

from __future__ import annotations

import pandas as pd

from analysis.pareto import pareto_front
from reports import words
from reports.chosen import transports
from reports.figures_summary import front
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.shown import Shown, ShownTable


def section(material: Material) -> Section | None:
    """The front of each transport; None where fewer than two algorithms always reached the target."""
    assert material.setting is not None
    rows = pareto_front(material.summary)
    shown, parts = [], []
    for transport in transports(material.table):
        own = rows[rows["transport"] == transport]
        if len(own) < 2:
            continue
        most = float(own["wire_nbytes_to_target"].max())
        unit = next(((scale, name) for scale, name in words.BYTES if most >= 2 * scale), words.BYTES[-1])
        where = f"{material.setting.described}, {words.transport(transport)}"
        svg = front(material.id(f"{transport}-pareto"), own, material.look_of, where, unit)
        rows_here = material.summary[material.summary["transport"] == transport]
        ran = rows_here.loc[rows_here["completed"] + rows_here["diverged"] > 0, "label"]
        missing = sorted(set(ran) - set(own["label"]))
        notes = [
            t("Not in the figure, because not every run reached the target: {labels}.", labels=words.named(missing))
        ] if missing else []  # fmt: skip
        shown.append(Panel(transport, [svg], notes))
        parts.append(own.assign(transport=words.transport(transport)))
    hint = t(
        "Means over the seeds; down and to the left is better. Filled marks: no other algorithm is better in both. "
        "Which of these is best depends on what time and the network cost."
    )
    tables = [_table(material, pd.concat(parts, ignore_index=True))] if parts else []
    return panels(material, "pareto", t("Time against bytes"), hint, shown, tables)


def _table(material: Material, rows: pd.DataFrame) -> ShownTable:
    assert material.setting is not None
    place = [
        t("on the front") if on else t("beaten by {labels}", labels=by)
        for on, by in zip(rows["on_front"], rows["dominated_by"], strict=True)
    ]
    columns = [
        Shown("label", t("Algorithm")),
        Shown("transport", t("On")),
        Shown("time_to_target_s", t("Time to target"), "s"),
        Shown("wire_nbytes_to_target", t("Bytes to target"), "", t("on the wire, all ranks"), text=words.nbytes),
        Shown("place", t("Front"), "", t("beaten: another algorithm is at least as good in both, and better in one")),
    ]
    caption = t("Time and bytes to the target: {setting}", setting=material.setting.described)
    return ShownTable(material.id("pareto"), caption, columns, rows.assign(place=place), "label")
