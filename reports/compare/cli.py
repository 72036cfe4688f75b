"""`paceline compare OLD NEW`. Heavy libraries are loaded only when there is something to do."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.settings import StudyError


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline compare`."""
    p = argparse.ArgumentParser(
        prog="paceline compare",
        description="What changed between two results folders, with intervals over seeds: runs of the same study, "
        "workload, workers, transport and label are compared. Exit code: 0, or 1 if a condition of --fail-if holds, "
        "or 2 if it cannot be judged.",
    )
    p.add_argument("old", metavar="OLD", help="results folder, as it was")
    p.add_argument("new", metavar="NEW", help="results folder, as it is now")
    p.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 if it holds in a cell: 'time_to_target_s > 1.05' (of the ratio new/old), "
        "'final_heldout_loss_difference > 0.01' (of new - old), or 'status' (fewer runs completed); may be repeated. "
        "A change that the runs do not show does not hold",
    )
    p.add_argument("--point", action="store_true", help="judge conditions by the estimates alone, shown or not")
    p.add_argument("--any-study", action="store_true", help="compare two studies though their names differ")
    p.add_argument("--all", action="store_true", help="list every number, not only the headlines")
    p.add_argument("-o", "--output", metavar="FILE", help="write it as a page of HTML too")
    p.add_argument("--lang", choices=("en", "ja"), default="en", help="language of the page (%(default)s)")
    p.add_argument("--json", metavar="FILE", help="write everything as JSON too; - is the standard output, alone")
    return p


def main(argv: list[str]) -> int:
    """Compare: 0, or 1 if a condition holds, or 2 if one could be judged nowhere.

    Raises:
        StudyError: it cannot be asked like that.
    """
    a = parser().parse_args(argv)
    for option, given in (("--json", a.json), ("-o", a.output)):
        if given not in (None, "-") and (Path(given).is_dir() or not Path(given).parent.is_dir()):
            raise StudyError(f"{option}: cannot write to {given} (give a file in a folder that exists)")
    from bench.records import write_atomic
    from reports import folders
    from reports.compare.conditions import parse
    from reports.compare.found import as_json, compare
    from reports.compare.words import text

    try:
        conditions = [parse(condition) for condition in a.fail_if]
        old, new = folders.read(a.old), folders.read(a.new)
        found = compare(old, new, (a.old, a.new), conditions, point=a.point, any_study=a.any_study)
    except (ValueError, OSError) as error:
        raise StudyError(str(error)) from error
    if a.json != "-":
        print(text(found, everything=a.all))
    if a.output is not None:
        from reports.compare.page import page

        write_atomic(Path(a.output), page(found, a.lang).encode())
    if a.json is not None:
        written = json.dumps(as_json(found), indent=1, allow_nan=False) + "\n"
        if a.json == "-":
            sys.stdout.write(written)
        else:
            write_atomic(Path(a.json), written.encode())
    if found.holds:
        return 1
    if found.unanswered:
        asked = "; ".join(judged.condition.text for judged in found.unanswered)
        raise StudyError(f"--fail-if {asked}: can be judged in no cell: {found.unanswered[0].why_open}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
