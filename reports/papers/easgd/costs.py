"""Where the time of a step goes on MPI, as in the supplement's table 4."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context

from analysis.papers.easgd.costs import of_a_step
from analysis.papers.evidence import Evidence
from reports import words
from reports.drawing import INK, SIZE, canvas, finish, theme, to_svg
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.key import ROW
from reports.sections.base import Material
from reports.shown import Shown, ShownTable
from reports.style import PARTS

_STYLE = {name: (fill, hatch) for name, _, fill, hatch, _ in PARTS}
COLUMNS = (
    ("compute_s", "computing gradients", _STYLE["gradient_s"]),
    ("comm_s", "waiting for the exchange", _STYLE["exposed_transfer_s"]),
    ("other_s", "other (data, harness, sharing cores)", _STYLE["other_s"]),
)
"""Column, words, fill and hatch; the same as where the time of a run is drawn."""


def _breakdown(evidence: Evidence, material: Material) -> PaperFigure:
    """A11: a bar for each number of workers and period."""
    table = of_a_step(evidence)
    table = table.assign(other_s=(table["step_s"] - table["compute_s"] - table["comm_s"]).clip(lower=0))
    names = [column for column, _, _ in COLUMNS]
    by = table.groupby(["workers", "period"])
    mean, n = 1e3 * by[[*names, "step_s"]].mean(), by.size()
    low, high = 1e3 * by["step_s"].min(), 1e3 * by["step_s"].max()
    tall = 0.3 * len(mean) + 0.75
    with rc_context(theme()):
        figure = canvas(4.6, tall)
        axes = figure.add_axes((0.21, 0.4 / tall, 0.765, 1 - (0.4 + 2 * ROW + 0.06) / tall))
        left = np.zeros(len(mean))
        y = np.arange(len(mean))
        for column, part, (fill, hatch) in COLUMNS:
            width = mean[column].to_numpy()
            axes.barh(y, width, 0.62, left, color=fill, hatch=hatch, edgecolor="#ffffff", linewidth=0, label=part)
            left += width
        axes.hlines(y, low, high, color=INK, linewidth=0.9)
        axes.set_yticks(y, [f"p = {workers}, tau = {period}" for workers, period in mean.index], color=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.04 * float(high.max()))
        axes.set_xlabel("time of a step [ms]")
        figure.legend(loc="upper left", ncols=2, frameon=False, fontsize=SIZE - 0.5, labelcolor=INK, borderpad=0.1,
                      handlelength=1.6, columnspacing=1.2, labelspacing=0.25)  # fmt: skip
        ticks = axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()]
        finish(axes)
        axes.set_yticks(*ticks, color=INK)
        axes.grid(visible=False, axis="y")
        waits = mean["comm_s"].unstack("period")
        short, long = waits.columns.min(), waits.columns.max()
        said = [
            t("{ratio} times with p = {p}", ratio=words.number(float(row[short] / row[long]), 2), p=p)
            for p, row in waits.iterrows()
        ]
        text = t(
            "Time of a worker's step of EASGD over MPI, on the machine of these runs: means of {n} seeds; lines: the "
            "fastest and the slowest seed's whole step. Waiting is longer at tau = {short} than at {long}: {said}. In "
            "the supplement's table 4 communication falls as 1/tau and computing does not change.",
            n=int(n.min()),
            short=short,
            long=long,
            said=words.listed(said),
        )
        title = t("Time of a step (supplement, table 4)")
        alt = "; ".join(
            f"p = {row['workers']:g}, tau = {row['period']:g}: computing {row['compute_s']:.2f} ms, waiting "
            f"{row['comm_s']:.2f} ms, other {row['other_s']:.2f} ms"
            for row in mean.reset_index().to_dict("records")
        )
        svg = to_svg(figure, "easgd-breakdown", title, alt)
    shown = ShownTable(
        "paper-easgd-breakdown",
        title,
        [
            Shown("workers", t("Workers")),
            Shown("period", t("Period")),
            Shown("compute_s", t("Computing gradients"), "ms"),
            Shown("comm_s", t("Waiting for the exchange"), "ms"),
            Shown("other_s", t("Other"), "ms"),
            Shown("step_s", t("Whole step"), "ms", low="low", high="high"),
            Shown("n", t("n"), meaning=t("Seeds.")),
        ],
        mean.assign(n=n, low=low, high=high).reset_index(),
    )
    return PaperFigure("easgd-breakdown", title, svg, text, shown, ("A11",))


FIGURES: tuple[Draw, ...] = (_breakdown,)
