"""The loss around the kept models: where the workers stand in it, a plane of random directions, the way from the start.

Of several seeds the first one that was probed is drawn; the table holds all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.probes.tables import LANDSCAPE, NUMBERS
from reports import figures_probes_landscape as figures
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
    where,
)
from reports.sections.base import Material, Section
from reports.shown import Shown, ShownTable

SHARPNESS = ("loss", "sharpness", "adaptive_sharpness", "expected_sharpness", "landscape_index")


def section(material: Material) -> Section | None:
    """How the loss looks around the models, and where the workers are in it."""
    places, numbers = probed(material, LANDSCAPE), probed(material, NUMBERS)
    sharp = numbers.rows[numbers.rows["kind"] == "loss"]
    transports = by_transport(pd.concat([places.rows, sharp], ignore_index=True))
    panels = [
        _panel(material, on, places.rows[places.rows["transport"] == on], sharp[sharp["transport"] == on])
        for on, _ in transports
    ]
    return of_panels(
        material,
        "landscape",
        t("The loss around the models"),
        t(
            "A loss landscape is the loss of models near the trained one. A wide valley forgives small changes, a "
            "narrow one does not; workers that stand far apart in it have drifted."
        ),
        panels,
        (*places.problems, *numbers.problems),
    )


def _panel(material: Material, transport: str, every: pd.DataFrame, numbers: pd.DataFrame) -> Panel:
    chosen = one_call(every) if len(every) else one_call(numbers)
    rows = at_last(of_call(every, chosen.iloc[0])) if len(every) else every
    rows = rows.assign(loss=rows["loss"].where(np.isfinite(rows["loss"].astype(float))))  # far away it may be beyond
    sharp = at_last(of_call(numbers, chosen.iloc[0])) if len(numbers) else numbers
    first = _one_seed(rows)
    labels, fewer = drawn(material, transport, sorted(first["label"].unique()))
    few = first[first["label"].isin(labels)]
    groups = [
        Group(
            t(
                "Where the workers stand: above along the axis on which they are furthest apart, below on the plane of "
                "the two such axes around their mean, at its own scale. Dots: workers; hollow: the evaluated model. "
                "Lines: loss in nat above the plane's lowest."
            ),
            list(_positions(material, transport, few)),
        ),
        Group(
            t(
                "The loss on a plane of two random directions, each as long as the model itself, filter by filter: "
                "widths can be compared between algorithms. Lines: loss in nat, at the same values everywhere."
            ),
            list(_planes(material, transport, few)),
        ),
    ]
    line = few[(few["curve"] == "interpolation") & (few["loss"] > 0)]  # the axis is logarithmic
    if len(line):
        svg = figures.way(material.id(f"way-{transport}"), line, material.look_of, _described(material))
        groups.append(Group(t("The straight way from the first kept model to the last."), [("", svg)]))
    known = rows if len(rows) else sharp
    sentences = [where(known), _far(first), fewer, other_calls(pd.concat([every, numbers]), pd.concat([rows, sharp]))]
    tables = [_main(material, transport, sharp)] if len(sharp) else []
    details = [_standing(material, transport, few)]
    return Panel(transport, [s for s in sentences if s], groups, tables, details)


def _one_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each label's lowest seed."""
    return rows[rows["seed"] == rows.groupby("label")["seed"].transform("min")] if len(rows) else rows


def _described(material: Material) -> str:
    return material.setting.described if material.setting else ""


def _positions(material: Material, transport: str, rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for i, (label, group) in enumerate(rows.groupby("label")):
        around, places = group[group["curve"] == "workers"], group[group["curve"] == "position"]
        if around["loss"].isna().all() or places.empty:
            continue  # never probed like this, or all workers are equal, or no loss is a number
        workers = places[places["a"] != "evaluated"]
        text = (
            f"{label}, {_described(material)}: {len(workers)} workers up to {words.number(_reach(workers))} from their "
            f"mean, with losses from {words.number(float(workers['loss'].min()), 4)} to "
            f"{words.number(float(workers['loss'].max()), 4)} nat; on the plane the loss goes from "
            f"{words.number(float(around['loss'].min()), 4)} to {words.number(float(around['loss'].max()), 4)} nat."
        )
        look = material.look_of[str(label)]
        yield (
            str(label),
            figures.positions(material.id(f"workers-{transport}-{i}"), str(label), around, places, look, text),
        )


def _reach(workers: pd.DataFrame) -> float:
    return float(np.hypot(workers["alpha"], workers["beta"]).max())


def _planes(material: Material, transport: str, rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    planes = rows[rows["curve"] == "plane"]
    planes = planes[planes.groupby("label")["loss"].transform("count") > 0]
    top = float(planes["loss"].max())
    levels = figures.rungs(max(float(planes["loss"].min()), 1e-4 * top), top)
    for i, (label, group) in enumerate(planes.groupby("label")):
        grid = figures.squared(group)
        low, high = float(group["loss"].min()), float(group["loss"].max())
        middle = group.iloc[int((group["alpha"].abs() + group["beta"].abs()).argmin())]
        text = (
            f"{label}, {_described(material)}: {words.number(float(middle['loss']))} nat at the model, between "
            f"{words.number(low)} and {words.number(high)} nat on the plane."
        )
        name = material.id(f"plane-{transport}-{i}")
        yield str(label), figures.plane(name, str(label), grid, levels, material.look_of[str(label)], text)


def _far(rows: pd.DataFrame) -> str:
    """Whose workers stand furthest from their mean."""
    workers = rows[(rows["curve"] == "position") & (rows["a"] != "evaluated")]
    if workers.empty:
        return ""
    reach = {str(label): _reach(group) for label, group in workers.groupby("label")}
    far = max(reach, key=lambda label: reach[label])
    own = workers[workers["label"] == far]
    return t(
        "Workers stand furthest from their mean in {label}, at {distance}; their own losses lie between {low} and "
        "{high} nat.",
        label=far,
        distance=words.number(reach[far]),
        low=words.number(float(own["loss"].min()), 4),
        high=words.number(float(own["loss"].max()), 4),
    )


def _main(material: Material, transport: str, sharp: pd.DataFrame) -> ShownTable:
    wide = sharp.pivot_table(index=["run_id", "label"], columns="quantity", values="value")
    wide = wide.reindex(columns=list(SHARPNESS)).reset_index()
    meanings: Mapping[str, Any] = {
        "loss": (t("Loss there"), "nat", ""),
        "sharpness": (
            t("Worst nearby"),
            "nat",
            t("Sharpness: the highest rise that was found within a small ball, 1 % of the model's length by default."),
        ),
        "adaptive_sharpness": (
            t("Worst nearby, in the model's scale"),
            "nat",
            t("Adaptive sharpness: each parameter may move in proportion to its size."),
        ),
        "expected_sharpness": (
            t("Mean rise nearby"),
            "nat",
            t("Mean rise of the loss under Gaussian noise of the same length."),
        ),
        "landscape_index": (t("Landscape index"), "", t("Curvature along the gradient, a cheap index of sharpness.")),
    }
    return ShownTable(
        material.id(f"sharpness-{transport}"),
        t("Sharpness around the models, one row per algorithm"),
        (
            Shown("label", t("Algorithm")),
            Shown("n", t("Seeds")),
            *(averaged(name, *meanings[name]) for name in SHARPNESS),
        ),
        over_seeds(wide, ["label"], list(SHARPNESS)),
        label="label",
    )


def _standing(material: Material, transport: str, rows: pd.DataFrame) -> ShownTable:
    places = rows[rows["curve"] == "position"]
    return ShownTable(
        material.id(f"positions-{transport}"),
        t("Where the workers stand, in numbers"),
        (
            Shown("label", t("Algorithm")),
            Shown("a", t("Model")),
            Shown("seed", t("Seed")),
            Shown("alpha", t("Along the first axis"), meaning=t("Euclidean length from the workers' mean.")),
            Shown("beta", t("Along the second axis")),
            Shown("loss", t("Loss there"), "nat"),
        ),
        places[["label", "a", "seed", "alpha", "beta", "loss"]],
        label="label",
    )
