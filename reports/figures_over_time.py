"""What goes on during a run: traffic, distance between the workers, age of the gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.drawing import GRID, INK, MUTED, SIZE, canvas, finish, labels_at_ends, theme, thinned, to_svg
from reports.figures_curves import named_lines
from reports.style import Look
from reports.words import number, seconds, short

STRIP = 0.4  # inches for one algorithm's traffic


@dataclass(frozen=True)
class Traffic:
    """Traffic of one run.

    Attributes:
        t_s: middles of the windows [s].
        Gbit_per_s: on the wire, all ranks together, one per window.
        mean: over the run [Gbit/s].
        peak, peak_s: busiest window [Gbit/s] and its middle [s].
    """

    label: str
    look: Look
    t_s: Sequence[float]
    Gbit_per_s: Sequence[float]
    mean: float
    peak: float
    peak_s: float


def traffic(name: str, strips: Sequence[Traffic], where: str) -> str:
    """Gbit/s over time, a strip for each algorithm on common scales, the peak marked."""
    most = max(strip.peak for strip in strips) or 1.0
    end = max(max(strip.t_s) for strip in strips)
    scale, unit = _rate_unit(most)
    with rc_context(theme()):
        tall = STRIP * len(strips) + 0.42
        figure = canvas(4.6, tall)
        axes = figure.add_axes((0.02, 0.4 / tall, 0.96, STRIP * len(strips) / tall))
        axes.set_xlim(0, end)
        axes.set_ylim(len(strips), 0)
        for row, strip in enumerate(strips):
            base, high = row + 0.97, 0.44  # of a strip; the rest is its heading
            y = base - high * np.asarray(strip.Gbit_per_s) / most
            axes.axhline(base, color=GRID, linewidth=0.6)
            axes.fill_between(strip.t_s, y, base, color=strip.look.light, alpha=0.3, linewidth=0)
            axes.plot(strip.t_s, y, color=strip.look.light, linewidth=0.8)
            if strip.peak > 0:
                axes.plot(
                    [strip.peak_s], [base - high * strip.peak / most], "v", color=INK, markersize=3.2, clip_on=False
                )
            axes.text(
                0, row + 0.25, short(strip.label), color=strip.look.light, fontweight="bold", va="center_baseline"
            )
            said = f"mean {number(strip.mean / scale)}, peak {number(strip.peak / scale)} {unit}"
            axes.text(end, row + 0.25, said, ha="right", va="center_baseline", color=MUTED, fontsize=SIZE - 0.5)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axes.set_xlabel("seconds since the start")
        sns.despine(ax=axes, left=True)
        text = "; ".join(
            f"{strip.label}: mean {number(strip.mean / scale)}, peak {number(strip.peak / scale)} {unit} "
            f"at {seconds(strip.peak_s)}"
            for strip in strips
        )
        return to_svg(figure, name, "Traffic over time", f"{where}. Bytes on the wire, all ranks. {text}.")


def _rate_unit(most: float) -> tuple[float, str]:
    """Divisor of Gbit/s for a readable unit, and the unit."""
    return next(((s, u) for s, u in ((1.0, "Gbit/s"), (1e-3, "Mbit/s")) if most >= 0.1 * s), (1e-6, "kbit/s"))


def consensus(name: str, means: pd.DataFrame, looks: Mapping[str, Look], where: str) -> str:
    """Consensus distance over time, on a logarithmic axis; where it is zero, a mark on the floor of the figure.

    Args:
        means: rows of `analysis.curves.over_runs` of labels that are not zero all along.
    """
    positive = means.loc[means["mean"] > 0, "mean"]
    lowest = max(float(positive.min()), 1e-6 * float(positive.max()))
    floor = 10.0 ** math.floor(math.log10(0.99 * lowest))  # below it, so that it stands for zero alone
    by_label = {str(label): own.sort_values("snapshot") for label, own in means.groupby("label")}
    ends = {
        label: (float(own["t_s"].iloc[-1]), max(float(own["mean"].iloc[-1]), floor)) for label, own in by_label.items()
    }
    named = named_lines({label: -y for label, (_, y) in ends.items()}, looks)
    with rc_context(theme()):
        figure = canvas(4.6, 2.9)
        axes = figure.add_axes((0.14, 0.16, 0.835, 0.81))
        axes.set_yscale("log")
        axes.set_ylim(floor, 1.5 * float(positive.max()))
        for label, whole in by_label.items():
            look, own = looks[label], thinned(whole)
            level = own["mean"].to_numpy(dtype=np.float64)
            shown = np.where(level > floor, level, np.nan)  # a gap, never a line into the floor
            if label not in named:
                axes.plot(own["t_s"], shown, color=MUTED, linewidth=0.5, alpha=0.5, zorder=1)
                continue
            low, high = (np.maximum(own[side].to_numpy(dtype=np.float64), floor) for side in ("low", "high"))
            if np.isfinite(low).any():
                axes.fill_between(own["t_s"], low, high, where=level > floor, color=look.light, alpha=0.12, linewidth=0)
            axes.plot(own["t_s"], shown, color=look.light, linewidth=1.5, linestyle=look.dash)
            axes.plot(
                own["t_s"].iloc[-1:], np.maximum(level[-1:], floor), look.marker, color=look.light, markersize=4.5
            )
            zero = own.loc[(level <= floor) & (own["snapshot"] > 0), "t_s"]
            axes.plot(
                zero, [floor] * len(zero), look.marker, color=look.light, markersize=3, fillstyle="none", clip_on=False
            )
        labels_at_ends(axes, {k: v for k, v in ends.items() if k in named}, looks, log_x=False)
        axes.set_xlabel("seconds since the start")
        axes.set_ylabel("consensus distance")
        finish(axes)
        said = []
        for label, own in by_label.items():
            later = own[own["snapshot"] > 0]
            zeros = int((later["mean"] == 0).sum())
            said.append(
                f"{label}: {number(float(later['mean'].median()))} at the median snapshot, "
                f"{number(float(later['mean'].iloc[-1]))} at the last" + (f", zero at {zeros}" if zeros else "")
            )
        return to_svg(figure, name, "Consensus distance over time", f"{where}. " + "; ".join(said) + ".")


def ages(name: str, over_time: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], where: str) -> str:
    """Staleness over a run: the mean of each part of it.

    Args:
        over_time: label -> rows of `analysis.ages.over_time` of one run.
    """
    ends = {
        label: (float(own["t1_s"].iloc[-1]), float(own["updates_mean"].iloc[-1])) for label, own in over_time.items()
    }
    named = named_lines({label: -y for label, (_, y) in ends.items()}, looks)
    most = max(float(own["updates_mean"].max()) for own in over_time.values())
    with rc_context(theme()):
        figure = canvas(4.6, 2.6)
        axes = figure.add_axes((0.125, 0.175, 0.85, 0.79))
        axes.set_ylim(0, 1.1 * most or 1)
        for label, own in over_time.items():
            t_s, mean = (own["t0_s"] + own["t1_s"]) / 2, own["updates_mean"]
            look = looks[label]
            if label not in named:
                axes.plot(t_s, mean, color=MUTED, linewidth=0.5, alpha=0.5, zorder=1)
                continue
            axes.plot(t_s, mean, color=look.light, linewidth=1.5, linestyle=look.dash)
            axes.plot(t_s.iloc[-1:], mean.iloc[-1:], look.marker, color=look.light, markersize=4.5)
        last = {
            k: (float((own["t0_s"] + own["t1_s"]).iloc[-1] / 2), ends[k][1])
            for k, own in over_time.items()
            if k in named
        }
        labels_at_ends(axes, last, looks, log_x=False)
        axes.set_xlabel("seconds since the start")
        axes.set_ylabel("staleness [writes]")
        finish(axes)
        said = []
        for label, own in over_time.items():
            first, final = own.iloc[0], own.iloc[-1]
            said.append(
                f"{label}: mean {number(first['updates_mean'])} writes in the first part of the run, "
                f"{number(final['updates_mean'])} in the last"
            )
        return to_svg(figure, name, "Staleness over the run", f"{where}. " + "; ".join(said) + ".")
