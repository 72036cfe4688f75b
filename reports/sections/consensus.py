"""How far the workers' parameters were from their mean, over the run."""

from __future__ import annotations

from analysis.curves import over_runs
from reports import words
from reports.chosen import transports
from reports.figures_over_time import consensus
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels


def section(material: Material) -> Section | None:
    """The distances for each transport; None if all are zero or none is known."""
    assert material.setting is not None
    heldout = material.results.heldout
    known = heldout[heldout["run_id"].isin(material.table["run_id"]) & heldout["consensus_distance"].notna()]
    means = over_runs(known, material.table)
    shown = []
    for transport in transports(material.table):
        own = means[means["transport"] == transport]
        apart = own.groupby("label")["mean"].max() > 0
        never = sorted(str(label) for label in apart.index[~apart])
        own = own[own["label"].isin(apart.index[apart])]
        if own.empty or own["snapshot"].nunique() < 2:
            continue
        where = f"{material.setting.described}, {words.transport(transport)}"
        svg = consensus(material.id(f"{transport}-consensus"), own, material.look_of, where)
        notes = [t("All workers equal at every snapshot: {labels}.", labels=words.listed(never))] if never else []
        shown.append(Panel(transport, [svg], notes))
    hint = t(
        "Root mean square over the workers of the distance from their mean, at the snapshots; mean over the seeds with "
        "its interval. An open mark on the floor: the workers were equal, or all but, at that snapshot, because they "
        "had just averaged."
    )
    return panels(material, "consensus", t("How far apart the workers were"), hint, shown)
