"""Optimal momentum against asynchrony: which explicit momentum was best, and how much staleness already brought."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.asynchrony.recorded import implicit_momentum
from analysis.asynchrony.tuning import best_momentum, momentum_grid, penalty_curves, trend
from reports import figures_probes_landscape as heat_maps
from reports import figures_probes_momentum as figures
from reports import words
from reports.language import t
from reports.probed import Group, Panel, by_transport, of_panels
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable
from reports.style import Look

USUAL = 0.9
"""What many take without looking: its price is said wherever it was tried."""
SHOWN = 0.05
"""p-value up to which a falling best momentum is called shown."""
BRIGHTEST = 3.0
"""Times the best cost: penalties from here on look the same."""


class Grid(NamedTuple):
    """Runs of one algorithm that differ in explicit momentum, learning rate, workers and seed only."""

    name: str
    look: Look
    runs: pd.DataFrame


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
                part = _joined(part, _tuned(material, f"{transport}-{i}", grid, measured))
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
    settings = json.loads(text)
    optimizer = settings.get("optimizer") or {}
    found = settings.pop("momentum", optimizer.get("momentum")) if "lr" in optimizer else None
    rest = {**settings, "optimizer": {k: v for k, v in optimizer.items() if k not in ("lr", "momentum")}}
    return json.dumps(rest, sort_keys=True), None if found is None else float(found)


def _pooled(runs: pd.DataFrame, grids: list[Grid]) -> pd.DataFrame:
    """The runs of a grid under one label: the staleness of a run does not depend on its momentum."""
    name_of = {run_id: grid.name for grid in grids for run_id in grid.runs["run_id"]}
    return runs.assign(
        label=[name_of.get(run, label) for run, label in zip(runs["run_id"], runs["label"], strict=True)]
    )


# -- what was tuned ----------------------------------------------------------------------------------------------------


def _tuned(material: Material, name: str, grid: Grid, measured: pd.DataFrame) -> Panel:
    """Figures, tables and sentences on one grid.

    Args:
        measured: of `implicit_momentum`, which knows how many workers write by themselves.
    """
    every = momentum_grid(grid.runs, material.table[["run_id", "samples_to_target"]])
    runs = _common_seeds(every)
    found, curves = best_momentum(runs), penalty_curves(runs)
    known = found.dropna(subset="momentum")
    own = measured[(measured["label"] == grid.name) & (measured["transport"] == grid.runs["transport"].iloc[0])]
    theory = expected(known, own.set_index("workers")["momentum_expected"].to_dict())
    usual = curves.loc[curves["momentum"] == USUAL].set_index("workers")["penalty"]
    found["penalty_of_usual"] = usual.reindex(found["workers"]).to_numpy(dtype=np.float64)
    found["expected"] = theory.set_index("workers")["momentum"].reindex(found["workers"]).to_numpy(dtype=np.float64)
    said = _said(grid.name, known)
    drawn = []
    if len(known) > 1:
        svg = figures.best(f"momentum-best-{name}", grid.name, known, theory, grid.look, said)
        drawn.append((t("Best explicit momentum against the number of workers"), svg))
    if curves["momentum"].nunique() <= 2 * heat_maps.NUMBERS and np.isfinite(curves["penalty"]).any():
        drawn.append((t("What each momentum costs, in times the best"), _heat(name, grid, curves, found)))
    groups = [
        Group(
            t(
                "{name}: point: the best momentum that was tried; broad: those within 5 % of its cost; thin: 95 % "
                "bootstrap interval over seeds; ringed: at the edge of what was tried, or no better than the rest. "
                "Dashed: theory, the best of the fewest workers less the momentum that asynchrony adds. Cost: steps of "
                "all workers to the target, at the best learning rate for each momentum.",
                name=grid.name,
            ),
            drawn,
        )
    ]
    tables, details = [_best_table(name, grid.name, found)], [_curves_table(name, grid.name, curves)]
    sentences = _sentences(grid.name, found, known)
    if len(runs) < len(every):
        sentences.append(t("{n} runs are left out, because other settings lack their seed.", n=len(every) - len(runs)))
    return Panel("", sentences, groups, tables, details)


def _common_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of seeds that all settings of as many workers have: one that crashed has no partner."""
    settings = runs.drop_duplicates(["workers", "momentum", "lr"]).groupby("workers").size()
    have = runs.groupby(["workers", "seed"]).size()
    full = have[have == settings.reindex(have.index.get_level_values("workers")).to_numpy()].index
    return runs[pd.MultiIndex.from_frame(runs[["workers", "seed"]]).isin(full)]


def expected(known: pd.DataFrame, implicit: Mapping[int, float]) -> pd.DataFrame:
    """workers, momentum: the best of the fewest workers, less the implicit momentum that more workers add.

    To first order explicit and implicit momentum add up. Empty where nothing is known to be asynchronous.

    Args:
        known: rows of `best_momentum` with a momentum.
        implicit: number of workers -> 1 - 1/M.
    """
    if len(known) < 2 or not set(known["workers"]) <= set(implicit):
        return pd.DataFrame({"workers": [], "momentum": []})
    added = known["workers"].map(implicit)
    return pd.DataFrame({"workers": known["workers"], "momentum": known["momentum"].iloc[0] + added.iloc[0] - added})


def _heat(name: str, grid: Grid, curves: pd.DataFrame, found: pd.DataFrame) -> str:
    table = curves.pivot(index="workers", columns="momentum", values="penalty")
    best = [
        (i, j)
        for i, workers in enumerate(table.index)
        for j, tried in enumerate(table.columns)
        if tried == dict(zip(found["workers"], found["momentum"], strict=True)).get(workers)
    ]
    table.columns = pd.Index([f"{value:g}" for value in table.columns])
    text = "; ".join(
        f"{workers} workers: " + ", ".join(f"{words.number(float(v))} at {mu}" for mu, v in row.items())
        for workers, row in table.iterrows()
    )
    title = f"Penalty of each explicit momentum of {grid.name}"
    return heat_maps.heat(
        f"momentum-penalty-{name}", title, table - 1, BRIGHTEST - 1, "explicit momentum", figures.WORKERS, f"{text}.",
        best, shown=table,
    )  # fmt: skip


def _said(name: str, known: pd.DataFrame) -> str:
    each = [
        f"{row['workers']} workers: {row['momentum']:g} (within 5 %: {row['as_good_low']:g} to {row['as_good_high']:g})"
        for row in known.to_dict("records")
    ]
    return f"{name}, best explicit momentum: " + "; ".join(each) + "."


def _sentences(name: str, found: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    said = []
    if known.empty:
        return [t("{name}: no momentum reached the target with all seeds.", name=name)]
    last = known.iloc[-1]
    values = {
        "name": name,
        "workers": int(last["workers"]),
        "best": f"{last['momentum']:g}",
        "low": f"{last['as_good_low']:g}",
        "high": f"{last['as_good_high']:g}",
        "seeds": int(last["seeds"]),
    }
    if last["as_good_low"] < last["as_good_high"]:
        said.append(
            t(
                "{name} with {workers} workers: the best momentum tried is {best}, and some from {low} to {high} cost "
                "at most 5 % more (n={seeds} seeds).",
                **values,
            )
        )
    else:
        said.append(
            t(
                "{name} with {workers} workers: the best momentum tried is {best}; all others cost over 5 % more "
                "(n={seeds} seeds).",
                **values,
            )
        )
    penalty = float(found.loc[found["workers"] == last["workers"], "penalty_of_usual"].iloc[0])
    if penalty == np.inf:
        said.append(t("With momentum {usual} not all seeds reached the target there.", usual=USUAL))
    elif penalty == penalty:
        said.append(
            t("Momentum {usual} takes {times} times the steps there.", usual=USUAL, times=words.number(penalty))
        )
    rho, p = trend(known)
    if rho != rho:
        said.append(t("Fewer than three numbers of workers, or always the same best momentum, show no trend."))
    elif p <= SHOWN:
        said.append(
            t(
                "The best momentum falls as workers are added (rank correlation {rho}, one-sided p = {p}).",
                rho=words.number(rho),
                p=words.number(p),
            )
        )
    else:
        said.append(
            t(
                "That the best momentum falls as workers are added is not shown (rank correlation {rho}, one-sided "
                "p = {p}).",
                rho=words.number(rho),
                p=words.number(p),
            )
        )
    return said


def _best_table(name: str, title: str, found: pd.DataFrame) -> ShownTable:
    return ShownTable(
        f"momentum-best-{name}",
        t("Best explicit momentum of {name}, one row per number of workers", name=title),
        (
            Shown("workers", t("Workers")),
            Shown("seeds", t("Seeds")),
            Shown("momentum", t("Best momentum"), low="low", high="high"),
            Shown("as_good_low", t("As good from"), meaning=t("Least momentum within 5 % of the best cost.")),
            Shown("as_good_high", t("As good to"), meaning=t("Greatest momentum within 5 % of the best cost.")),
            Shown(
                "expected", t("Expected by theory"), meaning=t("Best of the fewest workers less what asynchrony adds.")
            ),
            Shown("lr", t("Learning rate there")),
            Shown("cost", t("Steps to the target"), meaning=t("Of all workers together, mean over the seeds.")),
            Shown(
                "statistical_penalty",
                t("Steps against the fewest workers"),
                meaning=t("The price of asynchrony in steps."),
            ),
            Shown(
                "penalty_of_usual", t("Penalty of 0.9"), meaning=t("Steps with momentum 0.9 over those of the best.")
            ),
        ),
        found,
    )


def _curves_table(name: str, title: str, curves: pd.DataFrame) -> ShownTable:
    return ShownTable(
        f"momentum-penalty-{name}",
        t("What each explicit momentum of {name} costs, in numbers", name=title),
        (
            Shown("workers", t("Workers")),
            Shown("momentum", t("Explicit momentum")),
            Shown("lr", t("Best learning rate for it")),
            Shown("cost", t("Steps to the target")),
            Shown("penalty", t("Times the best")),
            Shown("reached", t("Seeds that reached it")),
            Shown("seeds", t("Seeds")),
        ),
        curves,
    )


# -- what staleness amounts to -----------------------------------------------------------------------------------------


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
