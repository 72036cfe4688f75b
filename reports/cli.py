"""`paceline report DIR... -o report.html`. Heavy libraries are loaded only when there is something to do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reports.language import LANGUAGES


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline report`."""
    p = argparse.ArgumentParser(
        prog="paceline report",
        description="Turn one or more results folders into one HTML file that opens from disk, without a network. "
        "Beside report.html, report-tables holds every table that it shows as CSV and parquet, and summary.json.",
    )
    p.add_argument("directories", nargs="+", metavar="DIR", help="folder written by `paceline run` or `predict`")
    p.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: %(default)s")
    p.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the page; default: %(default)s")
    p.add_argument("--no-tables", action="store_true", help="write the page only, no files beside it")
    return p


def main(argv: list[str]) -> int:
    """Build a report; 0 if it was written, 2 with one line on stderr if it could not be."""
    args = parser().parse_args(argv)
    output = Path(args.output)
    if output.is_dir() or not output.parent.is_dir():
        why = "is a folder" if output.is_dir() else f"cannot be written: there is no folder {output.parent}"
        return _refuse(f"{output} {why} (give a file: -o report.html)")
    from reports.folders import with_parts

    folders = [str(folder) for given in args.directories for folder in with_parts(given)]
    twice = {d for d in folders if folders.count(d) > 1}
    if twice:
        return _refuse(f"the same folder is given twice: {sorted(twice)[0]}")

    from bench.records import write_atomic
    from reports import export
    from reports.build import build
    from reports.found import found_in
    from reports.memory import give_back

    give_back()
    try:
        found = found_in(folders, output.parent)
    except (ValueError, OSError) as error:
        return _refuse(str(error))
    beside = "" if args.no_tables else export.folder_of(output).name
    page = build(
        found.results,
        sources=folders,
        studies=found.studies,
        problems=found.problems,
        files=found.files,
        beside=beside,
        lang=args.lang,
        batches=found.batches,
    )
    html = page.html.encode()
    try:
        if args.no_tables:
            export.remove(output)
        else:
            export.write(output, page.tables, page.summary)
        write_atomic(output, html)
    except OSError as error:
        return _refuse(f"{output} cannot be written: {error}")
    runs = len(found.results.runs)
    if not runs:
        print(f"paceline report: no finished run in {', '.join(folders)}; {output} says what is there", file=sys.stderr)
    tables = f", {len(page.tables)} tables in {export.folder_of(output)}" if beside else ""
    print(f"{output}: {runs} runs, {len(html) / 1e6:.1f} MB{tables}")
    return 0


def _refuse(message: str) -> int:
    print(f"paceline report: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
