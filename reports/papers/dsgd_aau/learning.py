"""DSGD-AAU and its rivals where one gradient in ten is ten times slower: time, learning rates, iterations, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from analysis.papers.dsgd_aau.rivals import AD_PSGD, FAILED, OURS, SIX, STUDY, iterations, same_accuracy
from analysis.papers.dsgd_aau.rules import Curve, best_rate, curves, named
from analysis.papers.evidence import Evidence, Missing
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dsgd_aau.drawn import LOOK_OF, NAMES, Values, end, interval, over_curves
from reports.papers.lines import Axis, Known, Line, Panel, over_seeds, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material

ACCURACY = Axis("held-out accuracy", low=0.0, high=1.0)
Kind = Literal["accuracy", "loss"]


def race(
    evidence: Evidence, material: Material, *, study: str, name: str, factor: int, claims: tuple[str, ...]
) -> PaperFigure:
    """Accuracy and loss against seconds, each algorithm at its best rate.

    Args:
        study: whose runs.
        name: of the figure.
        factor: by which slow gradients are longer.
        claims: that it shows.

    Raises:
        Missing: the study has not been run.
    """
    found = curves(evidence, study)
    losses = _losses(evidence, study)
    parts, said = [], []
    for workers in sorted({curve.workers for curve in found}):
        best = _best([curve for curve in found if curve.workers == workers])
        seconds = Axis("virtual seconds", low=0.0)
        for kind, y in (("accuracy", ACCURACY), ("loss", Axis("held-out loss [nat]"))):
            lines = [_over_time(label, own, losses if kind == "loss" else None) for label, own in best.items()]
            parts.append(Panel(seconds, y, lines, title=f"N = {workers}, {kind}"))
        said.append(_ends(workers, best))
    if not parts:
        raise Missing(f"{study}: no run has ended")
    title = t("Accuracy and loss against virtual seconds, one gradient in ten {factor} times slower", factor=factor)
    svg = panels(name, title, "", parts, columns=2)
    text = t(
        "Each algorithm at the best of the same learning rates; MNIST, 5 of 10 classes per worker. Mean over the "
        "seeds, band: 95 % interval. At the end: {ends} The paper has DSGD-AAU ahead of all of them at equal time.",
        ends=" ".join(said),
    )
    table = of_panels(
        name, t("Accuracy and loss at each snapshot"), parts, x=t("Virtual seconds"), y=t("Value"),
        line=t("Algorithm"),
    )  # fmt: skip
    return PaperFigure(name, title, svg, text, table, claims)


def rates(evidence: Evidence, material: Material) -> PaperFigure:
    """Accuracy at the end over the grid of learning rates.

    Raises:
        Missing: the study has not been run, or with one rate.
    """
    found = curves(evidence, STUDY)
    tried = sorted({curve.lr for curve in found})
    if len(tried) < 2:
        raise Missing(f"{STUDY}: fewer than two learning rates")
    parts = []
    for workers in sorted({curve.workers for curve in found}):
        here = [curve for curve in found if curve.workers == workers]
        lines = [_over_rates(name, named(here, name)) for name in NAMES if named(here, name)]
        x = Axis("learning rate", log=True, low=tried[0] / 1.2, high=tried[-1] * 1.2, ticks=tried)
        line = Known("no learning below (B5)", [tried[0] / 1.2, tried[-1] * 1.2], [FAILED, FAILED])
        parts.append(Panel(x, ACCURACY, lines, (line,), f"N = {workers}"))
    title = t("Accuracy at the end over the learning rates, the same for all")
    svg = panels("aau-rates", title, "", parts, columns=2)
    text = t(
        "Every rate that was tried, {n} seeds each, with the 95 % interval of the mean. Claim B4 compares each "
        "algorithm at its best rate; claim B5 asks also for a rate at which AD-PSGD ends below the dashed line and "
        "DSGD-AAU above it.",
        n=min(line.n for part in parts for line in part.lines),
    )
    table = of_panels(
        "aau-rates", t("Accuracy at the end by learning rate"), parts, x=t("Learning rate"), y=t("Accuracy"),
        line=t("Algorithm"),
    )  # fmt: skip
    return PaperFigure("aau-rates", title, svg, text, table, ("B4", "B5"))


def spent(evidence: Evidence, material: Material) -> PaperFigure:
    """Accuracy against iterations and against bytes, of DSGD-AAU and AD-PSGD at their best rates.

    Raises:
        Missing: the study or the pace of its iterations has not been run.
    """
    ours, theirs, level = same_accuracy(evidence)
    if not ours or not theirs:
        raise Missing(f"{STUDY}: no runs of {OURS} or of {AD_PSGD}")
    mine, others = iterations(evidence, ours, theirs)
    if not others:
        raise Missing("pace: no run like those of the study")
    thousand = [[k / 1e3 for k in counted] for counted in (mine, others)]
    megabytes = [[c.nbytes / 1e6 for c in group] for group in (ours, theirs)]
    parts = []
    for label, (a, b) in (("thousand iterations", thousand), ("MB on the wire", megabytes)):
        lines = [_against(OURS, a, ours), _against(AD_PSGD, b, theirs)]
        most = max(float(np.nanmax(np.asarray(line.x))) for line in lines)
        parts.append(Panel(Axis(label, low=0.0), ACCURACY, lines, (Known("compared here", [0, most], [level] * 2),)))
    title = t("Accuracy against iterations and against bytes: DSGD-AAU and AD-PSGD")
    svg = panels("aau-spent", title, "", parts)
    needed = [
        [_mean([c.first(level, x) for c, x in zip(group, axes, strict=True)]) for group, axes in pairs]
        for pairs in (((ours, thousand[0]), (theirs, thousand[1])), ((ours, megabytes[0]), (theirs, megabytes[1])))
    ]
    text = t(
        "An iteration of DSGD-AAU is one averaging of those who have finished; of AD-PSGD every gradient is one. To "
        "the accuracy {level} (dashed), 95 % of what the worse of the two ends with: {ours} against {theirs} thousand "
        "iterations and {sent} against {sent_theirs} MB, n = {n} seeds each. The paper has DSGD-AAU below AD-PSGD in "
        "both.",
        level=words.number(level), ours=needed[0][0], theirs=needed[0][1], sent=needed[1][0], sent_theirs=needed[1][1],
        n=min(len(ours), len(theirs)),
    )  # fmt: skip
    table = of_panels(
        "aau-spent", t("Accuracy by iterations and by bytes"), parts, x=t("Iterations [thousand] or MB"),
        y=t("Accuracy"), line=t("Algorithm"), part=t("Against"),
    )  # fmt: skip
    return PaperFigure("aau-spent", title, svg, text, table, ("B6", "B9"))


def _best(here: Sequence[Curve]) -> dict[str, list[Curve]]:
    found = {name: best_rate(named(here, name)) for name in NAMES}
    return {name: own for name, own in found.items() if own}


def _losses(evidence: Evidence, study: str) -> dict[str, Values]:
    """run_id -> held-out loss at each snapshot."""
    held = evidence.results(study).heldout.sort_values("t_s")
    return {
        str(run): own["heldout_loss"].to_numpy(dtype=np.float64) for run, own in held.groupby("run_id", observed=True)
    }


def _over_time(name: str, own: Sequence[Curve], losses: Mapping[str, Values] | None) -> Line:
    heights = [curve.accuracy if losses is None else losses[curve.run_id] for curve in own]
    return over_curves(name, LOOK_OF[name], [curve.t_s for curve in own], heights)


def _against(name: str, axes: Sequence[Values], own: Sequence[Curve]) -> Line:
    return over_curves(name, LOOK_OF[name], axes, [curve.accuracy for curve in own])


def _over_rates(name: str, own: Sequence[Curve]) -> Line:
    tried = sorted({curve.lr for curve in own})
    return over_seeds(
        name, LOOK_OF[name], tried, [end([c for c in own if c.lr == lr]) for lr in tried], marks=True
    )  # fmt: skip


def _mean(values: Sequence[float]) -> str:
    return words.number(float(np.mean(values)))


def _ends(workers: int, best: Mapping[str, Sequence[Curve]]) -> str:
    each = [
        t(
            "{name} {accuracy} at rate {lr} (n = {n})",
            name=name, accuracy=interval(end(own)), lr=f"{own[0].lr:g}", n=len(own),
        )
        for name, own in best.items()
    ]  # fmt: skip
    return t("N = {workers}: {each}.", workers=workers, each=words.commas(each))


FIGURES: tuple[Draw, ...] = (
    partial(race, study=STUDY, name="aau-race", factor=10, claims=("B4", "B5")),
    partial(race, study=SIX, name="aau-race-six", factor=6, claims=("B4s", "B5s")),
    rates,
    spent,
)
