"""A paper's evidence from the tables that the report has read already, so that they are read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.papers.catalogue import paper as paper_of
from analysis.papers.evidence import Evidence, Scale
from bench.records import TABLES, Results
from reports.sections.base import Material


def evidence_of(folder: Path, paper: str, scale: Scale, material: Material) -> Evidence:
    """The evidence below a results folder; a part of which the report lacks a run is read when it is asked for."""
    evidence = Evidence(folder, scale)
    known = set(material.results.runs["run_id"])
    for part in paper_of(paper).parts:
        runs = {run.name for run in (folder / part.name).glob("runs/*") if run.is_dir()}
        if runs and runs <= known:
            frames: dict[str, Any] = {name: _own(getattr(material.results, name), runs) for name in TABLES}
            evidence.give(part.name, Results(**frames))
    return evidence


def _own(frame: pd.DataFrame, runs: set[str]) -> pd.DataFrame:
    """The rows of these runs, as if no other had been read."""
    own = frame[frame["run_id"].isin(runs)].reset_index(drop=True)
    for name in own.select_dtypes("category"):
        own[name] = own[name].cat.remove_unused_categories()
    return own
