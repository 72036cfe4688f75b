"""The explicit momentum that was best for each number of workers, from runs that tried several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.asynchrony.tuning import best_momentum, momentum_grid, penalty_curves, trend
from reports import figures_probes_landscape as heat_maps
from reports import figures_probes_momentum as figures
from reports import words
from reports.language import t
from reports.probed import Group, Panel
from reports.sections.base import Material
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


def tuned(material: Material, name: str, grid: Grid, measured: pd.DataFrame) -> Panel:
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
