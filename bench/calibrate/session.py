"""What each rank of a calibration runs: `python -m bench.calibrate.session STUDY -o FILE`, started by `paceline
calibrate`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.launch import MARK, cores
from bench.settings import StudyError

if TYPE_CHECKING:
    from bench.calibrate.machine import MPIMachine, Subject
    from bench.study import Study


LARGEST_S = 0.25
"""That the largest message takes on a bed's link, but for the workloads' own."""


def main(argv: list[str]) -> int:
    """Measure, on every rank; rank 0 writes and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibrate.session")
    parser.add_argument("study", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--transport", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--sharing", action="store_true", help="measure what shared cores cost, and nothing else")
    arguments = parser.parse_args(argv)
    from bench import study

    def tell(text: str) -> None:
        sys.stdout.write(MARK + json.dumps(text) + "\n")
        sys.stdout.flush()

    measure = share if arguments.sharing else calibrate
    try:
        measure(study.read(arguments.study), arguments.output, arguments.transport, arguments.seconds, tell)
    except StudyError as error:  # all ranks have seen the same
        from bench.transports import mpi_world

        if mpi_world.everybody().Get_rank() == 0:
            print(f"paceline calibrate: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def share(
    study: Study, output: Path, transport: str, seconds: float, tell: Callable[[str], None] = lambda text: None
) -> None:
    """Measure what shared cores cost, on more ranks than there are cores, and write it into the file of a calibration.

    Args:
        tell: told on rank 0 what is going on.
    """
    from bench.calibrate.measure import sharing
    from bench.cluster import file

    machine, subjects = _prepared(study, transport)
    said = tell if machine.rank == 0 else lambda text: None
    found = sharing(machine, subjects, cores=cores(), seconds=seconds, tell=said)
    if machine.rank > 0:
        return
    cluster = file.read(output)
    computes = {label: replace(times, sharing=round(found[label], 3)) for label, times in cluster.compute.items()}
    file.write(replace(cluster, compute=computes), output)
    shares = ", ".join(f"{label} {share:.0%}" for label, share in found.items())
    print(f"{machine.ranks} ranks on {cores()} cores do this much of the work of {cores()} ranks: {shares}", flush=True)


def calibrate(
    study: Study, output: Path, transport: str, seconds: float, tell: Callable[[str], None] = lambda text: None
) -> None:
    """Measure on the ranks of this launch, fit, and on rank 0 write the file and print what was found.

    Args:
        tell: told on rank 0 what is going on.
    """
    import torch

    from bench.calibrate import fit, links
    from bench.calibrate.measure import LARGEST_NBYTES, measure
    from bench.calibrate.measure import sharing as shared
    from bench.calibrate.show import report
    from bench.cluster import Cluster, Measured, file
    from bench.testbed.here import testbed
    from bench.testbed.settings import TCP_SHARE
    from bench.transports import mpi_world

    machine, subjects = _prepared(study, transport)
    world, rank, ranks = machine.world, machine.rank, machine.ranks
    here, there = mpi_world.local_rank(world)
    hosts = sum(first == 0 for first in world.allgather(here))
    most = max(world.allgather(there))
    said = tell if rank == 0 else lambda text: None
    # The hosts of a bed are this one machine, whose links have the rate that was set.
    bed = testbed()
    machines = 1 if bed else hosts
    known_Gbit_per_s = bed.rate_Gbit_per_s * TCP_SHARE if bed else None
    most_nbytes = math.inf if bed is None else LARGEST_S * bed.rate_Gbit_per_s * 1e9 / 8
    largest_nbytes = round(min(LARGEST_NBYTES, most_nbytes))
    found = measure(
        machine, subjects, cores=cores() * machines, seconds=seconds, largest_nbytes=largest_nbytes,
        between=hosts > 1, tell=said,
    )  # fmt: skip
    shares = {}
    if bed and ranks > cores():
        shares = shared(machine, subjects, cores=cores(), seconds=seconds, tell=said)
    if rank > 0:
        return
    said("fitting")
    network, residuals = fit.network(found, ranks=ranks, hosts=hosts, known_Gbit_per_s=known_Gbit_per_s)
    together = hosts // machines
    computes = {
        label: fit.compute(times, cores=cores(), nodes_per_machine=together, sharing=shares.get(label, 1.0))
        for label, times in found.steps.items()
    }
    network, computes = links.busy(network, computes, found, subjects, ranks)
    network, computes = fit.refine(network, computes, found, subjects, ranks)
    cluster = Cluster(
        network=network,
        compute=computes,
        measured=Measured(
            transport=transport,
            ranks=ranks,
            hosts=hosts,
            ranks_per_node=most,
            cores_per_node=cores(),
            utc=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={"torch": torch.__version__, "MPI": mpi_world.library()},
            testbed=bed,
        ),
        residuals={name: round(residual, 4) for name, residual in residuals.items()},
    )
    file.write(cluster, output)
    print(report(found, cluster, ranks), flush=True)


def _prepared(study: Study, transport: str) -> tuple[MPIMachine, list[Subject]]:
    """The ranks of this launch, and what they are to compute."""
    from algorithms.optim import OptimizerSettings
    from bench.calibrate.machine import MPIMachine, Subject
    from bench.run import choose_device
    from bench.study import bucket_nbytes
    from bench.transports import mpi_world

    world = mpi_world.everybody()
    device, _ = choose_device(study.table.device, world)
    machine = MPIMachine(
        transport,
        world,
        device=device,
        poll=study.table.poll,
        bucket_nbytes=bucket_nbytes(study.table.bucket_MiB, transport),
        timeout_s=study.table.timeout_s,
    )
    subjects = [
        Subject(entry.name, workload, entry.optimizer or OptimizerSettings(**workload.optimizer))
        for entry in study.workloads
        for workload in [entry.settings.build(device, machine.ranks)]
    ]
    return machine, subjects


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
