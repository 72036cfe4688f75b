"""`paceline report DIR... -o report.html`. Heavy libraries are loaded only when there is something to do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline report`."""
    p = argparse.ArgumentParser(
        prog="paceline report",
        description="Turn one or more results folders into one HTML file that opens from disk, without a network.",
    )
    p.add_argument("directories", nargs="+", metavar="DIR", help="folder written by `paceline run` or `predict`")
    p.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: %(default)s")
    return p


def main(argv: list[str]) -> int:
    """Build a report; 0 if it was written, 2 with one line on stderr if it could not be."""
    args = parser().parse_args(argv)
    output = Path(args.output)
    if output.is_dir() or not output.parent.is_dir():
        why = "is a folder" if output.is_dir() else f"cannot be written: there is no folder {output.parent}"
        return _refuse(f"{output} {why} (give a file: -o report.html)")
    args.directories = [folder for given in args.directories for folder in _with_parts(given)]
    twice = {d for d in args.directories if args.directories.count(d) > 1}
    if twice:
        return _refuse(f"the same folder is given twice: {sorted(twice)[0]}")

    import json

    from bench.records import Results, join, load, write_atomic
    from reports.build import build

    parts: list[Results] = []
    problems: list[str] = []
    studies: dict[str, object] = {}
    seen: dict[str, str] = {}
    for name in args.directories:
        try:
            part = load(name)
        except (ValueError, OSError) as error:
            return _refuse(str(error))
        # A run in two folders would be counted twice: the first folder keeps it.
        again = [run_id for run_id in part.runs["run_id"] if run_id in seen]
        problems += [f"{run_id}: is in {seen[run_id]} and in {name}; the one in {name} is left out" for run_id in again]
        seen.update({run_id: name for run_id in part.runs["run_id"] if run_id not in seen})
        if again:
            frames = (part.runs, part.events, part.snapshots, part.heldout, part.shares)
            part = Results(*(f[~f["run_id"].isin(again)] for f in frames), skipped=part.skipped)
        parts.append(part)
        problems += [
            f"{run.parent.name}/{run.name}: not finished (no run.parquet): still running, or killed"
            for run in sorted(Path(name, "runs").iterdir())
            if run.is_dir() and not (run / "run.parquet").exists()
        ]
        study = Path(name, "study.json")
        try:
            studies[name] = json.loads(study.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{study}: {type(error).__name__}: {str(error).splitlines()[0]}")
    results = join(parts)
    if results.runs.empty:
        more = (
            f"; {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "") if problems else ""
        )
        return _refuse(f"no finished run in {', '.join(args.directories)}{more}")
    html = build(results, sources=args.directories, studies=studies, problems=problems).html.encode()
    write_atomic(output, html)
    print(f"{output}: {len(results.runs)} runs, {len(html) / 1e6:.1f} MB")
    return 0


def _with_parts(given: str) -> list[str]:
    """A results folder and those below it: `paceline predict` makes one for each network that it is asked about."""
    below = [str(runs.parent) for pattern in ("*/runs", "*/*/runs") for runs in sorted(Path(given).glob(pattern))]
    own = Path(given, "runs").is_dir()
    inside = [folder for folder in below if Path(folder, "study.json").is_file()]
    return [given, *inside] if own or not inside else inside


def _refuse(message: str) -> int:
    print(f"paceline report: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
