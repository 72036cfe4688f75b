"""Differences as rows: each with its interval, the tolerance shaded, and what the paper has as a hollow diamond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.ticker import MaxNLocator

from reports.drawing import GRID, INK, MUTED, PAPER, SIZE, canvas, finish, theme, to_svg
from reports.papers.key import ROW, Entry, draw_key, rows_of
from reports.papers.lines import ROUND
from reports.style import LOOKS, Look
from reports.words import number

WIDTH, BOTTOM = 4.6, 0.42  # inches
STEP = 0.215  # of a row [inches]
LETTER = 0.58 * (SIZE - 0.5) / 72  # inches


@dataclass(frozen=True)
class Row:
    """One difference.

    Attributes:
        value, low, high: in the unit of the axis; the interval NaN if there is none, an infinite value is written.
        n: seeds behind it.
        paper: what the paper has; NaN if it gives no number.
        tolerance: (low, high), shaded in this row; None for none.
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    paper: float = math.nan
    tolerance: tuple[float, float] | None = None
    look: Look = LOOKS[1]


def forest(name: str, title: str, said: str, rows: Sequence[Row], xlabel: str, *, zero: float = 0.0) -> str:
    """The rows as one SVG, the first at the top.

    Args:
        name: unique in the page; letters, digits, hyphens.
        title: short name of the figure.
        said: the beginning of the text for readers who cannot see it.
        zero: where "no difference" is.
    """
    printed = any(math.isfinite(row.paper) for row in rows)
    keys = rows_of(_key(rows, printed), WIDTH - 0.2)
    left = 0.12 + LETTER * max(len(row.label) for row in rows)
    head, tall = ROW * len(keys) + 0.05, STEP * len(rows)
    height = head + tall + BOTTOM
    low, high = _limits(rows, zero)
    with rc_context(theme()):
        figure = canvas(WIDTH, height)
        draw_key(figure, keys, WIDTH, height)
        axes = figure.add_axes((left / WIDTH, BOTTOM / height, 1 - (left + 0.12) / WIDTH, tall / height))
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows), 0)
        axes.axvline(zero, color=MUTED, linewidth=0.9)
        for i, row in enumerate(rows):
            y, colour = i + 0.5, row.look.light
            if row.tolerance is not None:
                first, last = (min(max(end, low), high) for end in row.tolerance)
                axes.fill_betweenx([i + 0.08, i + 0.92], first, last, color=GRID, linewidth=0, zorder=0)
            if not math.isfinite(row.value):
                axes.text(high, y, "diverged", color=colour, ha="right", va="center", fontsize=SIZE - 1)
                continue
            if math.isfinite(row.high - row.low):
                axes.plot([row.low, row.high], [y, y], color=colour, linewidth=1.4)
            axes.plot([row.value], [y], row.look.marker, color=colour, markersize=4.8)
            if math.isfinite(row.paper):
                axes.plot([row.paper], [y], "D", color=MUTED, markerfacecolor=PAPER, markersize=4.2, zorder=2.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(xlabel)
        finish(axes)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_yticks(np.arange(len(rows)) + 0.5, [row.label for row in rows], color=INK)
        return to_svg(figure, name, title, f"{said} {xlabel}: {described(rows)}".strip())


def _key(rows: Sequence[Row], printed: bool) -> list[Entry]:
    looks = {row.look.number: row.look for row in rows}
    found = [Entry("here, 95 % interval", look, "points") for look in looks.values()] if len(looks) == 1 else []
    if printed:
        found.append(Entry("in the paper", None, "diamond"))
    if any(row.tolerance for row in rows):
        found.append(Entry("shaded: tolerance", None, "none"))
    return found


def _limits(rows: Sequence[Row], zero: float) -> tuple[float, float]:
    """The axis: all values with their intervals, and zero; a tolerance only as far as it lies near."""
    ends = [end for row in rows for end in (row.value, row.low, row.high, row.paper) if math.isfinite(end)]
    low, high = min([zero, *ends]), max([zero, *ends])
    room = 0.06 * (high - low or 1.0)
    return low - room, high + room


def described(rows: Sequence[Row]) -> str:
    """The rows in words."""
    said = []
    for row in rows:
        if not math.isfinite(row.value):
            said.append(f"{row.label}: diverged")
            continue
        interval = f" ({number(row.low)} to {number(row.high)})" if math.isfinite(row.high - row.low) else ""
        paper = f", in the paper {number(row.paper)}" if math.isfinite(row.paper) else ""
        said.append(f"{row.label}: {number(row.value)}{interval}, n={row.n}{paper}")
    return "; ".join(said) + "."


def numbers(rows: Sequence[Row]) -> pd.DataFrame:
    """The numbers drawn, one row per difference: `label`, `value`, `low`, `high`, `n`, `paper`."""
    return pd.DataFrame(
        [(row.label, row.value, row.low, row.high, row.n, row.paper) for row in rows],
        columns=["label", "value", "low", "high", "n", "paper"],
    )
