"""Everything that two results folders are compared by."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.changes import changes, numbers_per_run
from analysis.circumstances import environment, settings, statuses
from analysis.summary import KEYS
from bench.records import Results
from reports.compare.conditions import Condition, Judged, judge


@dataclass(frozen=True)
class Found:
    """What changed from OLD to NEW, and what was asked of it.

    Attributes:
        old: name of the folder, number of its runs, commits.
        new: the same after.
        changes: see `analysis.changes.changes`.
        statuses: see `analysis.circumstances.statuses`; so are the next two.
        problems: files that could not be read.
    """

    old: tuple[str, int, str]
    new: tuple[str, int, str]
    changes: pd.DataFrame
    statuses: pd.DataFrame
    settings: pd.DataFrame
    environment: pd.DataFrame
    judged: tuple[Judged, ...]
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether one of the conditions holds somewhere."""
        return any(judged.holds for judged in self.judged)

    @property
    def unanswered(self) -> list[Judged]:
        """The conditions that could be judged nowhere."""
        return [judged for judged in self.judged if not judged.holds and len(judged.open) == judged.looked]


def compare(
    old: Results,
    new: Results,
    names: tuple[str, str],
    conditions: Sequence[Condition] = (),
    *,
    point: bool = False,
    any_study: bool = False,
) -> Found:
    """Compare two results.

    Args:
        names: of the folders.
        point: judge the conditions by the estimates alone.
        any_study: each has one study, and its name does not matter.

    Raises:
        ValueError: they have no cell in common, or one has several studies whose names should not matter.
    """
    if any_study:
        old, new = _under_one_name(old, new, names)
    ended = statuses(old.runs, new.runs)
    if not ((ended["n_old"] > 0) & (ended["n_new"] > 0)).any():
        one, other = (_first_cell(results.runs) for results in (old, new))
        raise ValueError(
            f"{names[0]} and {names[1]} have no cell in common, such as {one} in OLD and {other} in NEW "
            "(the same study, workload, workers, transport and label are compared; --any-study ignores the first)"
        )
    changed = changes(numbers_per_run(old), numbers_per_run(new))
    return Found(
        old=(names[0], len(old.runs), _commits(old.runs)),
        new=(names[1], len(new.runs), _commits(new.runs)),
        changes=changed,
        statuses=ended,
        settings=settings(old.runs, new.runs),
        environment=environment(old.runs, new.runs),
        judged=tuple(judge(condition, changed, ended, point=point) for condition in conditions),
        problems=(*old.skipped, *new.skipped),
    )


def _under_one_name(old: Results, new: Results, names: tuple[str, str]) -> tuple[Results, Results]:
    """Both with the same name of the study, which tells both names."""
    found = [sorted(results.runs["study"].unique()) for results in (old, new)]
    for name, studies in zip(names, found, strict=True):
        if len(studies) > 1:
            raise ValueError(
                f"--any-study: {name} holds several studies: {', '.join(studies)} (give a folder with one)"
            )
    one = " | ".join(dict.fromkeys([found[0][0], found[1][0]]))
    return replace(old, runs=old.runs.assign(study=one)), replace(new, runs=new.runs.assign(study=one))


def _first_cell(runs: pd.DataFrame) -> str:
    first = runs.sort_values(list(KEYS)).iloc[0]
    return "/".join(str(first[key]) for key in KEYS)


def _commits(runs: pd.DataFrame) -> str:
    """Commits of the runs, as the provenance has them; "" if it has none."""
    found = set()
    for text in runs["provenance"]:
        try:
            given = json.loads(text)
        except ValueError:
            continue
        if commit := given.get("commit"):
            found.add(str(commit)[:12] + (" with uncommitted changes" if given.get("uncommitted_changes") else ""))
    return " and ".join(sorted(found))


# -- for programs ------------------------------------------------------------------------------------------------------


def as_json(found: Found) -> dict[str, Any]:
    """The whole comparison; NaN is null, infinity (a target that was never reached) the string "inf"."""

    def side(given: tuple[str, int, str]) -> dict[str, Any]:
        return {"folder": given[0], "runs": given[1], "commit": given[2]}

    def cells(of: Sequence[tuple[tuple[Any, ...], str]]) -> list[dict[str, Any]]:
        return [{**dict(zip(KEYS, map(_plain, cell), strict=True)), "why": why} for cell, why in of]

    return {
        "old": side(found.old),
        "new": side(found.new),
        "conditions": [
            {
                "condition": judged.condition.text,
                "holds": bool(judged.holds),
                "cells": judged.looked,
                "holds_in": cells(judged.holds),
                "not_judged_in": cells(judged.open),
            }
            for judged in found.judged
        ],
        "changes": _records(found.changes),
        "statuses": _records(found.statuses),
        "settings": _records(found.settings),
        "environment": _records(found.environment),
        "problems": list(found.problems),
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
