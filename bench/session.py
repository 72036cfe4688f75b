"""The process that the supervisor starts (once per rank under mpirun or srun, or once for simulated runs): runs cells.

What it tells the supervisor goes to stdout, a line each: MARK, then JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bench.interruption import ASKED, Interrupted, Wish, wish_file
from bench.launch import MARK
from bench.run import report_failure, run_cell
from bench.study import Cell, resolve
from bench.transports import paths

if TYPE_CHECKING:
    from mpi4py import MPI

Say = Callable[..., None]
"""Told what happens, by keyword: event = start | step | note | end | interrupted, run = id of the run, and more."""


def tell(**what: Any) -> None:
    """One line for the supervisor."""
    sys.stdout.write(MARK + json.dumps(what) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Run the cells whose ids stand in a file, one per line, in that order."""
    parser = argparse.ArgumentParser(prog="python -m bench.session")
    parser.add_argument("out", type=Path, help="results folder; holds study.json")
    parser.add_argument("runs", type=Path, help="file with one run id per line")
    parser.add_argument("--mpi", action="store_true", help="the cells run on MPI ranks")
    parser.add_argument("--data-dir", help="folder of the data sets")
    parser.add_argument("--cuda-aware", choices=("0", "1"), help="whether MPI takes device memory, as was tried out")
    arguments = parser.parse_args(argv)
    if arguments.cuda_aware:
        os.environ[paths.CUDA_AWARE] = arguments.cuda_aware
    if arguments.data_dir:
        os.environ["PACELINE_DATA"] = arguments.data_dir
    study = resolve(json.loads((arguments.out / "study.json").read_text()))
    by_id = {cell.run_id: cell for cell in study.cells()}
    cells = [by_id[run_id] for run_id in arguments.runs.read_text().split()]
    ASKED.install()
    (on_mpi if arguments.mpi else simulated)(cells, arguments.out, wish_file(arguments.runs))
    return 0


def simulated(cells: list[Cell], out: Path, file: Path | None = None, say: Say = tell) -> bool:
    """Run simulated cells, one after the other, in this process; whether all of them, or it was interrupted.

    Args:
        file: see `Wish`.
    """
    wish = Wish(file)
    for cell in cells:
        if wish():
            say(event="interrupted", run="", where="")
            return False
        say(event="start", run=cell.run_id)
        try:
            verdict = run_cell(cell, out, world=None, progress=Meter(cell, say), wish=wish, note=_noting(cell, say))
        except Interrupted as where:
            say(event="interrupted", run=cell.run_id, where=str(where))
            return False
        assert verdict is not None
        say(event="end", run=cell.run_id, status=verdict.status, verdict=verdict.text)
    return True


def _noting(cell: Cell, say: Say) -> Callable[[str], None]:
    return lambda text: say(event="note", run=cell.run_id, text=text)


def on_mpi(cells: list[Cell], out: Path, file: Path | None = None, say: Say = tell) -> bool:
    """Run cells on the ranks of this launch, which all call this with the same cells; whether all cells were run, or
    the launch was interrupted.

    Args:
        file: see `Wish`; rank 0 looks for it.
    """
    from mpi4py import MPI

    everybody = MPI.COMM_WORLD
    rank = everybody.Get_rank()
    most = max(cell.ranks for cell in cells)
    if everybody.Get_size() < most:
        # Slurm with the wrong PMI starts singletons and says nothing; numbers from such a run would be nonsense.
        if rank == 0:
            how = "with srun try --mpi=pmix, --mpi=pmi2, or launch with mpirun; see: paceline doctor"
            say(event="refused", text=f"the launcher started {everybody.Get_size()} ranks, {most} are needed ({how})")
        everybody.Abort(3)
    wish = Wish(file if rank == 0 else None)
    for cell in cells:
        if any(everybody.allgather(wish())):
            if rank == 0:
                say(event="interrupted", run="", where="")
            return False
        interrupted = False
        part = everybody.Split(0 if rank < cell.ranks else MPI.UNDEFINED, rank)
        if rank < cell.ranks:
            try:
                if rank == 0:
                    say(event="start", run=cell.run_id)
                verdict = run_cell(cell, out, world=part, progress=Meter(cell, say), wish=wish, note=_noting(cell, say))
                if verdict is not None:
                    say(event="end", run=cell.run_id, status=verdict.status, verdict=verdict.text)
            except Interrupted as where:
                interrupted = True
                if rank == 0:
                    say(event="interrupted", run=cell.run_id, where=str(where))
            except BaseException:
                text = traceback.format_exc()
                report_failure(out / "runs" / cell.run_id, rank, text)
                sys.stderr.write("".join(f"[rank {rank}] {line}\n" for line in text.splitlines()))
                sys.stderr.flush()
                everybody.Abort(1)
            part.Free()
        wait_for_all(everybody)  # ranks without work in this cell
        if any(everybody.allgather(interrupted)):
            return False
    return True


def wait_for_all(world: MPI.Comm) -> None:
    """A barrier where ranks wait without spinning: others need the cores."""
    barrier = world.Ibarrier()
    while not barrier.Test():
        time.sleep(0.005)


class Meter:
    """Tells the supervisor how far worker 0 is, at most a few times a second."""

    def __init__(self, cell: Cell, say: Say) -> None:
        self._say = say
        self._run_id, self._budget = cell.run_id, cell.workload.budget
        self._next = 0.0

    def __call__(self, step: int, now_s: float, loss: Tensor) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 0.5
        done = now_s / self._budget.seconds if self._budget.seconds else step / (self._budget.steps or 1)
        self._say(event="step", run=self._run_id, step=step, done=round(min(done, 1.0), 3), loss=round(float(loss), 4))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
