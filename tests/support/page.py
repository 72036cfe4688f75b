"""Reads a report's page: elements, ids, links, texts, and the tables that say which files they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Cell:
    """A cell of a table: its attributes, its text, and the small print below with its attributes."""

    values: dict[str, str]
    text: str = ""
    small: str = ""
    small_values: dict[str, str] = field(default_factory=dict)


@dataclass
class Row:
    """A row of a table."""

    values: dict[str, str]
    cells: list[Cell] = field(default_factory=list)


@dataclass
class Table:
    """A table with `data-table`."""

    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def row(self, **wanted: str) -> dict[str, Cell]:
        """The only row with these values: column -> cell."""
        (found,) = [
            cells
            for row in self.rows
            for cells in [dict(zip(self.columns, row.cells, strict=True))]
            if all(cells[name].values["data-value"] == value for name, value in wanted.items())
        ]
        return found


class Page(HTMLParser):
    """A page, read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, Table] = {}
        self._hidden = False
        self._table: Table | None = None
        self._cell: Cell | None = None
        self._small = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        self._hidden = tag in ("script", "style")
        if tag == "table":
            self._table = self.tables.setdefault(values["data-table"], Table()) if "data-table" in values else None
        if self._table is None:
            return
        if "data-column" in values:
            self._table.columns.append(values["data-column"])
        elif tag == "tr":
            self._table.rows.append(Row(values))
        elif tag in ("td", "th"):
            self._cell = Cell(values)
            self._table.rows[-1].cells.append(self._cell)
        elif tag == "small" and self._cell:
            self._small, self._cell.small_values = True, values
        elif tag in ("a", "span") and values.get("class") == "name" and self._cell:
            self._cell.values.update({f"name-{name}": value for name, value in values.items()})

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag in ("td", "th"):
            self._cell = None
        if tag == "small":
            self._small = False
        if tag == "table" and self._table is not None:
            self._table.rows = [row for row in self._table.rows if row.cells]  # without the heading
            self._table = None

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)
        if self._cell and self._small:
            self._cell.small += data
        elif self._cell:
            self._cell.text = f"{self._cell.text} {data.strip()}".strip()

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [values[name] for _, values in self.elements if name in values]


def text_of(html: str) -> str:
    """HTML without its tags, spaces being spaces."""
    return re.sub(r"<[^>]+>", "", html).replace("\u00a0", " ")
