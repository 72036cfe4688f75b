"""How far a study is: what its results folder says while it runs. Reads only, and copes with what is half written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bench.launch import OVERHEAD_S, cores

State = Literal["waiting", "running", "silent", "completed", "diverged", "failed", "crashed"]
ENDED = ("completed", "diverged", "failed", "crashed")
RUN_ID = re.compile(
    r"(?P<label>.+)\.(?P<transport>mpi|horovod|simulated)\.n(?P<workers>\d+)\.s(?P<seed>\d+)\.(?P<workload>.+)-[0-9a-f]{8}"
)
PATIENCE_S = 900.0
"""After this and three budgets without a sign of life a run is called silent; the supervisor gives up then too."""


@dataclass(frozen=True)
class Run:
    """One run of the study, as far as it is.

    Attributes:
        budget_s: of a measured run [s]; NaN if simulated or counted in steps.
        since_s: of a run that has not ended: real seconds since its folder last changed.
        reached_s: of a run that has not ended: the run's own time up to which its events are on disk; 0 if none are.
        interruptions: how often a run that has not ended was stopped; its state is saved.
        wall_s: real seconds that it took; NaN until it has ended. So are the next two.
        samples_per_s: of all workers.
        heldout_loss: at its last snapshot [nat].
        verdict: why it is not "completed", in one line.
    """

    run_id: str
    label: str
    transport: str
    workload: str
    workers: int
    budget_s: float = math.nan
    state: State = "waiting"
    since_s: float = 0.0
    reached_s: float = 0.0
    interruptions: int = 0
    wall_s: float = math.nan
    samples_per_s: float = math.nan
    heldout_loss: float = math.nan
    verdict: str = ""


@dataclass(frozen=True)
class Progress:
    """A study's runs in the order of its plan.

    Attributes:
        planned: whether the plan is known; otherwise `runs` are those that have begun.
        notes: what has to be known besides, one sentence each.
    """

    name: str
    runs: tuple[Run, ...]
    planned: bool
    notes: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether every planned run has ended."""
        return self.planned and all(run.state in ENDED for run in self.runs)


class Watcher:
    """Looks at a results folder again and again; what has ended is read once.

    Args:
        out: the folder; it need not exist yet.
        only: labels or names of the algorithms that are run; empty: all. Like the next, the file does not tell.
        without: transports that are left out.
    """

    def __init__(self, out: Path, only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> None:
        self._out, self._only, self._without = out, only, without
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}
        self._plan: tuple[int, tuple[str, tuple[Run, ...] | None, tuple[str, ...]]] | None = None

    def look(self, now_s: float) -> Progress | None:
        """The state of the study, or None if there is nothing yet.

        Args:
            now_s: seconds since the epoch, to be compared with the times of files.
        """
        folders = {path.name: path for path in _folders(self._out / "runs")}
        study = self._read_plan()
        if study is None and not folders:
            return None
        name, plan, notes = study or (self._out.name, None, ("there is no study.json yet",))
        if plan is None:
            runs = [run for run in map(_by_name, folders) if run is not None]
            return Progress(name, tuple(self._now(run, folders, now_s) for run in runs), False, notes)
        if others := len(folders.keys() - {run.run_id for run in plan}):
            notes = (*notes, f"{others} other {'run' if others == 1 else 'runs'} in the folder")
        return Progress(name, tuple(self._now(run, folders, now_s) for run in plan), True, notes)

    def _read_plan(self) -> tuple[str, tuple[Run, ...] | None, tuple[str, ...]] | None:
        """Name, runs and notes from study.json; None if there is none."""
        path = self._out / "study.json"
        try:
            changed = path.stat().st_mtime_ns
            if self._plan is None or self._plan[0] != changed:
                self._plan = changed, _plan(json.loads(path.read_text(encoding="utf-8")), self._only, self._without)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return self._out.name, None, (f"study.json cannot be used: {str(error).splitlines()[0]}",)
        return self._plan[1]

    def _now(self, run: Run, folders: dict[str, Path], now_s: float) -> Run:
        """A planned run as it is now."""
        folder = folders.get(run.run_id)
        if folder is None:
            return run
        row = self._row(folder)
        if row is not None:
            return replace(run, **row)
        changed_s, reached_s = _signs(folder)
        since_s = max(now_s - changed_s, 0.0)
        limit_s = PATIENCE_S + 3 * (0.0 if math.isnan(run.budget_s) else run.budget_s)
        state: State = "running" if since_s <= limit_s else "silent"
        saved = (folder / "checkpoint").glob("[0-9]*")  # see bench/checkpoint_files.py, which would import torch
        interruptions = max((int(path.name) for path in saved), default=0)
        return replace(run, state=state, since_s=since_s, reached_s=reached_s, interruptions=interruptions)

    def _row(self, folder: Path) -> dict[str, Any] | None:
        """What run.parquet says; None if it is not there, or is not whole."""
        path = folder / "run.parquet"
        try:
            key = folder.name, path.stat().st_mtime_ns
            if key not in self._rows:
                self._rows[key] = _ended(folder)
            return self._rows[key]
        except (OSError, ValueError, KeyError, IndexError, pa.ArrowException):
            return None


def _folders(runs: Path) -> list[Path]:
    try:
        return sorted(path for path in runs.iterdir() if path.is_dir())
    except OSError:
        return []


def _plan(raw: Any, only: tuple[str, ...], without: tuple[str, ...]) -> tuple[str, tuple[Run, ...], tuple[str, ...]]:
    from bench.study import resolve

    study = resolve(raw, only=only, without=without)
    return (
        study.table.name,
        tuple(
            Run(
                run_id=cell.run_id,
                label=cell.entry.label,
                transport=cell.transport,
                workload=cell.workload.name,
                workers=cell.workers,
                budget_s=_budget_s(cell.transport, cell.workload.budget.seconds),
            )
            for cell in study.cells()
        ),
        (),
    )


def _budget_s(transport: str, seconds: float | None) -> float:
    return math.nan if seconds is None or transport == "simulated" else seconds


def _by_name(run_id: str) -> Run | None:
    """A run of which only the folder's name is known."""
    found = RUN_ID.fullmatch(run_id)
    if found is None:
        return None
    return Run(run_id, found["label"], found["transport"], found["workload"], int(found["workers"]))


def _ended(folder: Path) -> dict[str, Any]:
    """How a run ended: the fields of `Run` that are known then."""
    columns = ["status", "verdict", "wall_s", "duration_s", "samples"]
    row = pq.read_table(folder / "run.parquet", columns=columns).to_pylist()[0]
    if row["status"] not in ENDED:
        raise ValueError(f"no such status: {row['status']}")
    good = row["status"] == "completed"
    return {
        "state": row["status"],
        "wall_s": row["wall_s"],
        "samples_per_s": row["samples"] / row["duration_s"] if good and row["duration_s"] > 0 else math.nan,
        "heldout_loss": _last_loss(folder) if good else math.nan,
        "verdict": "" if good else next(iter(row["verdict"].splitlines()), ""),
    }


def _last_loss(folder: Path) -> float:
    try:
        table = pq.read_table(folder / "heldout.parquet", columns=["snapshot", "heldout_loss"])
    except (OSError, pa.ArrowException):
        return math.nan
    rows = sorted(zip(table["snapshot"].to_pylist(), table["heldout_loss"].to_pylist(), strict=True))
    return float(rows[-1][1]) if rows else math.nan


def _signs(folder: Path) -> tuple[float, float]:
    """When a run's folder or its events last changed [s since the epoch], and how far the events on disk reach [s]."""
    changed, newest = 0.0, None
    for path in (folder, *folder.glob("events-*.parquet")):
        try:
            at = path.stat().st_mtime
        except OSError:
            continue
        if at >= changed:
            changed, newest = at, path if path != folder else newest
    if newest is None:
        return changed, 0.0
    try:
        times = pq.read_table(newest, columns=["t1_s"])["t1_s"].to_numpy()
    except (OSError, pa.ArrowException):
        return changed, 0.0
    return changed, float(times.max()) if len(times) else 0.0


# -- how long it will take ---------------------------------------------------------------------------------------------


def left_s(runs: Sequence[Run], among: Iterable[Run] | None = None) -> tuple[float, bool]:
    """Guess of the real seconds until these runs have ended, and whether it covers all of them.

    A run is expected to take as long as those most like it that have ended took, else its budget and a second. As many
    go on at once as are running now, measured ones (several jobs of an array) and simulated ones each for themselves;
    while none is, one measured run, and as many simulated ones as there are cores.

    Args:
        runs: all of the study, from which to learn.
        among: those that are asked about; all of them by default.
    """
    took = _took(runs)
    virtual = [run.transport == "simulated" for run in runs if run.state == "running"]
    lanes = {True: sum(virtual) or cores(), False: len(virtual) - sum(virtual) or 1}
    total, known = 0.0, True
    for run in runs if among is None else among:
        if run.state in ENDED or run.state == "silent":
            continue
        expected = _expected_s(run, took)
        if math.isnan(expected):
            known = False
            continue
        rest = max(expected - run.reached_s - run.since_s, 0.0) if run.state == "running" else expected
        total += rest / lanes[run.transport == "simulated"]
    return total, known


def _kinds(run: Run) -> list[tuple[Any, ...]]:
    """What runs may have in common with this one, the most telling first."""
    of_study = (run.transport, run.workload)
    return [(*of_study, run.workers, run.label), (*of_study, run.workers), of_study]


def _took(runs: Iterable[Run]) -> dict[tuple[Any, ...], list[float]]:
    took: dict[tuple[Any, ...], list[float]] = {}
    for run in runs:
        if run.state in ("completed", "diverged") and math.isfinite(run.wall_s):
            for kind in _kinds(run):
                took.setdefault(kind, []).append(run.wall_s)
    return took


def _expected_s(run: Run, took: dict[tuple[Any, ...], list[float]]) -> float:
    for kind in _kinds(run):
        if kind in took:
            return sum(took[kind]) / len(took[kind])
    return run.budget_s + OVERHEAD_S
