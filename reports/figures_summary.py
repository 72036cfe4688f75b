"""Figures of means over many runs: more workers, time against bytes, several workloads together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from analysis.ranks import Ranks
from reports.drawing import INK, MUTED, SIZE, canvas, finish, labels_at_ends, theme, to_svg
from reports.figures_curves import named_lines
from reports.style import Look
from reports.words import number, percent, short

Ends = dict[str, tuple[float, float]]


def scaling(
    name: str, rows: pd.DataFrame, value: str, looks: Mapping[str, Look], where: str, title: str, axis_label: str
) -> str:
    """A value against the number of workers, with intervals, and what would be ideal as a dotted line.

    Args:
        rows: `label`, `workers`, `value`, `low`, `high`, `ideal` (NaN for no line) of one workload and transport.
        value: "samples_per_s" (logarithmic, the ideal is a straight line) or "efficiency" (linear, the ideal is 1).
    """
    sizes = sorted({int(n) for n in rows["workers"]})
    known = rows[np.isfinite(rows["value"])]
    by_label = {str(label): own.sort_values("workers") for label, own in known.groupby("label")}
    ends = {label: (float(own["workers"].iloc[-1]), float(own["value"].iloc[-1])) for label, own in by_label.items()}
    named = named_lines({label: -y for label, (_, y) in ends.items()}, looks)
    with rc_context(theme()):
        figure = canvas(4.6, 2.9)
        left = 0.175 if value == "samples_per_s" else 0.125
        axes = figure.add_axes((left, 0.16, 0.975 - left, 0.81))
        axes.set_xscale("log")
        if value == "samples_per_s":
            axes.set_yscale("log")
            top = float(np.nanmax([known["value"].max(), known["ideal"].max()]))
            axes.set_ylim(0.8 * float(known["value"].min()), 1.15 * top)
        else:
            axes.set_ylim(0, 1.1 * max(1.0, float(known["value"].max())))
        apart = 0.008 * math.log(sizes[-1] / sizes[0])  # so that intervals of one size lie side by side
        for place, (label, own) in enumerate(by_label.items()):
            look = looks[label]
            if label not in named:
                axes.plot(own["workers"], own["value"], color=MUTED, linewidth=0.5, alpha=0.5, zorder=1)
                continue
            if own["low"].notna().any():
                beside = own["workers"] * math.exp(apart * (place - (len(by_label) - 1) / 2))
                axes.vlines(beside, own["low"], own["high"], color=look.light, linewidth=1.4, alpha=0.5)
            axes.plot(
                own["workers"],
                own["value"],
                look.marker,
                color=look.light,
                linewidth=1.5,
                markersize=4.5,
                linestyle=look.dash,
            )
        labels_at_ends(axes, {k: v for k, v in ends.items() if k in named}, looks, True, left_x=0.9 * sizes[0])
        ideal = rows.dropna(subset=["ideal"]).drop_duplicates("workers").sort_values("workers")
        axes.plot(ideal["workers"], ideal["ideal"], color=MUTED, linewidth=0.9, dashes=(2, 2), zorder=1)
        axes.set_xlabel("workers")
        axes.set_ylabel(axis_label)
        finish(axes)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        said = [
            f"{label}: " + ", ".join(f"{number(r['value'])} at {int(r['workers'])}" for r in own.to_dict("records"))
            for label, own in by_label.items()
        ]
        return to_svg(figure, name, title, f"{where}. {axis_label}. " + "; ".join(said) + ".")


def front(name: str, rows: pd.DataFrame, looks: Mapping[str, Look], where: str, unit: tuple[float, str]) -> str:
    """Time against bytes to the target: who is on the front, and the front as a step line.

    Args:
        rows: of `analysis.pareto.pareto_front`, one setting and transport.
        unit: divisor of the bytes, and its name.
    """
    scale, unit_name = unit
    x, y = rows["time_to_target_s"].to_numpy(np.float64), rows["wire_nbytes_to_target"].to_numpy(np.float64) / scale
    on_front = rows["on_front"].to_numpy(dtype=bool)
    points: Ends = {str(label): (float(a), float(b)) for label, a, b in zip(rows["label"], x, y, strict=True)}
    log_y = y.min() > 0 and y.max() > 20 * y.min()
    with rc_context(theme()):
        figure = canvas(4.6, 2.9)
        axes = figure.add_axes((0.125, 0.16, 0.85, 0.81))
        if log_y:
            axes.set_yscale("log")
            axes.set_ylim(y.min() / 1.6, y.max() * 1.6)
        else:
            axes.set_ylim(0, 1.12 * y.max() or 1)
        kept = [label for label, _ in zip(points, range(14), strict=False)]
        labels_at_ends(axes, {k: points[k] for k in kept}, looks, False, all_ends=[float(v) for v in x])
        right, top = axes.get_xlim()[1], axes.get_ylim()[1]
        corner_x = np.repeat(x[on_front], 2)
        corner_y = np.concatenate([[top], np.repeat(y[on_front], 2)[:-1]])
        axes.plot([*corner_x, right], [*corner_y, y[on_front][-1]], color=MUTED, linewidth=0.8, dashes=(2, 2), zorder=1)
        for label, (a, b) in points.items():
            look, best = looks[label], bool(on_front[list(points).index(label)])
            axes.plot([a], [b], look.marker, color=look.light, markersize=6.5 if best else 4.5, clip_on=False,
                      fillstyle="full" if best else "none", zorder=3)  # fmt: skip
        axes.set_xlabel("seconds to the target")
        axes.set_ylabel(f"bytes on the wire to the target [{unit_name}]")
        finish(axes)
        said = []
        for row, at, sent in zip(rows.to_dict("records"), x, y, strict=True):
            place = "on the front" if row["on_front"] else f"dominated by {row['dominated_by']}"
            said.append(f"{row['label']}: {number(at)} s and {number(sent)} {unit_name}, {place}")
        return to_svg(figure, name, "Time against bytes to the target", f"{where}. " + "; ".join(said) + ".")


def profile(
    name: str, rows: pd.DataFrame, scores: Mapping[str, float], looks: Mapping[str, Look], most: float, where: str
) -> str:
    """Performance profiles: share of the settings on which an algorithm needs at most so many times the best.

    Args:
        rows: of `analysis.profiles.performance_profile`.
        scores: label -> `analysis.profiles.profile_score`.
        most: largest factor that is drawn.
    """
    named = named_lines({label: -score for label, score in scores.items()}, looks)
    ends: Ends = {}
    with rc_context(theme()):
        figure = canvas(4.6, 2.9)
        axes = figure.add_axes((0.145, 0.16, 0.83, 0.81))
        axes.set_ylim(-0.02, 1.04)
        lines: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        for label in sorted(scores):
            own = rows[(rows["label"] == label) & (rows["tau"] <= most)]
            tau, rho = np.append(own["tau"], most), np.append(own["rho"], own["rho"].iloc[-1:])
            lines[label] = (np.repeat(tau, 2)[1:], np.repeat(rho, 2)[:-1])
            ends[label] = (most - 1, float(rho[-1]))
        # The axis begins at 1, the best itself: drawn as tau - 1 and ticked as tau.
        labels_at_ends(axes, {k: v for k, v in ends.items() if k in named}, looks, False)
        for label, (tau, rho) in lines.items():
            look = looks[label]
            if label in named:
                axes.plot(tau - 1, rho, color=look.light, linewidth=1.6, linestyle=look.dash)
            else:
                axes.plot(tau - 1, rho, color=MUTED, linewidth=0.5, alpha=0.5, zorder=1)
        axes.set_xlabel("times the best algorithm's time to the target")
        axes.set_ylabel("share of the settings")
        finish(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v + 1:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))
        said = []
        for label, score in scores.items():
            best = float(rows.loc[(rows["label"] == label) & (rows["tau"] == 1.0), "rho"].iloc[0])
            said.append(f"{label}: best on {percent(best)}, score {number(score)}")
        return to_svg(figure, name, "Performance profiles", f"{where}. " + "; ".join(said) + ".")


def critical_difference(name: str, found: Ranks, looks: Mapping[str, Look], where: str) -> str:
    """Mean ranks on a line, bars over those that are not shown to differ."""
    labels = [str(label) for label in found.mean_rank.index]
    rank = {str(label): float(value) for label, value in found.mean_rank.items()}
    row, head = 0.2, 0.55 + 0.1 * len(found.groups)
    tall = head + row * math.ceil(len(labels) / 2) + 0.1
    with rc_context(theme()):
        figure = canvas(4.6, tall)
        axes = figure.add_axes((0.3, 0, 0.4, 1))
        axes.set_xlim(1, len(labels))
        axes.set_ylim(tall, 0)
        axes.set_axis_off()
        axes.plot([1, len(labels)], [0.42, 0.42], color=MUTED, linewidth=0.8)
        for tick in range(1, len(labels) + 1):
            axes.plot([tick, tick], [0.36, 0.42], color=MUTED, linewidth=0.8)
            axes.text(tick, 0.28, str(tick), ha="center", color=MUTED, fontsize=SIZE - 1)
        width = min(found.critical_difference, len(labels) - 1)
        axes.plot([1, 1 + width], [0.1, 0.1], color=INK, linewidth=1.4)
        axes.annotate(
            f"critical difference {number(found.critical_difference)}", (1 + width, 0.1), xytext=(5, 0),
            textcoords="offset points", va="center_baseline", color=MUTED, fontsize=SIZE - 1, annotation_clip=False,
        )  # fmt: skip
        half = math.ceil(len(labels) / 2)
        for i, label in enumerate(labels):
            left = i < half
            y = head + row * (i if left else len(labels) - 1 - i)
            edge = 1 if left else len(labels)
            axes.plot([rank[label], rank[label], edge], [0.42, y, y], color=looks[label].light, linewidth=0.7)
            axes.annotate(
                f"{short(label)} {number(rank[label])}", (edge, y), xytext=(-4 if left else 4, 0),
                textcoords="offset points", ha="right" if left else "left", va="center_baseline", fontweight="bold",
                color=looks[label].light, annotation_clip=False,
            )  # fmt: skip
        for i, group in enumerate(found.groups if found.differ else ()):
            ranks = [rank[label] for label in group]
            axes.plot([min(ranks) - 0.03, max(ranks) + 0.03], [0.5 + 0.1 * i] * 2, color=INK, linewidth=2.4)
        said = [f"{label} {number(value)}" for label, value in rank.items()]
        groups = "; ".join(f"not shown to differ: {', '.join(group)}" for group in found.groups)
        return to_svg(figure, name, "Mean ranks", f"{where}. Mean ranks: " + ", ".join(said) + f". {groups}.")
