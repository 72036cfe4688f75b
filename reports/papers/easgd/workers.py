"""More workers, as in figure 3, and the time to a test error with and without a price of communication."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.papers.easgd.workers import times
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import best, errors
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.easgd.learning import ERROR, TIME, lines_of, over, percents
from reports.papers.easgd.names import LOOKS, ORDER, name
from reports.papers.lines import Axis, Line, Panel, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.shown import Shown, ShownTable

BY = ("algorithm", "workers")
SHOWN = (4, 16)
"""Numbers of workers whose times are drawn: those of the study with a price."""


def _over_time(evidence: Evidence, material: Material) -> PaperFigure:
    """A9: a panel for each number of workers."""
    table = best(errors(evidence, "workers"), "lowest", by=BY)
    counts = sorted(table["workers"].unique())
    parts = [
        Panel(TIME, ERROR, lines_of(evidence, "workers", table[table["workers"] == p]), title=f"p = {p}")
        for p in counts
    ]
    text = t(
        "Test error of the center over virtual time where messages take none; EASGD and EAMSGD exchange every 10 "
        "steps, their rivals every step. Each at its best rate. Lines: means; bands: all {n} seeds. In the paper's "
        "figure 3 more workers bring EASGD and EAMSGD to lower errors.",
        n=int(table["n"].min()),
    )
    title = t("Test error over time with p workers (figure 3)")
    svg = panels("easgd-workers-time", title, "", parts)
    shown = of_panels("easgd-workers-time", title, parts, x=t("Time"), y=t("Test error, %"), part=t("Workers"))
    return PaperFigure("easgd-workers-time", title, svg, text, shown, ("A9", "A10"))


def _over_workers(evidence: Evidence, material: Material) -> PaperFigure:
    """A9: the lowest error over the workers."""
    table = best(errors(evidence, "workers"), "lowest", by=BY)
    ticks = [float(p) for p in sorted(table["workers"].unique())]
    x = Axis("workers p", log=True, low=ticks[0] / 1.12, high=1.12 * ticks[-1], ticks=ticks)
    parts = [over(table, "workers", x)]
    said = []
    for algorithm in ("easgd", "eamsgd"):
        own = table[table["algorithm"] == algorithm].sort_values("workers")
        if own.empty:
            raise Missing(f"workers: runs of {algorithm}")
        each = [percents(row) for _, row in own.iterrows()]
        said.append(
            t("{name} {errors} % with {counts}", name=name(algorithm), errors=words.commas(each),
              counts=words.commas([str(p) for p in own["workers"]]))
        )  # fmt: skip
    text = t(
        "Lowest test error over the number of workers, each algorithm at its best rate: {said} workers. Bars: one "
        "standard error of {n} seeds. In the paper it falls with more workers.",
        said="; ".join(said),
        n=int(table["n"].min()),
    )
    title = t("Lowest test error over the workers (figure 3)")
    svg = panels("easgd-workers", title, "", parts)
    shown = of_panels("easgd-workers", title, parts, x=t("Workers"), y=t("Test error, %"), line=t("Algorithm"))
    return PaperFigure("easgd-workers", title, svg, text, shown, ("A9",))


def _to_thresholds(evidence: Evidence, material: Material) -> PaperFigure:
    """A10: median times to test errors, messages free and not."""
    free, paying = times(evidence, "workers"), times(evidence, "workers-paying")
    both = pd.concat([free.assign(price="free"), paying.assign(price="half a gradient")], ignore_index=True)
    both = both[both["workers"].isin(SHOWN)]
    finite = both.loc[np.isfinite(both["time_s"]), "time_s"]
    if finite.empty:
        raise Missing("workers-paying: no run reached a level")
    low, top = float(finite.min()) / 1.25, 1.6 * float(finite.max())
    levels = sorted(100 * both["level"].unique())
    x = Axis("test error reached [%]", log=True, low=1.12 * levels[-1], high=levels[0] / 1.12, ticks=levels)
    y = Axis("time [gradients]", log=True, low=low, high=top)
    parts = []
    for workers in SHOWN:
        for price in ("free", "half a gradient"):
            own = both[(both["workers"] == workers) & (both["price"] == price)]
            made = []
            for algorithm in (algorithm for algorithm in ORDER if (own["algorithm"] == algorithm).any()):
                row = own[own["algorithm"] == algorithm].sort_values("level")
                reached = row["time_s"].clip(upper=top)
                made.append(
                    Line(name(algorithm), LOOKS[algorithm], 100 * row["level"], reached, reached, reached,
                         n=int(row["n"].min()), marks=True)
                )  # fmt: skip
            parts.append(Panel(x, y, made, title=f"p = {workers}: {price}"))
    text = t(
        "Median virtual time to test errors of 15, 10 and 8 %, each algorithm at the rate that is fastest there; at "
        "the upper edge: half of the {n} seeds never got there. Left: exchanges take no time; right: one takes half "
        "a gradient's. Snapshots are {spacing} gradients apart. In the paper EAMSGD is the fastest to every "
        "threshold.",
        n=int(both["n"].min()),
        spacing=words.number(float(both["resolution_s"].max())),
    )
    title = t("Time to a test error (supplement)")
    svg = panels("easgd-thresholds", title, "", parts, columns=2, tall=1.35)
    shown = ShownTable(
        "paper-easgd-thresholds",
        title,
        [
            Shown("name", t("Algorithm")),
            Shown("workers", t("Workers")),
            Shown("price", t("Exchange takes")),
            Shown("percent", t("Test error"), "%", text="{:g}".format),
            Shown("time_s", t("Median time"), t("gradients")),
            Shown("lr", t("Learning rate"), text="{:g}".format),
            Shown("n", t("n"), meaning=t("Seeds.")),
        ],
        both.assign(name=both["algorithm"].map(name), percent=(100 * both["level"]).round(6)),
    )
    return PaperFigure("easgd-thresholds", title, svg, text, shown, ("A10",))


FIGURES: tuple[Draw, ...] = (_over_time, _over_workers, _to_thresholds)
