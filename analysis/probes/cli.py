"""`paceline probe hessian|landscape|noise DIR`: probes of the models that a study kept; alone or under mpirun."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import traceback
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.interruption import ASKED
from bench.settings import StudyError, nearest

if TYPE_CHECKING:
    import torch

    from analysis.probes.job import Job, Ranks
    from analysis.probes.subject import Subject
    from bench.study import Cell

PATIENCE_S = 5.0  # for the other ranks to find the same mistake
DEFAULT_SAMPLES = {"hessian": 512, "landscape": 256, "noise": None}
DEFAULT_SNAPSHOTS = {"hessian": "last", "landscape": "last", "noise": "all"}


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline probe`."""
    p = argparse.ArgumentParser(
        prog="paceline probe",
        description="Look at the models that `paceline run` kept, and add what is found to the results folder. Under "
        "mpirun the ranks share the samples: mpirun -n 4 paceline probe DIR hessian. Calls are repeated at no cost: "
        "what is there already is left as it is.",
    )
    p.add_argument("directory", metavar="DIR", type=Path, help="results folder written by `paceline run`")
    kinds = p.add_subparsers(dest="probe", metavar="hessian|landscape|noise", required=True)
    hessian = _kind(kinds, "hessian", "largest and smallest eigenvalues, trace, spectral density, of Hessian or GGN")
    hessian.add_argument("--kind", choices=("hessian", "ggn"), default="hessian")
    hessian.add_argument("--eigenvalues", type=int, default=5, metavar="K", help="how many of the largest (default 5)")
    hessian.add_argument(
        "--smallest", type=int, metavar="K", help="and of the smallest (default: one of a Hessian, none of a GGN)"
    )
    hessian.add_argument("--probes", type=int, default=10, metavar="K", help="random vectors for trace and density")
    hessian.add_argument("--steps", type=int, default=30, metavar="K", help="Lanczos steps for the density")
    hessian.add_argument(
        "--tolerance", type=float, help="of an eigenvalue's residual, relative (default: by the precision)"
    )
    hessian.add_argument("--replicas", action="store_true", help="look at every worker's replica too")
    landscape = _kind(kinds, "landscape", "the loss around the model and between the workers; sharpness")
    landscape.add_argument(
        "--parts", default="plane,line,workers,sharpness,positions", help="which of them, with commas (default all)"
    )
    landscape.add_argument("--points", type=int, default=15, metavar="K", help="along each direction (default 15)")
    landscape.add_argument("--span", type=float, default=1.0, help="how far, in lengths of the filters (default 1)")
    landscape.add_argument(
        "--epsilon", type=float, default=0.01, help="radius for sharpness, in lengths of the model (default 0.01)"
    )
    noise = _kind(kinds, "noise", "effective learning rate and gradient noise of decentralised SGD")
    noise.add_argument(
        "--gradient",
        choices=("full", "split"),
        default="full",
        help="overall gradient from the whole training set, or without bias from two halves of fresh mini-batches",
    )
    noise.add_argument("--halves", type=int, default=8, metavar="K", help="mini-batches per worker and half (split)")
    return p


def _kind(kinds: Any, name: str, what: str) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = kinds.add_parser(name, help=what, description=what)
    p.add_argument(
        "--run", action="append", default=[], metavar="NAME", help="only this run or label (may be repeated)"
    )
    p.add_argument(
        "--snapshot",
        default=DEFAULT_SNAPSHOTS[name],
        metavar="last|all|K,K",
        help=f"which planned times (default {DEFAULT_SNAPSHOTS[name]})",
    )
    samples = DEFAULT_SAMPLES[name]
    p.add_argument(
        "--samples", type=int, default=samples, metavar="N", help=f"of the probe set (default {samples or 'all'})"
    )
    p.add_argument("--of", choices=("training", "heldout"), default="training", help="where the samples are from")
    p.add_argument("--seed", type=int, default=0, help="of the probe set and of random directions")
    p.add_argument("--micro-batch", type=int, default=64, metavar="B", help="samples at a time; bounds the memory")
    p.add_argument("--float64", action="store_true", help="compute in double precision")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--json", action="store_true", help="print the new rows as JSON, and nothing else")
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of the data sets (default: $PACELINE_DATA)")
    return p


def main(argv: list[str]) -> int:
    """Probe; 0 if all is well, 2 with one line on stderr if it cannot be done as asked."""
    options = parser().parse_args(argv)
    from bench.started import inside_mpi

    if not inside_mpi():
        from analysis.probes.job import Ranks
        from analysis.probes.probe_set import alone

        return run(options, Ranks(0, 1, alone), None)
    from bench.transports import mpi_world

    world = mpi_world.everybody()
    aside = world.Dup()  # where ranks meet that cannot go on, whatever the others are waiting for
    try:
        return run(options, _ranks(world), world)
    except StudyError as error:
        return _refuse(error, aside)
    except BaseException:
        sys.stderr.write(f"[rank {world.Get_rank()}]\n{traceback.format_exc()}")
        sys.stderr.flush()
        world.Abort(1)  # the others wait for this rank's sums
        return 1


def _refuse(error: StudyError, aside: Any) -> int:
    """One line and exit code 2: from rank 0 if all ranks find that it cannot be done, else from the one that does.

    A file may be torn that only one rank reads; the others would wait for its sums for ever.
    """
    everybody, end = aside.Ibarrier(), time.monotonic() + PATIENCE_S
    while not (together := everybody.Test()) and time.monotonic() < end:
        time.sleep(0.01)
    if not together or aside.Get_rank() == 0:
        print(f"paceline probe: {' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)
    if not together:
        aside.Abort(2)
    return 2


def _ranks(world: Any) -> Ranks:
    from analysis.probes.job import Ranks
    from bench.transports.mpi_world import MPIGroup

    group = MPIGroup(world, world.Get_size())

    def total(v: torch.Tensor) -> torch.Tensor:
        return group.sum_(v.detach().cpu().contiguous().clone()).to(v.device)

    return Ranks(world.Get_rank(), world.Get_size(), total)


def run(options: argparse.Namespace, ranks: Ranks, world: Any) -> int:
    """Probe every run and snapshot that was asked for.

    Raises:
        StudyError: the folder, the runs or the options cannot be used.
    """
    from analysis.probes import tables
    from analysis.probes.job import settings_text
    from analysis.probes.probe_set import ProbeSet, probe_set
    from bench.cli import use_data_dir

    use_data_dir(options.data_dir)
    job = _job(options)
    cells = _cells(options.directory, options.run)
    device = _device(options.device, world)
    chosen: dict[int, ProbeSet] = {}  # by workload
    added: list[dict[str, Any]] = []
    files: set[Path] = set()
    todo = done = 0
    workloads: dict[str, Any] = {}
    for cell in cells:
        subject = _subject(cell, options, device, workloads)
        _check_tables(subject.folder)
        key = id(subject.workload)
        if key not in chosen:
            try:
                chosen[key] = probe_set(
                    subject.objective, of=options.of, samples=options.samples, seed=options.seed,
                    micro_batch=options.micro_batch, rank=ranks.rank, size=ranks.size,
                )  # fmt: skip
            except ValueError as error:
                raise StudyError(str(error)) from error
        mine = chosen[key]
        numbers = _snapshots(options.snapshot, job.snapshots(subject), job.lacking, subject.run_id)
        for number in numbers:
            todo += 1
            call = (subject.folder, number, mine.digest, settings_text(job, subject, mine))
            if _agreed(tables.is_done(*call), world):
                done += 1
                continue
            ASKED.obey()
            _say(f"{job.name}: {subject.run_id}, snapshot {number} of {numbers[-1]}", ranks)
            try:
                rows = job.look(subject, number, mine, ranks)
            except ValueError as error:
                raise StudyError(f"{subject.run_id}, snapshot {number}: {error}") from error
            if ranks.rank == 0:
                for table, new in rows.items():
                    files.add(tables.add(table, new, subject.folder))
                    added += [{"table": table.name, **row} for row in new]
                tables.mark_done(*call)
    _say("", ranks)
    if ranks.rank == 0:
        _print(options, added, files, todo, done)
    return 0


def _job(options: argparse.Namespace) -> Job:
    from analysis.probes.hessian_job import HessianJob
    from analysis.probes.landscape_job import LandscapeJob
    from analysis.probes.noise_job import NoiseJob

    kinds: dict[str, type[Job]] = {"hessian": HessianJob, "landscape": LandscapeJob, "noise": NoiseJob}
    kind = kinds[options.probe]
    asked = {field.name: getattr(options, field.name) for field in fields(kind)}
    if options.probe == "landscape":
        asked["parts"] = tuple(options.parts.split(","))
    try:
        return kind(**asked)
    except ValueError as error:
        raise StudyError(str(error)) from error


def _cells(directory: Path, wanted: list[str]) -> list[Cell]:
    """The completed runs of a results folder that the study in it still describes."""
    from bench.launch import is_complete
    from bench.study import resolve

    file = directory / "study.json"
    if not file.is_file():
        raise StudyError(f"not a results folder (no study.json in it): {directory} (make one with: paceline run STUDY)")
    cells = {cell.run_id: cell for cell in resolve(json.loads(file.read_text()), where=str(file)).cells()}
    known = [run_id for run_id in cells if is_complete(directory, run_id)]
    if not known:
        raise StudyError(f"{directory} holds no completed run of its study.json (run the study first: paceline run)")
    names = {*known, *(cells[run_id].entry.label for run_id in known)}
    for name in wanted:
        if name not in names:
            raise StudyError(f"--run: {directory} has no run {name!r}{nearest(name, sorted(names))}")
    return [cells[r] for r in known if not wanted or {r, cells[r].entry.label} & set(wanted)]


def _subject(cell: Cell, options: argparse.Namespace, device: torch.device, built: dict[str, Any]) -> Subject:
    from algorithms.optim import OptimizerSettings
    from analysis.probes.subject import Subject

    settings = cell.workload.settings.double() if options.float64 else cell.workload.settings
    key = f"{settings!r} {cell.workers}"
    if key not in built:
        try:
            built[key] = settings.build(device, cell.workers)
        except ValueError as error:
            raise StudyError(f"workload {cell.workload.name}: {error}") from error
    workload = built[key]
    optimizer = cell.algorithm.optimizer or cell.workload.optimizer or OptimizerSettings(**workload.optimizer)
    return Subject(
        run_id=cell.run_id,
        folder=options.directory / "runs" / cell.run_id,
        workload=workload,
        workers=cell.workers,
        seed=cell.seed,
        lr=lambda t: optimizer.lr * optimizer.schedule.multiplier(t),
    )


def _snapshots(wanted: str, there: Any, lacking: str, run_id: str) -> list[int]:
    if not there:
        raise StudyError(f"{run_id}: {lacking}")
    if wanted == "all":
        return list(there)
    if wanted == "last":
        return [there[-1]]
    try:
        numbers = [int(part) for part in wanted.split(",")]
    except ValueError as error:
        raise StudyError(f"--snapshot must be last, all or numbers like 0,5,10: got {wanted!r}") from error
    for number in numbers:
        if number not in there:
            raise StudyError(f"--snapshot: {run_id} has no snapshot {number} (there are {there[0]} to {there[-1]})")
    return numbers


def _device(name: str, world: Any) -> torch.device:
    import torch

    if world is not None:
        from bench.run import choose_device

        return choose_device(name, world)[0]
    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError("--device cuda: torch sees no GPU here (leave it out, or give --device cpu)")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _check_tables(folder: Path) -> None:
    """Find out before anything is computed that a table cannot be added to."""
    from analysis.probes import tables

    for table in tables.TABLES.values():
        try:
            tables.read(table, folder)
        except ValueError as error:
            raise StudyError(str(error)) from error


def _agreed(found: bool, world: Any) -> bool:
    """What rank 0 found, on every rank: a shared file system may show the others something older."""
    return found if world is None else bool(world.bcast(found, root=0))


def _say(text: str, ranks: Ranks) -> None:
    if ranks.rank == 0 and sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _print(options: argparse.Namespace, added: list[dict[str, Any]], files: set[Path], todo: int, done: int) -> None:
    if options.json:
        # JSON knows neither NaN nor infinity.
        rows = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in added]
        print(json.dumps(rows))
        return
    if added:
        from analysis.probes.sheet import sheet

        print("\n".join(sheet(options.probe, added)))
    if done:
        print(f"{done} of {todo} snapshots had been probed like this before; they are left as they are")
    for path in sorted(files):
        print(f"added to: {path}")
