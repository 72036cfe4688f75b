"""Tables of the page: each number is the one in the CSV, and what is read is that number rounded."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from bench.records import load
from reports import export
from reports.build import Page as Built
from reports.build import build
from reports.environment import environment
from reports.shown import FEW, Filter, Mark, Shown, ShownTable
from tests.support.page import Page, Table
from tests.support.synthetic import EVIL, write_results

SCALES = {"%": 0.01, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "k": 1e3, "M": 1e6, "ms": 1e-3, "µs": 1e-6}
NUMBER = re.compile(r"[-−]?[\d,]*\.?\d+(?:e[-+]?\d+)?")


def rounds_to(text: str, value: float) -> bool:
    """Whether a text is a number rounded at its last digit, whatever its unit."""
    found = NUMBER.search(text)
    if found is None:
        return (text, value) in (("never", math.inf), ("∞", math.inf))
    digits = found[0].replace(",", "").replace("−", "-")
    unit = re.match(r"[\s\u00a0]*([%\w]*)", text[found.end() :])
    scale = SCALES.get(unit[1] if unit else "", 1.0)
    mantissa, _, exponent = digits.partition("e")
    places = len(mantissa.partition(".")[2])
    last = 10.0 ** (int(exponent or 0) - places) * scale
    return abs(float(digits) * scale - value) <= 0.5001 * last


def agrees(table: Table, csv: str) -> int:
    """Compare a table of the page with its CSV, cell by cell; the number of numbers."""
    frame = pd.read_csv(io.StringIO(csv), dtype=str, keep_default_na=False)
    numbers = 0
    assert len(table.rows) == len(frame)
    for row, expected in zip(table.rows, frame.to_dict("records"), strict=True):
        for name, cell in zip(table.columns, row.cells, strict=True):
            value, wanted = cell.values["data-value"], expected[name]
            if value == wanted and "num" not in cell.values.get("class", ""):
                continue
            if value == "" or wanted == "":
                assert value == wanted, (name, expected)
                assert not cell.small
                continue
            assert float(value) == float(wanted), (name, expected)
            assert rounds_to(cell.text, float(value)), (name, cell.text, value)
            numbers += 1
            if cell.small:
                ends = [float(cell.small_values[f"data-{end}"]) for end in ("low", "high")]
                assert ends[0] <= ends[1]
                assert {repr(end) for end in ends} <= {repr(float(v)) for v in expected.values() if _is_number(v)}
                low, _, high = cell.small.partition(" to ")
                assert rounds_to(low, ends[0]) and rounds_to(high, ends[1]), (name, cell.small, ends)
            if "data-share" in cell.values:
                assert float(cell.values["data-share"]) in [float(v) for v in expected.values() if _is_number(v)]
                assert rounds_to(cell.text.rpartition("(")[2], float(cell.values["data-share"]))
    return numbers


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = write_results(tmp_path_factory.mktemp("results") / "demo", seeds=(0, 1, 2), steps=20)
    return build(load(folder), sources=["demo"], beside="report-tables")


def test_every_number_of_the_page_equals_the_one_in_its_file(built: Built) -> None:
    page, files = Page(built.html), export.files(built.tables, built.summary)
    assert set(page.tables) == {table.name for table in built.tables} >= {"s1-comparison", "s1-runs"}
    assert sum(agrees(table, files[f"{name}.csv"].decode()) for name, table in page.tables.items()) > 400
    links = set(page.values("href"))
    for name in page.tables:
        assert {f"report-tables/{name}.csv", f"report-tables/{name}.parquet"} <= links


def test_a_wrong_number_would_be_found(built: Built) -> None:
    name = "s1-comparison"
    table = next(table for table in built.tables if table.name == name)
    csv = export.csv(table).decode()
    value = float(table.frame["samples_per_s"].iloc[0])
    page = Page(built.html)
    agrees(page.tables[name], csv)
    with pytest.raises(AssertionError):
        agrees(page.tables[name], csv.replace(repr(value), repr(math.nextafter(value, 0))))
    page.tables[name].row(label="allreduce-sgd", transport="mpi")["samples_per_s"].text = "3,049"
    with pytest.raises(AssertionError):
        agrees(page.tables[name], csv)


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        ("3,048", 3047.6190476, True),
        ("3,049", 3047.6190476, False),
        ("0.140 (33 %)", 0.14, True),
        ("33 %", 0.3333, True),
        ("1.23 MB", 1234567.0, True),
        ("1.24 MB", 1234567.0, False),
        ("2.5e-07", 2.49e-7, True),
        ("never", math.inf, True),
        ("soon", 1.0, False),
    ],
)
def test_what_rounded_means(text: str, value: float, right: bool) -> None:
    assert rounds_to(text, value) == right


# -- one table ---------------------------------------------------------------------------------------------------------


def html(table: ShownTable) -> str:
    return str(table.html(environment({})))


def table(frame: pd.DataFrame, *columns: Shown, **given: object) -> ShownTable:
    return ShownTable("one", "a row is a row", columns, frame, **given)  # type: ignore[arg-type]


def test_what_stands_in_a_cell() -> None:
    frame = pd.DataFrame(
        {
            "name": ["a", EVIL],
            "value": [1234.5678, math.nan],
            "low": [1000.25, math.nan],
            "high": [2000.75, math.nan],
            "how": ["range of n=2", "no value"],
            "share": [0.25, math.nan],
            "count": [3, 4],
            "yes": [True, False],
            "far": [math.inf, 1.0],
        }
    )
    shown = table(
        frame,
        Shown("name", "Name"),
        Shown("value", "V", "s", low="low", high="high", how="how", share="share", absent=lambda row: row["name"][:3]),
        Shown("count", "N"),
        Shown("yes", "Y"),
        Shown("far", "F"),
    )
    text = html(shown)
    assert EVIL not in text
    first, second = Page(text).tables["one"].rows
    assert [cell.text.replace("\u00a0", " ") for cell in first.cells] == ["a", "1,235 (25 %)", "3", "True", "never"]
    assert first.cells[1].values["data-value"] == "1234.5678" and first.cells[1].small == "1,000 to 2,001"
    assert first.cells[1].values["title"] == "range of n=2"
    assert second.cells[0].values["data-value"] == EVIL
    assert (second.cells[1].text, second.cells[1].small) == (EVIL[:3], "")
    assert agrees(Page(text).tables["one"], export.csv(shown).decode()) == 5


def test_an_interval_that_says_no_more_than_its_number_is_left_out() -> None:
    frame = pd.DataFrame({"name": ["a", "b"], "v": [1.0001, 1.0001], "low": [1.0, 0.5], "high": [1.0002, 2.0]})
    shown = table(frame, Shown("name", "Name"), Shown("v", "V", low="low", high="high"))
    assert [row.cells[1].small for row in Page(html(shown)).tables["one"].rows] == ["", "0.500 to 2.00"]


def test_marks_and_filters_say_in_words_what_a_row_is() -> None:
    frame = pd.DataFrame({"name": ["a", "b"], "v": [1.0, 2.0]})
    shown = table(
        frame,
        Shown("name", "Name"),
        Shown("v", "V"),
        mark=lambda row: Mark([("sim", "simulated")], "simulated", f"#{row['name']}", {"on": [row["name"], "x"]}),
        filters=[Filter("on", "On", [("a", "A"), ("b", "B")]), Filter("one", "One", [("1", "1")])],
    )
    text = html(shown)
    row = Page(text).tables["one"].rows[1]
    assert row.values == {"class": "simulated", "data-on": "b x"}
    assert row.cells[0].text == "b simulated" and row.cells[0].values["name-href"] == "#b"
    assert re.findall(r'<fieldset data-filter="(\w+)">', text) == ["on"]  # one box alone chooses nothing
    assert "hidden>" in text  # without a script there is nothing to operate


def test_a_long_table_can_be_searched_and_an_empty_one_is_a_table() -> None:
    def of(rows: int) -> str:
        return html(table(pd.DataFrame({"name": ["x"] * rows, "v": [0.0] * rows}), Shown("name", "N"), Shown("v", "V")))

    assert "<form" in of(FEW + 1) and "<form" not in of(FEW)
    assert Page(of(0)).tables["one"].rows == []


def test_files_hold_intervals_and_what_only_they_hold(tmp_path: Path) -> None:
    frame = pd.DataFrame({"b": [1], "a": ["x"], "c": [2.0], "low": [1.0], "high": [3.0], "other": [0]})
    shown = table(frame, Shown("a", "A"), Shown("c", "C", low="low", high="high"), also=["b", "a"])
    assert list(shown.file.columns) == ["a", "c", "low", "high", "b"]
