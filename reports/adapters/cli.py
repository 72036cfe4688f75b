"""`paceline export DIR --as FORMAT`. Heavy libraries are loaded only when there is something to do."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.settings import StudyError

if TYPE_CHECKING:
    from reports.adapters.choice import Choice

FORMATS = ("reframe", "mlperf", "pytest-benchmark")


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline export`."""
    p = argparse.ArgumentParser(
        prog="paceline export",
        description="Results in the formats of other tools: the lines that ReFrame's Horovod check looks for (of one "
        "cell), MLPerf log lines (one file a run), or pytest-benchmark's JSON. Runs without a result are left out and "
        "named on stderr; simulated ones must be asked for.",
    )
    p.add_argument("folder", metavar="DIR", help="results folder")
    p.add_argument("--as", dest="form", required=True, choices=FORMATS, help="the format")
    p.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="file to write (default: the standard output); for mlperf a folder, if there is more than one run",
    )
    p.add_argument("--study", help="only this study")
    p.add_argument("--workload", help="only this workload")
    p.add_argument("--workers", type=int, metavar="N", help="only with so many workers")
    p.add_argument("--transport", help="only this transport: mpi, horovod or simulated")
    p.add_argument("--label", help="only this algorithm, by its label")
    p.add_argument(
        "--call-ranks",
        choices=("CPU", "GPU"),
        help="reframe: what the lines call a rank (default: what it computed on); ReFrame's own check knows GPUs only",
    )
    return p


def main(argv: list[str]) -> int:
    """Export: 0.

    Raises:
        StudyError: it cannot be exported like that.
    """
    a = parser().parse_args(argv)
    if a.call_ranks and a.form != "reframe":
        raise StudyError(f"--call-ranks is for --as reframe: got --as {a.form} (leave it out)")
    if a.output is not None and not a.output.parent.is_dir():
        raise StudyError(f"-o: cannot write to {a.output}: there is no folder {a.output.parent} (make it first)")
    from reports import folders
    from reports.adapters.choice import choose

    wanted = {name: getattr(a, name) for name in ("study", "workload", "workers", "transport", "label")}
    try:
        choice = choose(folders.read(a.folder), wanted)
    except (ValueError, OSError) as error:
        raise StudyError(str(error)) from error
    if a.form == "reframe":
        left_out = _reframe(choice, a)
    elif a.form == "mlperf":
        left_out = _mlperf(choice, a.output)
    else:
        left_out = _pytest_benchmark(choice, a.output)
    for line in [*choice.left_out, *left_out]:
        print(f"left out: {line}", file=sys.stderr)
    return 0


def _reframe(choice: Choice, a: argparse.Namespace) -> list[str]:
    from reports.adapters import reframe
    from reports.adapters.choice import named

    cells = [(cell, runs[runs["status"] == "completed"]) for cell, runs in choice.cells()]
    cells = [(cell, runs) for cell, runs in cells if len(runs)]
    if len(cells) != 1:
        some = "; ".join(named(cell) for cell, _ in cells[:3])
        raise StudyError(
            f"--as reframe takes one cell, as the check would mix several: there are {len(cells)}, such as {some} "
            "(choose with --label, --workload, --workers, --transport)"
            if cells
            else "no completed run to export: all of them diverged"
        )
    _write("\n".join(reframe.lines(*cells[0], a.call_ranks)) + "\n", a.output)
    return [f"{run}: diverged" for run in choice.runs.loc[choice.runs["status"] == "diverged", "run_id"]]


def _mlperf(choice: Choice, output: Path | None) -> list[str]:
    from reports.adapters import mlperf

    left_out = []
    files: list[tuple[str, str]] = []
    for cell, runs in choice.cells():
        without = runs["target_loss"].isna()
        left_out += [f"{run_id}: its study sets no target" for run_id in runs.loc[without, "run_id"]]
        folder = re.sub(r"[^\w.+=-]", "_", "-".join(f"{cell[key]}" for key in cell))
        for number, run in enumerate(runs[~without].to_dict("records")):
            own = choice.heldout[choice.heldout["run_id"] == run["run_id"]]
            try:
                lines = mlperf.lines({str(k): v for k, v in run.items()}, own)
            except ValueError as error:  # a table by another hand: no time of the day, or no duration
                left_out.append(f"{run['run_id']}: {error}")
                continue
            files.append((f"{folder}/result_{number}.txt", "\n".join(lines) + "\n"))
    if not files:
        raise StudyError(f"no run to export: {left_out[0]} (MLPerf's runs have a target: set target_loss in the study)")
    if len(files) == 1 and (output is None or not output.is_dir()):
        _write(files[0][1], output)
        return left_out
    if output is None or output.is_file():
        raise StudyError(f"--as mlperf writes a file for each of {len(files)} runs (give a folder: -o FOLDER)")
    for name, text in files:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        _write(text, output / name)
    return left_out


def _pytest_benchmark(choice: Choice, output: Path | None) -> list[str]:
    from reports.adapters import pytest_benchmark

    found, left_out = pytest_benchmark.document(choice)
    if not found["benchmarks"]:
        raise StudyError(f"no run to export: {left_out[0]}")
    _write(json.dumps(found, indent=4, allow_nan=False) + "\n", output)
    return left_out


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    if output.is_dir():
        raise StudyError(f"-o: {output} is a folder (give a file)")
    from bench.records import write_atomic

    write_atomic(output, text.encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
