"""An answer for machines: winner, rule, ties, and the three figures against the baseline, for `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.comparison import Verdict

SHARE = "share of the baseline's"
FIGURES = (("time_saved", "time_saved", SHARE), ("heldout_loss_difference", "loss_difference", "nat"),
           ("wire_bytes_saved", "wire_saved", SHARE))  # fmt: skip
"""Name, column of `analysis.answers.answers`, unit: training time saved, quality, communication saved."""


def decision(verdict: Verdict, row: Mapping[Any, Any] | None) -> dict[str, Any]:
    """A verdict and the same numbers that the first screen shows.

    Args:
        row: of `analysis.answers.answers`, of the same setting and transport; None if no run completed there.

    Returns:
        `figures` holds for each name its `value`, the bounds `low` and `high`, their `unit`, and whether the runs show
        a difference (`shown`); None for what is not known. It is empty without a rival or a baseline.
    """
    compared = row is not None and bool(row["rival"])
    return {
        "winner": verdict.best,
        "criterion": verdict.criterion,
        "clear": verdict.clear,
        "ties": list(verdict.ties),
        "baseline": verdict.baseline,
        "rival": row["rival"] if row is not None and compared else None,
        "wire_measure": row["wire_measure"] if row is not None and compared else "",
        "figures": {} if row is None or not compared else {name: _figure(row, of, unit) for name, of, unit in FIGURES},
    }


def _figure(row: Mapping[Any, Any], column: str, unit: str) -> dict[str, Any]:
    ends = ("value", ""), ("low", "_low"), ("high", "_high")
    found = {name: None if math.isnan(number := float(row[f"{column}{end}"])) else number for name, end in ends}
    low, high = found["low"], found["high"]
    apart = low is not None and high is not None and (low > 0 or high < 0)
    return {"unit": unit, **found, "shown": bool(row["time_shown"]) if column == "time_saved" else apart}
