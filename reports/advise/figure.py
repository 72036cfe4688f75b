"""The figure of an advice: time to the target against the bandwidth between nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from analysis.advice.answer import Answer
from reports.drawing import INK, MUTED, SIZE, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import Look
from reports.words import number

WIDTH, HEIGHT = 7.4, 4.2


def time_against_bandwidth(a: Answer, looks: Mapping[str, Look]) -> str | None:
    """A line for each algorithm that got there, with its 95 % interval as a band; flips and the present network as
    upright lines; marks where its learning was simulated."""
    rows = [row for row in a.rows if row.label in a.curve]
    if not rows:
        return None
    with rc_context(theme()):
        figure = canvas(WIDTH, HEIGHT)
        axes = figure.add_axes((0.085, 0.12, 0.9, 0.8))
        axes.set_xscale("log")
        axes.set_yscale("log")
        points = list(a.curve.values())
        lowest = min(seconds for line in points for _, seconds in line)
        highest = max(seconds for line in points for _, seconds in line)
        axes.set_ylim(lowest / 1.6, highest * 1.6)
        for row in reversed(rows):  # the winner on top
            look, line = looks[row.label], a.curve[row.label]
            x, y = [point[0] for point in line], [point[1] for point in line]
            axes.plot(x, y, color=look.light, linewidth=1.6, linestyle=look.dash)
            if math.isfinite(row.low_s) and math.isfinite(row.high_s):
                low, high = row.low_s / row.time_s, row.high_s / row.time_s
                axes.fill_between(
                    x, [v * low for v in y], [v * high for v in y], color=look.light, alpha=0.12, linewidth=0
                )
            learned = {*a.anchored.get(row.label, ()), a.bandwidth_Gbit_per_s}
            at = [point for point in line if point[0] in learned]
            axes.plot(*zip(*at, strict=True), look.marker, color=look.light, markersize=4.5, linestyle="none")
        axes.axvline(a.bandwidth_Gbit_per_s, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        _note(axes, a.bandwidth_Gbit_per_s, "this network")
        for flip in a.flips:
            axes.axvline(flip.x, color=INK, linewidth=0.8)
            _note(axes, flip.x, f"{number(flip.x)}")
            if math.isfinite(flip.low):
                axes.axvspan(max(flip.low, a.searched[0]), min(flip.high, a.searched[1]), color=INK, alpha=0.06)
        ends = {row.label: a.curve[row.label][-1] for row in rows}
        room = labels_at_ends(axes, ends, looks, log_x=True, left_x=a.searched[0])
        finish(axes)
        decades = range(math.ceil(math.log10(a.searched[0]) - 0.01), math.floor(math.log10(a.searched[1]) + 0.01) + 1)
        axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in decades]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
        axes.set_xlabel("bandwidth between nodes [Gbit/s]")
        axes.xaxis.label.set_x(room / 2)
        axes.set_ylabel("seconds to the target")
        said = "; ".join(
            f"{row.label}: {number(a.curve[row.label][0][1])} s at {number(a.searched[0])} Gbit/s, "
            f"{number(a.curve[row.label][-1][1])} s at {number(a.searched[1])} Gbit/s"
            for row in rows
        )
        return to_svg(figure, "advice", "Time to the target against bandwidth", f"{said}.")


def _note(axes: Axes, x: float, words: str) -> None:
    axes.annotate(
        words, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
        horizontalalignment="center", fontsize=SIZE - 1, color=MUTED,
    )  # fmt: skip
