"""Where SSGD and DPSGD end: curvature, sharpness, the loss around them; and what smoothing does to curvature."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context

from analysis.papers.dpsgd.found import finals, probed
from analysis.papers.dpsgd.landscape import TRAINED
from analysis.papers.evidence import Evidence, Missing
from analysis.probes.tables import LANDSCAPE, NUMBERS
from reports import words
from reports.drawing import INK, SIZE, canvas, theme, to_svg
from reports.figures_probes_landscape import contours, rungs, square, squared
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dpsgd.names import LOOKS, NAMES
from reports.papers.lines import Axis, Line, Panel, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.shown import Shown, ShownTable
from reports.style import LOOKS as ALL

MEASURES = (
    ("hessian", "eigenvalue", "largest eigenvalue", "nat / unit^2"),
    ("hessian", "trace", "trace of the Hessian", "nat / unit^2"),
    ("loss", "sharpness", "sharpness", "nat"),
)
"""Kind and quantity of the probes, in words, and the unit."""
SIDES = ("ssgd", "dpsgd-own")


def _trained(evidence: Evidence) -> set[str]:
    ends = finals(evidence, "minima")
    return set(ends.loc[ends["loss"] < TRAINED, "run_id"])


def _curvature(evidence: Evidence, material: Material) -> PaperFigure:
    """A9: three measures of where the runs end, seed by seed."""
    rows = probed(evidence, "minima", NUMBERS)
    rows = rows[(rows["number"] == 0) & (rows["model"] == "evaluated") & rows["run_id"].isin(_trained(evidence))]
    parts = []
    middle: dict[tuple[str, str], float] = {}
    for kind, quantity, measure, unit in MEASURES:
        own = rows[(rows["kind"] == kind) & (rows["quantity"] == quantity)].sort_values("snapshot")
        last = own.groupby(["label", "seed"], as_index=False).tail(1)
        lines = []
        for label in (label for label in NAMES if (last["label"] == label).any()):
            found = last[last["label"] == label].sort_values("seed")
            middle[quantity, label] = float(found["value"].median())
            name, look = NAMES[label], LOOKS[label]
            lines.append(Line(name, look, found["seed"], found["value"], n=1, marks=True, joined=False))
        seeds = sorted(last["seed"].unique())
        if not lines:
            raise Missing(f"minima: {quantity} of a run that trained")
        x = Axis("seed", low=seeds[0] - 0.5, high=seeds[-1] + 0.5, ticks=[float(seed) for seed in seeds])
        parts.append(Panel(x, Axis(f"[{unit}]", low=0), lines, title=measure))
    text = t(
        "Where both train, at learning rate 0.5: curvature and sharpness of the loss at the models where runs end, "
        "seed by seed. Median largest eigenvalue: DPSGD {ours}, SSGD {theirs}; gradient descent is stable below "
        "2 / 0.5 = 4. The abstract of the paper's first version says that DPSGD finds flatter minima.",
        ours=words.number(middle.get(("eigenvalue", "dpsgd-own"), np.nan)),
        theirs=words.number(middle.get(("eigenvalue", "ssgd"), np.nan)),
    )
    title = t("Curvature where SSGD and DPSGD end")
    svg = panels("dpsgd-curvature", title, "", parts)
    table = of_panels(
        "dpsgd-curvature", title, parts, x=t("Seed"), y=t("Value"), line=t("Algorithm"), part=t("Measure")
    )
    return PaperFigure("dpsgd-curvature", title, svg, text, table, ("A9",))


def _planes(evidence: Evidence, material: Material) -> PaperFigure:
    """The loss around where SSGD and DPSGD end, of the first seed in which both train."""
    rows = probed(evidence, "minima", LANDSCAPE)
    rows = rows[(rows["curve"] == "plane") & rows["run_id"].isin(_trained(evidence))]
    seeds = set.intersection(*(set(rows.loc[rows["label"] == label, "seed"]) for label in SIDES))
    if not seeds:
        raise Missing("minima: planes around SSGD and DPSGD in one seed")
    seed = min(seeds)
    last = rows[rows["seed"] == seed]
    last = last[last["snapshot"] == last.groupby("label")["snapshot"].transform("max")]
    grids = {label: squared(last[last["label"] == label]) for label in SIDES}
    rises = {label: grid - float(np.nanmin(grid)) for label, grid in grids.items()}
    levels = rungs(0.02, max(float(np.nanmax(rise)) for rise in rises.values()))
    width = {label: _within(rise, 0.5) for label, rise in rises.items()}
    text = t(
        "The loss around where SSGD and DPSGD end (seed {seed}), over two random directions, each as long as the "
        "model itself, filter by filter. Lines: nat above the plane's lowest point, at the same values in both. The "
        "loss is within 0.5 nat of that on {ours} of DPSGD's plane and {theirs} of SSGD's: the larger, the flatter. "
        "That DPSGD finds flatter minima is said in the abstract of the paper's first version.",
        seed=seed,
        ours=words.percent(width["dpsgd-own"]),
        theirs=words.percent(width["ssgd"]),
    )
    title = t("The loss around where SSGD and DPSGD end")
    with rc_context(theme()):
        figure = canvas(4.6, 2.75)
        for index, label in enumerate(SIDES):
            axes = figure.add_axes((0.105 + 0.455 * index, 0.155, 0.43, 0.755))
            contours(axes, rises[label], LOOKS[label], levels)
            axes.plot([0], [0], LOOKS[label].marker, color=LOOKS[label].light, markersize=5)
            axes.set_title(NAMES[label], loc="left", fontsize=SIZE, color=INK, pad=3)
            axes.set_xlabel("first direction")
            square(axes)
            if index:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel("second direction")
        svg = to_svg(figure, "dpsgd-planes", title, text)
    frame = pd.DataFrame(
        [
            {
                "name": NAMES[label],
                "lowest": float(np.nanmin(grids[label])),
                "highest": float(np.nanmax(grids[label])),
                "share": width[label],
            }
            for label in SIDES
        ]
    )
    table = ShownTable(
        "paper-dpsgd-planes",
        title,
        [
            Shown("name", t("Algorithm")),
            Shown("lowest", t("Lowest loss"), "nat"),
            Shown("highest", t("Highest loss"), "nat"),
            Shown("share", t("Within 0.5 nat"), text=words.percent),
        ],
        frame,
    )
    return PaperFigure("dpsgd-planes", title, svg, text, table, ("A9",))


def _within(rise: pd.DataFrame, level: float) -> float:
    """Share of the plane's points at most so far above its lowest; a loss that is no number lies above."""
    return float((rise.to_numpy(dtype=np.float64) <= level).mean())


def _smoothing(evidence: Evidence, material: Material) -> PaperFigure:
    """A8b: curvature of the loss smoothed by noise of the size of the spread."""
    table = evidence.table("smoothing")
    lines = []
    said = []
    for index, ((seed, step), own) in enumerate(table.groupby(["seed", "step"])):
        own = own.sort_values("factor")
        name = f"after {step} steps, seed {seed}"
        look = ALL[1 + index % (len(ALL) - 1)]
        lines.append(Line(name, look, own["factor"], own["eigenvalue"], marks=True))
        said.append(
            t(
                "after {step} steps, seed {seed}: from {first} without noise to {last} with {factor} times the spread",
                step=step,
                seed=seed,
                first=words.number(float(own["eigenvalue"].iloc[0])),
                last=words.number(float(own["eigenvalue"].iloc[-1])),
                factor=f"{own['factor'].iloc[-1]:g}",
            )
        )
    if not lines:
        raise Missing("smoothing: no row")
    text = t(
        "Largest eigenvalue of the loss at DPSGD's mean model, when the loss is smoothed by noise of the size of the "
        "learners' spread; {places}. The paper argues that this smoothing is what lets DPSGD take larger steps.",
        places="; ".join(said),
    )
    ticks = sorted(float(factor) for factor in table["factor"].unique())
    parts = [
        Panel(
            Axis("size of the noise [spreads of the learners]", ticks=ticks), Axis("largest eigenvalue", low=0), lines
        )
    ]
    title = t("Curvature of the smoothed loss")
    svg = panels("dpsgd-smoothing", title, "", parts)
    shown = of_panels(
        "dpsgd-smoothing", title, parts, x=t("Size of the noise"), y=t("Largest eigenvalue"), line=t("Model")
    )
    return PaperFigure("dpsgd-smoothing", title, svg, text, shown, ("A8b",))


FIGURES: tuple[Draw, ...] = (_curvature, _planes, _smoothing)
