"""What `paceline probe` left beside the runs, as the sections of the report need it.

Only completed runs are looked at, and one call of a probe at a time: rows of other samples or settings are not the same
measurement. A file that cannot be read becomes a sentence; nothing is raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.probes import tables
from analysis.statistics import mean_over_runs
from bench.records import Table
from reports import words
from reports.language import t
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable

CALL = ["of", "samples", "probe_set", "settings"]
"""Rows that agree in these were measured in the same way."""

DRAWN = 12  # most algorithms with a figure of their own

RUN = ["run_id", "label", "transport", "seed"]

MOST_ROWS = 60  # of a table that only says in numbers what a figure shows


@dataclass(frozen=True)
class Probed:
    """Rows of one probe table.

    Attributes:
        rows: with the run's `label`, `transport` and `seed`.
        problems: files that cannot be read, a sentence each.
    """

    rows: pd.DataFrame
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Figures that belong together.

    Attributes:
        title: what they show and how to read it.
        figures: (caption, SVG); an empty caption where the title says it all.
    """

    title: str
    figures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Panel:
    """What one transport's runs show.

    Attributes:
        transport: "mpi", "horovod" or "simulated".
        sentences: what was measured, in words.
        groups: of figures.
        tables: what was measured, a row per algorithm.
        details: figures in numbers, folded away; those with too many rows are left out.
    """

    transport: str
    sentences: Sequence[str]
    groups: Sequence[Group]
    tables: Sequence[ShownTable]
    details: Sequence[ShownTable] = ()

    @property
    def every(self) -> list[ShownTable]:
        """All tables that are shown."""
        return [*self.tables, *(table for table in self.details if 0 < len(table.frame) <= MOST_ROWS)]


def probed(material: Material, table: Table) -> Probed:
    """Rows of a probe table of the setting's completed runs; a run in two folders counts in the first."""
    done = material.table[material.table["status"] == "completed"]
    parts, problems = [], []
    for run_id, label, transport, seed in zip(*(done[name] for name in RUN), strict=True):
        folder = next((folder for folder in _folders(material, str(run_id)) if folder.is_dir()), None)
        try:
            rows = pd.DataFrame() if folder is None else tables.read(table, folder)
        except ValueError as error:
            problems.append(str(error))
            continue
        if len(rows):
            parts.append(rows.assign(run_id=run_id, label=label, transport=transport, seed=seed))
    empty = pd.DataFrame(columns=[*table.schema.names, *RUN[1:]])
    return Probed(pd.concat(parts, ignore_index=True) if parts else empty, tuple(problems))


def _folders(material: Material, run_id: str) -> Iterator[Path]:
    if run_id == Path(run_id).name:  # an id that leads elsewhere has no folder
        yield from (Path(source, "runs", run_id) for source in material.sources)


def one_call(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the call that covers most runs; of those the one with most rows."""
    if rows.empty:
        return rows
    size = rows.groupby(CALL).agg(runs=("run_id", "nunique"), rows=("run_id", "size")).reset_index()
    return of_call(rows, size.sort_values(["runs", "rows", *CALL]).iloc[-1])


def of_call(rows: pd.DataFrame, call: pd.Series) -> pd.DataFrame:
    """The rows measured in the same way as this one."""
    return rows[(rows[CALL] == call[CALL]).all(axis=1)]


def at_last(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last of the snapshots that most runs were probed at."""
    runs = rows.groupby("snapshot")["run_id"].nunique()
    return rows[rows["snapshot"] == runs[runs == runs.max()].index.max()] if len(rows) else rows


def by_transport(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Measured runs first; simulated ones are never among them."""
    order = {"mpi": 0, "horovod": 1, "simulated": 3}
    for transport in sorted(rows["transport"].unique(), key=lambda name: (order.get(name, 2), name)):
        yield str(transport), rows[rows["transport"] == transport]


def over_seeds(rows: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Means over seeds: for each group `by` columns VALUE, VALUE_low, VALUE_high, how the intervals were made, and n.

    Args:
        rows: one row per run and group.
    """
    found = []
    for key, group in rows.groupby(list(by), sort=True):
        row = dict(zip(by, key, strict=True))
        means = {name: mean_over_runs(group[name].to_numpy(dtype=np.float64)) for name in values}
        for name, mean in means.items():
            row |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
        how = max(means.values(), key=lambda mean: mean.n).interval
        found.append({**row, "interval": how, "n": group["run_id"].nunique()})
    names = [column for name in values for column in (name, f"{name}_low", f"{name}_high")]
    return pd.DataFrame(found, columns=[*by, *names, "interval", "n"])


def drawn(material: Material, transport: str, labels: Sequence[str]) -> tuple[list[str], str]:
    """The algorithms that get a figure of their own, and a sentence if they are not all; "" if they are.

    Of many those with the lowest held-out loss at the end.
    """
    if len(labels) <= DRAWN:
        return list(labels), ""
    own = material.summary[material.summary["transport"] == transport]
    loss = dict(zip(own["label"], own["final_heldout_loss"], strict=True))
    ranked = sorted(labels, key=lambda label: (not loss.get(label, np.nan) < np.inf, loss.get(label, 0.0), label))
    fewer = t(
        "Drawn are the {n} of {total} algorithms with the lowest held-out loss at the end; the table has all.",
        n=DRAWN,
        total=len(labels),
    )
    return sorted(ranked[:DRAWN]), fewer


def averaged(name: str, heading: str, unit: str = "", meaning: str = "", **more: Any) -> Shown:
    """A column of `over_seeds`, with its interval."""
    return Shown(name, heading, unit, meaning, low=f"{name}_low", high=f"{name}_high", how="interval", **more)


def said(row: pd.Series, name: str, text: Callable[[float], str] = words.number) -> str:
    """A value of a row of `over_seeds` in a sentence, with its interval and how many runs it is from."""
    value, low, high = (text(float(row[column])) for column in (name, f"{name}_low", f"{name}_high"))
    if math.isnan(float(row[f"{name}_low"])):
        return t("{value} (n={n})", value=value, n=int(row["n"]))
    return t("{value} ({low} to {high}, n={n})", value=value, low=low, high=high, n=int(row["n"]))


def where(rows: pd.DataFrame) -> str:
    """On which models and samples rows of one snapshot were measured, in a sentence."""
    first, step = rows.iloc[0], float(rows["step"].mean())
    samples = t("training samples") if first["of"] == "training" else t("held-out samples")
    return t(
        "Measured on the models kept at planned time {snapshot} (after {steps} steps of a worker on average), over "
        "{count} {samples}.",
        snapshot=int(first["snapshot"]),
        steps=words.number(step),
        count=f"{int(first['samples']):,}",
        samples=samples,
    )


def other_calls(rows: pd.DataFrame, shown: pd.DataFrame) -> str:
    """That there are rows of other samples or settings, which are not shown; "" if there are none."""
    more = len(rows.drop_duplicates(CALL)) - len(shown.drop_duplicates(CALL))
    if more <= 0:
        return ""
    return t(
        "The folder also holds probes with other samples or settings ({n}), which are not shown: the one shown covers "
        "most runs.",
        n=more,
    )


def of_panels(
    material: Material, name: str, title: str, meaning: str, panels: Sequence[Panel], problems: Sequence[str]
) -> Section | None:
    """A section of the page, a panel for each transport; None if there is nothing to show or say.

    Args:
        name: of the section's anchor.
        meaning: what it is about, in a sentence that anybody can read.
    """
    if not panels and not problems:
        return None
    environment = material.environment
    shown = [
        {
            "simulated": panel.transport == "simulated",
            "title": words.TRANSPORTS.get(panel.transport, panel.transport),
            "sentences": panel.sentences,
            "groups": [
                (group.title, [(caption, Markup(svg)) for caption, svg in group.figures])
                for group in panel.groups
                if group.figures
            ],
            "first": [table.html(environment) for table in panel.tables],
            "more": [(table.caption, table.html(environment)) for table in panel.every[len(panel.tables) :]],
        }
        for panel in panels
    ]
    html = environment.get_template("sections/probes.html.j2").render(
        meaning=meaning,
        panels=shown,
        problems=sorted(set(problems)),
        level="h3" if material.setting is None else "h4",  # one below the section's own
    )
    return Section(material.id(name), title, Markup(html), tuple(table for panel in panels for table in panel.every))
