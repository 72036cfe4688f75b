"""Curvature and gradient noise of kept models: spectral density, eigenvalues over training, the parts of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from reports.drawing import MUTED, SIZE, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import Look
from reports.words import number

Values = NDArray[np.float64]

FLOOR = 1e-6  # densities are drawn over so many powers of ten below the highest
STEPS = "steps of a worker"
APART = 0.13  # of the axes' height, between words at the ends of two lines


def density(
    name: str, label: str, grid: Values, curves: Sequence[Values], ends: Values, top: float, look: Look, text: str
) -> str:
    """The spectral density of one algorithm's models, a curve per seed, the eigenvalues that are known below it.

    Args:
        grid: eigenvalues [points].
        curves: densities [points], one per seed.
        ends: largest and smallest eigenvalues of all seeds.
        top: highest density of all figures that are compared.
        text: what the curves show, in numbers.
    """
    with rc_context(theme()):
        figure = canvas(3.3, 2.0)
        axes = figure.add_axes((0.155, 0.2, 0.825, 0.78))
        axes.set_yscale("log")
        axes.set_xlim(grid[0], grid[-1])
        axes.set_ylim(FLOOR * top, 2 * top)
        axes.axvline(0, color=MUTED, linewidth=0.6)
        for values in curves:
            seen = values > FLOOR * top / 10
            # What is below the axis is not drawn, but the line goes there.
            level = np.where(seen, values, FLOOR * top / 10)
            keep = seen | np.roll(seen, 1) | np.roll(seen, -1)
            axes.plot(grid, np.where(keep, level, np.nan), color=look.light, linewidth=1.2)
        axes.plot(
            ends, np.full(len(ends), 2 * FLOOR * top), "|", color=look.light, markersize=8, markeredgewidth=1.2,
            clip_on=False,
        )  # fmt: skip
        axes.set_xlabel("eigenvalue [nat per squared unit]")
        axes.set_ylabel("density")
        finish(axes)
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}".replace("e-0", "e-")))
        return to_svg(figure, name, f"Spectral density of {label}", text)


def over_training(name: str, value: str, said: str, rows: pd.DataFrame, looks: Mapping[str, Look], where: str) -> str:
    """A number of the models against the steps of a worker, a line per algorithm, intervals over seeds.

    Args:
        value: column of `rows`; `value_low` and `value_high` are its interval.
        said: what it is, for the axis, with its unit.
        rows: one row per label and snapshot, with `step`.
    """
    with rc_context(theme()):
        figure = canvas(3.6, 2.6)
        axes = figure.add_axes((0.15, 0.165, 0.835, 0.815))
        seen = rows[[value, f"{value}_low", f"{value}_high"]].to_numpy(dtype=np.float64)
        low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
        margin = 0.06 * (high - low or abs(high) or 1.0)
        axes.set_ylim(0.0 if 0 <= low < 0.6 * high else low - margin, high + margin)
        ends, text = {}, []
        for label, group in rows.groupby("label"):
            group, look = group.sort_values("step"), looks[str(label)]
            axes.plot(group["step"], group[value], color=look.light, linewidth=1.5, linestyle=look.dash)
            axes.plot(group["step"], group[value], look.marker, color=look.light, markersize=3.5, linestyle="none")
            axes.vlines(group["step"], group[f"{value}_low"], group[f"{value}_high"], color=look.light, linewidth=0.8)
            first, last = group.iloc[0], group.iloc[-1]
            ends[str(label)] = (float(last["step"]), float(last[value]))
            text.append(
                f"{label}: {number(first[value])} after {number(first['step'])} steps, {number(last[value])} after "
                f"{number(last['step'])}"
            )
        labels_at_ends(axes, ends, looks, log_x=False)
        axes.set_xlabel(STEPS)
        axes.set_ylabel(said)
        finish(axes)
        return to_svg(figure, name, f"{said} over training", f"{where}. " + "; ".join(text) + ".")


PARTS = (
    ("noise_sampling", "mini-batches", "-"),
    ("noise_diversity", "disagreement", (0, (3, 1.5))),
)
"""Column, name and dash of the parts of the noise."""


def noise_parts(
    name: str,
    label: str,
    middle: pd.DataFrame,
    each: pd.DataFrame,
    ratios: tuple[float, float],
    levels: tuple[float, float] | None,
    look: Look,
    text: str,
) -> str:
    """One algorithm's effective learning rate and the parts of its gradient noise over training.

    Args:
        middle: medians over seeds, one row per snapshot: `step`, `ratio` = alpha_e / alpha, `control`, and `PARTS`.
        each: the same per run.
        ratios, levels: limits of the axes, the same for all figures that are compared; levels are None if nobody has
            any noise.
        text: what is shown, in numbers.
    """
    with rc_context(theme()):
        figure = canvas(3.3, 3.3)
        above = figure.add_axes((0.19, 0.58, 0.59, 0.4))
        below = figure.add_axes((0.19, 0.125, 0.59, 0.4), sharex=above)
        above.axhline(1, color=MUTED, linewidth=0.6)
        above.set_ylim(*ratios)
        outside = np.clip(each["ratio"], *ratios)
        above.plot(each["step"], outside, "o", color=look.light, markersize=2.2, alpha=0.45, markeredgewidth=0)
        above.plot(middle["step"], middle["control"], color=MUTED, linewidth=1, linestyle=(0, (2, 1)))
        above.plot(middle["step"], middle["ratio"], color=look.light, linewidth=1.6)
        above.set_ylabel("effective / nominal rate")
        last = middle.iloc[-1]
        span = float(middle["step"].max() - middle["step"].min()) or 1.0
        at = float(last["step"]) + 0.04 * span
        _beside(
            above, at, {"effective": (float(last["ratio"]), look.light), "control": (float(last["control"]), MUTED)}
        )
        if levels is None:
            below.set_ylim(0, 1)
            below.set_yticks([])
        else:
            below.set_yscale("log")
            below.set_ylim(*levels)
            ends = {}
            for column, words, dash in PARTS:
                seen = middle[middle[column] > 0]
                if seen.empty:
                    continue
                below.plot(each["step"], each[column].where(each[column] > 0), "o", color=look.light, markersize=2.2,
                           alpha=0.45, markeredgewidth=0)  # fmt: skip
                below.plot(seen["step"], seen[column], color=look.light, linewidth=1.6, linestyle=dash)
                ends[words] = (float(seen.iloc[-1][column]), look.light)
            _beside(below, at, ends)
            if not (middle["noise_diversity"] > 0).any():
                below.text(0.03, 0.05, "no disagreement", transform=below.transAxes, color=MUTED, fontsize=SIZE - 1)
        below.set_ylabel("noise, squared length")
        below.set_xlabel(STEPS)
        finish(above)
        finish(below)
        above.tick_params(labelbottom=False)
        below.xaxis.set_major_locator(MaxNLocator(4))
        if levels is not None:
            below.yaxis.set_major_locator(LogLocator(numticks=4))
            below.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}".replace("e-0", "e-")))
        return to_svg(figure, name, f"Effective learning rate and noise of {label}", text)


def _beside(axes: Axes, x: float, ends: Mapping[str, tuple[float, str]]) -> None:
    """Up to two words to the right of their lines' ends, apart from each other: word -> (y, colour)."""
    to_axes = axes.transData + axes.transAxes.inverted()
    places = {word: float(np.clip(to_axes.transform((x, y))[1], 0.06, 0.94)) for word, (y, _) in ends.items()}
    upper_first = sorted(places, key=lambda word: -places[word])
    if len(upper_first) == 2 and places[upper_first[0]] - places[upper_first[1]] < APART:
        middle = min(max(sum(places.values()) / 2, 0.06 + APART / 2), 0.94 - APART / 2)
        places = dict(zip(upper_first, (middle + APART / 2, middle - APART / 2), strict=True))
    across = float(to_axes.transform((x, axes.get_ylim()[0]))[0])
    for word, place in places.items():
        axes.text(
            across, place, word, transform=axes.transAxes, color=ends[word][1], fontsize=SIZE - 1,
            verticalalignment="center", clip_on=False,
        )  # fmt: skip
