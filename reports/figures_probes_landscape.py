"""The loss around models and between them: planes, lines, the workers' positions, and barriers as heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from seaborn import color_palette

from reports.drawing import INK, MUTED, SIZE, Box, boxes, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import Look
from reports.words import number

Values = NDArray[np.float64]

LADDERS = ((1.0, 2.0, 5.0), (1.0, 5.0), (1.0,))
"""Contour lines stand at these times powers of ten; of the first ladder that does not have too many rungs."""
MOST_LINES = 8


def rungs(low: float, high: float) -> list[float]:
    """Values of a ladder between low and high.

    Example:
        >>> rungs(0.07, 9.0)
        [0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    """
    if not 0 < low < high < math.inf:
        return []
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for ladder in LADDERS:
        found = [float(f"{step * 10.0**k:g}") for k in exponents for step in ladder]
        found = [value for value in found if low < value < high]
        if len(found) <= MOST_LINES:
            break
    return found[:: math.ceil(len(found) / MOST_LINES)] if found else found


def plane(name: str, label: str, grid: pd.DataFrame, levels: Sequence[float], look: Look, text: str) -> str:
    """Contour lines of the loss over a plane around one algorithm's model, which stands in the middle.

    Args:
        grid: loss, rows alpha, columns beta.
        levels: of the lines, the same for all figures that are compared.
        text: what it shows, in numbers.
    """
    with rc_context(theme()):
        figure = canvas(3.3, 3.0)
        axes = figure.add_axes((0.155, 0.14, 0.755, 0.83))
        contours(axes, grid, look, levels)
        axes.plot([0], [0], look.marker, color=look.light, markersize=6)
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        square(axes)
        return to_svg(figure, name, f"Loss around the model of {label}", text)


def squared(rows: pd.DataFrame) -> pd.DataFrame:
    """Losses by alpha and beta; what is no number stays a place."""
    return rows.drop_duplicates(["alpha", "beta"]).pivot(index="alpha", columns="beta", values="loss")


def positions(name: str, label: str, around: pd.DataFrame, places: pd.DataFrame, look: Look, text: str) -> str:
    """Where one algorithm's workers stand in the loss around their mean: a cut along the first axis, and the plane.

    Args:
        around: rows of a probe's curve "workers": alpha, beta, loss; beta is 0 where the workers lie on a line.
        places: rows of "position": a, alpha, beta, loss.
        text: what it shows, in numbers.
    """
    grid = squared(around)
    flat = grid.shape[1] < 2
    cut = grid.iloc[:, int(np.argmin(np.abs(np.asarray(grid.columns, dtype=np.float64))))]
    workers = places[places["a"] != "evaluated"]
    evaluated = places[places["a"] == "evaluated"]
    with rc_context(theme()):
        figure = canvas(3.3, 1.75 if flat else 4.0)
        above = figure.add_axes((0.2, 0.27, 0.77, 0.7) if flat else (0.2, 0.775, 0.77, 0.215))
        above.plot(cut.index, cut, color=look.light, linewidth=1.6)
        _mark(above, workers["alpha"], workers["loss"], evaluated["alpha"], evaluated["loss"], look)
        above.set_ylabel("loss [nat]")
        finish(above)
        above.yaxis.set_major_locator(MaxNLocator(3))
        above.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
        above.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.6g}"))
        above.set_xlim(float(grid.index[0]), float(grid.index[-1]))
        if flat:
            above.set_xlabel("along the first axis [length]")
            return to_svg(figure, name, f"The workers of {label} in the loss around their mean", text)
        above.tick_params(labelbottom=False)
        below = figure.add_axes((0.2, 0.105, 0.77, 0.635))
        # Levels are of what the loss is above the plane's lowest: workers are near each other, and so are their losses.
        rise = grid - float(np.nanmin(grid))
        contours(below, rise, look, rungs(float(np.nanmax(rise)) / 100, float(np.nanmax(rise))))
        _mark(below, workers["alpha"], workers["beta"], evaluated["alpha"], evaluated["beta"], look)
        for row in workers.to_dict("records"):
            if len(workers) <= 8:
                below.annotate(
                    str(row["a"]).removeprefix("replica "), (row["alpha"], row["beta"]), (4, 3),
                    textcoords="offset points", color=INK, fontsize=SIZE - 1,
                )  # fmt: skip
        below.set_xlabel("along the first axis [length]")
        below.set_ylabel("along the second axis [length]")
        square(below)
        return to_svg(figure, name, f"The workers of {label} in the loss around their mean", text)


def _mark(axes: Axes, x: pd.Series, y: pd.Series, at: pd.Series, of: pd.Series, look: Look) -> None:
    """The workers, filled; the evaluated model, hollow."""
    axes.plot(x, y, "o", color=look.light, markersize=4.5, linestyle="none")
    axes.plot(at, of, "D", color=INK, markersize=5.5, markerfacecolor="none", markeredgewidth=1, linestyle="none")


def contours(axes: Axes, grid: pd.DataFrame, look: Look, levels: Sequence[float]) -> None:
    """Lines, each with its number, the lowest the widest."""
    if not levels:
        axes.text(0.04, 0.05, "no lines", transform=axes.transAxes, color=MUTED, fontsize=SIZE - 1)
    else:
        widths = np.linspace(1.5, 0.6, len(levels))
        x, y = (np.asarray(part, dtype=np.float64) for part in (grid.index, grid.columns))
        drawn = axes.contour(x, y, grid.to_numpy().T, levels=levels, colors=look.light, linewidths=widths)
        axes.clabel(drawn, fmt=lambda value: f"{value:g}", fontsize=SIZE - 1.5, inline_spacing=2)
    axes.set_xlim(float(grid.index[0]), float(grid.index[-1]))
    axes.set_ylim(float(grid.columns[0]), float(grid.columns[-1]))


def square(axes: Axes) -> None:
    """Ticks for a plane: the same both ways, no grid."""
    finish(axes)
    axes.grid(visible=False)
    for part in (axes.xaxis, axes.yaxis):
        part.set_major_locator(MaxNLocator(5, symmetric=True))
        part.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.6g}"))


def way(name: str, lines: pd.DataFrame, looks: Mapping[str, Look], where: str) -> str:
    """The loss on the straight way from the first kept model to the last, a line per algorithm.

    Args:
        lines: `label`, `alpha` from 0 to 1, `loss`.
    """
    with rc_context(theme()):
        figure = canvas(3.6, 2.8)
        axes = figure.add_axes((0.15, 0.155, 0.835, 0.825))
        axes.set_yscale("log")
        low, high = float(lines["loss"].min()), float(lines["loss"].max())
        axes.set_ylim(low / 1.2, high * 1.2)
        ends, text = {}, []
        for label, line in lines.groupby("label"):
            line, look = line.sort_values("alpha"), looks[str(label)]
            axes.plot(line["alpha"], line["loss"], color=look.light, linewidth=1.5, linestyle=look.dash)
            ends[str(label)] = (float(line["alpha"].iloc[-1]), float(line["loss"].iloc[-1]))
            top = line.sort_values("loss").iloc[-1]
            text.append(
                f"{label}: {number(line['loss'].iloc[0])} at the start, {number(line['loss'].iloc[-1])} at the end, "
                f"highest {number(top['loss'])} at {number(top['alpha'])} of the way"
            )
        labels_at_ends(axes, ends, looks, log_x=False)
        axes.set_xlabel("part of the way from the first model to the last")
        axes.set_ylabel("loss [nat]")
        finish(axes)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        return to_svg(figure, name, "Loss on the way from the first model to the last", f"{where}. {'; '.join(text)}.")


SHADES = 32  # as many colours a heat map has: cells of one colour are one path
NUMBERS = 10
"""Most columns of a heat map that has room for a number in each cell."""


EQUAL = 0.18
"""Luminance of a ground on which black and white have the same contrast."""


def _luminance(colour: str) -> float:
    """Relative luminance of a colour, 0 for black and 1 for white.

    Source: Web Content Accessibility Guidelines 2.2, relative luminance.
    """
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def heat(
    name: str, title: str, table: pd.DataFrame, top: float, xlabel: str, ylabel: str, text: str,
    best: Sequence[tuple[int, int]] = (), shown: pd.DataFrame | None = None,
) -> str:  # fmt: skip
    """A table as a heat map: dark is low, bright is high, with the number in each cell where there is room.

    The palette (cividis) grows evenly brighter, so that it reads in grey print and without colour vision; numbers stand
    on it in black or white, whichever contrasts.

    Args:
        table: values from 0; NaN is left empty, infinity is "never".
        top: value of the brightest colour, the same for all figures that are compared.
        text: what it shows, in numbers.
        best: (row, column) of cells with a frame.
        shown: the numbers to write, if they are not those of `table`.
    """
    cells = table.to_numpy(dtype=np.float64)
    said = (table if shown is None else shown).to_numpy(dtype=np.float64)
    rows, columns = cells.shape
    digits = 2 if shown is None else 3
    palette = color_palette("cividis", as_cmap=True)
    width = 3.3
    left, side = 0.17, 0.81 * width / columns
    tall = min(side, 0.42) * rows + 0.5
    with rc_context(theme()):
        figure = canvas(width, tall)
        axes = figure.add_axes((left, 0.45 / tall, 0.81, 1 - 0.5 / tall))
        fills: dict[str, list[Box]] = {}
        for i, j in np.argwhere(~np.isnan(cells)):
            share = min(cells[i, j] / top, 1.0) if 0 < top < math.inf else 0.0
            fill = to_hex(palette(round(share * SHADES) / SHADES)) if math.isfinite(cells[i, j]) else "#ffffff"
            fills.setdefault(fill, []).append((float(j), float(i), 1.0, 1.0))
            if columns <= NUMBERS:
                value = said[i, j]  # texts in figures are English
                axes.text(
                    j + 0.5, i + 0.5, "never" if math.isinf(value) else number(value, digits), ha="center", va="center",
                    color="#101014" if _luminance(fill) > EQUAL else "#ffffff", fontsize=SIZE - 1,
                )  # fmt: skip
        for fill, cells_of in sorted(fills.items()):
            boxes(axes, cells_of, facecolor=fill, linewidth=0)
        for i, j in best:
            axes.plot([j, j + 1, j + 1, j, j], [i, i, i + 1, i + 1, i], color=INK, linewidth=2, clip_on=False)
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        step = max(1, math.ceil(columns / 16))
        axes.set_xticks(np.arange(0, columns, step) + 0.5, [str(v) for v in table.columns[::step]])
        axes.set_yticks(np.arange(0, rows, step) + 0.5, [str(v) for v in table.index[::step]])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        return to_svg(figure, name, title, text)
