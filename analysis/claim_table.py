"""The table of a paper's claims: what it says, what was measured here, and the verdict by a rule fixed beforehand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.records import Column, Table, write_rows

FILE = "claims.parquet"
"""Its name in a results folder."""
KINDS = ("exact", "number", "shape")
"""A formula or identity; a number of the paper; which is larger, how something grows."""
VERDICTS = ("reproduced", "partly", "not shown", "contradicted")

_str, _f64 = pa.string(), pa.float64()

CLAIMS = Table(
    "claims",
    (
        Column("claim_id", _str, "", "unique within its paper, such as A3"),
        Column("paper", _str, "", "authors, title, venue"),
        Column("statement", _str, "", "what the paper says, in one sentence"),
        Column("kind", _str, "", " | ".join(KINDS)),
        Column("expected", _str, "", "the paper's number with its unit, or its shape in words"),
        Column("tolerance", _str, "", 'what still counts as reproduced, fixed beforehand; "" if the rule says it'),
        Column("measured", _f64, "", "the number found here, in `unit`; NaN for a shape"),
        Column("low", _f64, "", "of its interval; NaN if there is none"),
        Column("high", _f64, "", "of its interval; NaN if there is none"),
        Column("unit", _str, "", "of `measured`, `low` and `high`"),
        Column("found", _str, "", "what was found, in words"),
        Column("n", pa.int64(), "", "runs, or cases of an exact claim, behind it"),
        Column("verdict", _str, "", " | ".join(VERDICTS)),
        Column("rule", _str, "", "how the verdict follows from what was found, fixed beforehand"),
        Column("command", _str, "", "that repeats it"),
        Column("rows", _str, "", "JSON: list of the run_ids that it rests on"),
    ),
)


def write(folder: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """The file of a results folder's claims, written whole or not at all.

    Args:
        folder: a results folder.
        rows: one mapping for each claim, with the columns of `CLAIMS`; `rows` may be a list of run_ids.

    Raises:
        ValueError: a row breaks the schema; nothing is written.

    Source: `CLAIMS`.

    Example:
        >>> import tempfile
        >>> claim = dict(claim_id="A1", paper="P", statement="s", kind="number", expected="2", tolerance="10 %",
        ...     measured=2.1, low=1.9, high=2.3, unit="", found="", n=5, verdict="reproduced", rule="inside",
        ...     command="paceline reproduce easgd", rows=["r1", "r2"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write(folder, [claim])
        ...     found = read(folder)
        >>> found["verdict"].tolist(), run_ids(found["rows"].iloc[0])
        (['reproduced'], ['r1', 'r2'])
    """
    listed = [dict(row) for row in rows]
    for row in listed:
        if not isinstance(row.get("rows"), str):
            row["rows"] = json.dumps(list(row.get("rows") or []))
        unknown = sorted(set(row) ^ {column.name for column in CLAIMS.columns})
        if unknown:
            raise ValueError(f"claim {row.get('claim_id', '?')}: missing or unknown columns: {', '.join(unknown)}")
    path = Path(folder, FILE)
    _check(pd.DataFrame(listed, columns=[column.name for column in CLAIMS.columns]), str(path))
    write_rows(CLAIMS, listed, path)
    return path


def read(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The claims of a results folder; no rows if it has no such file.

    Raises:
        ValueError: the file is torn, lacks columns, or says what no claim can say; in one line.

    Source: `CLAIMS`.

    Example:
        >>> read("no such folder").empty
        True
    """
    path = Path(folder, FILE)
    names = [column.name for column in CLAIMS.columns]
    if not path.is_file():
        return pd.DataFrame(columns=names)
    try:
        frame: pd.DataFrame = pd.read_parquet(path)
        missing = sorted(set(names) - set(frame.columns))
        if missing:
            raise ValueError(f"missing columns: {', '.join(missing)}")
        frame = pa.Table.from_pandas(frame[names], preserve_index=False).cast(CLAIMS.schema).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as claims: {str(error).splitlines()[0]}") from error
    _check(frame, str(path))
    return frame


def _check(frame: pd.DataFrame, where: str) -> None:
    """Refuse what no claim can say.

    Raises:
        ValueError: in one line: what, got, allowed.
    """
    for name, allowed in (("kind", KINDS), ("verdict", VERDICTS)):
        for claim, value in zip(frame["claim_id"], frame[name], strict=True):
            if value not in allowed:
                raise ValueError(f"{where}: claim {claim}: {name} must be one of {', '.join(allowed)}: got {value!r}")
    twice = frame.loc[frame.duplicated(["paper", "claim_id"]), "claim_id"]
    if len(twice):
        raise ValueError(f"{where}: claim {twice.iloc[0]} is there twice for one paper")
    for row in frame.to_dict("records"):
        low, high = float(row["low"]), float(row["high"])
        if low > high or math.isnan(low) != math.isnan(high):
            raise ValueError(f"{where}: claim {row['claim_id']}: low and high are no interval: {low:g}, {high:g}")
        try:
            run_ids(row["rows"])
        except ValueError as error:
            raise ValueError(f"{where}: claim {row['claim_id']}: rows: {error}") from error


def run_ids(rows: str) -> list[str]:
    """The run_ids of a claim's `rows`.

    Raises:
        ValueError: it is no JSON list of texts.

    Source: `CLAIMS`.

    Example:
        >>> run_ids('["a", "b"]')
        ['a', 'b']
    """
    try:
        found = json.loads(rows)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"must be a JSON list of run_ids: got {rows[:40]!r}")
    return found


def counts(claims: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each paper have each verdict.

    Args:
        claims: rows of `CLAIMS`.

    Returns:
        One row per paper, sorted: `paper`, `claims` (their number), and a column for each of `VERDICTS`.

    Source: counting.

    Example:
        >>> counts(pd.DataFrame({"paper": ["p", "p"], "verdict": ["partly", "reproduced"]})).to_numpy().tolist()
        [['p', 2, 1, 1, 0, 0]]
    """
    rows = [
        {
            "paper": paper,
            "claims": len(own),
            **{verdict: int((own["verdict"] == verdict).sum()) for verdict in VERDICTS},
        }
        for paper, own in claims.groupby("paper", sort=True)
    ]
    return pd.DataFrame(rows, columns=["paper", "claims", *VERDICTS])
