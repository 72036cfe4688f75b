"""Tables as they are shown: the page, the CSV and the parquet file beside it come from one frame.

A cell of the page carries the number of the frame in full (`data-value`), its text is that number rounded. So what a
reader sees can be checked against the files, and the page can sort by numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from reports import words
from reports.language import t

FEW = 8
"""Rows of a table that needs no text box to find one in it."""


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
        how: column that says how the interval was made, for the cell's tooltip; in the files as well.
        share: column with a share, shown in brackets behind the number; in the files as well.
        absent: from the row, what stands where there is no number; None for a dash.
    """

    name: str
    heading: str
    unit: str = ""
    meaning: str = ""
    text: Callable[[Any], str] | None = None
    low: str = ""
    high: str = ""
    how: str = ""
    share: str = ""
    absent: Callable[[Mapping[str, Any]], str] | None = None

    @property
    def in_files(self) -> list[str]:
        """Columns of the frame that this one shows."""
        return [name for name in (self.name, self.low, self.high, self.how, self.share) if name]


@dataclass(frozen=True)
class Mark:
    """What tells a row from others, beside its numbers.

    Attributes:
        badges: (class, text) behind its name; a class alone would be colour alone.
        classes: of the row, for the style sheet.
        href: where its name leads; "" for nowhere.
        choices: name of a `Filter` -> those of its values that the row has.
    """

    badges: Sequence[tuple[str, str]] = ()
    classes: str = ""
    href: str = ""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Filter:
    """A choice of rows: a box for each value; a row is shown while one of the values it has is ticked."""

    name: str
    title: str
    values: Sequence[tuple[str, str]]  # (value, its text)


@dataclass(frozen=True)
class ShownTable:
    """One table of the page.

    Attributes:
        name: of its files, [a-z0-9-]; unique in a report.
        caption: what a row is.
        columns: from left to right; the first one names the row.
        frame: the rows, in the order in which they are shown.
        label: column with the algorithm's label, so that the row wears its colour; "" if there is none.
        mark: what tells a row from others; None if nothing does.
        filters: choices of rows, above the table.
        also: columns of the frame that only the files hold.
    """

    name: str
    caption: str
    columns: Sequence[Shown]
    frame: pd.DataFrame
    label: str = ""
    mark: Callable[[Mapping[str, Any]], Mark] | None = None
    filters: Sequence[Filter] = ()
    also: Sequence[str] = ()

    @property
    def file(self) -> pd.DataFrame:
        """What the files hold: the shown columns, their intervals, and `also`."""
        names = [*(name for column in self.columns for name in column.in_files), *self.also]
        return self.frame[list(dict.fromkeys(names))]

    def html(self, environment: Environment) -> Markup:
        """The table as HTML that sorts and filters."""
        rows: list[dict[str, Any]] = [
            {
                "label": str(row.get(self.label, "")),
                "mark": self.mark(row) if self.mark else Mark(),
                "cells": [_cell(column, row) for column in self.columns],
            }
            for row in _records(self.frame)
        ]
        filters = [one for one in self.filters if len(one.values) > 1]  # one box alone chooses nothing
        return Markup(
            environment.get_template("shown.html.j2").render(
                table=self,
                rows=rows,
                numeric=[any(row["cells"][i]["number"] for row in rows) for i in range(len(self.columns))],
                filters=filters,
                searched=bool(filters) or len(rows) > FEW,
            )
        )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _cell(column: Shown, row: Mapping[str, Any]) -> dict[str, Any]:
    value = row[column.name]
    cell = {
        "small": "",
        "low": "",
        "high": "",
        "share": "",
        "note": words.interval_kind(str(row[column.how])) if column.how else "",
    }
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        plain = "" if value is None else str(value)
        text = plain if column.text is None else column.text(value)
        return {**cell, "text": text, "value": plain, "number": False, "absent": False}
    if math.isnan(value):
        absent = column.absent(row) if column.absent else words.NOTHING
        return {**cell, "text": absent, "value": "", "number": True, "absent": absent != words.NOTHING}
    text_of = column.text or (words.number if isinstance(value, float) else "{:,}".format)
    if column.low:
        low, high = float(row[column.low]), float(row[column.high])
        if not math.isnan(low) and not text_of(low) == text_of(high) == text_of(value):
            cell |= {"small": t("{low} to {high}", low=text_of(low), high=text_of(high))}
            cell |= {"low": repr(low), "high": repr(high)}
    text = text_of(value)
    if column.share and not math.isnan(row[column.share]):
        cell |= {"share": repr(float(row[column.share]))}
        text = f"{text} ({words.percent(float(row[column.share]))})"
    return {**cell, "text": text, "value": repr(value), "number": True, "absent": False}
