"""The files beside a page: every table that it shows as CSV and parquet, and `summary.json`.

For `report.html` they lie in `report-tables`. Numbers are written in full: what is read back is what the page was made
from. Only files that an earlier report of the same name wrote, which its `summary.json` lists, are ever removed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.summary import METRICS
from bench.records import TABLES, write_atomic
from reports.shown import ShownTable

SCHEMA = 1
"""Version of `summary.json`: it rises when a name in it changes its meaning or is gone."""

SUMMARY = "summary.json"

_UNITS = {
    **{column.name: column.unit for column in TABLES["runs"].columns},
    **{f"{name}{end}": unit for name, (unit, _) in METRICS.items() for end in ("", "_low", "_high")},
}
"""Of columns that have the same name in every table."""


def folder_of(page: Path) -> Path:
    """Where the files beside a page lie."""
    return page.with_name(f"{page.stem}-tables")


def write(page: Path, tables: Sequence[ShownTable], summary: Mapping[str, Any]) -> list[Path]:
    """Write the files beside a page, each whole or not at all; returns them.

    Args:
        page: the page's own file.
        summary: what `summary.json` says beside what the tables are.
    """
    folder = folder_of(page)
    made = files(tables, summary)
    folder.mkdir(exist_ok=True)
    remove(page, keep=made)
    for name, data in made.items():  # summary.json is the last one: what it lists is there
        write_atomic(folder / name, data)
    return [folder / name for name in made]


def remove(page: Path, keep: Mapping[str, bytes] | None = None) -> None:
    """Remove what an earlier report of the same name wrote beside it, and the folder if it is empty then."""
    folder = folder_of(page)
    for name in _listed(folder / SUMMARY):
        if name not in (keep or {}):
            (folder / name).unlink(missing_ok=True)
    if keep is None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def files(tables: Sequence[ShownTable], summary: Mapping[str, Any]) -> dict[str, bytes]:
    """Name -> content of every file beside a page; the same tables give the same bytes."""
    made: dict[str, bytes] = {}
    described = {}
    for table in tables:
        made[f"{table.name}.csv"] = csv(table)
        made[f"{table.name}.parquet"] = parquet(table)
        described[table.name] = {
            "caption": table.caption,
            "rows": len(table.frame),
            "csv": f"{table.name}.csv",
            "parquet": f"{table.name}.parquet",
            "columns": {name: {"unit": unit, "meaning": text} for name, (unit, text) in columns(table).items()},
        }
    whole = {"schema": SCHEMA, **summary, "tables": described, "files": [*made, SUMMARY]}
    text = json.dumps(_plain(whole), indent=1, ensure_ascii=False, allow_nan=False)
    return {**made, SUMMARY: f"{text}\n".encode()}


def csv(table: ShownTable) -> bytes:
    """A table as CSV: numbers in the shortest form that reads back the same, nothing where there is none."""
    text: str = table.file.to_csv(index=False, lineterminator="\n")
    return text.encode()


def parquet(table: ShownTable) -> bytes:
    """A table as parquet: each field's metadata holds its unit and meaning, as in the raw tables."""
    described = columns(table)
    arrow = pa.Table.from_pandas(table.file, preserve_index=False)
    fields = [
        field.with_metadata(dict(zip(("unit", "meaning"), described[field.name], strict=True)))
        for field in arrow.schema
    ]
    about = {"paceline_table": table.name, "paceline_schema": str(SCHEMA), "caption": table.caption}
    sink = pa.BufferOutputStream()
    pq.write_table(arrow.cast(pa.schema(fields, metadata=about)), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def columns(table: ShownTable) -> dict[str, tuple[str, str]]:
    """Column of the files -> (unit, meaning)."""
    found: dict[str, tuple[str, str]] = {}
    for shown in table.columns:
        unit = _UNITS.get(shown.name, shown.unit)
        meaning = shown.meaning or shown.heading
        found.setdefault(shown.name, (unit, meaning))
        for name, what in ((shown.low, "low"), (shown.high, "high")):
            if name:
                found.setdefault(name, (unit, f"{meaning} ({what} end of the interval)"))
        if shown.how:
            found.setdefault(shown.how, ("", f"{meaning} (how the interval was made)"))
        if shown.share:
            found.setdefault(shown.share, (_UNITS.get(shown.share, ""), f"{meaning} (share)"))
    return {name: found.get(name, (_UNITS.get(name, ""), "")) for name in map(str, table.file.columns)}


def _listed(summary: Path) -> list[str]:
    """The files that a `summary.json` says it is one of; none of another folder, and none if it cannot be read."""
    try:
        said = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    listed = said.get("files") if isinstance(said, dict) else None
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    ours = [name for name in names if name == SUMMARY or name.endswith((".csv", ".parquet"))]
    return [name for name in ours if name == Path(name).name]


def _plain(value: Any) -> Any:
    """A value that JSON knows: no NaN and no infinity, no numbers of numpy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA else value
