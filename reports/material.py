"""The tables that all parts of a report are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.ages import applied_gradients
from analysis.summary import per_run, summarise
from analysis.timing import time_split
from bench.records import TABLES, Results
from reports import words
from reports.batches import in_batches
from reports.environment import environment
from reports.language import t
from reports.sections.base import Material, Setting
from reports.style import looks


def light(results: Results) -> Results:
    """The same tables without `attrs`: pandas copies those deep at every selection, a seventh of a report's time."""
    tables: dict[str, Any] = {name: _bare(getattr(results, name)) for name in TABLES}
    return replace(results, **tables)


def _bare(frame: pd.DataFrame) -> pd.DataFrame:
    bare = frame.copy(deep=False)
    bare.attrs = {}
    return bare


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames of batches as one; empty ones would make it forget its types."""
    full = [frame for frame in frames if len(frame)] or frames[:1]
    return _bare(pd.concat(full, ignore_index=True))


def material_of(results: Results, sources: Sequence[str], beside: str) -> Material:
    """The tables that all parts are made from."""
    splits, applied = [], []
    for batch in in_batches(results):  # what these two make on the way is several times the events
        splits.append(time_split(batch.events, batch.runs))
        applied.append(applied_gradients(batch.events, batch.runs))
    split = _joined(splits)
    table = _bare(per_run(results, split=split, applied=_joined(applied)))
    del applied
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    split = split.merge(table[["run_id", "label"]], on="run_id")
    return Material(results, table, _bare(summarise(table)), split, look_of, sources, environment(look_of, beside))


def of_setting(everything: Material, name: str, study: str, workload: str, workers: int) -> Material:
    """The material of one setting."""

    def own(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[(frame[["study", "workload", "workers"]] == [study, workload, workers]).all(axis=1)]

    table = own(everything.table)
    described = t("{workload}, {workers}", workload=workload, workers=words.plural(int(workers), "worker"))
    return replace(
        everything,
        table=table,
        summary=own(everything.summary),
        split=everything.split[everything.split["run_id"].isin(table["run_id"])],
        setting=Setting(name, study, workload, int(workers), described),
    )
