"""What another network would change: algorithms over simulated bandwidths and latencies, with sliders for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from analysis.crossover import of_grid
from analysis.network_grid import GRID, differences, mean_curves, network_grid
from reports import words
from reports.figures_network import by_bandwidth
from reports.language import t
from reports.network_data import grid_data
from reports.network_sentences import leaders, notes
from reports.network_texts import CRITERIA, Criterion, latency_text, places
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable

OPEN = 2
"""So many grids are shown at once; of more, each opens at a click."""


def section(material: Material) -> Section | None:
    """Every study that was simulated on several networks; None if there is none."""
    grid = network_grid(material.results.runs, material.table)
    if grid.empty:
        return None
    changes, curves = of_grid(grid), mean_curves(material.results.runs, material.results.heldout)
    panels: list[dict[str, Any]] = []
    tables: list[ShownTable] = []
    for number, (key, own) in enumerate(grid.groupby(list(GRID), sort=True)):
        of = dict(zip(GRID, key, strict=True))
        variants = sorted(grid.loc[(grid[list(GRID[:3])] == list(key[:3])).all(axis=1), "variant"].unique())
        difference = differences(variants)[variants.index(of["variant"])]
        made = _panel(f"network-{number}", of, difference, own, _of(changes, of), _of(curves, of), material)
        panels.append(made)
        tables += [table for table in (made["table"], made["changes"]) if table is not None]
    html = material.environment.get_template("sections/network.html.j2").render(
        panels=panels, open=OPEN, environment=material.environment, several=grid["study"].nunique() > 1
    )
    return Section(material.id("network"), t("If the network were another one"), Markup(html), tuple(tables))


def _of(frame: pd.DataFrame, key: Mapping[str, Any]) -> pd.DataFrame:
    return frame[(frame[list(GRID)] == [key[name] for name in GRID]).all(axis=1)]


def _panel(
    name: str,
    key: Mapping[str, Any],
    difference: str,
    own: pd.DataFrame,
    changes: pd.DataFrame,
    curves: pd.DataFrame,
    material: Material,
) -> dict[str, Any]:
    """One grid: what the template needs."""
    criteria = _criteria(own)
    first = criteria[0]
    title = t("{workload}, {workers}", workload=key["workload"], workers=words.plural(int(key["workers"]), "worker"))
    drawn = []
    for i, latency_s in enumerate(places(own, "latency_s")):
        at, here = (frame[frame["latency_s"] == latency_s] for frame in (own, changes))
        caption = t("Latency {latency}", latency=latency_text(latency_s))
        where = f"{key['workload']}, {key['workers']} workers, latency {latency_s:g} s"
        svg = by_bandwidth(f"{name}-{i}", first.name, at, here, material.look_of, where)
        drawn.append({"caption": caption, "svg": svg, "leaders": leaders(at, here, first)})
    target = float(own["target_loss"].iloc[0])
    return {
        "name": name,
        "title": title,
        "study": key["study"],
        "difference": difference,
        "drawn": drawn,
        "heading": t(first.heading),
        "notes": notes(own, changes, first, target),
        "bandwidths": own["bandwidth_Gbit_per_s"].nunique(),
        "latencies": own["latency_s"].nunique(),
        "curves": curves["heldout_loss"].notna().any(),
        "criteria": [{"name": one.name, "heading": t(one.heading)} for one in criteria],
        "data": htmlsafe_json_dumps(
            grid_data(name, own, curves, criteria, target, material.look_of), allow_nan=False, separators=(",", ":")
        ),
        "table": _table(name, own, criteria),
        "changes": _changes_table(name, changes) if len(changes) else None,
    }


def _criteria(own: pd.DataFrame) -> list[Criterion]:
    """What algorithms can be ranked by in this grid, the most telling first."""
    if not bool(own["gradients"].iloc[0]):
        return [CRITERIA["samples_per_s"]]
    found = ["time_to_target_s", "final_heldout_loss", "wire_nbytes_to_target"]
    return [CRITERIA[name] for name in found if own[name].notna().any()] or [CRITERIA["samples_per_s"]]


def _table(name: str, own: pd.DataFrame, criteria: Sequence[Criterion]) -> ShownTable:
    columns = [
        Shown("label", t("Algorithm")),
        Shown("bandwidth_Gbit_per_s", t("Bandwidth"), "Gbit/s", text=words.number),
        Shown("latency_s", t("Latency"), text=latency_text),
    ]
    names = [one.name for one in criteria]
    shown = [*criteria, *(CRITERIA[extra] for extra in ("samples_per_s",) if extra not in names)]
    columns += [
        Shown(one.name, t(one.heading), "" if one.unit == "B" else one.unit, text=one.text, low=f"{one.name}_low",
              high=f"{one.name}_high")
        for one in shown
    ]  # fmt: skip
    columns += [Shown("seeds", t("Runs"), meaning=t("completed runs"))]
    frame = own.sort_values(["latency_s", "bandwidth_Gbit_per_s", "label"], ignore_index=True)
    return ShownTable(name, t("Every algorithm on every simulated network"), columns, frame, label="label")


def _changes_table(name: str, changes: pd.DataFrame) -> ShownTable:
    columns = [
        Shown("to_label", t("New leader")),
        Shown("from_label", t("Old leader")),
        Shown("latency_s", t("Latency"), text=latency_text),
        Shown("bandwidth_Gbit_per_s", t("Bandwidth"), "Gbit/s", t("interpolated on logarithmic axes")),
        Shown("low", t("Simulated below"), "Gbit/s", t("the simulated bandwidth next below")),
        Shown("high", t("Simulated above"), "Gbit/s", t("the simulated bandwidth next above")),
        Shown(
            "shown_low", t("Old leader shown faster at"), "Gbit/s", t("the highest bandwidth at which the runs show it")
        ),
        Shown(
            "shown_high", t("New leader shown faster at"), "Gbit/s", t("the lowest bandwidth at which the runs show it")
        ),
    ]
    return ShownTable(
        f"{name}-changes", t("Where another algorithm takes the lead"), columns, changes, label="to_label"
    )
