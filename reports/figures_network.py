"""What the bandwidth of the network changes: a number against it, a line per algorithm, the cross-overs marked."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports.drawing import INK, MUTED, SIZE, canvas, finish, labels_at_ends, theme, to_svg
from reports.style import Look
from reports.words import number

AXES = {
    "time_to_target_s": "seconds to the target",
    "final_heldout_loss": "held-out loss at the end [nat]",
    "samples_per_s": "samples/s of all workers",
}


def by_bandwidth(
    name: str, value: str, rows: pd.DataFrame, changes: pd.DataFrame, looks: Mapping[str, Look], where: str
) -> str | None:
    """A number against the bandwidth between nodes on logarithmic axes, with bands over the seeds; None without a line.

    Args:
        value: of `AXES`.
        rows: rows of `analysis.network_grid.network_grid` of one grid and latency.
        changes: those of `analysis.crossover.crossovers` for them, if the value is what they are about.
        where: for the text.
    """
    rows = rows[rows[value] > 0].sort_values(["label", "bandwidth_Gbit_per_s"])
    places = sorted(rows["bandwidth_Gbit_per_s"].unique())
    if len(places) < 2:
        return None
    with rc_context(theme()):
        figure = canvas(4.6, 3.2)
        axes = figure.add_axes((0.15, 0.145, 0.835, 0.82))
        axes.set_xscale("log")
        axes.set_yscale("log")
        levels = pd.concat([rows[value], rows[f"{value}_low"], rows[f"{value}_high"]])
        levels = levels[levels > 0]
        axes.set_ylim(levels.min() / 1.2, levels.max() * 1.2)
        ends, said = {}, []
        for label, own in rows.groupby("label", sort=True):
            look, at = looks[str(label)], own["bandwidth_Gbit_per_s"]
            axes.fill_between(at, own[f"{value}_low"], own[f"{value}_high"], color=look.light, alpha=0.13, linewidth=0)
            axes.plot(at, own[value], color=look.light, linewidth=1.6, linestyle=look.dash)
            axes.plot(at, own[value], look.marker, color=look.light, markersize=4, linestyle="none")
            first, last = own.iloc[0], own.iloc[-1]
            ends[str(label)] = (float(last["bandwidth_Gbit_per_s"]), float(last[value]))
            said.append(f"{label}: {_at(first, value)}, {_at(last, value)}")
        labels_at_ends(axes, ends, looks, log_x=True, left_x=float(places[0]) / 1.25)
        for change in changes.dropna(subset=["bandwidth_Gbit_per_s"]).to_dict("records"):
            gbit = float(change["bandwidth_Gbit_per_s"])
            axes.axvline(gbit, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
            axes.text(
                gbit, 0.99, f" {number(gbit)}", transform=axes.get_xaxis_transform(), color=INK,
                fontsize=SIZE - 1, verticalalignment="top",
            )  # fmt: skip
            said.append(f"{change['to_label']} overtakes {change['from_label']} at {number(gbit)} Gbit/s")
        axes.set_xlabel("bandwidth of a link [Gbit/s]")
        axes.set_ylabel(AXES[value])
        finish(axes)
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _short(v)))
        return to_svg(
            figure, name, f"{AXES[value]} against the bandwidth", f"{where}, simulated. " + "; ".join(said) + "."
        )


def _at(row: pd.Series, value: str) -> str:
    return f"{number(float(row[value]))} at {row['bandwidth_Gbit_per_s']:g} Gbit/s"


def _short(amount: float) -> str:
    """A number of an axis, thousands as k and millions as M.

    Example:
        >>> [_short(amount) for amount in (0.15, 2000.0, 500_000.0, 2e6)]
        ['0.15', '2,000', '500k', '2M']
    """
    scale, unit = (1e6, "M") if amount >= 1e6 else (1e3, "k") if amount >= 1e4 else (1.0, "")
    return f"{amount / scale:,g}{unit}"
