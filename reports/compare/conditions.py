"""Conditions of `--fail-if`: a tiny grammar, and what the runs say to them.

    condition  = "status" | number [ "_difference" ] operator value
    operator   = ">" | ">=" | "<" | "<="

A number stands for its ratio new/old, with `_difference` for new - old in its unit. `status` holds where fewer runs
completed than before, or a cell is gone.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.changes import NUMBERS
from analysis.summary import KEYS

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
GRAMMAR = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?:(?P<sign>>=|<=|>|<)\s*(?P<value>\S+)\s*)?")
DIFFERENCE = "_difference"
ONE_RUN = "one run is no evidence"
EXAMPLE = "'time_to_target_s > 1.05', 'final_heldout_loss_difference > 0.01' or 'status'"


@dataclass(frozen=True)
class Condition:
    """A parsed condition; `number` is "status" for that of the statuses."""

    text: str
    number: str
    measure: str  # "ratio" or "difference"
    sign: str
    value: float


@dataclass
class Judged:
    """What the runs say to a condition.

    Attributes:
        holds: (cell, why) where it holds.
        open: (cell, why) where it cannot be judged, because of too few runs or no value.
        looked: cells it was put to.
    """

    condition: Condition
    holds: list[tuple[tuple[Any, ...], str]] = field(default_factory=list)
    open: list[tuple[tuple[Any, ...], str]] = field(default_factory=list)
    looked: int = 0

    @property
    def why_open(self) -> str:
        """Why it can be judged nowhere, and what would help."""
        if not self.looked:
            return "no cell has this number (--all lists those there are)"
        why = self.open[0][1]
        help_ = "more seeds, or --point" if why.startswith(ONE_RUN) else "ask about another number"
        return f"{why} ({help_})"


def parse(text: str) -> Condition:
    """A condition from its text.

    Raises:
        ValueError: it is none.
    """
    found = GRAMMAR.fullmatch(text)
    if found is None:
        raise ValueError(f"--fail-if: not a condition: {text!r} (write it like {EXAMPLE})")
    name, sign, value = found["name"], found["sign"], found["value"]
    if name == "status":
        if sign:
            raise ValueError(f"--fail-if: status stands alone: got {text!r} (write it like {EXAMPLE})")
        return Condition("status", "status", "", "", math.nan)
    number = name if name in NUMBERS else name.removesuffix(DIFFERENCE)
    if number not in NUMBERS:
        close = difflib.get_close_matches(name, [*NUMBERS, "status"], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join([*NUMBERS, 'status'])}"
        raise ValueError(f"--fail-if: no number is called {name!r} ({hint})")
    if not sign:
        raise ValueError(f"--fail-if: {text!r} says nothing of the size (write it like {EXAMPLE})")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    measure = "ratio" if number == name else "difference"
    if not math.isfinite(limit) or (measure == "ratio" and limit <= 0):
        allowed = "a number > 0, as it stands for new/old" if measure == "ratio" else "a finite number"
        raise ValueError(f"--fail-if: {value!r} in {text!r} must be {allowed} (write it like {EXAMPLE})")
    return Condition(f"{name} {sign} {limit:g}", number, measure, sign, limit)


def judge(condition: Condition, changes: pd.DataFrame, statuses: pd.DataFrame, *, point: bool = False) -> Judged:
    """Where the condition holds.

    It holds in a cell if the estimate meets it and the runs show that the number changed; also if NEW lost the number
    altogether, since what crashed must not pass. With fewer than two runs on a side it cannot be judged.

    Args:
        changes: what `analysis.changes.changes` gives.
        statuses: what `analysis.circumstances.statuses` gives.
        point: judge the estimates alone, shown or not.
    """
    judged = Judged(condition)
    if condition.number == "status":
        judged.looked = int((statuses["n_old"] > 0).sum())
        for row in statuses[statuses["word"].isin(["worse", "only in OLD"])].to_dict("records"):
            judged.holds.append((_cell(row), f"{row['old']} -> {row['new']}"))
        return judged
    ended = {_cell(row): str(row["new"]) for row in statuses.to_dict("records")}
    rows = changes[(changes["number"] == condition.number) & (changes["n_old"] > 0)]
    for row in rows.to_dict("records"):
        cell, value = _cell(row), float(row[condition.measure])
        judged.looked += 1
        if row["n_new"] == 0:
            judged.holds.append((cell, f"NEW has no run with this number ({ended[cell]})"))
        elif math.isnan(value):
            judged.open.append((cell, _why_nan(row, condition.measure)))
        elif min(row["n_old"], row["n_new"]) < 2 and not point:
            judged.open.append((cell, str(row["reason"])))
        elif OPERATORS[condition.sign](value, condition.value) and (row["shown"] or point):
            judged.holds.append((cell, _why(row, condition.measure)))
    return judged


def _cell(row: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in KEYS)


def _why(row: dict[Any, Any], measure: str) -> str:
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    between = f" ({low:.4g} to {high:.4g})" if not (math.isnan(low) or math.isnan(high)) else ""
    return f"{row[measure]:.4g}{between}: {row['reason']}"


def _why_nan(row: dict[Any, Any], measure: str) -> str:
    if math.isinf(row["old"]) and math.isinf(row["new"]):
        return "the target was missed before and after"
    return f"there is no {measure}: old {row['old']:.4g}, new {row['new']:.4g}"
