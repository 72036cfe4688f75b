"""What results folders hold: the tables, the studies, each run's files, and a list of what could not be used."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis import claim_table
from bench.records import TABLES, Results, join, load, load_in_batches
from reports.decided import of_papers

OURS = re.compile(r"(run|heldout|shares)\.parquet|(events-r\d+-p\d+|snapshots-r\d+|probe-[\w-]+)\.parquet|probes\.json")
"""Files of a run that a report, or the tables it is made from, reads."""
FEW = 8
"""Events files of a run that are named one by one; with more ranks, only their folder is."""


@dataclass(frozen=True)
class Found:
    """What results folders hold.

    Attributes:
        results: the tables of all finished runs; a run in two folders counts once.
        studies: folder -> its resolved study.
        problems: what could not be read, is not finished, or is not ours: one sentence each.
        files: run_id -> its files, as (link from the page, name).
        batches: the same results a few runs at a time, if `results` are without events; can be gone through once.
    """

    results: Results
    studies: dict[str, Any]
    problems: list[str]
    files: dict[str, list[tuple[str, str]]]
    batches: Iterator[Results] | None = None


def found_in(folders: Sequence[str], page_in: Path) -> Found:
    """Everything that a report of these folders needs.

    Args:
        page_in: folder of the page, where links lead from.

    Raises:
        ValueError: a folder does not exist or is no results folder.
    """
    problems: list[str] = []
    studies: dict[str, Any] = {}
    for name in folders:
        problems += _left_over(Path(name, "runs"))
        study = Path(name, "study.json")
        if _only_claims(name):
            continue
        try:
            studies[name] = json.loads(study.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{study}: {type(error).__name__}: {str(error).splitlines()[0]}")
    lean = of_papers(folders) and all(Path(folder, "runs").is_dir() for folder in folders)
    results, folder_of, twice = _joined(folders, events=not lean)
    files = {run_id: _files(Path(folder, "runs", run_id), page_in) for run_id, folder in folder_of.items()}
    batches = load_in_batches(*folders) if lean and not twice else None
    return Found(results, studies, twice + problems, files, batches)


def _joined(folders: Sequence[str], events: bool) -> tuple[Results, dict[str, str], list[str]]:
    """The tables of all folders, the folder of each run, and which runs were there twice.

    Args:
        events: False leaves them out where no run is there twice.
    """
    names = [(run.name, folder) for folder in folders for run in sorted(Path(folder).glob("runs/*"))]
    folder_of = dict(reversed(names))  # the first folder keeps a run
    if len(folder_of) == len(names) and all(Path(folder, "runs").is_dir() for folder in folders):
        whole = load(*folders, events=events)  # at once: joining millions of events would hold them twice
        if not whole.runs["run_id"].duplicated().any():
            return whole, {run_id: folder_of[run_id] for run_id in whole.runs["run_id"] if run_id in folder_of}, []
    parts: list[Results] = []
    twice: list[str] = []
    seen: dict[str, str] = {}
    for folder in folders:
        part = _load(folder)
        # A run in two folders would be counted twice: the first folder keeps it.
        again = [run_id for run_id in part.runs["run_id"].unique() if run_id in seen]
        twice += [f"{i}: is in {seen[i]} and in {folder}; the one in {folder} is left out" for i in again]
        several = part.runs.loc[part.runs["run_id"].duplicated(), "run_id"].unique()
        copied = [run_id for run_id in several if run_id not in seen]
        twice += [f"{run_id}: is in several folders below {folder}/runs, so it is left out" for run_id in copied]
        seen.update({run_id: folder for run_id in part.runs["run_id"] if run_id not in seen})
        gone = [*again, *copied]
        if gone:
            frames: dict[str, Any] = {table: getattr(part, table) for table in TABLES}
            part = replace(part, **{name: frame[~frame["run_id"].isin(gone)] for name, frame in frames.items()})
        parts.append(part)
    return join(parts), seen, twice


def _load(name: str) -> Results:
    """The tables of a folder; none of one whose runs were never begun, or that holds decided claims alone."""
    if (Path(name, "study.json").is_file() and not Path(name, "runs").exists()) or _only_claims(name):
        empty = {table: schema.in_memory.empty_table().to_pandas() for table, schema in TABLES.items()}
        return Results(**empty)
    return load(name)


def _only_claims(name: str) -> bool:
    """Whether a folder holds a paper's claims and no runs: those that rest on experiments."""
    return Path(name, claim_table.FILE).is_file() and not Path(name, "runs").exists()


def _left_over(runs: Path) -> list[str]:
    """What stands among the runs and is no finished run, or stands in one and is not ours."""
    found = []
    for run in sorted(runs.iterdir()) if runs.is_dir() else []:
        if not run.is_dir():
            found.append(f"{runs.name}/{run.name}: not a folder of a run")
            continue
        if not (run / "run.parquet").exists():
            found.append(f"{runs.name}/{run.name}: not finished (no run.parquet): still running, or killed")
        for file in sorted(run.iterdir()):
            if file.name.endswith(".tmp"):
                found.append(f"{run.name}/{file.name}: half written, by a process that was killed")
            elif file.suffix == ".parquet" and not OURS.fullmatch(file.name):
                found.append(f"{run.name}/{file.name}: not a file of a run")
    return found


def _files(run: Path, page_in: Path) -> list[tuple[str, str]]:
    """A run's files as (link, name); of many events and snapshots only that they are there."""
    if not run.is_dir():
        return []  # renamed by hand
    names = sorted((file.name for file in run.iterdir() if OURS.fullmatch(file.name)), key=_in_order)
    by_rank = [name for name in names if re.match(r"(events|snapshots)-", name)]
    listed = [name for name in names if len(by_rank) <= FEW or name not in by_rank]
    here = quote(Path(os.path.relpath(run, page_in)).as_posix())
    links = [(f"{here}/{quote(name)}", name) for name in listed]
    rest = len(names) - len(listed)
    return [*links, (f"{here}/", f"… {rest}")] if rest else links


def _in_order(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
