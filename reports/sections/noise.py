"""Effective learning rate of decentralised SGD, and what its gradient noise is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.probes.tables import NOISE
from reports import figures_probes as figures
from reports import words
from reports.language import t
from reports.probed import (
    Group,
    Panel,
    averaged,
    by_transport,
    drawn,
    of_panels,
    one_call,
    other_calls,
    over_seeds,
    probed,
    said,
)
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable

VALUES = ["ratio", "control", "change", "noise_sampling", "noise_diversity", "share", "replica_variance", "noise_scale"]
WINDOW, MANY = 5, 10
"""Medians run over so many snapshots where there are so many: single values are heavy-tailed."""
COARSE = 0.1
"""A control so far from 1 says that the overall slope was too small to measure rates by."""


def section(material: Material) -> Section | None:
    """How much of a step goes down the slope, and how much of its noise comes from the workers' disagreement."""
    found = probed(material, NOISE)
    panels = [_panel(material, transport, rows) for transport, rows in by_transport(found.rows)]
    return of_panels(
        material,
        "noise",
        t("Effective learning rate and gradient noise"),
        t(
            "Workers that disagree compute gradients at different places. That adds noise of its own to a step, and "
            "changes how far it goes down the overall slope: the effective learning rate (Zhang et al., "
            "arXiv 2112.01433)."
        ),
        panels,
        found.problems,
    )


def _panel(material: Material, transport: str, every: pd.DataFrame) -> Panel:
    rows = derived(one_call(every))
    per_run = rows[rows["snapshot"] > 0] if (rows["snapshot"] > 0).any() else rows
    medians = per_run.groupby(["run_id", "label"], as_index=False)[VALUES].median()
    shown = over_seeds(medians, ["label"], VALUES)
    shown["snapshots"] = per_run.groupby("label")["snapshot"].nunique().reindex(shown["label"]).to_numpy()
    middle = running(rows)
    ratios, levels = _limits(rows)
    labels, fewer = drawn(material, transport, list(shown["label"]))
    made = []
    for i, row in enumerate(shown[shown["label"].isin(labels)].to_dict("records")):
        label = str(row["label"])
        own = middle[middle["label"] == label]
        svg = figures.noise_parts(
            material.id(f"noise-{transport}-{i}"), label, own, rows[rows["label"] == label], ratios, levels,
            material.look_of[label], _in_words(row),
        )  # fmt: skip
        made.append((label, svg))
    first = rows.iloc[0]
    sentences = [
        t(
            "Measured on the mini-batches that the workers took next, at {snapshots} planned times; the overall slope "
            "is that of {count} training samples.",
            snapshots=rows["snapshot"].nunique(),
            count=f"{int(first['samples']):,}",
        ),
        _smoothed(rows),
        *_sentences(shown),
        fewer,
        other_calls(every, rows),
    ]
    groups = [
        Group(
            t(
                "Above: effective over nominal learning rate, median over seeds and single runs (dots; those beyond "
                "the axis lie on its edge); dotted: the control, the same mini-batches at the workers' mean, as "
                "synchronous SGD would have taken them. Below, on a logarithmic axis: the noise that mini-batches "
                "bring, and what the workers' disagreement adds."
            ),
            made,
        )
    ]
    tables, details = [_main(material, transport, shown)], [_over_training(material, transport, middle)]
    return Panel(transport, [s for s in sentences if s], groups, tables, details)


def derived(rows: pd.DataFrame) -> pd.DataFrame:
    """With `ratio` = alpha_e / alpha, `control` likewise, `change` between them, `share` of the disagreement."""
    lr = rows["lr"].where(rows["lr"] > 0)  # a schedule may begin at 0
    ratio, control = rows["alpha_e"] / lr, rows["alpha_e_control"] / lr
    total = rows["noise_sampling"] + rows["noise_diversity"]
    share = (rows["noise_diversity"] / total).where(total > 0)
    return rows.assign(ratio=ratio, control=control, change=ratio - control, share=share)


def running(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds, one row per label and snapshot; of many snapshots running medians over `WINDOW` of them."""
    middle = rows.groupby(["label", "snapshot"], as_index=False)[["step", *VALUES]].median()
    if middle["snapshot"].nunique() >= MANY:
        by_label = middle.groupby("label")[VALUES]
        middle[VALUES] = by_label.rolling(WINDOW, center=True, min_periods=1).median().droplevel(0).sort_index()
    return middle


def _smoothed(rows: pd.DataFrame) -> str:
    if rows["snapshot"].nunique() < MANY:
        return ""
    return t("Single values scatter widely: the lines are running medians over {window} planned times.", window=WINDOW)


def _limits(rows: pd.DataFrame) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """Axes that hold nearly all ratios, and all noise."""
    seen = rows[["ratio", "control"]].to_numpy(dtype=np.float64)
    seen = seen[np.isfinite(seen)]
    low, high = np.quantile(seen, [0.05, 0.95]).tolist() if len(seen) else (1.0, 1.0)
    low, high = min(low, 0.8), max(high, 1.2)
    levels = rows[["noise_sampling", "noise_diversity"]].to_numpy(dtype=np.float64)
    levels = levels[(levels > 0) & np.isfinite(levels)]
    room = 0.08 * (high - low)
    return (low - room, high + room), (levels.min() / 2, levels.max() * 2) if len(levels) else None


def _in_words(row: Mapping[Any, Any]) -> str:
    value = {name: float(str(row[name])) for name in VALUES}
    return (
        f"{row['label']}, medians over training: effective over nominal learning rate {words.number(value['ratio'])}, "
        f"control {words.number(value['control'])}; noise of mini-batches {words.number(value['noise_sampling'])}, of "
        f"disagreement {words.number(value['noise_diversity'])}."
    )


def _sentences(shown: pd.DataFrame) -> list[str]:
    found = []
    loud = shown[shown["share"] > 0]
    if len(loud):
        most = loud.sort_values("share").iloc[-1]
        found.append(
            t(
                "Disagreement adds most noise in {label}: {share} of what mini-batches and disagreement make together. "
                "It changes the effective learning rate there by {change} of the nominal one, in the median over "
                "training and against the control.",
                label=most["label"],
                share=said(most, "share", words.percent),
                change=said(most, "change", _signed),
            )
        )
    off = shown[(shown["control"] - 1).abs() > COARSE]
    if len(off):
        far = off.loc[(off["control"] - 1).abs().sort_values().index].iloc[-1]
        found.append(
            t(
                "The control should be 1. It strays to {control} in {label}: the overall slope is too small against "
                "the noise to read the effective rate itself, look at its difference to the control.",
                control=said(far, "control"),
                label=far["label"],
            )
        )
    return found


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}\u00a0%"


def _main(material: Material, transport: str, shown: pd.DataFrame) -> ShownTable:
    return ShownTable(
        material.id(f"noise-{transport}"),
        t("Effective learning rate and noise, one row per algorithm"),
        (
            Shown("label", t("Algorithm")),
            Shown("n", t("Seeds"), meaning=t("Of each run the median over its snapshots counts, then their mean.")),
            Shown(
                "snapshots",
                t("Planned times"),
                meaning=t("Without the start, where all workers stand at one point."),
            ),
            averaged("ratio", t("Effective / nominal rate"), meaning=t("alpha_e / alpha")),
            averaged(
                "control",
                t("Control"),
                meaning=t("The same for synchronous SGD at the mean model: 1 up to sampling noise."),
            ),
            averaged(
                "change", t("Change by disagreement"), meaning=t("Effective rate less control, over the nominal rate.")
            ),
            averaged("noise_sampling", t("Noise of mini-batches"), meaning=t("Delta_S, squared length.")),
            averaged("noise_diversity", t("Noise of disagreement"), meaning=t("Delta^(2), squared length.")),
            averaged(
                "share", t("Share of disagreement"), meaning=t("Delta^(2) / (Delta_S + Delta^(2))."), text=words.percent
            ),
            averaged(
                "replica_variance",
                t("Spread of the workers"),
                meaning=t("sigma_w^2, mean squared distance from their mean."),
            ),
            averaged(
                "noise_scale",
                t("Noise scale"),
                t("samples"),
                t("Variance of single gradients over the squared slope: batches beyond it bring little."),
            ),
        ),
        shown,
        label="label",
    )


def _over_training(material: Material, transport: str, middle: pd.DataFrame) -> ShownTable:
    return ShownTable(
        material.id(f"noise-over-training-{transport}"),
        t("Effective learning rate and noise over training, in numbers"),
        (
            Shown("label", t("Algorithm")),
            Shown("snapshot", t("Planned time")),
            Shown("step", t("Steps of a worker")),
            Shown("ratio", t("Effective / nominal rate")),
            Shown("control", t("Control")),
            Shown("noise_sampling", t("Noise of mini-batches")),
            Shown("noise_diversity", t("Noise of disagreement")),
            Shown("replica_variance", t("Spread of the workers")),
            Shown("noise_scale", t("Noise scale"), t("samples")),
        ),
        middle,
        label="label",
    )
