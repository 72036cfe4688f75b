"""Compute utilisation against bandwidth, overlap and pattern; the bytes of every step. Arithmetic, no learning."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.printed import METHODS, MODELS, TABLE_4
from analysis.papers.streaming_diloco.utilization import by_delay, cells_off, curve, row
from analysis.theory.utilization import TARGETS, printed
from analysis.theory.utilization import utilization as computed
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.papers.streaming_diloco.drawn import METHODS as LOOK_OF
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.shown import Shown, ShownTable
from reports.style import LOOKS

DRAWN = np.logspace(-1, 3, 60)
"""Bandwidths of the curves [Gbit/s]: the paper's range."""
DELAYS = (0, 1, 2, 3, 5, 10, 20)
LOOKS_OF = {
    "data-parallel": LOOK_OF["data-parallel"],
    "diloco": LOOK_OF["diloco"],
    "streaming": LOOK_OF["streaming"],
    "overlapped": LOOK_OF["overlapped"],
    "overlapped FP4": LOOK_OF["overlapped-fp4"],
}
BANDWIDTH = Axis("bandwidth [Gbit/s]", log=True, low=0.1, high=1000, ticks=(0.1, 1, 10, 100))


def curves(evidence: Evidence, material: Material) -> PaperFigure:
    """Compute utilisation against bandwidth, five methods on three models, with the points of the paper's table 4."""
    parts = []
    for model in MODELS:
        lines, known = [], []
        for method, settings in METHODS.items():
            values = computed(DRAWN, **{**MODELS[model], **settings})
            lines.append(Line(method, LOOKS_OF[method], DRAWN, values))
            if (model, method) in TABLE_4:
                points = TABLE_4[model, method]
                known.append(Known("table 4 of the paper", points, TARGETS, points=True, look=LOOKS_OF[method]))
        parts.append(Panel(BANDWIDTH, Axis("compute utilisation", low=0.0, high=1.02), lines, known, model))
    off = [
        cells_off(point, paper)
        for key, papers in TABLE_4.items()
        for point, paper in zip(row(*key).Gbit_per_s_on_grid, papers, strict=True)
    ]
    title = t("Compute utilisation against bandwidth (figure 4 and table 4)")
    text = t(
        "Share of the time spent computing, H = 100, by our simulator; hollow: bandwidths that table 4 prints for 50, "
        "80, 90, 95 and 99 % (its 10B rows were not at hand). {equal} of {n} cells are equal, the others {far} cell of "
        "its grid off at most. A printed bandwidth is the last of the grid that misses its target, so it may lie left "
        "of the curve.",
        equal=sum(distance == 0 for distance in off), n=len(off), far=f"{max(off):.0f}",
    )  # fmt: skip
    return PaperFigure(
        "diloco-utilisation", title, panels("diloco-utilisation", title, "", parts), text, _table_4(),
        ("D1", "D2", "D3", "D4"),
    )  # fmt: skip


def _table_4() -> ShownTable:
    """Our row beside the paper's, for every model and method."""
    rows = []
    for model in MODELS:
        for method in METHODS:
            ours = row(model, method)
            papers = TABLE_4.get((model, method), (float("nan"),) * len(TARGETS))
            for target, point, exact, paper in zip(
                TARGETS, ours.Gbit_per_s_on_grid, ours.Gbit_per_s, papers, strict=True
            ):
                rows.append((model, method, target, paper, printed(point), exact))
    frame = pd.DataFrame(rows, columns=["model", "method", "target", "paper", "here", "exact"])
    columns = [
        Shown("model", t("Model")),
        Shown("method", t("Method")),
        Shown("target", t("Utilisation"), text=words.percent),
        Shown("paper", t("In the paper"), "Gbit/s"),
        Shown("here", t("Here, on its grid"), "Gbit/s"),
        Shown("exact", t("Here, exactly"), "Gbit/s"),
    ]
    return ShownTable("paper-diloco-utilisation", t("Bandwidth for a compute utilisation, as table 4"), columns, frame)


def overlap(evidence: Evidence, material: Material) -> PaperFigure:
    """Utilisation against the overlap, and what strided fragments gain over sequential ones."""
    found = by_delay(DELAYS)
    delays = Line("100B, 5 Gbit/s", LOOKS_OF["overlapped"], list(found), list(found.values()), marks=True)
    first = Panel(Axis("overlap tau [inner steps]"), Axis("compute utilisation", low=0.0, high=1.04), [delays])
    lines, said, least = [], [], 0.0
    for i, model in enumerate(MODELS):
        settings = {**MODELS[model], **METHODS["streaming"]}
        gained = 100 * (computed(DRAWN, **settings) - computed(DRAWN, **settings, pattern="sequential"))
        lines.append(Line(model, LOOKS[(3, 4, 8)[i % 3]], DRAWN, gained))
        whole = curve(model, "streaming") - curve(model, "streaming", pattern="sequential")
        said.append(f"{100 * float(whole.max()):.1f} ({model})")
        least = min(least, float(whole.min()))
    second = Panel(BANDWIDTH, Axis("strided over sequential [points]"), lines)
    parts = [first, second]
    title = t("Utilisation against the overlap, and strided against sequential fragments (figures 7 and 9)")
    text = t(
        "Left: {none} without overlap, {two} with two inner steps, {five} with five and {most} with twenty. Right: "
        "what strided fragments gain over sequential ones, at most {gains} points and at least {least}. The paper has "
        "no gain beyond some five inner steps, and strided fragments above sequential ones.",
        none=words.percent(found[0]), two=f"{100 * found[2]:.1f}\u00a0%", five=f"{100 * found[5]:.1f}\u00a0%",
        most=f"{100 * found[20]:.1f}\u00a0%", gains=words.commas(said),
        least=f"{round(100 * least, 6) + 0.0:g}",
    )  # fmt: skip
    table = of_panels(
        "diloco-overlap", t("Utilisation by overlap, and gain of strided fragments"), parts,
        x=t("Inner steps, or Gbit/s"), y=t("Utilisation, or points"), line=t("Model"),
    )  # fmt: skip
    svg = panels("diloco-overlap", title, "", parts)
    return PaperFigure("diloco-overlap", title, svg, text, table, ("D5", "D6"))


def traffic(evidence: Evidence, material: Material) -> PaperFigure:
    """Bytes of every step of a period, counted in runs.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("traffic")
    parts, said = [], []
    for _, own in rows.groupby("model", sort=False):
        bits = int(own["value_bits"].iloc[0])
        first = int(own["step"].min()) - 1
        lines = [_steps(str(method), sent, first) for method, sent in own.groupby("method", sort=False)]
        heading = "1B, 16 bit" if bits == 16 else f"with gradients, {bits} bit"
        seen = own.loc[own["nbytes"] > 0, "nbytes"] / 1e6
        y = Axis("MB per step", log=True, low=seen.min() / 3, high=seen.max() * 3)
        parts.append(Panel(Axis("step of a period", low=0.0), y, lines, (), heading))
        total = own.groupby("method")["nbytes"].sum()
        codes = own[own["method"] == "overlapped-fp4"]
        said.append(
            t(
                "{model}: {times} times fewer bits ({scaled} with scales)",
                model=heading,
                times=words.number(total["data-parallel"] / (codes["nbytes"] - codes["scale_nbytes"]).sum()),
                scaled=words.number(total["data-parallel"] / total["overlapped-fp4"]),
            )
        )
    if not parts:
        raise Missing("traffic: the table is empty")
    title = t("What is sent in each step of a period of 100: totals and bursts")
    text = t(
        "Counted in runs with two workers. Data-parallel training sends in every step, DiLoCo once a period, Streaming "
        "one fragment at a time. Overlapped in 4 bits against data-parallel: {each}. The paper says 400, and bursts "
        "smaller than DiLoCo's by the number of fragments.",
        each="; ".join(said),
    )
    table = of_panels(
        "diloco-traffic", t("Bytes by step"), parts, x=t("Step of the period"), y=t("MB"), line=t("Method"),
        part=t("Model"),
    )  # fmt: skip
    return PaperFigure(
        "diloco-traffic", title, panels("diloco-traffic", title, "", parts), text, table, ("D8", "D9")
    )  # fmt: skip


def _steps(method: str, sent: pd.DataFrame, first: int) -> Line:
    """What a method sends, by step; a line where it sends in every step, else a mark where it does."""
    nbytes = sent["nbytes"].where(sent["nbytes"] > 0) / 1e6
    always = len(nbytes) > 1 and bool(nbytes.notna().all())
    return Line(method, LOOK_OF[method], sent["step"] - first, nbytes, marks=not always, joined=False)


FIGURES: tuple[Draw, ...] = (curves, overlap)
COUNTED: tuple[Draw, ...] = (traffic,)
