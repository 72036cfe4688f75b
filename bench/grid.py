"""One `[[algorithm]]` with a grid of settings as many, each with a label of its own: a sweep in a line of a study file.

[[algorithm]]
name = "easgd"
grid = { "optimizer.lr" = [0.01, 0.05], period = [1, 4, 16] }    # easgd@lr=0.01,period=1 and five more
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bench.settings import StudyError, show

MOST = 10_000
"""Settings of a study; more are a mistake in a grid."""


def expanded(entries: Sequence[Any], where: str) -> list[Any]:
    """The `[[algorithm]]` tables with every grid written out, the last key varying fastest.

    A key of a grid is a setting of the algorithm, or one inside of a table: "optimizer.lr". A label is the entry's
    own, then the keys' last words and the values.

    Raises:
        StudyError: a grid is no table of lists, or is empty.
    """
    found: list[Any] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, Mapping) and "grid" in entry:
            found += _written_out(entry, f"{where}: algorithm[{i}].grid")
        else:
            found.append(entry)
    if len(found) > MOST:
        raise StudyError(f"{where}: grids give {len(found)} algorithms, at most {MOST} are allowed (shorten a list)")
    return found


def _written_out(entry: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    grid = entry["grid"]
    if not isinstance(grid, Mapping) or not grid:
        raise StudyError(f'{where}: expected a table such as {{ "optimizer.lr" = [0.1, 0.2] }}: got {show(grid)}')
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise StudyError(f"{where}.{key}: expected a list of values: got {show(values)}")
    rest = {key: value for key, value in entry.items() if key != "grid"}
    label = rest.get("label", rest.get("name"))
    found = []
    for values in itertools.product(*grid.values()):
        one = copy.deepcopy(rest)
        for key, value in zip(grid, values, strict=True):
            _put(one, key, value, where)
        said = ",".join(f"{key.rpartition('.')[2]}={_said(v)}" for key, v in zip(grid, values, strict=True))
        one["label"] = f"{label}@{said}"
        found.append(one)
    return found


def _put(entry: dict[str, Any], key: str, value: Any, where: str) -> None:
    *tables, last = key.split(".")
    for name in tables:
        entry = entry.setdefault(name, {})
        if not isinstance(entry, dict):
            raise StudyError(f"{where}.{key}: {name} is not a table: got {show(entry)}")
    entry[last] = value


def _said(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(text.split()).replace("/", "|").replace("\\", "|")
