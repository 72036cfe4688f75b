"""Barriers between workers: what averaging two of them would have to climb over."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.probes.tables import WORKERS
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

LARGEST = 32
"""Workers of the largest matrix that is drawn."""
NEGLIGIBLE = 1e-3
"""[nat] A barrier below it cannot be told from rounding and the choice of points."""


def section(material: Material) -> Section | None:
    """Whether the workers' models lie in one valley, so that their mean is as good as they are."""
    found = probed(material, WORKERS)
    panels = [_panel(material, transport, rows) for transport, rows in by_transport(found.rows)]
    return of_panels(
        material,
        "barriers",
        t("Barriers between the workers"),
        t(
            "On the straight line between two workers' models the loss may rise: that rise is the barrier. Without one "
            "they lie in the same valley and their mean is at least as good; a high one means that averaging them does "
            "harm."
        ),
        panels,
        found.problems,
    )


def _panel(material: Material, transport: str, every: pd.DataFrame) -> Panel:
    rows = at_last(one_call(every))
    pairs, to_mean = rows[rows["b"] != "mean"], rows[rows["b"] == "mean"]
    shown = over_seeds(_per_run(pairs, to_mean), ["label"], ["highest", "barrier", "gain", "distance"])
    cells = pairs.groupby(["label", "a", "b"], as_index=False)[["barrier", "distance"]].mean()
    cells["seeds"] = pairs.groupby(["label", "a", "b"])["run_id"].nunique().to_numpy()
    cells = cells.assign(first=_number(cells["a"]), second=_number(cells["b"])).sort_values(
        ["label", "first", "second"]
    )
    finite = cells.loc[np.isfinite(cells["barrier"]), "barrier"]
    top = float(finite.max()) if len(finite) else 0.0
    high = cells.groupby("label")["barrier"].max()
    size = int(cells["second"].max()) + 1 if len(cells) else 0
    if size > LARGEST:
        high = high[:0]
    labels, fewer = drawn(material, transport, sorted(high[high >= NEGLIGIBLE].index))  # of others a sentence says it
    made = []
    for i, (label, group) in enumerate(cells[cells["label"].isin(labels)].groupby("label")):
        matrix = symmetric(group)
        highest = group.sort_values("barrier").iloc[-1]
        mean, most = (words.number(float(v)) for v in (group["barrier"].mean(), highest["barrier"]))
        text = (
            f"{label}: barriers [nat] between {len(matrix)} workers, means over seeds; mean {mean}, highest {most} "
            f"between worker {highest['first']} and worker {highest['second']}."
        )
        title = f"Barriers between the workers of {label}"
        name = material.id(f"barriers-{transport}-{i}")
        made.append((str(label), figures.heat(name, title, matrix, top, "worker", "worker", text)))
    if size > LARGEST:
        fewer = t("With more than {most} workers the matrices are not drawn; the table has what counts.", most=LARGEST)
    sentences = [where(rows), *_sentences(shown), fewer, other_calls(every, rows)]
    groups = [Group(t("Barrier between each two workers in nat, mean over the seeds. Bright is high."), made)]
    tables, details = [_main(material, transport, shown)], [_each_pair(material, transport, cells)]
    return Panel(transport, [s for s in sentences if s], groups, tables, details)


def _number(names: pd.Series) -> pd.Series:
    return names.str.removeprefix("replica ").astype(int)


def _per_run(pairs: pd.DataFrame, to_mean: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its highest and mean barrier, what averaging all gains, how far workers are from their mean."""
    keys = ["run_id", "label"]
    table = to_mean.assign(gain=to_mean["loss_a"] - to_mean["loss_b"]).groupby(keys)[["gain", "distance"]].mean()
    between = pairs.groupby(keys)["barrier"].agg(["max", "mean"]).reindex(table.index)
    return table.assign(highest=between["max"], barrier=between["mean"]).reset_index()


def symmetric(pairs: pd.DataFrame) -> pd.DataFrame:
    """A matrix [workers, workers] of the pairs' barriers; the diagonal is empty."""
    size = int(pairs[["first", "second"]].to_numpy().max()) + 1
    matrix = np.full((size, size), np.nan)
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    matrix[first, second] = matrix[second, first] = pairs["barrier"]
    return pd.DataFrame(matrix)


def _sentences(shown: pd.DataFrame) -> list[str]:
    none = [str(label) for label in shown.loc[shown["highest"] < NEGLIGIBLE, "label"]]
    found = []
    if none:
        found.append(
            t(
                "No barrier (below {least} nat): {labels}. Averaging these workers costs nothing.",
                least=words.number(NEGLIGIBLE, 1),
                labels=words.listed(none),
            )
        )
    high = shown[shown["highest"] >= NEGLIGIBLE]
    if len(high):
        most = high.sort_values("highest").iloc[-1]
        values = {"label": most["label"], "highest": said(most, "highest"), "gain": said(most, "gain")}
        if float(most["gain"]) >= 0:
            found.append(
                t(
                    "The highest barriers are those of {label}: {highest} nat. Still averaging all workers gains: "
                    "their loss less that of their mean is {gain} nat.",
                    **values,
                )
            )
        else:
            found.append(
                t(
                    "The highest barriers are those of {label}: {highest} nat. Averaging all workers does harm: "
                    "their loss less that of their mean is {gain} nat.",
                    **values,
                )
            )
    return found


def _main(material: Material, transport: str, shown: pd.DataFrame) -> ShownTable:
    return ShownTable(
        material.id(f"barriers-{transport}"),
        t("Barriers between the workers, one row per algorithm"),
        (
            Shown("label", t("Algorithm")),
            Shown("n", t("Seeds")),
            averaged("highest", t("Highest barrier"), "nat", t("Of all pairs of workers.")),
            averaged("barrier", t("Mean barrier"), "nat", t("Over all pairs of workers.")),
            averaged(
                "gain",
                t("Gain by averaging"),
                "nat",
                t("Mean loss of the workers less the loss of their mean; below 0 averaging does harm."),
            ),
            averaged("distance", t("Distance from the mean"), meaning=t("Euclidean, of a worker's parameters.")),
        ),
        shown,
        label="label",
    )


def _each_pair(material: Material, transport: str, cells: pd.DataFrame) -> ShownTable:
    return ShownTable(
        material.id(f"barriers-pairs-{transport}"),
        t("Barriers between each two workers, in numbers"),
        (
            Shown("label", t("Algorithm")),
            Shown("first", t("Worker")),
            Shown("second", t("Other worker")),
            Shown("seeds", t("Seeds")),
            Shown("barrier", t("Mean barrier"), "nat"),
            Shown("distance", t("Distance between them")),
        ),
        cells,
        label="label",
    )
