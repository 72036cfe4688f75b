"""The first screen: what the runs of one setting say, in words and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.answers import answers
from analysis.comparison import Verdict
from reports import answer_words, figures, words
from reports.answer_changes import changes, told
from reports.answer_where import cautions, where
from reports.language import t
from reports.style import Look

DRAWN = 9
"""Algorithms in the figure of the first screen; the comparison has them all."""


def answer(
    name: str,
    asked: str | None,
    verdicts: Mapping[str, Verdict],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    look_of: Mapping[str, Look],
    described: str,
    *,
    runs: pd.DataFrame | None = None,
    heldout: pd.DataFrame | None = None,
    grid: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """What stands in the first screen for this setting.

    Args:
        name: prefix of ids.
        asked: the transport whose answer it is; None if no model was evaluated.
        verdicts: of each transport.
        rows: of the summary, of this setting.
        table: rows of `analysis.summary.per_run`, of this setting.
        look_of: label -> look.
        described: the setting in words.
        runs: rows of `bench.records.RUNS`, of this setting.
        heldout: rows of `bench.records.HELDOUT`; those of other settings are ignored.
        grid: what `analysis.network_grid.network_grid` gives for all settings. Without these three it is not told
            what would change the answer.
    """
    if asked is None:
        return {"transport": None, "mark": "", "where": "", "changes": [], **_without_a_loss(rows)}

    def of(transport: str) -> dict[str, dict[str, Any]]:
        own = rows[rows["transport"] == transport].to_dict("records")
        return {str(row["label"]): {str(column): value for column, value in row.items()} for row in own}

    verdict, row = verdicts[asked], _row(rows, table, asked)
    drawn, left_out = _drawn(rows[rows["transport"] == asked], verdict)
    found: dict[str, Any] = {"changes": [], "where": ""}
    cautious: list[str] = []
    if runs is not None and heldout is not None and grid is not None:
        own = runs[runs["transport"] == asked]
        found = {"changes": told(changes(verdict, of(asked), own, heldout, grid)), "where": where(own)}
        cautious = cautions(own)
    return {
        "transport": asked,
        "title": words.transport(asked),
        "simulated": bool(row["simulated"]),
        "headline": answer_words.headline(verdict, of(asked)),
        "clear": verdict.clear,
        "best": verdict.best,
        "time": "" if math.isnan(row["time_to_target_s"]) else words.seconds(float(row["time_to_target_s"])),
        "sure_mark": row["sure"],
        "mark": answer_words.mark(row),
        "tiles": answer_words.tiles(row),
        "sure": [*answer_words.how_sure(verdict, of(asked)), *cautious],
        "others": [
            (words.transport(on), on == "simulated", answer_words.headline(other, of(on)))
            for on, other in verdicts.items()
            if on != asked and other.best is not None
        ],
        "figure": figures.time_to_target(
            f"{name}-target",
            table[(table["transport"] == asked) & table["label"].isin(drawn["label"])],
            drawn,
            look_of,
            f"{described}, {words.TRANSPORTS.get(asked, asked)}",
        ),
        "left_out": left_out,
        **found,
    }


def _drawn(rows: pd.DataFrame, verdict: Verdict) -> tuple[pd.DataFrame, int]:
    """The rows that the figure shows, the fastest ones and the baseline; and how many it leaves out."""
    tried = rows[rows["completed"] + rows["diverged"] > 0]
    order = tried.sort_values(["time_to_target_s", "final_heldout_loss", "label"], na_position="last")
    first = set(order["label"].head(DRAWN)) | ({verdict.baseline} & set(order["label"]))
    return rows[rows["label"].isin(first)], len(order) - len(first)


def _row(rows: pd.DataFrame, table: pd.DataFrame, transport: str) -> dict[str, Any]:
    """The row of `analysis.answers.answers` of one transport."""
    found = answers(rows[rows["transport"] == transport], table[table["transport"] == transport]).to_dict("records")
    return {str(column): value for column, value in found[0].items()}


def _without_a_loss(rows: pd.DataFrame) -> dict[str, Any]:
    """What is left to say where no model was evaluated: nothing ran, or only time and bytes were simulated."""
    done = rows[(rows["seeds"] > 0) & rows["samples_per_s"].notna()]
    if done.empty:
        return {"headline": t("No run completed, so there is no answer."), "simulated": False, "best": ""}
    best = done.sort_values("samples_per_s", ascending=False, kind="stable").iloc[0]
    rate = words.number(float(best["samples_per_s"]))
    return {
        "short": t("by throughput, {rate} samples/s; no held-out loss was recorded", rate=rate),
        "best": best["label"],
        "headline": t(
            "No held-out loss was recorded, only time and bytes: {best} has the highest throughput, {rate} samples/s.",
            best=best["label"],
            rate=rate,
        ),
        "simulated": bool(done["simulated"].all()),
    }
