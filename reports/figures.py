"""The figures of a report's comparison, as SVG text for use inside HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.drawing import GRID, INK, MUTED, SIZE, WARN, Box, boxes, canvas, theme, to_svg
from reports.figures_curves import AXES, curves
from reports.style import PARTS, Look
from reports.words import number, percent, seconds, short

__all__ = ["AXES", "RANKS", "curves", "staleness", "time_split", "time_to_target"]

RANKS = 8  # most ranks shown one by one
MANY = 16  # algorithms; of more only the ranks that wait least and most


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
    p95 = int(share.index[int(np.searchsorted(share.cumsum().to_numpy(), 0.95 - 1e-12))])
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
    most = RANKS if len(labels) <= MANY else 2
    picked = {label: _pick(shares[shares["label"] == label], most) for label in labels}
    unit = 0.19
    rows = sum(len(p) for p in picked.values()) + 1.5 * len(labels)
    with rc_context(theme()):
        tall = unit * rows + 0.45
        figure = canvas(4.6, tall)
        axes = figure.add_axes((0.13, 0.4 / tall, 0.835, 1 - 0.42 / tall))
        y, said = 0.0, []
        bars: dict[str, list[Box]] = {}
        for label in labels:
            axes.text(-0.125, y + 0.6, label, fontweight="bold", va="center_baseline", clip_on=False)
            y += 1.2
            for row in picked[label].to_dict("records"):
                left = 0.0
                for column, _, fill, hatch, ink in PARTS:
                    value = float(row[column])
                    if value < 0.0005:
                        continue
                    bars.setdefault(column, []).append((left, y + 0.07, value, 0.86))
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
        for column, _, fill, hatch, _ in PARTS:
            boxes(axes, bars.get(column, []), facecolor=fill, hatch=hatch, edgecolor="#ffffff", linewidth=0.4)
        axes.set_ylim(y, 0)
        axes.set_xlim(0, 1)
        axes.set_yticks([])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}"))
        axes.set_xlabel("share of the run's duration [%]")
        sns.despine(ax=axes, left=True)
        return to_svg(figure, name, "Where the time went", f"{where}. Mean over the workers. " + "; ".join(said) + ".")


def _pick(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """All ranks, or if there are many, some: evenly spaced in the order of their waiting, and the servers."""
    servers, workers = rows[rows["role"] == "server"], rows[rows["role"] == "worker"]
    if len(workers) > most:
        waits = workers["exposed_straggler_s"] + workers["exposed_transfer_s"]
        order = workers.loc[waits.sort_values(kind="stable").index]
        workers = order.iloc[np.linspace(0, len(order) - 1, most).round().astype(int)].sort_values("rank")
    return pd.concat([workers, servers.head(2)]) if len(servers) else workers
