"""Momentum and asynchrony: the best explicit momentum for each number of workers, and what staleness amounts to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from reports.drawing import INK, MUTED, SIZE, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import Look

Values = NDArray[np.float64]

WORKERS = "number of workers"


def best(name: str, label: str, rows: pd.DataFrame, theory: pd.DataFrame, look: Look, text: str) -> str:
    """The best explicit momentum against the number of workers.

    Args:
        rows: of `analysis.asynchrony.tuning.best_momentum` that have a momentum.
        theory: `workers`, `momentum`: what theory lets expect; empty for none.
        text: what it shows, in numbers.
    """
    look_at = rows["workers"].to_numpy(dtype=np.float64)
    with rc_context(theme()):
        figure = canvas(3.6, 2.8)
        axes = figure.add_axes((0.15, 0.155, 0.835, 0.825))
        axes.set_xscale("log")
        axes.set_xlim(look_at.min() / 1.35, look_at.max() * (look_at.max() / look_at.min()) ** 0.16 * 1.2)
        axes.set_xlabel(WORKERS)
        axes.vlines(look_at, rows["as_good_low"], rows["as_good_high"], color=look.light, linewidth=9, alpha=0.25)
        axes.vlines(look_at, rows["low"], rows["high"], color=look.light, linewidth=1.2)
        axes.plot(look_at, rows["momentum"], color=look.light, linewidth=1.2, linestyle=look.dash)
        axes.plot(look_at, rows["momentum"], look.marker, color=look.light, markersize=6, linestyle="none")
        unsure = rows[rows["is_flat"] | rows["at_edge"]]
        axes.plot(unsure["workers"], unsure["momentum"], "o", color=INK, markersize=10, markerfacecolor="none",
                  markeredgewidth=0.8, linestyle="none")  # fmt: skip
        levels = [*rows["as_good_low"], *rows["as_good_high"], *rows["low"].dropna(), *rows["high"].dropna()]
        levels += list(theory["momentum"])
        room = 0.08 * (max(levels) - min(levels) or 1.0)
        axes.set_ylim(min(levels) - room, max(levels) + room)
        if len(theory):
            axes.plot(theory["workers"], theory["momentum"], color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
            end = theory.iloc[-1]
            axes.text(
                float(end["workers"]) * 1.12, float(end["momentum"]), "theory", color=MUTED, fontsize=SIZE - 0.5,
                va="center",
            )  # fmt: skip
        axes.set_ylabel("best explicit momentum")
        finish(axes)
        _workers_ticks(axes, look_at)
        return to_svg(figure, name, f"Best explicit momentum of {label} against the number of workers", text)


def implicit(name: str, rows: pd.DataFrame, looks: Mapping[str, Look], text: str) -> str:
    """The momentum that recorded staleness amounts to, a line per algorithm, and what memoryless workers would have.

    Args:
        rows: `label`, `workers`, `momentum` with `low` and `high`.
        text: what it shows, in numbers.
    """
    places = np.array(sorted(rows["workers"].unique()), dtype=np.float64)
    with rc_context(theme()):
        figure = canvas(3.6, 2.8)
        axes = figure.add_axes((0.15, 0.155, 0.835, 0.825))
        axes.set_xscale("log")
        top = float(np.nanmax(rows[["momentum", "high"]].to_numpy(dtype=np.float64)))
        axes.set_ylim(-0.03, max(1.0, 1.08 * top))
        ends: dict[str, tuple[float, float]] = {}
        for label, group in rows.groupby("label"):
            group, look = group.sort_values("workers"), looks[str(label)]
            axes.vlines(group["workers"], group["low"], group["high"], color=look.light, linewidth=1)
            axes.plot(group["workers"], group["momentum"], color=look.light, linewidth=1.4, linestyle=look.dash)
            axes.plot(group["workers"], group["momentum"], look.marker, color=look.light, markersize=5)
            last = group.iloc[-1]
            ends[str(label)] = (float(last["workers"]), float(last["momentum"]))
        left = places[0] / 1.5
        labels_at_ends(axes, ends, looks, log_x=True, left_x=left)
        grid = np.geomspace(max(left, 1.0), places[-1] * 1.1, 60)
        axes.plot(grid, 1 - 1 / grid, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        middle = grid[len(grid) // 3]
        axes.text(1.08 * middle, 1 - 1 / middle, "1 - 1/M", color=MUTED, fontsize=SIZE - 0.5, va="top")
        axes.set_xlabel(WORKERS)
        axes.set_ylabel("implicit momentum")
        finish(axes)
        _workers_ticks(axes, places)
        return to_svg(figure, name, "Implicit momentum of recorded staleness", text)


def _workers_ticks(axes: Axes, places: Values) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
