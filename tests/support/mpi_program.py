"""What mpirun starts: runs cases one after the other, each on ranks and communicators of its own.

    mpirun -n RANKS python -m tests.support.mpi_program MODULE TRANSPORT FOLDER NAME...

MODULE.CASES maps names to cases. Each rank writes what happens, a line of JSON each, to FOLDER/RANK.jsonl.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from mpi4py import MPI

from tests.support.mpi_cases import Case, on_mpi


def main(argv: list[str]) -> None:
    """Run the cases; a rank that fails ends all of them."""
    module, transport, folder, *names = argv
    cases: dict[str, Case] = import_module(module).CASES
    world = MPI.COMM_WORLD
    rank = world.Get_rank()
    with open(Path(folder) / f"{rank}.jsonl", "a", encoding="utf-8") as file:

        def say(event: str, **what: Any) -> None:
            file.write(json.dumps({"event": event, **what}) + "\n")
            file.flush()

        for name in names:
            case = cases[name]
            part = world.Split(0 if rank < case.ranks else MPI.UNDEFINED, rank)
            if part != MPI.COMM_NULL:
                run(name, case, transport, part, say)
                part.Free()
            # Ranks without work in this case wait without spinning: the others need the cores.
            barrier = world.Ibarrier()
            while not barrier.Test():
                time.sleep(0.002)


def run(name: str, case: Case, transport: str, part: MPI.Comm, say: Any) -> None:
    """One case on its ranks."""

    def fail(text: str) -> None:
        say("failed", case=name, text=f"rank {part.Get_rank()}: {text}")
        MPI.COMM_WORLD.Abort(1)

    say("start", case=name)
    t0 = time.perf_counter()
    try:
        on_mpi(case, transport, part, fail)
    except BaseException:
        fail(traceback.format_exc())
    if part.Get_rank() == 0:
        say("passed", case=name, seconds=round(time.perf_counter() - t0, 3))


if __name__ == "__main__":
    main(sys.argv[1:])
