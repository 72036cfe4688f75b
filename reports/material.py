"""The tables that all parts of a report are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.summary import per_run, summarise
from bench.records import TABLES, Results
from reports import words
from reports.environment import environment
from reports.language import t
from reports.sections.base import Material, Setting
from reports.style import looks
from reports.traces import Traces


def light(results: Results) -> Results:
    """The same tables without `attrs`: pandas copies those deep at every selection, a seventh of a report's time."""
    tables: dict[str, Any] = {name: _bare(getattr(results, name)) for name in TABLES}
    return replace(results, **tables)


def _bare(frame: pd.DataFrame) -> pd.DataFrame:
    bare = frame.copy(deep=False)
    bare.attrs = {}
    return bare


def material_of(results: Results, traced: Traces, sources: Sequence[str], beside: str) -> Material:
    """The tables that all parts are made from."""
    table = _bare(per_run(results, traced=traced.numbers))
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    split = traced.split.merge(table[["run_id", "label"]], on="run_id")
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
