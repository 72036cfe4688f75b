"""The first screen: what the runs of one setting say, in words and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.answers import answers
from analysis.comparison import Verdict
from reports import answer_words, figures, words
from reports.style import Look


def answer(
    name: str,
    asked: str | None,
    verdicts: Mapping[str, Verdict],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    look_of: Mapping[str, Look],
    described: str,
) -> dict[str, Any]:
    """What stands in the first screen for this setting."""
    if asked is None:
        return {"transport": None, **_without_a_loss(rows)}

    def of(transport: str) -> dict[str, dict[str, Any]]:
        return {str(row["label"]): row for row in rows[rows["transport"] == transport].to_dict("records")}

    verdict = verdicts[asked]
    where = f"{described}, {words.TRANSPORTS.get(asked, asked)}"
    return {
        "transport": asked,
        "title": words.TRANSPORTS.get(asked, asked),
        "simulated": asked == "simulated",
        "headline": answer_words.headline(verdict, of(asked)),
        "clear": verdict.clear,
        "tiles": answer_words.tiles(_row(rows, table, asked)),
        "sure": answer_words.how_sure(verdict, of(asked)),
        "others": [
            (words.TRANSPORTS.get(t, t), t == "simulated", answer_words.headline(v, of(t)))
            for t, v in verdicts.items()
            if t != asked and v.best is not None
        ],
        "figure": figures.time_to_target(
            f"{name}-target", table[table["transport"] == asked], rows[rows["transport"] == asked], look_of, where
        ),
    }


def _without_a_loss(rows: pd.DataFrame) -> dict[str, Any]:
    """What is left to say where no model was evaluated: nothing ran, or only time and bytes were simulated."""
    done = rows[(rows["seeds"] > 0) & rows["samples_per_s"].notna()]
    if done.empty:
        return {"headline": "No run completed, so there is no answer.", "simulated": False}
    best = done.loc[done["samples_per_s"].idxmax()]
    return {
        "headline": f"No held-out loss was recorded, only time and bytes: {best['label']} has the highest throughput, "
        f"{words.number(float(best['samples_per_s']))} samples/s.",
        "simulated": bool(done["simulated"].all()),
    }


def _row(rows: pd.DataFrame, table: pd.DataFrame, transport: str) -> dict[str, Any]:
    """The row of `analysis.answers.answers` of one transport."""
    found = answers(rows[rows["transport"] == transport], table[table["transport"] == transport]).to_dict("records")
    return {str(name): value for name, value in found[0].items()}
