"""`paceline calibrate`: starts the ranks, shows how far they are, and what they found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from bench.settings import StudyError

SECONDS = 0.5

FEW_CORES = 8
"""Up to so many on one host, ranks are expected to be more than there are cores now and then."""


def main(argv: list[str]) -> int:
    """Calibrate: 0 if all is well, 1 if a rank was lost, 2 if it cannot be done as asked."""
    parser = argparse.ArgumentParser(
        prog="paceline calibrate",
        description="Measure this cluster for the simulator: messages, all-reduces and the gradients of a study's "
        "workloads. Writes a file for paceline predict and paceline advise.",
    )
    parser.add_argument("study", help="a TOML file, or the name of a study that Paceline ships (demo)")
    parser.add_argument("-n", "--workers", type=int, help="ranks (default: the study's smallest number of workers)")
    parser.add_argument("-o", "--output", type=Path, default=Path("cluster.toml"), help="file (cluster.toml)")
    parser.add_argument(
        "--transport", choices=("mpi", "horovod"), default="mpi", help="whose all-reduces are measured (mpi)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        help=f"of each measurement, or at least 12 steps; there are some 60 ({SECONDS})",
    )
    from bench.cli import _check_transports, add_data_dir, use_data_dir

    add_data_dir(parser)
    parser.add_argument("--launcher", choices=("mpirun", "srun"), default="mpirun", help="how ranks are started")
    arguments = parser.parse_args(argv)
    use_data_dir(arguments.data_dir)
    from bench import started, study
    from bench.testbed import here

    path = study.find(arguments.study)
    loaded = study.read(path)
    ranks = min(loaded.table.workers) if arguments.workers is None else arguments.workers
    if ranks < 1:
        raise StudyError(f"-n must be at least 1: got {ranks}")
    if (bed := here.testbed()) is not None and ranks > bed.ranks:
        raise StudyError(
            f"-n {ranks}: the bed's {bed.hosts} hosts take {bed.ranks} ranks (give -n {bed.ranks}, or more --hosts)"
        )
    if not arguments.seconds > 0:
        raise StudyError(f"--seconds must be > 0: got {arguments.seconds}")
    folder = arguments.output.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or arguments.output.is_dir():
        raise StudyError(f"cannot write {arguments.output}: {folder} is not a folder that we may write to")
    _check_transports({arguments.transport})
    if (inside := started.inside_mpi()) > 0:
        if arguments.workers not in (None, inside):
            raise StudyError(f"-n {arguments.workers}: the launcher gave {inside} ranks (leave -n out)")
        from bench.calibrate.session import calibrate

        calibrate(loaded, arguments.output, arguments.transport, arguments.seconds)
        return 0
    if (call := started.called()) is not None:
        from bench.meeting import attend

        if ranks > call.size:
            raise StudyError(f"-n {ranks}: the launcher gave {call.size} processes (at most so many ranks)")
        arguments.launcher = "mpirun"
        return attend(call, folder, lambda: _measure(arguments, path, ranks))
    return _measure(arguments, path, ranks)


def _measure(arguments: argparse.Namespace, path: Path, ranks: int) -> int:
    """Start the ranks that measure; the exit code."""
    from bench import launch
    from bench.cluster import file

    launch.check_launcher(arguments.launcher)
    session = [sys.executable, "-m", "bench.calibrate.session", str(path.absolute()), "-o", str(arguments.output)]
    session += ["--transport", arguments.transport, "--seconds", str(arguments.seconds)]
    code = listen([*launch.starter(arguments.launcher, ranks), *session], launch.environment_for_ranks(ranks))
    crowd = 2 * launch.cores()
    alone = not code and arguments.launcher == "mpirun" and file.read(arguments.output).measured.hosts == 1
    if alone and ranks <= crowd <= 2 * FEW_CORES:
        session.append("--sharing")
        code = listen([*launch.starter("mpirun", crowd), *session], launch.environment_for_ranks(crowd))
    if code:
        print(f"calibration failed: a rank was lost (exit code {code}); its words are above", file=sys.stderr)
        return 1
    print(f"\nwritten: {arguments.output}\nnext:    paceline predict {arguments.study} --cluster {arguments.output}")
    return 0


def listen(command: list[str], environment: dict[str, str]) -> int:
    """Run the ranks; progress goes to one line of a terminal, all else to stdout. The exit code."""
    from bench.launch import MARK
    from bench.processes import end_group

    live = sys.stderr.isatty()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace", env=environment,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        for line in process.stdout:
            before, mark, said = line.partition(MARK)
            if not mark:
                sys.stdout.write(("\r\x1b[2K" if live else "") + line)
            elif live:
                sys.stderr.write(f"\r\x1b[2K{before}{json.loads(said)}")
                sys.stderr.flush()
        return process.wait()
    except BaseException:
        end_group(process)
        raise
    finally:
        if live:
            sys.stderr.write("\r\x1b[2K")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
