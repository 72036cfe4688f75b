"""Several workloads or settings together: performance profiles and mean ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.profiles import SCORED_TO, costs, performance_profile, profile_score
from analysis.ranks import FEWEST, critical_difference
from reports import words
from reports.chosen import transports
from reports.figures_summary import critical_difference as ranks_figure
from reports.figures_summary import profile
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.shown import Shown, ShownTable

SETTING = ["study", "workload", "workers"]


def section(material: Material) -> Section | None:
    """Profiles of each transport over at least two settings that two algorithms have in common; None without."""
    shown, parts = [], []
    for transport in transports(material.table):
        own = material.table[material.table["transport"] == transport]
        needed = _costs(own)
        if needed.shape[0] < 2 or needed.shape[1] < 2:
            continue
        scores = profile_score(needed)
        where = f"{len(needed)} settings, {words.transport(transport)}"
        rows = performance_profile(needed)
        by_label = {str(label): float(score) for label, score in scores.items()}
        far = min(max(1.05 * float(rows["tau"].max()), 1.2), SCORED_TO)
        figures = [profile(f"profiles-{transport}", rows, by_label, material.look_of, far, where)]
        if len(needed) >= FEWEST:
            found = critical_difference(needed)
            figures.append(ranks_figure(f"ranks-{transport}", found, material.look_of, where))
        shown.append(Panel(transport, figures, _notes(own, needed)))
        parts.append(_scored(needed, scores, words.transport(transport)))
    hint = t(
        "How often an algorithm reaches the target within so many times the time of the best one there (medians over "
        "the seeds; Dolan and More 2002). Left: how often it is the best; right: how often it gets there at all. The "
        "score is the mean height from 1 to {most} (AlgoPerf). Mean ranks and their critical difference (Demsar 2006): "
        "with {few} settings or more.",
        most=f"{SCORED_TO:g}",
        few=FEWEST,
    )
    tables = [_table(pd.concat(parts, ignore_index=True))] if parts else []
    return panels(material, "profiles", t("Over all workloads"), hint, shown, tables)


def _costs(own: pd.DataFrame) -> pd.DataFrame:
    """Settings x labels that ran in all of them; settings where nobody reached the target say nothing, and are out."""
    names = own[SETTING].astype(str).agg(" / ".join, axis=1)
    ran = own.assign(workload=names, workers=0)
    ran = ran[ran["status"].isin(["completed", "diverged"])]
    common = ran.groupby("label")["workload"].nunique()
    everywhere = common.index[common == ran["workload"].nunique()]
    ran = ran[ran["label"].isin(everywhere)]
    if ran.empty:
        return pd.DataFrame()
    found = costs(ran)
    needed = found.to_numpy(dtype=np.float64)
    # 0 s: the initial model was good enough, and nothing was learned about the algorithms.
    kept: pd.DataFrame = found.loc[np.isfinite(needed).any(axis=1) & (needed > 0).all(axis=1)]
    return kept


def _notes(own: pd.DataFrame, needed: pd.DataFrame) -> list[str]:
    notes = []
    left_out = sorted(set(own["label"]) - set(needed.columns))
    if left_out:
        notes.append(t("Left out, because without a result in some setting: {labels}.", labels=words.named(left_out)))
    silent = len(own.drop_duplicates(SETTING)) - len(needed)
    if silent:
        notes.append(t("{n} settings in which no algorithm reached the target are not counted.", n=silent))
    return notes


def _scored(needed: pd.DataFrame, scores: pd.Series[float], transport: str) -> pd.DataFrame:
    best = needed.eq(needed.min(axis=1), axis=0).mean()
    reached = np.isfinite(needed).mean()
    labels = list(scores.index)
    return pd.DataFrame(
        {
            "label": labels,
            "transport": transport,
            "settings": len(needed),
            "score": scores.to_numpy(),
            "best": best[labels].to_numpy(),
            "reached": reached[labels].to_numpy(),
        }
    )


def _table(rows: pd.DataFrame) -> ShownTable:
    columns = [
        Shown("label", t("Algorithm")),
        Shown("transport", t("On")),
        Shown("settings", t("Settings")),
        Shown("score", t("Score"), "", t("mean height of the profile; 1 is best everywhere")),
        Shown("best", t("Best"), "", t("share of the settings on which it is the fastest"), text=words.percent),
        Shown(
            "reached", t("Reached"), "", t("share of the settings on which it reaches the target"), text=words.percent
        ),
    ]
    return ShownTable("profiles", t("Scores over all settings"), columns, rows, "label")
