"""Held-out loss against seconds, samples and bytes, with intervals over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes

from analysis.curves import over_runs
from reports.drawing import MUTED, SIZE, WARN, canvas, finish, labels_at_ends, theme, thinned, to_svg
from reports.style import Look
from reports.words import BYTES, number

NAMED = 14  # most lines with a colour and a name: more cannot be told apart
MANY = 8  # snapshots
FEW_FOR_RUNS = 6  # so many algorithms leave room for each run as a thin line

AXES = {
    "t_s": ("seconds", "seconds since the start"),
    "samples": ("samples", "samples of all workers"),
    "wire_nbytes": ("bytes on the wire", "bytes on the wire, all ranks"),
}


@dataclass(frozen=True)
class Line:
    """One algorithm's held-out curves.

    Attributes:
        mean: `analysis.curves.over_runs` of it; no rows if no run is complete.
        complete: each completed run.
        diverged: each diverged run, up to its last finite loss.
    """

    mean: pd.DataFrame
    complete: Sequence[pd.DataFrame]
    diverged: Sequence[pd.DataFrame]

    @property
    def end(self) -> float:
        """Last mean loss; infinite without one."""
        return float(self.mean["mean"].iloc[-1]) if len(self.mean) else math.inf


def curves(
    name: str,
    axis: str,
    table: pd.DataFrame,
    heldout: pd.DataFrame,
    looks: Mapping[str, Look],
    target: float,
    where: str,
) -> str | None:
    """Held-out loss against `axis` (a column of HELDOUT).

    A line per algorithm is the mean over its completed runs at each planned snapshot; the band around it is the mean's
    interval. Among few algorithms each run is a thin line too. Diverged runs are thin dotted lines that end in a cross,
    and enter no mean. Of many algorithms those that end lowest have a name; the others are grey.

    Args:
        table: rows of `analysis.summary.per_run`, one workload, transport and number of workers.
        heldout: rows of HELDOUT.
        target: held-out loss to reach, NaN if none.
        where: for the text, such as "digits-mlp, 4 workers, MPI".
    """
    lines = _lines(table, heldout)
    if not lines:
        return None
    named = named_lines({label: line.end for label, line in lines.items()}, looks)
    brief, axis_label = AXES[axis]
    ends = {label: (float(line.mean[axis].iloc[-1]), line.end) for label, line in lines.items() if len(line.mean)}
    most = max([x for x, _ in ends.values()], default=1.0)
    scale, axis_label = _scale(axis, axis_label, most)
    log_x = axis == "wire_nbytes" and bool(ends) and most > 25 * max(min(x for x, _ in ends.values()), 1e-9)
    with rc_context(theme()):
        figure = canvas(4.6, 3.2)
        axes = figure.add_axes((0.115, 0.145, 0.86, 0.82))
        if log_x:
            axes.set_xscale("log")
        _vertical(axes, lines, target)
        for label in sorted(lines, key=lambda k: (k in named, k)):  # grey lines below the others
            _draw(axes, lines[label], axis, scale, log_x, looks[label] if label in named else None, len(lines))
        shown = {k: (x / scale, y) for k, (x, y) in ends.items() if k in named and (x > 0 or not log_x)}
        end = labels_at_ends(axes, shown, looks, log_x, all_ends=[x / scale for x, _ in ends.values()])
        if not math.isnan(target):
            _target_line(axes, target, [line.mean for line in lines.values()], axis, scale, end)
        axes.set_xlabel(axis_label)
        axes.set_ylabel("held-out loss [nat]")
        finish(axes)
        return to_svg(figure, name, f"Held-out loss against {brief}", _text(lines, ends, axis_label, scale, where))


def named_lines(ends: Mapping[str, float], looks: Mapping[str, Look], most: int = NAMED) -> list[str]:
    """Of many lines those that end lowest, and the baseline (whose look is number 0); of few all.

    Args:
        ends: label -> where its line ends; lower is better.
    """
    order = sorted(ends, key=lambda label: (ends[label], label))
    if len(order) <= most:
        return order
    baseline = [label for label in order if looks[label].number == 0][:1]
    return [*baseline, *(label for label in order if label not in baseline)][:most]


def _lines(table: pd.DataFrame, heldout: pd.DataFrame) -> dict[str, Line]:
    used = table[table["status"].isin(["completed", "diverged"])]
    known = heldout[heldout["run_id"].isin(used["run_id"]) & np.isfinite(heldout["heldout_loss"])]
    own = {str(run_id): curve.sort_values("snapshot") for run_id, curve in known.groupby("run_id", observed=True)}
    means = over_runs(known, used, "heldout_loss")
    found = {}
    for label, group in used.groupby("label"):
        runs: dict[str, list[pd.DataFrame]] = {"completed": [], "diverged": []}
        for run_id, status in zip(group["run_id"], group["status"], strict=True):
            if run_id in own:
                runs[status].append(own[run_id])
        if runs["completed"] or runs["diverged"]:
            found[str(label)] = Line(means[means["label"] == label], runs["completed"], runs["diverged"])
    return found


def _draw(axes: Axes, line: Line, axis: str, scale: float, log_x: bool, look: Look | None, lines: int) -> None:
    """One algorithm; without a look in grey and thin."""

    def points(curve: pd.DataFrame) -> pd.DataFrame:
        return thinned(curve[curve[axis] > 0] if log_x else curve)

    colour = look.light if look else MUTED
    mean = points(line.mean)
    x = mean[axis] / scale
    if look is None:
        axes.plot(x, mean["mean"], color=colour, linewidth=0.5, alpha=0.5, zorder=1)
    else:
        if mean["low"].notna().any():
            axes.fill_between(x, mean["low"], mean["high"], color=colour, alpha=0.16, linewidth=0)
        if lines <= FEW_FOR_RUNS and len(line.complete) > 1:
            for run in map(points, line.complete):
                axes.plot(run[axis] / scale, run["heldout_loss"], color=colour, linewidth=0.5, alpha=0.45)
        axes.plot(x, mean["mean"], color=colour, linewidth=1.7, linestyle=look.dash)
        if len(mean):
            axes.plot([x.iloc[-1]], [line.end], look.marker, color=colour, markersize=4.5, clip_on=False)
    for run in map(points, line.diverged):
        axes.plot(run[axis] / scale, run["heldout_loss"], color=colour, linewidth=0.6, linestyle=":")
        if len(run):
            y = min(float(run["heldout_loss"].iloc[-1]), axes.get_ylim()[1])
            axes.plot([run[axis].iloc[-1] / scale], [y], "x", color=WARN, markersize=6, clip_on=False, zorder=5)


def _vertical(axes: Axes, lines: Mapping[str, Line], target: float) -> None:
    """Limits from the means, and the target; logarithmic where else the end, where it is decided, would be flat."""
    levels = [float(v) for line in lines.values() for v in line.mean["mean"]]
    levels = levels or [float(v) for line in lines.values() for run in line.diverged for v in run["heldout_loss"]]
    # Of many snapshots the first is left above the figure: all begin there, and the rest would be flat below it.
    first = [
        float(line.mean["mean"].iloc[1 if len(line.mean) > MANY else 0]) for line in lines.values() if len(line.mean)
    ] or levels
    low, high = min([*levels, *([] if math.isnan(target) else [target])]), max(first)
    if min(levels) > 0 and max(levels) > 4 * min(levels):
        axes.set_yscale("log")
        axes.set_ylim(low / 1.1, high * 1.1)
    else:
        margin = 0.06 * (high - low or abs(high) or 1)
        axes.set_ylim(low - margin, high + margin)


def _text(
    lines: Mapping[str, Line], ends: Mapping[str, tuple[float, float]], axis_label: str, scale: float, where: str
) -> str:
    """What the figure says, for readers who cannot see it."""
    said = []
    for label, (x, y) in sorted(ends.items(), key=lambda one: one[1][1]):
        last = lines[label].mean.iloc[-1]
        between = "" if math.isnan(last["low"]) else f" ({number(last['low'], 4)} to {number(last['high'], 4)})"
        said.append(f"{label} ends at {number(y, 4)}{between} after {number(x / scale)} (n={last['n']})")
    wild = [f"{label} diverged in {len(line.diverged)} run(s)" for label, line in lines.items() if line.diverged]
    return f"{where}. Horizontal: {axis_label}. " + "; ".join(said + wild) + "."


def _scale(axis: str, label: str, most: float) -> tuple[float, str]:
    """Divisor for the axis, and its label with the unit."""
    if axis == "wire_nbytes":
        scale, unit = next(((s, u) for s, u in BYTES if most >= 2 * s), BYTES[-1])
        return scale, f"{label} [{unit}]"
    if axis == "samples":
        scale, unit = next(
            ((s, u) for s, u in ((1e6, "million"), (1e3, "thousand"), (1, "")) if most >= 2 * s), (1, "")
        )
        return scale, f"{label} [{unit}]" if unit else label
    return 1.0, label


def _target_line(axes: Axes, target: float, means: Sequence[pd.DataFrame], axis: str, scale: float, end: float) -> None:
    """The target as a dotted line up to `end` (fraction of the axes), its name where it covers no curve."""
    to_axes = axes.transData + axes.transAxes.inverted()
    level = float(to_axes.transform((1.0, target))[1])
    axes.plot([0, end], [level, level], transform=axes.transAxes, color=MUTED, linewidth=0.8, dashes=(2, 2), zorder=1)
    wide, tall = 0.17, 0.05  # of the text
    grid = np.linspace(0, end, 150)
    taken = np.zeros(len(grid), dtype=bool)
    for mean in means:
        if len(mean) > 1:
            x, y = to_axes.transform(np.column_stack([mean[axis] / scale, mean["mean"]])).T
            height = np.interp(grid, x, y, left=np.nan, right=np.nan)
            taken |= (height > level - 0.005) & (height < level + tall + 0.01)
    starts = [x for x in grid[grid + wide <= end] if not taken[(grid >= x - 0.01) & (grid <= x + wide)].any()]
    at = starts[-1] if starts else end - wide
    axes.text(at, level + 0.012, f"target {number(target)}", transform=axes.transAxes, color=MUTED, fontsize=SIZE - 1)
