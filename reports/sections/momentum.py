"""Optimal momentum against asynchrony: which explicit momentum was best, and how much staleness already brought."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from analysis.asynchrony.recorded import implicit_momentum
from reports import figures_probes_momentum as figures
from reports import words
from reports.language import t
from reports.probed import Group, Panel, by_transport, of_panels
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable
from reports.style import Look
from reports.tuned_momentum import Grid, tuned


def section(material: Material) -> Section | None:
    """Once for all settings: the number of workers is the axis."""
    runs = material.results.runs
    panels, problems = [], []
    grids = list(_grids(material, runs))
    pooled = _pooled(runs, grids)
    looks = {**material.look_of, **{grid.name: grid.look for grid in grids}}
    events = material.results.events  # of many runs most of a report's memory: only what servers did is looked at
    with_server = runs.loc[runs["ranks"] > runs["workers"], "run_id"]
    measured = implicit_momentum(events[events["run_id"].isin(with_server)], pooled)
    everything = pd.concat([runs["transport"], measured["transport"]]).drop_duplicates().to_frame()
    for transport, _ in by_transport(everything):
        part = Panel(transport, [], [], [])
        for i, grid in enumerate(g for g in grids if g.runs["transport"].iloc[0] == transport):
            try:
                part = _joined(part, tuned(material, f"{transport}-{i}", grid, measured))
            except ValueError as error:  # settings that were not run with the same seeds, or one run twice
                problems.append(f"{grid.name}: {error}")
        own = measured[measured["transport"] == transport]
        if len(own):
            part = _joined(part, _implicit(transport, own, looks))
        if part.every:
            panels.append(part)
    return of_panels(
        material,
        "momentum",
        t("Momentum and asynchrony"),
        t(
            "Stale gradients act like extra momentum: with M memoryless workers, as much as 1 - 1/M (Mitliagkas et "
            "al., arXiv 1605.09774). So the momentum that is set by hand should fall as workers are added."
        ),
        panels,
        problems,
    )


def _joined(one: Panel, other: Panel) -> Panel:
    return Panel(
        one.transport,
        [*one.sentences, *other.sentences],
        [*one.groups, *other.groups],
        [*one.tables, *other.tables],
        [*one.details, *other.details],
    )


def _grids(material: Material, runs: pd.DataFrame) -> Iterator[Grid]:
    """Runs that differ in their momentum and not in anything else but rate, workers and seed."""
    parsed = [_without_momentum(text) for text in runs["settings"]]
    mu = np.array([momentum for _, momentum in parsed], dtype=np.float64)  # None is NaN
    table = runs.assign(rest=[rest for rest, _ in parsed], mu=mu)
    table = table[table["status"].isin(["completed", "diverged"])].dropna(subset=["mu"])
    keys = ["study", "workload", "transport", "algorithm", "rest"]
    named = set()
    for (study, workload, transport, algorithm, _), group in table.groupby(keys):
        if group["mu"].nunique() > 1:
            label = str(algorithm) if algorithm in material.look_of else str(sorted(group["label"])[0])
            several = runs["workload"].nunique() > 1 or runs["study"].nunique() > 1
            name = f"{algorithm} ({workload}, {study})" if several else str(algorithm)
            if (transport, name) in named:  # with other settings, of which a label tells most
                name = f"{name}: {sorted(group['label'])[0]}"
            named.add((transport, name))
            yield Grid(name, material.look_of[label], group)


def _without_momentum(text: str) -> tuple[str, float | None]:
    """Settings less explicit momentum and learning rate, and that momentum; None if there is none."""
    try:
        settings = json.loads(text)
        optimizer = settings.get("optimizer") or {}
        optimizer.get("momentum")
    except (ValueError, AttributeError):  # no settings: it is like nothing else
        return text, None
    found = settings.pop("momentum", optimizer.get("momentum")) if "lr" in optimizer else None
    rest = {**settings, "optimizer": {k: v for k, v in optimizer.items() if k not in ("lr", "momentum")}}
    return json.dumps(rest, sort_keys=True), None if found is None else float(found)


def _pooled(runs: pd.DataFrame, grids: list[Grid]) -> pd.DataFrame:
    """The runs of a grid under one label: the staleness of a run does not depend on its momentum."""
    name_of = {run_id: grid.name for grid in grids for run_id in grid.runs["run_id"]}
    return runs.assign(
        label=[name_of.get(run, label) for run, label in zip(runs["run_id"], runs["label"], strict=True)]
    )


def _implicit(transport: str, rows: pd.DataFrame, looks: Mapping[str, Look]) -> Panel:
    drawn = []
    for i, ((study, workload), group) in enumerate(rows.groupby(["study", "workload"])):
        if group["workers"].nunique() < 2:
            continue  # the table says it all
        text = "; ".join(
            f"{row['label']} with {row['workers']} workers: {words.number(row['momentum'])}, memoryless workers "
            f"{words.number(row['momentum_expected'])}"
            for row in group.sort_values(["label", "workers"]).to_dict("records")
        )
        suffix = f" ({workload}, {study})"  # the caption says it
        plain = {label: label.removesuffix(suffix) for label in group["label"]}
        own = {plain[label]: looks[label] for label in plain}
        group = group.assign(label=group["label"].map(plain))
        svg = figures.implicit(f"momentum-implicit-{transport}-{i}", group, own, f"{workload}, {study}. {text}.")
        drawn.append((f"{workload}, {study}", svg))
    meaning = t(
        "Implicit momentum that the recorded staleness amounts to, mean over runs with its interval, beside 1 - 1/M of "
        "M workers without memory (dashed). It is a momentum only where the ratio of variances in the table is near 1; "
        "near 0 workers write in turn, and it says no more than the mean staleness."
    )
    return Panel(
        transport,
        [] if drawn else [meaning],
        [Group(meaning, drawn)],
        [] if drawn else [_implicit_table(transport, rows)],
        [_implicit_table(transport, rows)] if drawn else [],
    )


def _implicit_table(transport: str, rows: pd.DataFrame) -> ShownTable:
    return ShownTable(
        f"momentum-implicit-{transport}",
        t("Implicit momentum of recorded staleness"),
        (
            Shown("label", t("Algorithm")),
            Shown("study", t("Study")),
            Shown("workload", t("Workload")),
            Shown("workers", t("Workers")),
            Shown("n", t("Runs")),
            Shown("momentum", t("Implicit momentum"), low="low", high="high", how="interval"),
            Shown("momentum_expected", t("Memoryless workers"), meaning=t("1 - 1/M.")),
            Shown(
                "variance_ratio",
                t("Ratio of variances"),
                meaning=t("Of the staleness, to that of memoryless workers with the same mean."),
            ),
        ),
        rows,
        label="label",
    )
