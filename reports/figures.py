"""The figures of a report's comparison, as SVG text for use inside HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.drawing import GRID, INK, MUTED, SIZE, WARN, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import PARTS, Look
from reports.words import BYTES, number, percent, seconds, short

POINTS = 120  # most points of a line: more cannot be seen and only make the file large
RANKS = 8  # most ranks shown one by one

AXES = {
    "t_s": ("seconds", "seconds since the start"),
    "samples": ("samples", "samples of all workers"),
    "wire_nbytes": ("bytes on the wire", "bytes on the wire, all ranks"),
}


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

    A thick line per algorithm is the mean over its runs; a thin line is a run. Diverged runs are thin dotted lines that
    end in a cross, and enter no mean.

    Args:
        table: rows of `analysis.summary.per_run`, one workload, transport and number of workers.
        heldout: rows of HELDOUT.
        target: held-out loss to reach, NaN if none.
        where: for the text, such as "digits-mlp, 4 workers, MPI".
    """
    lines = _lines(table, heldout, axis)
    if not lines:
        return None
    short, axis_label = AXES[axis]
    ends = {
        label: (mean[axis].iloc[-1], mean["heldout_loss"].iloc[-1])
        for label, (mean, _, _) in lines.items()
        if len(mean)
    }
    most = max([x for x, _ in ends.values()], default=1.0)
    scale, axis_label = _scale(axis, axis_label, most)
    log_x = axis == "wire_nbytes" and bool(ends) and most > 25 * max(min(x for x, _ in ends.values()), 1e-9)
    levels = [float(v) for mean, _, _ in lines.values() for v in mean["heldout_loss"]] or [1.0]
    log_y = min(levels) > 0 and max(levels) > 4 * min(levels)  # else the end, where it is decided, is flat

    with rc_context(theme()):
        figure = canvas(4.6, 3.2)
        axes = figure.add_axes((0.115, 0.145, 0.87, 0.82))
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        first = [float(mean["heldout_loss"].iloc[0]) for mean, _, _ in lines.values() if len(mean)] or levels
        low, high = min(levels + ([] if math.isnan(target) else [target])), max(first)
        _limits(axes, low, high, log_y)
        for label, (mean, single, diverged) in lines.items():
            look = looks[label]
            for run in single if len(single) > 1 else []:
                run = _thin(run[run[axis] > 0] if log_x else run)
                axes.plot(run[axis] / scale, run["heldout_loss"], color=look.light, linewidth=0.6, alpha=0.45)
            for run in diverged:
                run = _thin(run[run[axis] > 0] if log_x else run)
                axes.plot(run[axis] / scale, run["heldout_loss"], color=look.light, linewidth=0.6, linestyle=":")
                if len(run):
                    y = min(float(run["heldout_loss"].iloc[-1]), axes.get_ylim()[1])
                    axes.plot([run[axis].iloc[-1] / scale], [y], "x", color=WARN, markersize=6, clip_on=False, zorder=5)
            mean = _thin(mean[mean[axis] > 0] if log_x else mean)
            axes.plot(mean[axis] / scale, mean["heldout_loss"], color=look.light, linewidth=1.7, linestyle=look.dash)
            if len(mean):
                x, y = mean[axis].iloc[-1] / scale, mean["heldout_loss"].iloc[-1]
                axes.plot([x], [y], look.marker, color=look.light, markersize=4.5, clip_on=False)
        end = labels_at_ends(axes, {k: (x / scale, y) for k, (x, y) in ends.items()}, looks, log_x)
        if not math.isnan(target):
            _target_line(axes, target, [mean for mean, _, _ in lines.values()], axis, scale, end)
        axes.set_xlabel(axis_label)
        axes.set_ylabel("held-out loss [nat]")
        finish(axes)
        said = [
            f"{k} ends at {number(y, 4)} after {number(x / scale)} (n={len(lines[k][1])})" for k, (x, y) in ends.items()
        ]
        wild = [f"{k} diverged in {len(d)} run(s)" for k, (_, _, d) in lines.items() if d]
        text = f"{where}. Horizontal: {axis_label}. " + "; ".join(said + wild) + "."
        return to_svg(figure, name, f"Held-out loss against {short}", text)


def _lines(
    table: pd.DataFrame, heldout: pd.DataFrame, axis: str
) -> dict[str, tuple[pd.DataFrame, list[pd.DataFrame], list[pd.DataFrame]]]:
    """Label -> (mean over completed runs, each completed run, each diverged run)."""
    columns = ["snapshot", axis, "heldout_loss"]
    found = {}
    for label, group in table[table["status"].isin(["completed", "diverged"])].groupby("label"):
        runs: dict[str, list[pd.DataFrame]] = {"completed": [], "diverged": []}
        for run_id, status in zip(group["run_id"], group["status"], strict=True):
            curve = heldout.loc[heldout["run_id"] == run_id, columns].sort_values("snapshot").astype("float64")
            curve = curve[np.isfinite(curve["heldout_loss"])]
            if len(curve):
                runs[status].append(curve)
        if runs["completed"] or runs["diverged"]:
            found[str(label)] = (_mean(runs["completed"], columns), runs["completed"], runs["diverged"])
    return found


def _mean(runs: Sequence[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Mean at each planned snapshot that all runs have."""
    if not runs:
        return pd.DataFrame(columns=columns, dtype="float64")
    rows = pd.concat(runs).groupby("snapshot")
    mean = rows.mean()[rows.size() == len(runs)].reset_index()
    return mean[columns]


def _thin(curve: pd.DataFrame) -> pd.DataFrame:
    if len(curve) <= POINTS:
        return curve
    return curve.iloc[np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))]


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


def _limits(axes: Axes, low: float, high: float, log: bool) -> None:
    if log:
        axes.set_ylim(low / 1.1, high * 1.1)
    else:
        margin = 0.06 * (high - low or abs(high) or 1)
        axes.set_ylim(low - margin, high + margin)


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
            x, y = to_axes.transform(np.column_stack([mean[axis] / scale, mean["heldout_loss"]])).T
            height = np.interp(grid, x, y, left=np.nan, right=np.nan)
            taken |= (height > level - 0.005) & (height < level + tall + 0.01)
    starts = [x for x in grid[grid + wide <= end] if not taken[(grid >= x - 0.01) & (grid <= x + wide)].any()]
    at = starts[-1] if starts else end - wide
    axes.text(at, level + 0.012, f"target {number(target)}", transform=axes.transAxes, color=MUTED, fontsize=SIZE - 1)


def time_to_target(
    name: str, table: pd.DataFrame, rows: pd.DataFrame, looks: Mapping[str, Look], where: str
) -> str | None:
    """Time to target: a mark per run, a bar from the fastest to the slowest, the mean as a number.

    Args:
        table: rows of `per_run`, one workload, transport and number of workers.
        rows: the same of `summary`.
    """
    rows = rows[(rows["completed"] + rows["diverged"]) > 0].sort_values(
        ["time_to_target_s", "label"], na_position="last"
    )
    if not rows["reached"].any():
        return None
    with rc_context(theme()):
        figure = canvas(4.6, 0.5 + 0.27 * len(rows))
        left = min(0.42, (0.6 * SIZE * rows["label"].map(short).str.len().max() + 10) / (4.6 * 72))
        bottom = 0.4 / (0.5 + 0.27 * len(rows))
        axes = figure.add_axes((left, bottom, 0.98 - left, 0.97 - bottom))
        most = float(table["time_to_target_s"].max())
        axes.set_xlim(0, 1.3 * most)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        said = []
        for y, row in enumerate(rows.to_dict("records")):
            look = looks[row["label"]]
            runs = table[(table["label"] == row["label"]) & (table["status"] == "completed")]
            times = runs["time_to_target_s"].dropna().sort_values()
            if len(times):
                axes.plot([times.iloc[0], times.iloc[-1]], [y, y], color=look.light, linewidth=3, alpha=0.35)
                axes.plot(times, [y] * len(times), look.marker, color=look.light, markersize=4.5, linestyle="none")
            missed = int(row["completed"] + row["diverged"] - row["reached"])
            note = (
                seconds(row["time_to_target_s"])
                if not missed
                else f"reached in {row['reached']} of {row['reached'] + missed}"
            )
            axes.annotate(
                note, (times.iloc[-1] if len(times) else 0, y), xytext=(7, 0), textcoords="offset points",
                verticalalignment="center_baseline", color=INK if not missed else WARN,
            )  # fmt: skip
            said.append(f"{row['label']}: {note} (n={row['seeds']})")
        axes.set_yticks(range(len(rows)), [short(label) for label in rows["label"]])
        for tick, label in zip(axes.get_yticklabels(), rows["label"], strict=True):
            tick.set_color(looks[label].light)
            tick.set_fontweight("bold")
            tick.set_fontsize(SIZE)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("seconds to the target (one mark per run)")
        sns.despine(ax=axes, left=True)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        return to_svg(figure, name, "Time to target", f"{where}. " + "; ".join(said) + ".")


def staleness(name: str, label: str, histogram: pd.DataFrame, most: int, look: Look, where: str) -> str:
    """Share of the applied gradients at each staleness, of one algorithm.

    Args:
        histogram: `staleness_updates` and `gradients` (runs together).
        most: largest staleness of all algorithms that are shown side by side.
    """
    counts = histogram.groupby("staleness_updates")["gradients"].sum()
    share = counts / counts.sum()
    width = max(1, math.ceil((most + 1) / 40))  # at most 40 bars
    bars = share.groupby(share.index // width * width).sum()
    mean = float((share * share.index).sum())
    p95 = int(share.index[np.searchsorted(share.cumsum().to_numpy(), 0.95 - 1e-12)])
    with rc_context(theme()):
        figure = canvas(2.6, 1.6)
        axes = figure.add_axes((0.17, 0.25, 0.8, 0.6))
        axes.bar(bars.index + (width - 1) / 2, bars, width=0.85 * width, color=look.light)
        axes.set_xlim(-0.6, max(most, 3) + 0.6)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(2))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("staleness [writes]")
        axes.text(0, 1.06, short(label), transform=axes.transAxes, fontweight="bold", color=look.light)
        axes.text(1, 1.06, f"mean {number(mean, 2)}, p95 {p95}", transform=axes.transAxes, ha="right", color=MUTED)
        sns.despine(ax=axes)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        top = "; ".join(f"{percent(float(v))} at {k}" for k, v in share.head(5).items())
        text = f"{where}, {label}: mean {number(mean)} writes, 95th percentile {p95}. {top}."
        return to_svg(figure, name, f"Staleness of {label}", text)


def time_split(name: str, split: pd.DataFrame, where: str) -> str | None:
    """Where the time of each rank went: stacked bars, shares of the run's duration, mean over completed runs.

    Args:
        split: rows of `analysis.timing.time_split` with a column `label`, completed runs of one workload, transport and
            number of workers.
    """
    columns = [part[0] for part in PARTS]
    if split.empty:
        return None
    shares = split[["label", "rank", "role"]].join(split[columns].div(split["duration_s"], axis=0))
    shares = shares.groupby(["label", "rank", "role"], as_index=False).mean()
    labels = sorted(shares["label"].unique())
    picked = {label: _pick(shares[shares["label"] == label]) for label in labels}
    unit = 0.19
    rows = sum(len(p) for p in picked.values()) + 1.5 * len(labels)
    with rc_context(theme()):
        tall = unit * rows + 0.45
        figure = canvas(4.6, tall)
        axes = figure.add_axes((0.13, 0.4 / tall, 0.835, 1 - 0.42 / tall))
        y, said = 0.0, []
        for label in labels:
            axes.text(-0.125, y + 0.6, label, fontweight="bold", va="center_baseline", clip_on=False)
            y += 1.2
            for row in picked[label].to_dict("records"):
                left = 0.0
                for column, _, fill, hatch, ink in PARTS:
                    value = float(row[column])
                    if value < 0.0005:
                        continue
                    axes.barh(
                        y + 0.5,
                        value,
                        left=left,
                        height=0.86,
                        color=fill,
                        hatch=hatch,
                        edgecolor="#ffffff",
                        linewidth=0.4,
                    )
                    if value >= 0.07:
                        plate = dict(facecolor=fill, edgecolor="none", pad=0.6) if hatch else None
                        axes.text(
                            left + value / 2, y + 0.5, f"{100 * value:.0f}", ha="center", va="center_baseline",
                            color=ink, fontsize=SIZE - 1.5, bbox=plate,
                        )  # fmt: skip
                    left += value
                who = "server" if row["role"] == "server" else f"rank {row['rank']}"
                axes.text(-0.012, y + 0.5, who, ha="right", va="center_baseline", color=MUTED, fontsize=SIZE - 1)
                y += 1
            y += 0.3
            workers = shares[(shares["label"] == label) & (shares["role"] == "worker")]
            mean = workers[columns].mean()
            said.append(
                f"{label}: gradients {percent(mean['gradient_s'])}, waiting for slower workers "
                f"{percent(mean['exposed_straggler_s'])}, for data {percent(mean['exposed_transfer_s'])}"
            )
        axes.set_ylim(y, 0)
        axes.set_xlim(0, 1)
        axes.set_yticks([])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}"))
        axes.set_xlabel("share of the run's duration [%]")
        sns.despine(ax=axes, left=True)
        return to_svg(figure, name, "Where the time went", f"{where}. Mean over the workers. " + "; ".join(said) + ".")


def _pick(rows: pd.DataFrame) -> pd.DataFrame:
    """All ranks, or if there are many, some: evenly spaced in the order of their waiting, and the servers."""
    servers, workers = rows[rows["role"] == "server"], rows[rows["role"] == "worker"]
    if len(workers) > RANKS:
        waits = workers["exposed_straggler_s"] + workers["exposed_transfer_s"]
        order = workers.loc[waits.sort_values(kind="stable").index]
        workers = order.iloc[np.linspace(0, len(order) - 1, RANKS).round().astype(int)].sort_values("rank")
    return pd.concat([workers, servers.head(2)]) if len(servers) else workers
