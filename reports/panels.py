"""The figures of one setting, transport by transport: what is measured never shares axes with what is simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports import figures, words
from reports.sections.base import Material
from reports.style import Look


def panels(
    material: Material, histogram: pd.DataFrame, transports: Sequence[str], target: float
) -> list[dict[str, Any]]:
    """What the template of figures needs, a panel for each transport.

    Args:
        material: of a setting.
        histogram: `analysis.staleness.staleness_histogram` of all runs.
        target: held-out loss to reach, NaN if none.
    """
    assert material.setting is not None
    name, look_of = material.setting.name, material.look_of
    table, summary = material.table, material.summary
    done = table[table["status"] == "completed"]
    drawn = []
    for on in transports:
        own, title = table[table["transport"] == on], words.TRANSPORTS.get(on, on)
        where = f"{material.setting.described}, {title}"
        lines = [
            figures.curves(f"{name}-{on}-{axis}", axis, own, material.results.heldout, look_of, target, where)
            for axis in figures.AXES
        ]
        ours = done.loc[done["transport"] == on, ["run_id", "label"]]
        stale, fresh = _staleness(f"{name}-{on}-stale", histogram.merge(ours, on="run_id"), look_of, where)
        split = material.split[material.split["run_id"].isin(ours["run_id"])]
        drawn.append(
            {
                "transport": on,
                "title": title,
                "simulated": bool(summary.loc[summary["transport"] == on, "simulated"].any()),
                "curves": [svg for svg in lines if svg],
                "staleness": stale,
                "fresh": fresh,
                "time": figures.time_split(f"{name}-{on}-time", split, where),
            }
        )
    return drawn


def _staleness(name: str, old: pd.DataFrame, look_of: Mapping[str, Look], where: str) -> tuple[list[str], str]:
    """A figure for each algorithm that used outdated gradients, and the names of those that never did."""
    most = int(old["staleness_updates"].max()) if len(old) else 0
    groups = [(str(label), group) for label, group in old.groupby("label")]
    stale = [
        figures.staleness(f"{name}-{i}", label, group, most, look_of[label], where)
        for i, (label, group) in enumerate(groups)
        if group["staleness_updates"].max() > 0
    ]
    return stale, words.listed([label for label, group in groups if group["staleness_updates"].max() == 0])
