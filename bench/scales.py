"""Studies of the papers at two scales: the file says the quick one, its table [full] what is different in the full one.

    seeds = [0, 1, 2]
    [budget]
    seconds = 20
    [full]
    seeds = [0, 1, 2, 3, 4]
    budget = { seconds = 120 }

A key of [full] replaces the file's whole key, but for `workload` and `algorithm`: there it is a table by label (or
name) of what to change in that entry.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, Literal

from bench.settings import StudyError
from bench.study import STUDIES, algorithm_label, workload_label

Scale = Literal["quick", "full"]
PAPERS = STUDIES / "papers"


def study_of(paper: str, part: str, scale: Scale) -> dict[str, Any]:
    """The table of a paper's study at a scale, for `bench.study.resolve`.

    Raises:
        StudyError: there is no such file, or [full] names an entry that is not there.
    """
    path = PAPERS / paper / f"{part}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path} is not valid TOML: {error}") from error
    return scaled(raw, scale, str(path))


def scaled(raw: Mapping[str, Any], scale: Scale, where: str) -> dict[str, Any]:
    """A study's table with its scale applied.

    Raises:
        StudyError: [full] names an entry that is not there.
    """
    table = {key: value for key, value in raw.items() if key != "full"}
    if scale == "quick":
        return table
    changes = raw.get("full", {})
    for key, change in changes.items():
        if key not in ("workload", "algorithm"):
            table[key] = change
            continue
        entries = [dict(entry) for entry in table[key]]
        label_of = workload_label if key == "workload" else algorithm_label
        by_label = {label_of(entry): entry for entry in entries}
        for label, changed in change.items():
            if label not in by_label:
                raise StudyError(f"{where}: [full.{key}] names {label!r} (known: {', '.join(by_label)})")
            by_label[label].update(changed)
        table[key] = entries
    return table
