"""The three figures that decide, as numbers: time saved, quality, communication saved, best rival against baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.comparison import Verdict, saving


@dataclass(frozen=True)
class Figure:
    """One of them.

    Attributes:
        unit: "share of the baseline's" or "nat".
        value: by the means; None where one of the two has none.
        low: of its interval, from the worst and best cases of both means' intervals; None with one run.
        high: the same.
        shown: the runs show a difference.
    """

    unit: str
    value: float | None
    low: float | None
    high: float | None
    shown: bool


def decision(verdict: Verdict, rows: pd.DataFrame) -> dict[str, Any]:
    """A verdict as numbers, for machines: winner, rule, ties, and the figures against the baseline.

    Args:
        rows: of `analysis.summary.summarise`, one setting and transport.
    """
    by_label = {str(row["label"]): row for row in rows.to_dict("records")}
    rival = rival_of(verdict, by_label)
    base = by_label.get(verdict.baseline or "")
    found = _figures(verdict, by_label[rival], base) if rival and base is not None and base["seeds"] else {}
    return {
        "winner": verdict.best,
        "criterion": verdict.criterion,
        "clear": verdict.clear,
        "ties": list(verdict.ties),
        "baseline": verdict.baseline,
        "rival": rival if found else None,
        "figures": {name: asdict(figure) for name, figure in found.items()},
    }


def rival_of(verdict: Verdict, rows: Mapping[str, Mapping[Any, Any]]) -> str | None:
    """The best algorithm that is not the baseline; None without one."""
    order = [verdict.best, *(claim.worse for claim in verdict.claims)]
    return next((name for name in order if name and name != verdict.baseline and rows[name]["seeds"]), None)


def _figures(verdict: Verdict, rival: Mapping[Any, Any], base: Mapping[Any, Any]) -> dict[str, Figure]:
    time = saving(rival, base, "time_to_target_s")
    claim = verdict.against(base["label"] if verdict.best == rival["label"] else rival["label"])
    by_time = verdict.criterion == "time_to_target_s"
    name = "final_heldout_loss"
    loss = (
        rival[name] - base[name],
        rival[f"{name}_low"] - base[f"{name}_high"],
        rival[f"{name}_high"] - base[f"{name}_low"],
    )
    wire = saving(rival, base, "wire_nbytes_to_target")
    share = "share of the baseline's"
    return {
        "time_saved": _figure(share, time, shown=by_time and claim is not None and claim.shown),
        "heldout_loss_difference": _figure("nat", loss, shown=_apart(loss)),
        "wire_bytes_saved": _figure(share, wire, shown=_apart(wire)),
    }


def _apart(span: tuple[float, float, float]) -> bool:
    """The interval holds no zero."""
    return span[1] > 0 or span[2] < 0


def _figure(unit: str, span: tuple[float, float, float], shown: bool) -> Figure:
    value, low, high = (None if math.isnan(number) else float(number) for number in span)
    return Figure(unit, value, low, high, bool(shown))
