"""The numbers of a figure as a table, from the same panels or rows that are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.language import t
from reports.papers.forest import Row
from reports.papers.forest import numbers as row_numbers
from reports.papers.lines import Panel
from reports.papers.lines import numbers as panel_numbers
from reports.shown import Shown, ShownTable


def of_panels(
    name: str, caption: str, parts: Sequence[Panel], *, x: str, y: str, line: str = "", part: str = ""
) -> ShownTable:  # fmt: skip
    """One row per point of the panels.

    Args:
        name: of the figure.
        x, y, line, part: headings of the columns; `part` is shown only where there are several panels.
    """
    frame = panel_numbers(parts)
    scattered = bool((frame["n"] > 0).any())
    columns = [
        Shown("line", line or t("Line")),
        *([Shown("part", part or t("Panel"))] if len(parts) > 1 else []),
        Shown("x", x),
        Shown("y", y, low="low", high="high"),
        *([Shown("n", t("n"), meaning=t("Seeds or cases; 0: nothing that scatters."))] if scattered else []),
    ]
    return ShownTable(f"paper-{name}", caption, columns, frame)


def of_rows(name: str, caption: str, rows: Sequence[Row], *, label: str, value: str) -> ShownTable:
    """One row per difference.

    Args:
        name: of the figure.
        label, value: headings of the columns.
    """
    printed = any(math.isfinite(row.paper) for row in rows)
    columns = [
        Shown("label", label),
        Shown("value", value, low="low", high="high"),
        *([Shown("paper", t("In the paper"))] if printed else []),
        Shown("n", t("n"), meaning=t("Seeds.")),
    ]
    return ShownTable(f"paper-{name}", caption, columns, row_numbers(rows))
