"""Test errors over time and over the period, each algorithm at the best of its learning rates, as in figure 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.papers.easgd.periods import ELASTIC
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import GUESSING, best, errors
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.easgd.names import LOOKS, ORDER, name
from reports.papers.lines import Axis, Line, Panel, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material

ERROR = Axis("test error [%]", log=True)
COMPARED = (*ELASTIC, "downpour")
TIME = Axis("time [gradients]")


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """The best rate of each setting, as the rules take it: by the final error, of the elastic ones by the lowest.

    Args:
        table: of `analysis.papers.sweeps.errors`.

    Returns:
        As `best`, with `by`: "final" or "lowest".
    """
    elastic = table["algorithm"].isin(ELASTIC)
    parts = [(table[elastic], "lowest"), (table[~elastic], "final")]
    return pd.concat([best(own, by).assign(by=by) for own, by in parts if len(own)], ignore_index=True)


def course(evidence: Evidence, part: str, rows: Sequence[str]) -> pd.DataFrame:
    """The test error of some runs over time, in %: at each planned snapshot the mean and the range of the seeds.

    Returns:
        `t_s`, `mean`, `low`, `high`. A run that diverged counts as guessing from its last snapshot on.
    """
    curves = evidence.results(part).heldout
    own = curves[curves["run_id"].isin(rows)].sort_values("t_s")
    own = own.assign(error=1 - own["heldout_metric"], snapshot=own.groupby("run_id", observed=True).cumcount())
    times = own.groupby("snapshot")["t_s"].max()
    errors_ = own.pivot(index="snapshot", columns="run_id", values="error").reindex(columns=list(rows))
    errors_ = 100 * errors_.fillna(GUESSING)
    return pd.DataFrame(
        {"t_s": times, "mean": errors_.mean(axis=1), "low": errors_.min(axis=1), "high": errors_.max(axis=1)}
    )


def lines_of(evidence: Evidence, part: str, rows: pd.DataFrame) -> list[Line]:
    """A line over time for each algorithm of some rows of `best`."""
    made = []
    for algorithm in (algorithm for algorithm in ORDER if (rows["algorithm"] == algorithm).any()):
        row = rows[rows["algorithm"] == algorithm].iloc[0]
        found = course(evidence, part, row["rows"])
        made.append(
            Line(
                name(algorithm), LOOKS[algorithm], found["t_s"], found["mean"], found["low"], found["high"],
                n=int(row["n"]),
            )
        )  # fmt: skip
    return made


def percents(row: pd.Series) -> str:
    """A row of `best` in words, with its standard error."""
    error = float(row["standard_error"])
    mean = words.number(100 * float(row["mean"]))
    return mean if math.isnan(error) else t("{mean} ± {error}", mean=mean, error=words.number(100 * error, 2))


def _over_time(evidence: Evidence, material: Material) -> PaperFigure:
    """A6, A8: a panel for each period."""
    table = chosen(errors(evidence, "periods"))
    periods = sorted(table["period"].dropna().unique())
    parts = [
        Panel(TIME, ERROR, lines_of(evidence, "periods", table[table["period"] == period]), title=f"tau = {period:g}")
        for period in periods
    ]
    last = table[table["period"] == periods[-1]].set_index("algorithm")
    if not {"easgd", "downpour"} <= set(last.index):
        raise Missing("periods: EASGD and DOWNPOUR at the longest period")
    n = int(table["n"].min())
    text = t(
        "Test error of the center over virtual time, {p} workers, each algorithm at the best of its rates. Lines: "
        "means; bands: all {n} seeds. At tau = {period} DOWNPOUR ends at {theirs} %, the lowest error of EASGD is "
        "{ours} % (± standard error). In the paper's figure 2 DOWNPOUR is good at tau = 1 and 4 and unstable at 16 "
        "and 64, where EASGD and EAMSGD stay stable.",
        p=int(table["workers"].iloc[0]),
        n=n,
        period=f"{periods[-1]:g}",
        theirs=percents(last.loc["downpour"]),
        ours=percents(last.loc["easgd"]),
    )
    title = t("Test error over time at four periods (figure 2)")
    svg = panels("easgd-periods-time", title, "", parts, columns=2, tall=1.45)
    shown = of_panels("easgd-periods-time", title, parts, x=t("Time"), y=t("Test error, %"), part=t("Period"))
    return PaperFigure("easgd-periods-time", title, svg, text, shown, ("A6", "A8"))


def over(table: pd.DataFrame, by: str, x: Axis) -> Panel:
    """A panel of errors at the best rates over a setting, bars of one standard error."""
    made = []
    for algorithm in (algorithm for algorithm in ORDER if (table["algorithm"] == algorithm).any()):
        own = table[table["algorithm"] == algorithm].sort_values(by)
        mean, error = 100 * own["mean"], 100 * own["standard_error"].fillna(0)
        made.append(
            Line(
                name(algorithm), LOOKS[algorithm], own[by], mean, np.maximum(mean - error, 0.1), mean + error,
                n=int(own["n"].min()), marks=True,
            )
        )  # fmt: skip
    return Panel(x, ERROR, made)


def _over_period(evidence: Evidence, material: Material, *, part: str, claims: tuple[str, ...]) -> PaperFigure:
    """A6, A8 and the same on CIFAR-10: what the rules compare."""
    table = chosen(errors(evidence, part)).dropna(subset=["period"])
    periods = sorted(table["period"].unique())
    x = Axis("period tau [steps]", log=True, low=periods[0] / 1.25, high=1.25 * periods[-1], ticks=periods)
    parts = [over(table, "period", x)]
    said = [
        t(
            "{name} {first} % at tau = {short} and {last} % at {long}",
            name=name(str(algorithm)),
            first=percents(own.iloc[0]),
            last=percents(own.iloc[-1]),
            short=f"{own['period'].iloc[0]:g}",
            long=f"{own['period'].iloc[-1]:g}",
        )
        for algorithm, own in table.sort_values("period").groupby("algorithm", sort=False)
        if algorithm in COMPARED
    ]
    where = t("the paper's network on CIFAR-10") if part == "cifar" else "mnist-mlp"
    text = t(
        "Test error over the period, {where}, at the best rates: of DOWNPOUR at the end, of EASGD and EAMSGD the "
        "lowest, as the rules take them. {said}. Bars: one standard error of {n} seeds or more.",
        where=where,
        said=words.listed(said),
        n=int(table["n"].min()),
    )
    title = t("CIFAR-10: test error over the period") if part == "cifar" else t("Test error over the period (figure 2)")
    svg = panels(f"easgd-{part}", title, "", parts)
    shown = of_panels(f"easgd-{part}", title, parts, x=t("Period"), y=t("Test error, %"), line=t("Algorithm"))
    return PaperFigure(f"easgd-{part}", title, svg, text, shown, claims)


def _sequential(evidence: Evidence, material: Material) -> PaperFigure:
    """A12: one worker."""
    table = best(errors(evidence, "sequential"), "lowest")
    parts = [Panel(TIME, ERROR, lines_of(evidence, "sequential", table))]
    ranked = table.sort_values("mean")
    said = [
        t("{name} {error} %", name=name(str(row["algorithm"])), error=percents(row)) for _, row in ranked.iterrows()
    ]
    text = t(
        "One worker: test error over virtual time, each method at its best rate. Lines: means; bands: all {n} seeds. "
        "Lowest errors: {said} (± standard error). In the supplement's figure 6 Nesterov momentum, MSGD, is the best.",
        n=int(table["n"].min()),
        said=words.listed(said),
    )
    title = t("One worker (supplement, figure 6)")
    svg = panels("easgd-sequential", title, "", parts)
    shown = of_panels("easgd-sequential", title, parts, x=t("Time"), y=t("Test error, %"))
    return PaperFigure("easgd-sequential", title, svg, text, shown, ("A12",))


FIGURES: tuple[Draw, ...] = (
    _over_time,
    partial(_over_period, part="periods", claims=("A6", "A8")),
    partial(_over_period, part="cifar", claims=("A6b", "A8b")),
    _sequential,
)
