"""A fingerprint of the tables that a report was made from."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from bench.records import TABLES, Results


def digest(results: Results) -> str:
    """sha256 over every value of every table, 64 hexadecimal digits.

    It does not depend on the order in which folders were given, on how text is coded in memory, or on the machine.
    """
    total = hashlib.sha256()
    for table in TABLES.values():
        frame: pd.DataFrame = getattr(results, table.name)
        total.update(f"{table.name} {len(frame)}\n".encode())
        order = _order(frame["run_id"])
        for column in table.columns:
            total.update(f"{column.name}\n".encode())
            _update(total, frame[column.name] if order is None else frame[column.name].iloc[order])
    return total.hexdigest()


def _order(run_ids: pd.Series) -> np.ndarray | None:
    """Places of the rows sorted by run, each run's rows in their order; None if they are."""
    codes, names = pd.factorize(run_ids)  # far fewer names than rows
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(np.asarray(names, dtype=object), kind="stable")] = np.arange(len(names))
    places = rank[codes]
    return None if (places[1:] >= places[:-1]).all() else np.argsort(places, kind="stable")


def _update(total: hashlib._Hash, values: pd.Series) -> None:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_integer_dtype(values):
        total.update(np.ascontiguousarray(values.to_numpy(), dtype="<i8").data)
    elif pd.api.types.is_float_dtype(values):
        total.update(np.ascontiguousarray(values.to_numpy(), dtype="<f8").data)
    else:  # few different texts in many rows: each once, then which one
        codes, texts = pd.factorize(values)
        for text in texts:
            data = str(text).encode()
            total.update(len(data).to_bytes(8, "little") + data)
        total.update(np.ascontiguousarray(codes, dtype="<i8").data)
