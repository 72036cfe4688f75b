"""Explicit momentum against the number of workers: the best one, what others cost, what asynchrony costs in steps."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.asynchrony.tuning import best_momentum, penalty_curves, trend
from analysis.papers.async_momentum.rates import CONDITION, FIGURE_6, READ_OFF, best_explicit
from analysis.papers.async_momentum.tuning import AT, FIGURE_4, FIGURE_8, USUAL, grid
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import Mean, mean_over_runs
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.lines import Axis, Known, Line, Panel, over_seeds, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.style import LOOKS, looks

SERVER = looks([("async-sgd", "async-sgd")])["async-sgd"]
TOP = 8.0
"""Upper end of the axis of penalties; dearer momenta, and those that never get there, stand at it."""


def best(evidence: Evidence, material: Material) -> PaperFigure:
    """The best explicit momentum against the number of workers, beside theory and the paper's figure 8.

    Raises:
        Missing: a study has not been run, or no momentum reached the target.
    """
    runs, _ = grid(evidence)
    found = best_momentum(runs)
    known = found.dropna(subset="momentum")
    if len(known) < 2:
        raise Missing("momentum-1: the target is not reached with two numbers of workers")
    sizes = known["workers"].to_numpy(dtype=np.float64)
    line = Line("best of the grid, 95 % interval", SERVER, sizes, known["momentum"], known["low"], known["high"],
                n=int(known["seeds"].min()), marks=True)  # fmt: skip
    good = Line("within 5 % of its cost", LOOKS[6], np.repeat(0.95 * sizes, 3), _ranges(known))
    one = float(known["momentum"].iloc[0]) + (1 - 1 / sizes[0])
    theory = Known("best of one worker less 1 - 1/M", sizes, one - (1 - 1 / sizes))
    paper = Known("figure 8 of the paper", list(FIGURE_8), list(FIGURE_8.values()), points=True)
    tried = found["workers"].to_numpy(dtype=np.float64)
    parts = [Panel(_workers(tried), Axis("best explicit momentum", low=-1.0, high=1.0), [good, line], (theory, paper))]
    rho, p = trend(known)
    each = [f"{mu:g} (M = {m})" for m, mu in zip(known["workers"], known["momentum"], strict=True)]
    title = t("Best explicit momentum against the number of workers (figures 3 and 8)")
    text = t(
        "Steps to a held-out loss over a grid of momenta, the learning rate tuned at each, n = {n} seeds: {each}. Rank "
        "correlation with M {rho}, one-sided p = {p}. Dashed: asynchrony adds 1 - 1/M, so that what is set by hand "
        "should fall by as much. The paper's (hollow) falls from 0.675 to -0.675, on another model.",
        n=line.n, each=words.commas(each),
        rho=words.number(rho, 2), p=words.number(p, 2),
    )  # fmt: skip
    shown = [Panel(part.x, part.y, [line], part.known) for part in parts]
    table = of_panels(
        "async-best", t("Best explicit momentum by workers"), shown, x=t("Workers"), y=t("Explicit momentum")
    )
    return PaperFigure("async-best", title, panels("async-best", title, "", parts), text, table, ("B6",))


def _ranges(known: pd.DataFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """For each number of workers the range of momenta that are as good: a vertical stroke, then a gap."""
    ends = known[["as_good_low", "as_good_high"]].to_numpy(dtype=np.float64)
    return np.column_stack([ends, np.full(len(ends), math.nan)]).ravel()


def penalty(evidence: Evidence, material: Material) -> PaperFigure:
    """What each explicit momentum costs in steps, a line for each number of workers.

    Raises:
        Missing: a study has not been run, or no momentum reached the target.
    """
    runs, _ = grid(evidence)
    curves = penalty_curves(runs)
    curves = curves[curves.groupby("workers")["penalty"].transform("min") < math.inf]
    if curves.empty:
        raise Missing("momentum-1: the target is not reached with any number of workers")
    sizes = sorted(curves["workers"].unique())
    lines = []
    for i, (m, own) in enumerate(curves.groupby("workers", sort=True)):
        means = _costs(runs, own, float(own["cost"].min()))
        lines.append(
            Line(f"M = {m}", LOOKS[1 + i % 9], own["momentum"], own["penalty"].clip(upper=TOP),
                 [min(mean.low, TOP) for mean in means], [min(mean.high, TOP) for mean in means],
                 n=int(own["seeds"].min()), marks=True)
        )  # fmt: skip
    half = (len(lines) + 1) // 2
    y = Axis("steps over those of the best", log=True, low=0.93, high=TOP * 1.05, ticks=(1, 1.5, 2, 3, 5, TOP))
    x = Axis("explicit momentum", low=-1.0, high=1.0, ticks=(-0.9, -0.45, 0, 0.45, 0.9))
    parts = [Panel(x, y, group) for group in (lines[:half], lines[half:]) if group]
    usual = curves[curves["momentum"] == USUAL].set_index("workers")["penalty"]
    title = t("What a fixed momentum costs: steps against the best one (figures 4 and 8)")
    text = t(
        "Steps to the target at each explicit momentum, its learning rate tuned, over those of the best momentum with "
        "as many workers, with the 95 % interval; at the upper edge: {top} times or more, or never with all "
        "of {n} seeds. Momentum {usual}: "
        "{each}. Claim B7 compares with the best from 0 on at M = {at}; the paper has 2.5 times there.",
        top=f"{TOP:g}", n=lines[0].n, usual=f"{USUAL:g}", at=AT,
        each=words.commas([f"{words.number(float(usual[m]))} (M = {m})" for m in sizes if m in usual.index]),
    )  # fmt: skip
    table = of_panels(
        "async-penalty", t("Steps over those of the best momentum"), parts, x=t("Explicit momentum"),
        y=t("Times the steps of the best"), line=t("Workers"), part=t("Panel"),
    )  # fmt: skip
    return PaperFigure("async-penalty", title, panels("async-penalty", title, "", parts), text, table, ("B7",))


def price(evidence: Evidence, material: Material) -> PaperFigure:
    """Steps to the target over those of one worker: tuned, and at fixed momenta.

    Raises:
        Missing: a study has not been run, or one worker did not reach the target.
    """
    runs, _ = grid(evidence)
    found, curves = best_momentum(runs), penalty_curves(runs)
    base = float(found["cost"].iloc[0])
    if not math.isfinite(base):
        raise Missing("momentum-1: the target is not reached with one worker")
    tuned = found.set_index("workers")["statistical_penalty"]
    seeds = int(found["seeds"].min())
    sizes = found["workers"].to_numpy(dtype=np.float64)
    lines = [over_seeds("momentum and rate tuned", LOOKS[8], found["workers"], _costs(runs, found, base), marks=True)]
    for i, mu in enumerate((0.0, USUAL)):
        own = curves[curves["momentum"] == mu]
        if len(own):
            means = _costs(runs, own, base)
            lines.append(over_seeds(f"momentum {mu:g}, rate tuned", LOOKS[1 + i], own["workers"], means, marks=True))
    paper = Known("figure 4 of the paper, tuned", list(FIGURE_4), list(FIGURE_4.values()), points=True)
    reached = [v for line in lines for v in (*np.asarray(line.y), *np.asarray(line.high)) if math.isfinite(v)]
    y = Axis("steps over those of one worker", log=True, low=0.85, high=1.25 * max([*reached, *FIGURE_4.values()]))
    parts = [Panel(_workers(sizes), y, lines, (paper,))]
    each = [f"{words.number(float(v))} (M = {m})" for m, v in tuned.items() if math.isfinite(v)]
    title = t("Statistical penalty of asynchrony, with tuned and with fixed momentum (figure 4)")
    text = t(
        "Steps of all workers to the target, mean over {n} seeds with its 95 % interval, over those of one worker with "
        "everything tuned; a point is missing where not all seeds reached it. Tuned: {each}. The paper has 1, 1, 2, 2 "
        "and 6 with 1 to 16 "
        "workers, and a fixed 0.9 some 2.5 times above it.",
        n=seeds, each=words.commas(each),
    )  # fmt: skip
    table = of_panels(
        "async-price", t("Steps over those of one worker"), parts, x=t("Workers"), y=t("Times the steps"),
        line=t("Momentum"),
    )  # fmt: skip
    return PaperFigure("async-price", title, panels("async-price", title, "", parts), text, table, ("B7", "B8"))


def _costs(runs: pd.DataFrame, settings: pd.DataFrame, base: float) -> list[Mean]:
    """Steps of some settings (`workers`, `momentum`, `lr`) over those of a base; none where not all seeds got there."""
    found = []
    for asked in settings[["workers", "momentum", "lr"]].to_numpy(dtype=np.float64):
        own = runs.loc[(runs[["workers", "momentum", "lr"]] == asked).all(axis=1), "cost"].to_numpy(dtype=np.float64)
        reached = len(own) > 0 and bool(np.isfinite(own).all())
        found.append(mean_over_runs(own / base) if reached else Mean(math.nan, math.nan, math.nan, len(own), ""))
    return found


def theory(evidence: Evidence, material: Material) -> PaperFigure:
    """The best explicit momentum by theorem 7 beside what the paper's figure 6 shows."""
    implicit = np.arange(len(FIGURE_6)) / 10
    computed = [best_explicit(float(mu)) for mu in implicit]
    line = Line("theorem 7, computed", SERVER, implicit, computed, marks=True)
    paper = Known("read off figure 6", implicit, FIGURE_6, points=True)
    y = Axis("best explicit momentum")
    parts = [Panel(Axis("implicit momentum", low=-0.04, high=0.94), y, [line], (paper,))]
    off = float(np.abs(np.array(computed) - FIGURE_6).max())
    title = t("Best explicit against implicit momentum on a quadratic (figure 6)")
    text = t(
        "Condition number {condition}; momentum and rate that make the largest root of theorem 7's polynomial least. "
        "At most {off} from the paper's points, which can be read to {reading}. No run is behind this figure.",
        condition=f"{CONDITION:g}", off=words.number(off, 2), reading=f"{READ_OFF:g}",
    )  # fmt: skip
    table = of_panels(
        "async-theory", t("Best explicit momentum by theorem 7"), parts, x=t("Implicit momentum"),
        y=t("Explicit momentum"),
    )  # fmt: skip
    return PaperFigure("async-theory", title, panels("async-theory", title, "", parts), text, table, ("B5",))


def _workers(sizes: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Axis:
    return Axis("workers M", log=True, low=0.85, high=float(sizes[-1]) * 1.2, ticks=[float(m) for m in sizes])


FIGURES: tuple[Draw, ...] = (best, penalty, price, theory)
