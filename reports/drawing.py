"""What all figures have in common: SVG text for use inside HTML, the theme, axes, and names at the ends of lines.

Text stays text. What becomes of matplotlib's file is in `reports.svg`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from reports.style import LOOKS, Look
from reports.svg import embedded
from reports.words import short

INK, MUTED, GRID, WARN, PAPER = "#1b1b1f", "#5b6068", "#dfe2e6", "#b3261e", "#fefefe"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", WARN: "--bad", PAPER: "--paper"}
SIZE = 8.5  # font, in points of a figure about 330 points wide
Box = tuple[float, float, float, float]
"""x, y, width, height, in the axes' units."""
POINTS = 120  # most points of a line: more cannot be seen and only make the file large


def theme() -> dict[Any, Any]:
    """Settings of matplotlib for `rc_context`."""
    return {
        **sns.axes_style("ticks"),
        "svg.fonttype": "none",
        "svg.hashsalt": "paceline",
        "svg.image_inline": True,
        "font.size": SIZE,
        "font.family": ["DejaVu Sans"],
        "axes.labelsize": SIZE,
        "axes.titlesize": SIZE + 1,
        "xtick.labelsize": SIZE - 0.5,
        "ytick.labelsize": SIZE - 0.5,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "hatch.linewidth": 0.6,
        "path.simplify": True,
        "text.parse_math": False,
    }


def canvas(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def thinned(curve: pd.DataFrame, most: int = POINTS) -> pd.DataFrame:
    """At most so many of a curve's rows, evenly spaced, with the first and the last."""
    if len(curve) <= most:
        return curve
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, most).round().astype(int))]


def to_svg(figure: Figure, name: str, title: str, text: str) -> str:
    """The figure as an SVG element for a page that holds others.

    Args:
        name: unique in the page; letters, digits, hyphens.
        title: short name of the figure.
        text: what a reader who cannot see it should know, with the key numbers.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    variables = {**VARIABLES, **{look.light: f"--a{look.number}" for look in LOOKS}}
    return embedded(buffer.getvalue(), name, title, text, variables)


def boxes(axes: Axes, rectangles: Sequence[Box], **style: Any) -> None:
    """Draw rectangles of one style as a single path: a hundredth of the elements."""
    if not rectangles:
        return
    corners = np.array([[(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)] for x, y, w, h in rectangles])
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(rectangles)
    axes.add_patch(PathPatch(Path(corners.reshape(-1, 2), codes), **style))


def strokes(axes: Axes, corners: NDArray[np.float64], **style: Any) -> None:
    """Draw lines of one style as a single path.

    Args:
        corners: of each line [lines, points, 2], in the axes' units.
    """
    if not len(corners):
        return
    codes = [Path.MOVETO, *[Path.LINETO] * (corners.shape[1] - 1)] * len(corners)
    axes.add_patch(PathPatch(Path(corners.reshape(-1, 2), codes), facecolor="none", **style))


def finish(axes: Axes) -> None:
    """Spines, grid and ticks, when everything is drawn."""
    sns.despine(ax=axes)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    for part in (axes.xaxis, axes.yaxis):
        if part.get_scale() == "linear":
            part.set_major_locator(MaxNLocator(5))
            part.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        else:
            low, high = part.get_view_interval()
            subs = (
                (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 15 * low else (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
            )
            part.set_major_locator(LogLocator(subs=subs))
            part.set_minor_locator(NullLocator())
            part.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))


def labels_at_ends(
    axes: Axes,
    ends: Mapping[str, tuple[float, float]],
    looks: Mapping[str, Look],
    log_x: bool,
    left_x: float | None = None,
    all_ends: Sequence[float] = (),
) -> float:
    """Write each label to the right of its line's end, in columns that do not overlap.

    Args:
        left_x: where a logarithmic axis begins; None: a quarter of the first end.
        all_ends: where lines end that have no label but must be on the axis too.

    Returns:
        Where the longest line ends and the room for labels begins, as a fraction of the axes.
    """
    size = SIZE - 0.5
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    box = axes.get_position()
    wide, tall = 72 * figure.get_size_inches()[0] * box.width, 72 * figure.get_size_inches()[1] * box.height  # points
    widths = {k: (0.6 * size * len(short(k)) + 10) / wide for k in ends}
    room = max(1 - max(widths.values(), default=0), 0.3)
    last = [*(x for x, _ in ends.values()), *all_ends]
    if ends and log_x:
        lowest = min(x for x in last if x > 0) / 4 if left_x is None else left_x
        axes.set_xlim(lowest, lowest * math.exp(math.log(max(last) / lowest) / room))
    elif ends:
        axes.set_xlim(0, max(last) / room or 1)
    to_axes = axes.transData + axes.transAxes.inverted()
    points = {k: tuple(map(float, to_axes.transform(end))) for k, end in ends.items()}
    height = 1.15 * size / tall
    columns = _columns(points, widths, height)
    for column in columns:
        left = max(points[k][0] for k in column) + 9 / wide
        for label, at in column.items():
            colour = looks[label].light
            x, y = points[label]
            if abs(at - y) > 0.4 * height or left - x > 12 / wide:
                axes.plot([x, left - 2 / wide], [y, at], transform=axes.transAxes, color=colour, linewidth=0.5)
            axes.text(
                left, at, short(label), transform=axes.transAxes, color=colour, fontsize=size, fontweight="bold",
                verticalalignment="center_baseline",
            )  # fmt: skip
    return room if ends else 1.0


def _columns(
    points: Mapping[str, tuple[float, ...]], widths: Mapping[str, float], height: float
) -> list[dict[str, float]]:
    """Labels together in columns so that nothing overlaps; each column: label -> middle, from the top.

    Starts with a column per label and joins those that would touch, until none does. All in fractions of the axes.
    """
    columns = [_spread({label: point[1]}, height) for label, point in sorted(points.items())]

    def touch(a: dict[str, float], b: dict[str, float]) -> bool:
        (left_a, right_a), (left_b, right_b) = (
            (min(points[k][0] for k in c) - 0.01, max(points[k][0] for k in c) + max(widths[k] for k in c))
            for c in (a, b)
        )
        (low_a, high_a), (low_b, high_b) = (
            (min(c.values()) - height / 2, max(c.values()) + height / 2) for c in (a, b)
        )
        return left_a < right_b and left_b < right_a and low_a < high_b and low_b < high_a

    while True:
        pair = next(((i, j) for j in range(len(columns)) for i in range(j) if touch(columns[i], columns[j])), None)
        if pair is None:
            return columns
        joined = {k: points[k][1] for index in pair for k in columns[index]}
        columns = [c for index, c in enumerate(columns) if index not in pair] + [_spread(joined, height)]


def _spread(wanted: Mapping[str, float], height: float) -> dict[str, float]:
    """Positions at least `height` apart and inside [0, 1], as near to the wanted ones as that allows.

    Example:
        >>> _spread({"a": 0.5, "b": 0.5}, 0.2)
        {'a': 0.6, 'b': 0.4}
    """
    order = sorted(wanted, key=lambda k: (-wanted[k], k))
    blocks: list[tuple[float, int]] = []  # (mean of wanted + i * height, count): pool adjacent violators
    for i, label in enumerate(order):
        value, count = wanted[label] + i * height, 1
        while blocks and blocks[-1][0] < value:
            last, n = blocks.pop()
            value, count = (last * n + value * count) / (n + count), n + count
        blocks.append((value, count))
    levels = [value for value, count in blocks for _ in range(count)]
    at = [level - i * height for i, level in enumerate(levels)]
    at = [min(p, 1 - height / 2 - i * height) for i, p in enumerate(at)]
    at = [max(p, height / 2 + (len(at) - 1 - i) * height) for i, p in enumerate(at)]
    return {label: round(p, 6) for label, p in zip(order, at, strict=True)}
