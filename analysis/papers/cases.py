"""Verdicts over many cases that each hold or do not: the grid of a stability map, the steps of a lemma."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.papers.claim import Decision, Verdict

MOSTLY = 0.9
"""Share of the cases from which on a claim that does not hold in all of them holds partly."""
SHOWN = 3
"""Cases that do not hold, named in what was found."""


def all_cases(
    cases: Mapping[str, bool],
    *,
    least: int,
    found: str,
    measured: float = math.nan,
    unit: str = "",
    rows: Sequence[str] = (),
) -> Decision:
    """Reproduced if every case holds, partly from nine in ten on, contradicted below; not shown with too few cases.

    Args:
        cases: name -> whether it holds.
        least: cases below which nothing is shown.
        found: what was found, in words; the cases that do not hold are added.

    Source: a formula that fails anywhere inside of its tolerance does not hold; the ninth tenth is a convention.

    Example:
        >>> all_cases({"a": True, "b": True}, least=2, found="x").verdict
        'reproduced'
        >>> all_cases({"a": True, "b": False}, least=2, found="x").found
        'x; holds in 1 of 2 cases, not in: b'
        >>> all_cases({"a": True}, least=2, found="x").verdict
        'not shown'
    """
    good = sum(cases.values())
    wrong = [name for name, holds in cases.items() if not holds]
    verdict: Verdict
    if len(cases) < least:
        verdict = "not shown"
    elif not wrong:
        verdict = "reproduced"
    else:
        verdict = "partly" if good >= MOSTLY * len(cases) else "contradicted"
    words = f"{found}; holds in {good} of {len(cases)} cases"
    if wrong:
        words += f", not in: {', '.join(wrong[:SHOWN])}" + (" and others" if len(wrong) > SHOWN else "")
    return Decision(
        verdict=verdict, found=words, n=len(cases), measured=measured, unit=unit, rows=tuple(rows)
    )  # fmt: skip


def rows_of(table: pd.DataFrame) -> list[Any]:
    """The rows of a table as tuples with its columns' names.

    Source: `pandas.DataFrame.itertuples`, whose declared types fit no column.

    Example:
        >>> rows_of(pd.DataFrame({"a": [1, 2]}))[1].a
        2
    """
    return list(table.itertuples())


def groups_of(table: pd.DataFrame, *by: str) -> list[tuple[Any, pd.DataFrame]]:
    """The groups of a table by the values of some columns, in order: (value, rows), or (values, rows) for several.

    Source: `pandas.DataFrame.groupby`, whose keys are declared as anything that can be a key.

    Example:
        >>> [(key, len(own)) for key, own in groups_of(pd.DataFrame({"a": [1, 1, 2]}), "a")]
        [(1, 2), (2, 1)]
    """
    return [(key if len(by) > 1 else key[0], own) for key, own in table.groupby(list(by))]
