"""Predicted against measured, and predictions against the number of workers and the bandwidth."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports.drawing import GRID, INK, MUTED, SIZE, WARN, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import Look
from reports.words import TRANSPORTS, number, percent, seconds, short

SHOWN = 40  # most pairs in the figure of ratios; the farthest off

AXES = {
    "workers": ("number of workers", ""),
    "bandwidth_Gbit_per_s": ("bandwidth of a link [Gbit/s]", " Gbit/s"),
}
VALUES = {
    "samples_per_s": "samples/s of all workers",
    "time_to_target_s": "seconds to the target",
}


def agreement(name: str, table: pd.DataFrame, looks: Mapping[str, Look], tolerance: float) -> str:
    """Predicted against measured throughput on equal axes, with the band that is good enough.

    Args:
        table: rows of `analysis.predictions.within`.
        tolerance: half the band, as a share.
    """
    x, y = table["measured_samples_per_s"], table["predicted_samples_per_s"]
    low, high = min(x.min(), y.min()) / 1.35, max(x.max(), y.max()) * 1.35
    with rc_context(theme()):
        figure = canvas(4.6, 4.35)
        axes = figure.add_axes((0.16, 0.115, 0.815, 0.86))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        ends = [low, high]
        axes.fill_between(
            ends, [e * (1 - tolerance) for e in ends], [e * (1 + tolerance) for e in ends], color=GRID, linewidth=0
        )
        axes.plot(ends, ends, color=MUTED, linewidth=0.8)
        note = f"grey: within {percent(tolerance)}"
        axes.text(0.97, 0.03, note, transform=axes.transAxes, ha="right", color=MUTED, fontsize=SIZE - 1)
        for row in table.to_dict("records"):
            look = looks[row["label"]]
            at = (row["measured_samples_per_s"], row["predicted_samples_per_s"])
            for horizontal, side, fixed in ((True, "measured", at[1]), (False, "predicted", at[0])):
                span = [row[f"{side}_samples_per_s_low"], row[f"{side}_samples_per_s_high"]]
                line = (span, [fixed] * 2) if horizontal else ([fixed] * 2, span)
                axes.plot(*line, color=look.light, linewidth=0.8, alpha=0.6)
            hollow = {} if row["within"] else {"markerfacecolor": "none", "markeredgewidth": 1.3}
            axes.plot(*at, look.marker, color=look.light, markersize=5.5, linestyle="none", **hollow)
        axes.set_xlabel("measured samples/s")
        axes.set_ylabel("predicted samples/s")
        finish(axes)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        for part in (axes.xaxis, axes.yaxis):
            part.set_major_formatter(FuncFormatter(lambda v, _: _thousands(v)))
        inside = int(table["within"].sum())
        worst = table.loc[table["off"].abs().idxmax()]
        rates = [number(worst[f"{side}_samples_per_s"]) for side in ("measured", "predicted")]
        text = (
            f"{inside} of {len(table)} pairs within {percent(tolerance)}. Farthest: {_pair(worst)}, measured "
            f"{rates[0]} samples/s, predicted {rates[1]}."
        )
        return to_svg(figure, name, "Predicted against measured throughput", text)


def ratios(name: str, table: pd.DataFrame, looks: Mapping[str, Look], tolerance: float) -> str:
    """Predicted over measured throughput, a row per pair with its interval; of many the farthest off.

    Args:
        table: rows of `analysis.predictions.within`.
        tolerance: half the band, as a share.
    """
    far = table.loc[table["off"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN]]
    far = far.sort_values(["workload", "workers", "transport", "label"], kind="stable").reset_index(drop=True)
    names = [_pair(row) for _, row in far.iterrows()]
    tall = 0.5 + 0.185 * len(far)
    with rc_context(theme()):
        figure = canvas(4.6, tall)
        left = min(0.6, (0.55 * (SIZE - 1) * max(map(len, names)) + 8) / (4.6 * 72))
        axes = figure.add_axes((left, 0.4 / tall, 0.985 - left, 1 - 0.42 / tall))
        axes.axvspan(1 - tolerance, 1 + tolerance, color=GRID, linewidth=0)
        axes.axvline(1, color=MUTED, linewidth=0.8)
        for y, row in enumerate(far.to_dict("records")):
            look = looks[row["label"]]
            axes.plot([row["ratio_low"], row["ratio_high"]], [y, y], color=look.light, linewidth=2.2, alpha=0.4)
            hollow = {} if row["within"] else {"markerfacecolor": "none", "markeredgewidth": 1.3}
            axes.plot([row["ratio"]], [y], look.marker, color=look.light, markersize=4.5, **hollow)
        spread = [*far["ratio"], *far["ratio_low"].dropna(), *far["ratio_high"].dropna(), 1 - tolerance, 1 + tolerance]
        margin = 0.06 * (max(spread) - min(spread))
        axes.set_xlim(min(spread) - margin, max(spread) + margin)
        axes.set_ylim(len(far) - 0.4, -0.6)
        axes.set_yticks(range(len(far)), names)
        for tick, label, good in zip(axes.get_yticklabels(), far["label"], far["within"], strict=True):
            tick.set_color(looks[label].light if good else WARN)
            tick.set_fontsize(SIZE - 1)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("predicted over measured samples/s", loc="right")  # the names leave it little room
        sns.despine(ax=axes, left=True)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.6g}"))
        text = "; ".join(f"{named}: {ratio:.3f}" for named, ratio in zip(names, far["ratio"], strict=True))
        return to_svg(figure, name, "Predicted over measured throughput, pair by pair", text + ".")


def scaling(
    name: str,
    axis: str,
    value: str,
    rows: pd.DataFrame,
    looks: Mapping[str, Look],
    where: str,
    measured: pd.DataFrame | None = None,
) -> str | None:
    """A predicted number against the number of workers or the bandwidth, a line per algorithm; None without a line.

    Args:
        axis: of `AXES`.
        value: of `VALUES`.
        rows: rows of `analysis.predictions.scaling`, one workload.
        measured: rows of a summary that are drawn as hollow marks.
    """
    rows = rows[(rows[value] > 0) & (rows[axis] > 0) & np.isfinite(rows[axis])]
    places = sorted(rows[axis].unique())
    if len(places) < 2:
        return None
    axis_label, unit = AXES[axis]
    with rc_context(theme()):
        figure = canvas(4.6, 3.2)
        axes = figure.add_axes((0.15, 0.145, 0.835, 0.82))
        axes.set_xscale("log")
        axes.set_yscale("log")
        beside = rows[:0] if measured is None else measured[measured[axis].between(places[0], places[-1])]
        levels = pd.concat([rows[value], rows[f"{value}_low"], rows[f"{value}_high"], beside[value]])
        levels = levels[levels > 0]
        axes.set_ylim(levels.min() / 1.25, levels.max() * 1.25)
        ends, said = {}, []
        for label, group in rows.sort_values(axis).groupby("label"):
            look = looks[str(label)]
            axes.plot(group[axis], group[value], color=look.light, linewidth=1.6, linestyle=look.dash)
            axes.plot(group[axis], group[value], look.marker, color=look.light, markersize=4, linestyle="none")
            axes.vlines(group[axis], group[f"{value}_low"], group[f"{value}_high"], color=look.light, linewidth=0.8)
            last = group.iloc[-1]
            ends[str(label)] = (float(last[axis]), float(last[value]))
            first = group.iloc[0]
            said.append(
                f"{label}: {_value(value, first[value])} at {first[axis]:g}{unit}, {_value(value, last[value])} at "
                f"{last[axis]:g}{unit}"
            )
        if axis == "workers" and value == "samples_per_s":
            top = rows[rows[axis] == places[0]][value].max()
            axes.plot(
                [places[0], places[-1]], [top, top * places[-1] / places[0]], color=MUTED, linewidth=0.8, dashes=(2, 2)
            )
        labels_at_ends(axes, ends, looks, log_x=True, left_x=float(places[0]) / 1.25)
        for row in beside[beside[value] > 0].to_dict("records"):
            axes.plot(
                [row[axis]], [row[value]], looks[row["label"]].marker, color=INK, markersize=7,
                markerfacecolor="none", markeredgewidth=0.9,
            )  # fmt: skip
        axes.set_xlabel(axis_label)
        axes.set_ylabel(VALUES[value])
        finish(axes)
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _thousands(v)))
        title = f"Predicted {VALUES[value]} against the {axis_label}"
        return to_svg(figure, name, title, f"{where}, simulated. " + "; ".join(said) + ".")


def _thousands(amount: float) -> str:
    if amount >= 1e6:
        return f"{amount / 1e6:,g}M"
    return f"{amount / 1e3:g}k" if amount >= 1e4 else f"{amount:g}"


def _value(value: str, amount: float) -> str:
    return seconds(amount) if value == "time_to_target_s" else f"{number(amount)} samples/s"


def _pair(row: Mapping[str, object]) -> str:
    """A pair in a few words."""
    rate = float(str(row["rate_Gbit_per_s"]))
    limit = "" if math.isnan(rate) else f", {rate:g} Gbit/s"
    over = TRANSPORTS.get(str(row["transport"]), row["transport"])
    name, workload = short(str(row["label"]), 18), short(str(row["workload"]), 18)
    return f"{name}, {workload}, n={row['workers']}, {over}{limit}"
