"""`paceline predict`. Heavy imports stand inside the functions, so that --help answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.cli import (
    add_data_dir,
    carry_out,
    check,
    check_out,
    durations,
    jobs_of,
    show_jobs,
    tell_end,
    unless_interrupted,
    use_data_dir,
)
from bench.settings import StudyError
from bench.testbed.cli import add_links, given_links

if TYPE_CHECKING:
    from bench.cluster.file import Cluster
    from bench.predict import Part
    from bench.study import Cell

T = TypeVar("T")


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline predict`."""
    p = argparse.ArgumentParser(
        prog="paceline predict",
        description="Run a study in the simulator, on the network and with the compute times of a calibrated cluster. "
        "The results are ordinary ones, marked as simulated; a second call with the same --out runs only what is "
        "missing.",
    )
    p.add_argument("study", help="a TOML file, or the name of a study that Paceline ships (demo)")
    p.add_argument("--cluster", type=Path, required=True, metavar="FILE", help="written by paceline calibrate")
    p.add_argument("-n", "--workers", type=_list_of(int), metavar="N[,N...]", help="numbers of workers (the study's)")
    p.add_argument(
        "--bandwidth", type=_list_of(float), metavar="B[,B...]", help="what if: bandwidths between nodes [Gbit/s]"
    )
    p.add_argument("--latency", type=_list_of(float), metavar="L[,L...]", help="what if: latencies between nodes [s]")
    p.add_argument("--preset", type=_list_of(str), metavar="P[,P...]", help="what if: wires by name, such as 10G")
    p.add_argument("--ranks-per-node", type=int, metavar="K", help="what if: so many ranks on each node")
    bed = p.add_argument_group("a bed", "of a cluster that was calibrated on one: as on paceline testbed run")
    add_links(bed)
    p.add_argument("--only", action="append", default=[], metavar="NAME", help="only this algorithm (may be repeated)")
    p.add_argument("--seconds", type=float, metavar="S", help="virtual seconds of each run, instead of the budgets")
    p.add_argument(
        "--cost-only", action="store_true", help="compute no gradients: time and bytes only, for any size of model"
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="results folder (default: runs/NAME-predicted)")
    add_data_dir(p)
    p.add_argument("--dry-run", action="store_true", help="validate, show what would run, and stop")
    return p


def main(argv: list[str]) -> int:
    """Predict a study: 0 if all is well, 1 if a run failed or crashed, 2 if it cannot be predicted."""
    arguments = parser().parse_args(argv)
    use_data_dir(arguments.data_dir)

    from bench.started import inside_mpi

    if inside_mpi() > 1:
        raise StudyError("predictions need one process only: got several from mpirun or srun (call it without them)")
    name, found = _parts(arguments)
    out = arguments.out or Path("runs") / f"{name}-predicted"
    cells = [cell for part in found for cell in part.study.cells()]
    check(cells)
    from bench.pilot import Pilot

    wall_s = durations(Pilot())

    if arguments.dry_run:
        for part in found:
            print(f"{part.study.table.name}:")
            show_jobs(jobs_of(part.study.cells(), wall_s), out / part.folder)
        return 0
    check_out(out)
    if len(found) > 1:
        _foretell(found, out, wall_s)

    def work() -> int:
        failed = total = 0
        for part in found:
            if len(found) > 1:
                print(f"{part.study.table.name}, {_count(part)} runs:", file=sys.stderr)
            bad, ran = carry_out(part.study, out / part.folder, "mpirun", wall_s)
            failed, total = failed + bad, total + ran
        return tell_end(failed, total, out)

    return unless_interrupted(work, out)


def _parts(arguments: argparse.Namespace) -> tuple[str, list[Part]]:
    """The study's name, and the studies to run."""
    from bench import study
    from bench.cluster import file
    from bench.predict import as_predicted, parts

    loaded = study.read(study.find(arguments.study), only=tuple(arguments.only))
    cluster = _on_bed(file.read(arguments.cluster), given_links(arguments))
    bed = cluster.measured.testbed
    name = loaded.table.name if bed is None else f"{loaded.table.name}-{bed.suffix}"  # as of its measured runs
    kept = {entry.label for entry in loaded.algorithms}
    raw = {
        **loaded.raw,
        "name": name,
        "algorithm": [entry for entry in loaded.raw["algorithm"] if study.algorithm_label(entry) in kept],
    }
    workers = arguments.workers or list(loaded.table.workers)
    tables = [
        as_predicted(
            raw, cluster, workers=workers, bandwidth_Gbit_per_s=bandwidth, latency_s=latency_s, preset=preset,
            ranks_per_node=arguments.ranks_per_node, seconds=arguments.seconds,
            gradients="none" if arguments.cost_only else None,
        )
        for preset in arguments.preset or [None]
        for bandwidth in arguments.bandwidth or [None]
        for latency_s in arguments.latency or [None]
    ]  # fmt: skip
    found, left_out = parts(tables, name)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    _warn(cluster, tables, max(workers))
    return name, found


def _on_bed(cluster: Cluster, given: dict[str, Any]) -> Cluster:
    """The cluster, or, if the command line says something of a bed, as it is on that one."""
    from bench.settings import build, plain
    from bench.testbed.predicted import NOT_ON_A_BED, on
    from bench.testbed.settings import Testbed

    if not given:
        return cluster
    there = cluster.measured.testbed
    if there is None:
        raise StudyError(NOT_ON_A_BED)
    return on(cluster, build(Testbed, {**plain(there), **given}, "testbed"))


def _warn(cluster: Cluster, tables: list[dict[str, Any]], most: int) -> None:
    """Say where a prediction goes beyond what was measured without having been told how, and where it is coarse."""
    from bench.predict import coarse
    from bench.study import workload_label

    calibrated = any("@" not in str(table["name"]) for table in tables)
    there = cluster.measured
    if calibrated and there.hosts == 1 and most > there.ranks:
        print(
            f"note: measured with {there.ranks} ranks on one host; {most} workers are predicted as if that host's wire "
            "joined them all (for another network between nodes: --preset, or --bandwidth and --latency)",
            file=sys.stderr,
        )
    for line in coarse(cluster, map(workload_label, tables[0]["workload"])):
        print(f"note: {line}", file=sys.stderr)


def _foretell(found: list[Part], out: Path, expected_s: Callable[[Cell], float]) -> None:
    """How long all parts will take; each says so for itself."""
    from bench.launch import clock, cores, is_complete

    missing = [
        job.budget_s
        for part in found
        for job in jobs_of(part.study.cells(), expected_s)
        if is_complete(out / part.folder, job.run_id) is None
    ]
    print(f"{len(missing)} runs in {len(found)} parts, about {clock(sum(missing) / cores())}", file=sys.stderr)


def _count(part: Part) -> int:
    return sum(1 for _ in part.study.cells())


def _list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """For argparse: values with commas between them."""

    def read(text: str) -> list[T]:
        try:
            return [kind(item) for item in text.split(",") if item]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected values with commas between: got {text!r}") from error

    return read
