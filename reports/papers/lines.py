"""Lines with intervals in one panel or several beside each other, and what theory or the paper says, under one key.

Every panel has its own axes unless they share one. The same panels give the figure, its text for readers who cannot see
it, and the table of its numbers, so that these cannot differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from analysis.statistics import Mean
from reports.drawing import GRID, INK, MUTED, PAPER, SIZE, canvas, finish, theme, thinned, to_svg
from reports.papers.key import DASHES, ROW, Entry, Kind, draw_key, rows_of
from reports.style import Look
from reports.words import number

WIDTH = 4.6  # inches
TALL = 1.85  # of the axes of a panel [inches]
LEFT, BETWEEN, RIGHT, BOTTOM, TITLE = 0.61, 0.16, 0.1, 0.42, 0.21  # margins [inches]
ROUND = (1, 2, 2.5, 5, 10)
"""Steps between the numbers of a linear axis."""
APART = 3.2
"""Points between bars of lines at one place, so that none hides another."""
MARK = 3.0
"""Points from the middle of a mark to its edge."""
FEW = 12
"""Points of a line that are all told in its text; of more the first and the last."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """What was measured.

    Attributes:
        x, y: of its points; a point that is not finite leaves a gap.
        low, high: of its intervals; empty for none.
        n: seeds or cases behind each point; 0 if a point is one number that nothing scatters.
        marks: draw each point with its interval as a bar, for few points; else a line in its band.
        joined: with `marks`, whether a line joins them.
    """

    label: str
    look: Look
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike = ()
    high: ArrayLike = ()
    n: int = 0
    marks: bool = False
    joined: bool = True

    def frame(self) -> pd.DataFrame:
        """`x`, `y`, `low`, `high`: NaN where there is no interval."""
        x, y = (np.asarray(values, dtype=np.float64) for values in (self.x, self.y))
        low, high = (np.asarray(v, dtype=np.float64) if np.size(v) else x * math.nan for v in (self.low, self.high))
        return pd.DataFrame({"x": x, "y": y, "low": low, "high": high})


@dataclass(frozen=True)
class Known:
    """What theory or the paper says: a dashed line, or hollow diamonds for single numbers.

    Attributes:
        look: of the line that it belongs to; None for one that belongs to none, or to all.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    points: bool = False
    look: Look | None = None


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        low, high: its limits; NaN: as the points need it.
        ticks: where numbers stand; empty: chosen by matplotlib.
    """

    label: str
    log: bool = False
    low: float = math.nan
    high: float = math.nan
    ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it; "" for none.
        bands: (low, high) on the vertical axis: a tolerance, shaded.
    """

    x: Axis
    y: Axis
    lines: Sequence[Line]
    known: Sequence[Known] = field(default_factory=tuple)
    title: str = ""
    bands: Sequence[tuple[float, float]] = ()


def over_seeds(
    label: str, look: Look, x: ArrayLike, means: Sequence[Mean], *, marks: bool = False, joined: bool = True
) -> Line:
    """A line of means over seeds with their intervals."""
    return Line(
        label, look, x, [m.mean for m in means], [m.low for m in means], [m.high for m in means],
        n=min((m.n for m in means), default=0), marks=marks, joined=joined,
    )  # fmt: skip


def panels(
    name: str, title: str, said: str, parts: Sequence[Panel], *, columns: int = 0, width: float = WIDTH,
    tall: float = TALL,
) -> str:  # fmt: skip
    """The panels as one SVG.

    Args:
        name: unique in the page; letters, digits, hyphens.
        title: short name of the figure.
        said: where the numbers are from, the beginning of the text for readers who cannot see it.
        columns: panels beside each other; 0: all. Panels of a row whose vertical axes are the same have one label.
        tall: height of the axes of a panel [inches].
    """
    columns = min(columns or len(parts), len(parts))
    rows = math.ceil(len(parts) / columns)
    keys = rows_of(_entries(parts), width - 0.2)
    shared = all(a.y == b.y for a, b in pairwise(parts))
    between = BETWEEN if shared else LEFT
    wide = (width - LEFT - RIGHT - (columns - 1) * between) / columns
    above = TITLE if any(part.title for part in parts) else 0.05
    head = ROW * len(keys) + 0.06
    height = head + rows * (above + tall + BOTTOM)
    with rc_context(theme()):
        figure = canvas(width, height)
        draw_key(figure, keys, width, height)
        every = []
        for i, part in enumerate(parts):
            row, column = divmod(i, columns)
            bottom = height - head - (row + 1) * (above + tall) - row * BOTTOM
            left = LEFT + column * (wide + between)
            every.append(figure.add_axes((left / width, bottom / height, wide / width, tall / height)))
            _draw(every[-1], part, _dashes(parts))
        if shared:  # one label for all means one scale
            ends = [axes.get_ylim() for axes in every]
            for axes in every:
                axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        for i, (axes, part) in enumerate(zip(every, parts, strict=True)):
            _finish(axes, part, short=shared and i % columns > 0, few=wide < 1.6)
        return to_svg(figure, name, title, f"{said} {described(parts)}".strip())


def _entries(parts: Iterable[Panel]) -> list[Entry]:
    """Each label once, in the order in which lines come, then what is known."""
    parts = list(parts)
    found = {
        line.label: Entry(line.label, line.look, "points" if line.marks else "line") for p in parts for line in p.lines
    }
    dashes = _dashes(parts)
    for known in (one for part in parts for one in part.known if one.label):
        kind: Kind = "diamond" if known.points else "dashes"
        found.setdefault(known.label, Entry(known.label, None, kind, dashes.get(known.label)))
    return list(found.values())


def _dashes(parts: Iterable[Panel]) -> dict[str, Any]:
    """How the lines of what is known are drawn, by their names; one without a name is drawn through."""
    names = dict.fromkeys(one.label for part in parts for one in part.known if one.label and not one.points)
    return {"": "-", **{name: DASHES[i % len(DASHES)] for i, name in enumerate(names)}}


def _draw(axes: Axes, part: Panel, dashes: Mapping[str, Any]) -> None:
    for scale, axis in ((axes.set_xscale, part.x), (axes.set_yscale, part.y)):
        if axis.log:
            scale("log")
    for low, high in part.bands:
        axes.axhspan(low, high, color=GRID, linewidth=0, zorder=0)
    for known in part.known:
        colour = known.look.light if known.look else MUTED
        if known.points:
            axes.plot(known.x, known.y, "D", color=colour, markerfacecolor=PAPER, markeredgewidth=1, markersize=4.2,
                      linestyle="none", zorder=4)  # fmt: skip
        else:
            axes.plot(known.x, known.y, color=colour, linewidth=0.9, linestyle=dashes[known.label], zorder=1)
    barred = [i for i, line in enumerate(part.lines) if line.marks and line.frame()["low"].notna().any()]
    for i, line in enumerate(part.lines):
        _line(axes, line, APART * (barred.index(i) - (len(barred) - 1) / 2) if i in barred else 0.0)
    for limit, axis in ((axes.set_xlim, part.x), (axes.set_ylim, part.y)):
        limit(*(None if math.isnan(end) else end for end in (axis.low, axis.high)))
    if len(barred) > 1:
        _make_room(axes, [part.lines[i] for i in barred], APART * (len(barred) - 1) / 2 + MARK)


def _make_room(axes: Axes, lines: Sequence[Line], points: float) -> None:
    """Widen the horizontal limits, if need be, so that what is drawn so many points aside stands inside."""
    figure = axes.get_figure()
    assert figure is not None
    x = np.concatenate([line.frame()["x"].to_numpy() for line in lines])
    scale = axes.xaxis.get_transform()
    low, high = scale.transform(np.array([x.min(), x.max()]))
    share = points / 72 / (axes.get_position().width * figure.get_figwidth())
    if low < high and share < 0.5:
        aside = share * (high - low) / (1 - 2 * share)
        left, right = scale.transform(np.array(axes.get_xlim()))
        axes.set_xlim(*scale.inverted().transform(np.array([min(left, low - aside), max(right, high + aside)])))


def _finish(axes: Axes, part: Panel, *, short: bool, few: bool) -> None:
    """Labels, grid and ticks; `short`: the panel before has the vertical ones, `few`: there is little room."""
    if part.title:
        axes.set_title(part.title, loc="left", fontsize=SIZE, color=INK, pad=4)
    axes.set_xlabel(part.x.label)
    axes.set_ylabel("" if short else part.y.label)
    finish(axes)
    for side, axis in ((axes.xaxis, part.x), (axes.yaxis, part.y)):
        if axis.ticks:
            side.set_major_locator(FixedLocator(list(axis.ticks)))
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        elif not axis.log:
            side.set_major_locator(MaxNLocator(3 if few and side is axes.xaxis else 5, steps=ROUND))
        elif side is axes.yaxis:
            side.set_major_formatter(FuncFormatter(lambda v, _: _brief(v)))
    if short:
        axes.tick_params(labelleft=False)


def _brief(value: float) -> str:
    """A power of ten without many zeros, which would push the axis' name out of the figure.

    Example:
        >>> _brief(0.02), _brief(1e-12), _brief(20_000)
        ('0.02', '1e-12', '2e4')
    """
    if 1e-3 <= value < 1e4:
        return f"{value:,.6g}"
    digits, exponent = f"{value:.0e}".split("e")
    return f"{digits}e{int(exponent)}"


def _line(axes: Axes, line: Line, aside: float) -> None:
    """Draw it, bars so many points aside."""
    look, rows = line.look, line.frame()
    colour = look.light
    rows = rows if line.marks else thinned(rows)
    x, y = rows["x"], rows["y"].where(np.isfinite(rows["y"]))
    if line.marks:
        figure = axes.get_figure()
        assert figure is not None
        at = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
        axes.vlines(x, rows["low"], rows["high"], color=colour, linewidth=1, transform=at)
        if line.joined:
            axes.plot(x, y, color=colour, linewidth=1.2, linestyle=look.dash, transform=at)
        axes.plot(x, y, look.marker, color=colour, markersize=4.5, linestyle="none", zorder=3, transform=at)
        for values in (y, rows["low"], rows["high"]):  # what is moved aside does not count for the limits by itself
            axes.update_datalim(np.column_stack([x, values])[np.isfinite(values)])
        axes.autoscale_view()
        return
    if rows["low"].notna().any():
        axes.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, y, color=colour, linewidth=1.6, linestyle=look.dash)
    axes.plot(x.iloc[-1:], y.iloc[-1:], look.marker, color=colour, markersize=4.2, clip_on=False, zorder=3)


def described(parts: Sequence[Panel]) -> str:
    """What the panels show, in words: all points of short lines, both ends of long ones."""
    said = []
    for part in parts:
        axes = f"Horizontal: {part.x.label}; vertical: {part.y.label}."
        said.append(f"{part.title}. {axes}" if part.title else axes)
        for line in part.lines:
            rows = line.frame()
            rows = rows[np.isfinite(rows["y"])]
            rows = rows if line.marks and len(rows) <= FEW else rows.iloc[[0, -1]] if len(rows) else rows
            points = [f"{number(r.y)}{_interval(r.low, r.high)} at {number(r.x)}" for r in rows.itertuples(index=False)]
            seeds = f" (n={line.n})" if line.n else ""
            said.append(f"{line.label}{seeds}: {', '.join(points) or 'no value'}.")
    return " ".join(said)


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) or low == high else f" ({number(low)} to {number(high)})"


def numbers(parts: Sequence[Panel]) -> pd.DataFrame:
    """The numbers drawn, one row per point: `part`, `line`, `x`, `y`, `low`, `high`, `n` (None where there is none).

    What is known has no interval and no n.
    """
    frames = []
    for part in parts:
        title = part.title or part.x.label
        for line in part.lines:
            frames.append(line.frame().assign(part=title, line=line.label, n=line.n))
        for known in part.known:
            x, y = (np.asarray(values, dtype=np.float64) for values in (known.x, known.y))
            if known.label and known.points:
                frames.append(pd.DataFrame({"x": x, "y": y}).assign(part=title, line=known.label, n=0))
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["x", "y"])
    return table.reindex(columns=["part", "line", "x", "y", "low", "high", "n"])
