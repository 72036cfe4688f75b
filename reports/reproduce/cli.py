"""`paceline reproduce PAPER`: runs what is missing of a paper's evidence, decides its claims, writes the report.

Everything is resumable: a part that is there is not made again. `paceline reproduce ledger DIR...` puts the decided
claims of several papers into one table; `--keep` copies what was decided to where it outlives the runs. Heavy imports
stand inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.papers.catalogue import NAMES
from bench.settings import StudyError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from analysis.papers.claim import Claim, Paper, Part
    from analysis.papers.evidence import Scale
    from bench.study import Study

LEDGER = "ledger"
MADE_BY = "made_by"
"""Of an experiment's table, among its attributes."""


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline reproduce`."""
    p = argparse.ArgumentParser(
        prog="paceline reproduce",
        description="Run a paper's study at a scale that two cores bear, decide each of its claims by a rule that was "
        "fixed beforehand, and write the report. A second call goes on where the first one stopped.",
    )
    p.add_argument("paper", metavar="PAPER | ledger", help=", ".join(NAMES) + "; or ledger: all claims in one table")
    p.add_argument(
        "directories", nargs="*", type=Path, metavar="DIR", help="for ledger: folders that this command made"
    )
    scale = p.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="some minutes (default)")
    scale.add_argument("--full", action="store_true", help="up to an hour and a half: more seeds, longer runs")
    p.add_argument("--only", action="append", default=[], metavar="CLAIM", help="only this claim (may be repeated)")
    p.add_argument("--out", type=Path, metavar="DIR", help="default: runs/papers/PAPER-SCALE")
    p.add_argument("--dry-run", action="store_true", help="say what would be run and decided")
    p.add_argument("--no-run", action="store_true", help="decide with what is there")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="for ledger: the file (default: standard output)")
    p.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="for ledger: copy what the folders decided, not their runs, below DIR",
    )
    from bench.cli import add_data_dir

    add_data_dir(p)
    return p


def main(argv: list[str]) -> int:
    """Reproduce: 0; 1 if a run failed or an exact claim was not reproduced.

    Raises:
        StudyError: it cannot be asked like that.
    """
    a = parser().parse_args(argv)
    if a.paper == LEDGER:
        return _ledger(a.directories, a.output, a.keep)
    if a.paper not in NAMES:
        raise StudyError(f"unknown paper {a.paper!r}{nearest(a.paper, [*NAMES, LEDGER])}")
    if a.directories:
        raise StudyError(f"what is {a.directories[0]}? Folders are given to ledger only (the results folder: --out)")
    from analysis.papers.catalogue import paper as paper_of
    from bench.cli import check, check_out, unless_interrupted, use_data_dir
    from bench.launch import clock
    from reports.papers import folder
    from reports.words import plural

    use_data_dir(a.data_dir)
    paper = paper_of(a.paper)
    claims = _chosen(paper, a.only)
    parts = [part for part in paper.parts if any(part.name in claim.parts for claim in claims)]
    scale: Scale = "full" if a.full else "quick"
    out = a.out or Path("runs") / "papers" / f"{paper.name}-{scale}"
    if a.dry_run:
        return _show(paper, parts, claims, scale, out)
    check_out(out)
    tables = [part for part in parts if part.kind == "experiment"]
    studies = [(part, _study(paper, part, scale)) for part in parts if part.kind == "study"]
    _check_folder(paper, studies, scale, out)

    since = time.monotonic()

    def work() -> int:
        failed = 0
        if not a.no_run:
            check([cell for _, study in studies for cell in study.cells()])
            folder.write(out, paper.name, scale)
            _make_tables(paper, tables, scale, out)
            for part, study in studies:
                failed += _run_study(part, study, out)
        code = _decide(paper, claims, scale, out, failed)
        took = clock(time.monotonic() - since)
        print(f"{paper.name} --{scale}: {plural(len(claims), 'claim')}, {took} for what was missing", file=sys.stderr)
        return code

    return unless_interrupted(work, out)


def _chosen(paper: Paper, only: Sequence[str]) -> list[Claim]:
    known = [claim.id for claim in paper.claims]
    for name in only:
        if name not in known:
            raise StudyError(f"--only: {paper.name} has no claim {name!r}{nearest(name, known)}")
    return [claim for claim in paper.claims if not only or claim.id in only]


def _show(paper: Paper, parts: Sequence[Part], claims: Sequence[Claim], scale: Scale, out: Path) -> int:
    print(f"{paper.title}\n{paper.url}\n\nparts, in {out}:")
    for part in parts:
        size = "an experiment"
        if part.kind == "study":
            size = f"{len(list(_study(paper, part, scale).cells()))} runs"
        print(f"  {part.name:24s}{size:>14s}  {part.what}")
    print("\nclaims:")
    for claim in claims:
        print(f"  {claim.id:4s}{claim.kind:8s}{claim.statement}\n{'':12s}rule: {claim.rule}")
    return 0


def _study(paper: Paper, part: Part, scale: Scale) -> Study:
    from bench.scales import study_of
    from bench.study import resolve

    return resolve(study_of(paper.name, part.name, scale), where=f"{paper.name}/{part.name}")


def _check_folder(paper: Paper, studies: Sequence[tuple[Part, Study]], scale: Scale, out: Path) -> None:
    """A rule takes every run of a folder for evidence, so the folder may hold no others.

    Raises:
        StudyError: it holds another paper, another scale, or runs that the study of today does not ask for.
    """
    from reports.papers import folder
    from reports.words import plural

    try:
        said = folder.read(out)
    except ValueError as error:
        raise StudyError(f"--out: {error} (choose another --out)") from error
    if said is not None and said != (paper.name, scale):
        raise StudyError(f"--out: {out} holds {said[0]} --{said[1]}, not {paper.name} --{scale} (choose another --out)")
    for part, study in studies:
        asked = {cell.run_id for cell in study.cells()}
        found = {path.parent.name for path in (out / part.name / "runs").glob("*/run.parquet")}
        if others := sorted(found - asked):
            raise StudyError(
                f"--out: {out / part.name / 'runs'} holds {plural(len(others), 'run')} that today's study does not ask "
                f"for: {others[0]}{', ...' * (len(others) > 1)} (remove, or choose another --out)"
            )


def _make_tables(paper: Paper, parts: Sequence[Part], scale: Scale, out: Path) -> None:
    """The experiments that are missing or were made by other source, as many at once as there are cores."""
    from analysis.papers.evidence import TABLE
    from bench.experiments.catalogue import experiments
    from bench.experiments.version import version
    from bench.lanes import Lanes

    made = experiments(paper.name)
    missing = [p for p in parts if _made_by(out / p.name / TABLE) != version(made[p.name], scale)]
    if not missing:
        return
    since = time.monotonic()
    with Lanes() as lanes:
        asked = [(paper.name, part.name, scale, out / part.name / TABLE) for part in missing]
        for done, (argument, rows) in enumerate(lanes.work_off(make_table, asked), start=1):
            print(
                f"[{done}/{len(asked)}] {argument[1]}: {rows} rows, {time.monotonic() - since:.0f} s", file=sys.stderr
            )


def make_table(asked: tuple[str, str, Scale, Path]) -> int:
    """Run one experiment and write its table, which says by which source it was made; the number of its rows."""
    import pandas as pd

    from bench.experiments.catalogue import experiments
    from bench.experiments.version import version
    from bench.records import write_atomic

    paper, part, scale, path = asked
    experiment = experiments(paper)[part]
    table = pd.DataFrame(experiment(scale))
    table.attrs[MADE_BY] = version(experiment, scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, table.to_parquet(index=False))
    return len(table)


def _made_by(path: Path) -> str | None:
    """By which source a table was made; None if there is none, or none that says so."""
    import pandas as pd

    try:
        return pd.read_parquet(path).attrs.get(MADE_BY)
    except (OSError, ValueError):
        return None


def _run_study(part: Part, study: Study, out: Path) -> int:
    """Run what is missing of a study, then its probes; how many runs failed."""
    from bench.cli import carry_out, durations

    print(f"{part.name}: {part.what}", file=sys.stderr)
    failed, _ = carry_out(study, out / part.name, "mpirun", durations())
    for probe in part.probes:
        from analysis.probes.cli import main as probing

        if probing([str(out / part.name), *probe]):
            failed += 1
    return failed


def _decide(paper: Paper, claims: Sequence[Claim], scale: Scale, out: Path, failed: int) -> int:
    from analysis import claim_table
    from analysis.papers.decide import decide
    from analysis.papers.evidence import Evidence
    from reports.papers import folder

    decided = decide(paper, Evidence(out, scale), claims)
    fresh = {row["claim_id"] for row in decided.rows}
    before = claim_table.read(out).to_dict("records")
    kept = [{str(k): v for k, v in row.items()} for row in before if row["claim_id"] not in fresh]
    order = {claim.id: i for i, claim in enumerate(paper.claims)}
    rows = sorted([*kept, *decided.rows], key=lambda row: order.get(row["claim_id"], len(order)))
    folder.write(out, paper.name, scale)
    claim_table.write(out, rows)
    for row in decided.rows:
        print(f"{row['claim_id']:5s}{row['verdict']:14s}{row['found']}")
    for claim, why in decided.undecided.items():
        print(f"{claim:5s}{'undecided':14s}{why}")
    from reports.cli import main as report

    report([str(out), "-o", str(out / "report.html")])
    wrong = [row["claim_id"] for row in decided.rows if row["kind"] == "exact" and row["verdict"] != "reproduced"]
    if wrong:
        print(f"exact claims that were not reproduced: {', '.join(wrong)}", file=sys.stderr)
    return 1 if failed or wrong or decided.undecided else 0


def _ledger(directories: Sequence[Path], output: Path | None, keep: Path | None) -> int:
    """One table of all folders' claims: of one decided at both scales the full one, else that of the later folder."""
    from analysis import claim_table
    from analysis.papers.ledger import ledger, merged
    from bench.records import write_atomic
    from reports.papers import folder as results_folder

    if not directories:
        raise StudyError("ledger: no folder given (paceline reproduce ledger runs/papers/*-full)")
    found: dict[tuple[str, Scale], list[pd.DataFrame]] = {}
    for folder in directories:
        said = results_folder.read(folder) if (folder / claim_table.FILE).is_file() else None
        if said is None:
            raise StudyError(f"ledger: {folder} holds no decided claims (make them with: paceline reproduce PAPER)")
        found.setdefault(said, []).append(claim_table.read(folder))
    tables = {said: merged(found[said]) for said in sorted(found, key=lambda it: (NAMES.index(it[0]), it[1] == "full"))}
    for (paper, scale), claims in tables.items() if keep is not None else ():
        to = Path(str(keep), f"{paper}-{scale}")
        results_folder.write(to, paper, scale)
        claim_table.write(to, claims.to_dict("records"))
    text = ledger(tables.values())
    if output is None:
        print(text)
    else:
        write_atomic(output, text.encode())
        print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
