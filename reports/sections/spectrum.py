"""Curvature of the kept models: spectral density, largest and smallest eigenvalues, trace."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.probes.tables import DENSITY, NUMBERS
from reports import figures_probes as figures
from reports import words
from reports.language import t
from reports.probed import (
    Group,
    Panel,
    at_last,
    averaged,
    by_transport,
    drawn,
    of_call,
    of_panels,
    one_call,
    other_calls,
    over_seeds,
    probed,
    said,
    where,
)
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable

FLAT = 0.01  # of the largest eigenvalue: curvature below it is called flat
POINTS = 400  # of a density's curve

NAMES = {
    "eigenvalue": "largest",
    "smallest eigenvalue": "smallest",
    "trace": "trace",
    "loss": "loss",
    "gradient_norm": "gradient_norm",
}
"""Quantity of the probe -> column; of several eigenvalues number 0, which is the outermost."""


def section(material: Material) -> Section | None:
    """How sharply the loss curves at the models that were kept."""
    numbers, nodes = probed(material, NUMBERS), probed(material, DENSITY)
    every = numbers.rows[numbers.rows["kind"].isin(["hessian", "ggn"]) & (numbers.rows["model"] == "evaluated")]
    panels = [_panel(material, transport, rows, nodes.rows) for transport, rows in by_transport(every)]
    return of_panels(
        material,
        "spectrum",
        t("Curvature of the loss"),
        t(
            "Eigenvalues of the loss's second derivatives say how sharply it curves around the trained model: the "
            "largest one limits the learning rate that is stable, many near zero mean that most directions are flat."
        ),
        panels,
        (*numbers.problems, *nodes.problems),
    )


def _panel(material: Material, transport: str, every: pd.DataFrame, nodes: pd.DataFrame) -> Panel:
    rows = one_call(every)
    table = wide(rows)
    last = at_last(table)
    call = rows.iloc[0]
    density = of_call(nodes, call)
    density = density[(density["snapshot"] == last["snapshot"].iloc[0]) & (density["model"] == "evaluated")]
    last = last.merge(_shares(density, last), on="run_id", how="left")
    values = ["largest", "smallest", "trace", "flat", "loss", "gradient_norm", "residual", "trace_error"]
    shown = over_seeds(last, ["label"], values)
    shown["residual"] = last.groupby("label")["residual"].max().reindex(shown["label"]).to_numpy()
    shown["stable_lr"] = (2 / shown["largest"]).where(shown["largest"] > 0)
    matrix = t("the Hessian") if call["kind"] == "hessian" else t("the Gauss-Newton matrix")
    sentences = [where(rows[rows["snapshot"] == last["snapshot"].iloc[0]]), _compared(shown, matrix)]
    labels, fewer = drawn(material, transport, list(shown["label"]))
    densities = list(_densities(material, transport, density, last, shown[shown["label"].isin(labels)]))
    over = over_seeds(table, ["label", "snapshot"], ["largest", "smallest", "trace", "residual", "trace_error"])
    steps = table.groupby(["label", "snapshot"], as_index=False)["step"].mean()
    over = over.merge(steps, on=["label", "snapshot"])
    lines = []
    if over["snapshot"].nunique() > 1:
        for value, said, caption in (
            ("largest", "largest eigenvalue", t("Largest eigenvalue over training")),
            ("trace", "trace", t("Trace over training")),
        ):
            if not np.isfinite(over[value]).any():
                continue
            svg = figures.over_training(
                material.id(f"{value}-{transport}"), value, said, over, material.look_of, _named(material)
            )
            lines.append((caption, svg))
    details = _over_training(material, transport, over)
    groups = [
        Group(t("Over training. Vertical lines: over the seeds."), lines),
        Group(
            t(
                "Spectral density: how the eigenvalues spread, a curve for each seed, on a logarithmic axis. Marks at "
                "the bottom: the largest and the smallest eigenvalue."
            ),
            densities,
        ),
    ]
    return Panel(
        transport,
        [s for s in (*sentences, fewer, other_calls(every, rows)) if s],
        groups,
        [_main(material, transport, shown)],
        [details] * bool(lines),
    )


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run and snapshot: the numbers in columns, with the eigenvalue's residual and the trace's error."""
    outermost = rows[(rows["number"] == 0) & rows["quantity"].isin(NAMES)]
    outermost = outermost.assign(quantity=outermost["quantity"].map(NAMES))
    keys = ["run_id", "label", "seed", "snapshot"]
    table, errors = (outermost.pivot_table(index=keys, columns="quantity", values=name) for name in ("value", "error"))
    table = table.reindex(columns=list(NAMES.values()))
    errors = errors.reindex(index=table.index, columns=["largest", "trace"])
    table = table.assign(residual=errors["largest"], trace_error=errors["trace"]).reset_index()
    return table.merge(rows[["run_id", "snapshot", "step"]].drop_duplicates(["run_id", "snapshot"]), how="left")


def _shares(density: pd.DataFrame, last: pd.DataFrame) -> pd.DataFrame:
    """run_id, flat: share of the eigenvalues that are small beside the largest."""
    found = []
    largest = dict(zip(last["run_id"], last["largest"], strict=True))
    for run_id, group in density.groupby("run_id"):
        small = group["node"].abs() < FLAT * largest[run_id] if run_id in largest else group["node"] != group["node"]
        found.append((run_id, float(group.loc[small, "weight"].sum() / group["weight"].sum())))
    return pd.DataFrame(found, columns=["run_id", "flat"])


def _densities(
    material: Material, transport: str, density: pd.DataFrame, last: pd.DataFrame, shown: pd.DataFrame
) -> Iterator[tuple[str, str]]:
    """A figure per algorithm, all on the same axes."""
    if density.empty:
        return
    from analysis.probes.density import Quadrature  # it loads torch, which nothing else in a report needs

    rules = {}
    for (label, run_id), group in density.groupby(["label", "run_id"]):
        square = [g.sort_values("node")[["node", "weight"]].to_numpy() for _, g in group.groupby("vector")]
        rules[label, run_id] = Quadrature(*np.stack([s.T for s in square], axis=1))
    low, high = float(density["node"].min()), float(density["node"].max())
    width = ((high - low) or abs(high) or 1.0) / 100
    grid = np.linspace(low - 4 * width, high + 4 * width, POINTS)
    curves = {key: rule.curve(grid, width=width).values for key, rule in rules.items()}
    top = max(float(values.max()) for values in curves.values())
    for i, row in enumerate(shown.to_dict("records")):
        label = str(row["label"])
        own = [values for (name, _), values in curves.items() if name == label]
        ends = last.loc[last["label"] == label, ["largest", "smallest"]].to_numpy(dtype=np.float64).ravel()
        text = (
            f"{label}, {_named(material)}: largest eigenvalue {words.number(row['largest'])}, smallest "
            f"{words.number(row['smallest'])}; {_percent(row['flat'])} of the eigenvalues are below "
            f"{words.percent(FLAT)} of the largest."
        )
        if own:
            name = material.id(f"density-{transport}-{i}")
            svg = figures.density(name, label, grid, own, ends[~np.isnan(ends)], top, material.look_of[label], text)
            yield label, svg


def _percent(share: float) -> str:
    """With a decimal: nearly all of a large model's directions are flat, and the rest is what differs."""
    return f"{100 * share:.1f}\u00a0%"


def _named(material: Material) -> str:
    return material.setting.described if material.setting else ""


def _compared(shown: pd.DataFrame, matrix: str) -> str:
    shown = shown.dropna(subset="largest")
    if len(shown) < 2:
        return ""
    sharp, flat = (shown.sort_values("largest").iloc[k] for k in (-1, 0))
    apart = bool(sharp["largest_low"] > flat["largest_high"]) and min(sharp["n"], flat["n"]) > 2
    values = {
        "matrix": matrix,
        "sharp": sharp["label"],
        "most": said(sharp, "largest"),
        "flat": flat["label"],
        "least": said(flat, "largest"),
    }
    if apart:
        return t(
            "Largest eigenvalue of {matrix}: highest for {sharp}, {most}, lowest for {flat}, {least}. Their intervals "
            "lie apart.",
            **values,
        )
    return t(
        "Largest eigenvalue of {matrix}: highest for {sharp}, {most}, lowest for {flat}, {least}. That is not enough "
        "to call one of them sharper.",
        **values,
    )


def _main(material: Material, transport: str, shown: pd.DataFrame) -> ShownTable:
    return ShownTable(
        material.id(f"curvature-{transport}"),
        t("Curvature of the last probed models, one row per algorithm"),
        (
            Shown("label", t("Algorithm")),
            Shown("n", t("Seeds")),
            averaged("largest", t("Largest eigenvalue"), meaning=t("In nat per squared unit of a parameter.")),
            Shown("residual", t("Residual"), meaning=t("The largest |Hv - lv| of the seeds: how exact it is.")),
            Shown(
                "stable_lr",
                t("2 / largest"),
                meaning=t("Above this learning rate plain gradient descent is unstable here."),
            ),
            averaged("smallest", t("Smallest eigenvalue")),
            averaged("trace", t("Trace")),
            Shown(
                "trace_error",
                t("Its standard error"),
                meaning=t("Of the estimate from random vectors, mean over seeds."),
            ),
            averaged(
                "flat",
                t("Flat directions"),
                meaning=t("Share of the eigenvalues below 1 % of the largest."),
                text=_percent,
            ),
            averaged("loss", t("Loss there"), "nat"),
            averaged("gradient_norm", t("Length of the gradient")),
        ),
        shown,
        label="label",
    )


def _over_training(material: Material, transport: str, over: pd.DataFrame) -> ShownTable:
    return ShownTable(
        material.id(f"curvature-over-training-{transport}"),
        t("Eigenvalues and trace over training, in numbers"),
        (
            Shown("label", t("Algorithm")),
            Shown("snapshot", t("Planned time")),
            Shown("step", t("Steps of a worker")),
            Shown("n", t("Seeds")),
            averaged("largest", t("Largest eigenvalue")),
            Shown("residual", t("Residual")),
            averaged("smallest", t("Smallest eigenvalue")),
            averaged("trace", t("Trace")),
            Shown("trace_error", t("Its standard error")),
        ),
        over,
        label="label",
    )
