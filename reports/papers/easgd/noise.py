"""The error of the center under gradient noise, and how far workers go from it."""

from __future__ import annotations

import numpy as np

from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import mean_over_runs
from analysis.theory.easgd_noise import SynchronousEASGD
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.easgd.names import LOOKS
from reports.papers.lines import Axis, Known, Line, Panel, over_seeds, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.style import LOOKS as ALL

ERRORS = 3
"""Standard errors that a bar is long, each way: as far as the rule goes."""


def _moments(evidence: Evidence, material: Material) -> PaperFigure:
    """A3: variance of the center over the steps."""
    table = evidence.table("center-moments")
    lines, known = [], []
    for index, ((workers, beta), own) in enumerate(table.groupby(["workers", "beta"])):
        look, own = ALL[1 + index % 9], own.sort_values("step")
        theory = SynchronousEASGD(eta=float(own["eta"].iloc[0]), beta=float(str(beta)), workers=int(str(workers)))
        last = int(own["step"].max())
        error = ERRORS * own["variance"] * (2 / own["replicas"]) ** 0.5
        lines.append(
            Line(f"p = {workers}, beta = {beta:g}", look, own["step"], own["variance"], own["variance"] - error,
                 own["variance"] + error, marks=True, joined=False)
        )  # fmt: skip
        variance = np.asarray(theory.center_variance(last), dtype=np.float64)
        after = np.flatnonzero(variance > 0)  # the first gradients reach the center at step 2
        known.append(Known("Lemma 7.1", after, variance[after], look=look))
    if not lines:
        raise Missing("center-moments: no row")
    text = t(
        "Variance of the center of synchronous EASGD on a noisy quadratic: dots: the registered algorithm on {n} "
        "replicas, bars of {errors} standard errors; dashed: Lemma 7.1 of the supplement.",
        n=f"{int(table['replicas'].min()):,}",
        errors=ERRORS,
    )
    parts = [Panel(Axis("step", log=True), Axis("variance", log=True), lines, known)]
    title = t("The center's variance (Lemma 7.1)")
    svg = panels("easgd-moments", title, "", parts)
    shown = of_panels("easgd-moments", title, parts, x=t("Step"), y=t("Variance of the center"))
    return PaperFigure("easgd-moments", title, svg, text, shown, ("A3",))


def _error(evidence: Evidence, material: Material) -> PaperFigure:
    """A4: p times the mean square of the center in the long run."""
    table = evidence.table("center-error")
    lines, known, away = [], [], []
    for index, (beta, own) in enumerate(table.groupby("beta")):
        look, own = ALL[1 + index % 9], own.sort_values("workers")
        eta = float(own["eta"].iloc[0])
        value, error = own["workers"] * own["mean_square"], ERRORS * own["workers"] * own["standard_error"]
        lines.append(
            Line(f"beta = {beta:g}", look, own["workers"], value, value - error, value + error, marks=True,
                 joined=False)
        )  # fmt: skip
        counts = np.unique(np.geomspace(1, float(own["workers"].max()), 30).round())
        exact = [SynchronousEASGD(eta=eta, beta=float(str(beta)), workers=int(p)).workers_times_mse for p in counts]
        known.append(Known("closed form", counts, exact, look=look))
        at = dict(zip(counts, exact, strict=True))
        away += [abs(v / at[p] - 1) for p, v in zip(own["workers"], value, strict=True) if p in at]
    if not lines:
        raise Missing("center-error: no row")
    ticks = [float(p) for p in sorted(table["workers"].unique())]
    parts = [
        Panel(Axis("workers p", log=True, low=0.85, high=1.15 * ticks[-1], ticks=ticks),
              Axis("p x mean square error", low=0), lines, known)
    ]  # fmt: skip
    text = t(
        "The center's mean square error in the long run, times p: nearly flat, so the error falls as 1/p, and a "
        "smaller beta makes it smaller. Dots: {n} samples, bars of {errors} standard errors; dashed: the closed form, "
        "at most {away} away. In the supplement's corollary the same.",
        n=f"{int(table['samples'].min()):,}",
        errors=ERRORS,
        away=words.percent(max(away, default=float("nan"))),
    )
    title = t("The center's error falls as 1/p (corollary)")
    svg = panels("easgd-error", title, "", parts)
    shown = of_panels("easgd-error", title, parts, x=t("Workers"), y=t("p x mean square error"))
    return PaperFigure("easgd-error", title, svg, text, shown, ("A4",))


def _exploration(evidence: Evidence, material: Material) -> PaperFigure:
    """A13: the distance of the workers from the center over the moving rate."""
    table = evidence.table("exploration")
    alphas = [float(alpha) for alpha in sorted(table["alpha"].unique())]
    means = [mean_over_runs(table.loc[table["alpha"] == alpha, "distance"].to_numpy()) for alpha in alphas]
    nearest = min(means, key=lambda mean: mean.mean)
    x = Axis("moving rate alpha", log=True, low=alphas[0] / 1.2, high=1.2 * alphas[-1], ticks=alphas)
    parts = [
        Panel(x, Axis("distance from the center"), [over_seeds("EASGD", LOOKS["easgd"], alphas, means, marks=True)])
    ]
    text = t(
        "Mean distance of a worker from the center, 4 workers, over the moving rate: {first} at alpha = {low}, "
        "{last} at alpha = {high}, the least {least} at alpha = {at}. Bars: 95 % intervals of {n} seeds. The paper: a "
        "weaker force lets workers explore farther.",
        first=words.number(means[0].mean),
        low=f"{alphas[0]:g}",
        last=words.number(means[-1].mean),
        high=f"{alphas[-1]:g}",
        least=words.number(nearest.mean),
        at=f"{alphas[means.index(nearest)]:g}",
        n=min(mean.n for mean in means),
    )
    title = t("How far workers go from the center")
    svg = panels("easgd-exploration", title, "", parts)
    shown = of_panels("easgd-exploration", title, parts, x="alpha", y=t("Distance from the center"))
    return PaperFigure("easgd-exploration", title, svg, text, shown, ("A13",))


FIGURES: tuple[Draw, ...] = (_moments, _error, _exploration)
