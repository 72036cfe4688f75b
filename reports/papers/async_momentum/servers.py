"""Hardware and statistical efficiency of compute groups, limits of the stable rate, servers that correct staleness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.papers.async_momentum.rates import edge, square_edge
from analysis.papers.async_momentum.servers import MITIGATED, group_runs, tuned_groups
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import best, errors
from analysis.statistics import mean_over_runs
from analysis.theory.delays import constant_limit, memoryless_limit, scaled_limit
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.lines import Axis, Known, Line, Panel, over_seeds, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.style import LOOKS, looks

SERVERS = ("async-sgd", *MITIGATED)
QUANTITIES = (
    ("hardware efficiency", "seconds per step", "step_s"),
    ("statistical efficiency", "steps to the loss", "steps"),
    ("both", "seconds to the loss", "time_s"),
)
"""Title of the panel, its axis, column of `tuned_groups`."""
LOOK_OF = looks((name, name) for name in SERVERS)


def groups(evidence: Evidence, material: Material) -> PaperFigure:
    """Time per step, steps, and their product, against the number of compute groups.

    Raises:
        Missing: the study has not been run, or no number of groups reached the target.
    """
    runs = group_runs(evidence)
    found = tuned_groups(runs)
    reached = found[np.isfinite(found["steps"])]
    if len(reached) < 2:
        raise Missing("groups: the target is not reached with two numbers of groups")
    counts = found["groups"].tolist()
    x = Axis("compute groups", log=True, low=counts[0] / 1.2, high=counts[-1] * 1.2, ticks=counts)
    parts = []
    for i, (heading, label, column) in enumerate(QUANTITIES):
        own = found if column == "step_s" else reached
        means = [mean_over_runs(_at(runs, row)[column].to_numpy()) for row in own.to_dict("records")]
        top = 1.08 * max(mean.high if np.isfinite(mean.high) else mean.mean for mean in means)
        line = over_seeds(label, LOOKS[1 + i], own["groups"], means, marks=True)
        parts.append(Panel(x, Axis(label, low=0.0, high=top), [line], (), heading))
    least = reached.loc[reached["time_s"].idxmin()]
    title = t("Compute groups: hardware and statistical efficiency, and the time that comes of both")
    text = t(
        "Eight machines in 1 to 8 groups, synchronous inside a group and asynchronous across; momentum from 0 on and "
        "learning rate tuned for the fewest steps, means over {n} seeds with their 95 % interval. {groups} groups "
        "are soonest, after {time} of virtual time. In the paper more groups make steps shorter and more of them "
        "necessary.",
        n=int(found["seeds"].min()), groups=f"{least['groups']:g}", time=words.seconds(float(least["time_s"])),
    )  # fmt: skip
    table = of_panels(
        "async-groups", t("Efficiency by compute groups"), parts, x=t("Groups"), y=t("Value"), line=t("Quantity"),
        part=t("Panel"),
    )  # fmt: skip
    return PaperFigure("async-groups", title, panels("async-groups", title, "", parts), text, table, ("B11",))


def _at(runs: pd.DataFrame, row: Mapping[Any, Any]) -> pd.DataFrame:
    """The runs of a number of groups at its momentum and learning rate."""
    keys = ["groups", "momentum", "lr"]
    return runs[(runs[keys] == [row[key] for key in keys]).all(axis=1)]


def limits(evidence: Evidence, material: Material) -> PaperFigure:
    """The largest stable rate against staleness, beside the formulas.

    Raises:
        Missing: one of the experiments has not been made.
    """
    edges, random = evidence.table("edges"), evidence.table("mean-path")
    lines, known = [], []
    delays = np.array(sorted({int(d) for d in edges["staleness"]}))
    for name, label, limit in (
        ("async-sgd", "async-sgd, constant staleness", constant_limit),
        ("sa-asgd", "sa-asgd, constant staleness", scaled_limit),
    ):
        own = [(int(str(d)), edge(rows)) for d, rows in edges[edges["server"] == name].groupby("staleness", sort=True)]
        lines.append(Line(label, LOOK_OF[name], [d for d, _ in own], [a for _, a in own], marks=True, joined=False))
        known.append(Known("formula", delays, [limit(int(d)) for d in delays], look=LOOK_OF[name]))
    found = [
        (int(str(m)), square_edge(rows, int(str(m))))
        for m, rows in random[(random["momentum"] == 0) & (random["workers"] > 1)].groupby("workers", sort=True)
    ]
    mean = np.array([m - 1 for m, _ in found])
    look = LOOKS[9]
    lines.append(Line("memoryless, mean square", look, mean, [a for _, a in found], marks=True, joined=False))
    known.append(Known("formula", mean, [memoryless_limit(m) for m, _ in found], look=look))
    if not len(delays) or not found:
        raise Missing("edges: the table is empty")
    x = Axis("mean staleness [writes]", low=-0.5, high=float(delays[-1]) + 0.6, ticks=[float(d) for d in delays])
    parts = [Panel(x, Axis("largest stable rate x curvature", log=True), lines, known)]
    title = t("Largest stable learning rate against staleness")
    text = t(
        "Where growth begins in runs (marks) and by the formulas (dashed), which are derived here. Dividing the rate "
        "by the staleness, as SA-ASGD does, keeps it stable where it otherwise falls as 1 / staleness. Points with "
        "memoryless workers stand at their mean staleness M - 1."
    )
    table = of_panels(
        "async-limits", t("Largest stable rate by staleness"), parts, x=t("Mean staleness"),
        y=t("Largest stable rate x curvature"), line=t("Server"),
    )  # fmt: skip
    return PaperFigure("async-limits", title, panels("async-limits", title, "", parts), text, table, ("B10", "C1"))


def mitigation(evidence: Evidence, material: Material) -> PaperFigure:
    """Lowest test error of servers that correct stale gradients, over the learning rates.

    Raises:
        Missing: the study has not been run, or runs of it failed.
    """
    table = errors(evidence, "mitigation")
    chosen = best(table, "lowest", by=("algorithm",)).set_index("algorithm")
    lines = [_over_rates(name, table[table["algorithm"] == name]) for name in SERVERS if name in chosen.index]
    if not lines:
        raise Missing("mitigation: no run of the servers")
    tried = sorted({float(lr) for lr in table["lr"]})
    x = Axis("learning rate", log=True, low=tried[0] / 1.3, high=tried[-1] * 1.3, ticks=tried)
    parts = [Panel(x, Axis("lowest test error [%]", log=True), lines)]
    title = t("Servers that correct stale gradients, 16 memoryless workers: test error over the learning rates")
    each = [
        t("{name} {error} at rate {lr}", name=name, error=words.percent(float(chosen.loc[name, "mean"])),
          lr=f"{chosen.loc[name, 'lr']:g}")
        for name in chosen.index
    ]  # fmt: skip
    text = t(
        "MNIST, four learning rates each, mean over {n} seeds with its 95 % interval; those that divide their rate by "
        "the staleness or the gap have larger ones. Best: {each}. The papers have them at least as good as plain "
        "asynchronous SGD.",
        n=int(chosen["n"].min()), each=words.commas(each),
    )  # fmt: skip
    shown = of_panels(
        "async-mitigation", t("Lowest test error by learning rate"), parts, x=t("Learning rate"),
        y=t("Lowest test error [%]"), line=t("Server"),
    )  # fmt: skip
    return PaperFigure("async-mitigation", title, panels("async-mitigation", title, "", parts), text, shown, ("C3",))


def _over_rates(name: str, own: pd.DataFrame) -> Line:
    by_rate = [(float(str(lr)), 100 * rows["lowest"].to_numpy()) for lr, rows in own.groupby("lr", sort=True)]
    means = [mean_over_runs(values) for _, values in by_rate]
    return over_seeds(name, LOOK_OF[name], [lr for lr, _ in by_rate], means, marks=True)


FIGURES: tuple[Draw, ...] = (groups, limits, mitigation)
