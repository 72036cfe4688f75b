"""`paceline advise`. Heavy imports stand inside the functions, so that --help answers at once."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.settings import StudyError

if TYPE_CHECKING:
    from analysis.advice.answer import Answer


def parser() -> argparse.ArgumentParser:
    """The command line of `paceline advise`."""
    p = argparse.ArgumentParser(
        prog="paceline advise",
        description="Rank algorithms by the predicted time to a held-out loss on a calibrated cluster; say how sure it "
        "is and what would change the answer. A second call with the same --out goes on where it stopped.",
    )
    p.add_argument("--cluster", type=Path, required=True, metavar="FILE", help="what `paceline calibrate` wrote")
    p.add_argument("--workload", required=True, metavar="NAME", help="its label in the cluster file")
    p.add_argument("-n", "--workers", type=int, required=True, help="number of workers")
    p.add_argument("--target", type=float, metavar="LOSS", help="held-out loss to reach (default: the workload's own)")
    p.add_argument("--price", type=float, metavar="PER_HOUR", help="of one rank (a worker or a server) for an hour")
    p.add_argument("--study", metavar="STUDY", help="take the algorithms, and the workload's settings, from a study")
    p.add_argument("--only", action="append", default=[], metavar="NAME", help="only this algorithm (may be repeated)")
    p.add_argument("--seeds", type=int, default=3, help="how many, the same for all algorithms (%(default)s)")
    p.add_argument(
        "--trials", type=int, default=5, help="learning rates tried for each algorithm; 0: none (%(default)s)"
    )
    p.add_argument("--bandwidth", type=float, metavar="GBIT_PER_S", help="between nodes, instead of the file's")
    p.add_argument("--latency", type=float, metavar="SECONDS", help="between nodes, instead of the file's")
    p.add_argument("--ranks-per-node", type=int, metavar="K", help="instead of the file's")
    p.add_argument("--max-time", type=float, metavar="SECONDS", help="virtual; no algorithm is waited for longer")
    p.add_argument(
        "--budget-s", type=float, default=600, metavar="SECONDS", help="real, for learning in all (%(default)g)"
    )
    p.add_argument("--model-error", type=float, help="relative error of predicted times (default: from the file)")
    p.add_argument("--jobs", type=int, help="processes (default: one a core)")
    p.add_argument("--out", type=Path, metavar="DIR", help="results folder (default: runs/advise-WORKLOAD-nN)")
    p.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a page of HTML too, such as advice.html")
    p.add_argument("--json", action="store_true", help="print the answer as JSON")
    return p


def main(argv: list[str]) -> int:
    """Advise: 0, or 1 if nothing reached the target.

    Raises:
        StudyError: it cannot be asked like that.
    """
    a = parser().parse_args(argv)
    _check(a)
    from analysis.advice.candidates import candidates
    from analysis.advice.cli import Advising
    from bench.cli import unless_interrupted
    from bench.cluster import file
    from bench.lanes import Lanes
    from bench.question import ask

    question = ask(
        file.read(a.cluster),
        a.workload,
        a.workers,
        candidates,
        seeds=a.seeds,
        study=a.study,
        only=a.only,
        target=a.target,
        bandwidth_Gbit_per_s=a.bandwidth,
        latency_s=a.latency,
        ranks_per_node=a.ranks_per_node,
    )
    out = a.out or Path("runs") / f"advise-{a.workload}-n{a.workers}"

    def work() -> int:
        with Lanes(a.jobs) as lanes:
            answer = Advising(
                question,
                lanes,
                out,
                a.budget_s,
                _say,
                most_s=a.max_time,
                price=a.price,
                model_error=a.model_error,
                trials=a.trials,
            ).answer()
        _write(answer, a)
        return 0 if answer.winner else 1

    return unless_interrupted(work, out)


def _check(a: argparse.Namespace) -> None:
    for name, ok, allowed in (
        ("workers", a.workers >= 1, "at least 1"),
        ("seeds", a.seeds >= 1, "at least 1"),
        ("price", a.price is None or 0 <= a.price < math.inf, "finite and >= 0"),
        ("target", a.target is None or math.isfinite(a.target), "finite"),
        ("bandwidth", a.bandwidth is None or 0 < a.bandwidth < math.inf, "finite and > 0"),
        ("max-time", a.max_time is None or 0 < a.max_time < math.inf, "finite and > 0"),
        ("budget-s", a.budget_s > 0, "> 0"),
        ("model-error", a.model_error is None or 0 <= a.model_error < 1, "at least 0 and below 1"),
        ("trials", a.trials >= 0, ">= 0"),
        ("jobs", a.jobs is None or a.jobs >= 1, "at least 1"),
    ):
        if not ok:
            raise StudyError(f"--{name} must be {allowed}: got {getattr(a, name.replace('-', '_'))}")
    if a.output is not None and (a.output.is_dir() or not a.output.parent.is_dir()):
        raise StudyError(f"-o: cannot write to {a.output} (give a file in a folder that exists)")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(answer: Answer, a: argparse.Namespace) -> None:
    from bench.records import write_atomic
    from reports.advise.words import as_json, text

    found = as_json(answer)
    write_atomic(Path(answer.out) / "advice.json", json.dumps(found, indent=1, allow_nan=False).encode())
    if a.output is not None:
        from reports.advise.page import page

        write_atomic(a.output, page(answer).encode())
    if a.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print(text(answer))
        print(f"\nresults: {answer.out}\nnext:    paceline report {answer.out}/learning -o report.html")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
