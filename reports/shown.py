"""Tables as they are shown: the page, the CSV and the parquet file beside it come from one frame.

A cell of the page carries the number of the frame in full (`data-value`), its text is that number rounded. So what a
reader sees can be checked against the files, and the page can sort by numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from reports import words
from reports.language import t


@dataclass(frozen=True)
class Shown:
    """A column of a shown table.

    Attributes:
        name: of the frame's column, and in the files.
        heading: over the column, in the reader's language.
        unit: beside the heading; "" for none.
        meaning: in one sentence, for the heading's tooltip.
        text: the number as it is shown; None for three significant digits.
        low, high: columns of the frame with an interval, shown small below the number; they are in the files as well.
    """

    name: str
    heading: str
    unit: str = ""
    meaning: str = ""
    text: Callable[[Any], str] | None = None
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class ShownTable:
    """One table of the page.

    Attributes:
        name: of its files, [a-z0-9-]; unique in a report.
        caption: what a row is.
        columns: from left to right; the first one names the row.
        frame: the rows, in the order in which they are shown.
        label: column with the algorithm's label, so that the row wears its colour; "" if there is none.
    """

    name: str
    caption: str
    columns: Sequence[Shown]
    frame: pd.DataFrame
    label: str = ""

    @property
    def file(self) -> pd.DataFrame:
        """What the files hold: the shown columns and their intervals."""
        names = [name for column in self.columns for name in (column.name, column.low, column.high) if name]
        return self.frame[list(dict.fromkeys(names))]

    def html(self, environment: Environment) -> Markup:
        """The table as HTML that sorts and filters."""
        rows = [
            {"label": str(row.get(self.label, "")), "cells": [_cell(column, row) for column in self.columns]}
            for row in self.frame.to_dict("records")
        ]
        return Markup(environment.get_template("shown.html.j2").render(table=self, rows=rows))


def _cell(column: Shown, row: Any) -> dict[str, Any]:
    value = row[column.name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        text = "" if value is None else str(value)
        return {
            "text": text if column.text is None else column.text(value),
            "value": text,
            "number": False,
            "small": "",
        }
    text_of = column.text or (words.number if isinstance(value, float) else "{:,}".format)
    none = math.isnan(value)
    small = ""
    if column.low and not none:
        low, high = float(row[column.low]), float(row[column.high])
        if not math.isnan(low) and not text_of(low) == text_of(high) == text_of(value):
            small = t("{low} to {high}", low=text_of(low), high=text_of(high))
    return {
        "text": words.NOTHING if none else text_of(value),
        "value": "" if none else repr(value),
        "number": True,
        "small": small,
    }
