"""`paceline watch DIR`: the table of a study in the terminal while it runs."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.launch import clock
from bench.progress import ENDED, Progress, Run, Watcher, left_s
from bench.settings import StudyError

CLEAR = "\x1b[H\x1b[J"  # to the upper left corner; what is below goes away
BAD = ("diverged", "failed", "crashed")
NOTHING = "-"
MOST = 8
"""Lines of a list; of more only how many."""


def main(argv: list[str]) -> int:
    """Watch a study until it has ended or the user has seen enough: 0.

    Raises:
        StudyError: it cannot be watched like that.
    """
    parser = argparse.ArgumentParser(
        prog="paceline watch",
        description="How far a study is: the table of its runs in the terminal, drawn anew while it runs. Where the "
        "output is no terminal, the table once. Reads only; ends when all planned runs have ended, or with Ctrl-C.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="results folder; it need not exist yet")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between looks (%(default)g)")
    parser.add_argument("--once", action="store_true", help="print the table once")
    a = parser.parse_args(argv)
    if not 0.1 <= a.every <= 3600:
        raise StudyError(f"--every must lie in 0.1..3600 seconds: got {a.every:g}")
    if a.folder.exists() and not a.folder.is_dir():
        raise StudyError(f"not a folder: {a.folder} (give the results folder: paceline watch runs/NAME)")
    watcher = Watcher(a.folder)
    if a.once or not sys.stdout.isatty():
        progress = watcher.look(_now_s())
        if progress is None:
            raise StudyError(f"no study in {a.folder} yet (start one: paceline run STUDY --out {a.folder})")
        print("\n".join(table(progress)))
        return 0
    try:
        while not _draw(watcher, a.folder):
            time.sleep(a.every)
    except KeyboardInterrupt:
        print()
    return 0


def _draw(watcher: Watcher, folder: Path) -> bool:
    """Look, and draw in place; whether there is nothing more to wait for."""
    progress = watcher.look(_now_s())
    lines = table(progress) if progress else [f"waiting for a study in {folder} (Ctrl-C ends)"]
    size = shutil.get_terminal_size()
    if len(lines) >= size.lines:
        cut = len(lines) - size.lines + 2
        lines = [*lines[: size.lines - 3], f"  ... {cut} more lines (--once prints all)", lines[-1]]
    sys.stdout.write(CLEAR + "\n".join(line[: size.columns - 1] for line in lines) + "\n")
    sys.stdout.flush()
    return progress is not None and progress.ended


def _now_s() -> float:
    """Now, in the seconds in which file systems tell when a file was written."""
    return datetime.now(UTC).timestamp()


# -- the table ---------------------------------------------------------------------------------------------------------


def table(progress: Progress) -> list[str]:
    """The lines of the table, at most 100 columns wide."""
    lines = [progress.name]
    groups: dict[tuple[str, int, str], list[Run]] = {}
    for run in progress.runs:
        groups.setdefault((run.workload, run.workers, run.transport), []).append(run)
    for (workload, workers, transport), runs in groups.items():
        lines += ["", f"{workload}, {workers} worker{'s' * (workers != 1)}, {transport}"]
        lines.append(_row("algorithm", "done", "running", "bad", "held-out loss", "samples/s", "took", "left"))
        for label in dict.fromkeys(run.label for run in runs):
            lines.append(_algorithm(label, [run for run in runs if run.label == label], progress))
    lines += _listed("running:", [_going_on(run) for run in progress.runs if run.state == "running"])
    lines += _listed("no sign of life; killed?", [_going_on(run) for run in progress.runs if run.state == "silent"])
    lines += _listed(
        "did not complete:", [f"{run.state}  {run.run_id}  {run.verdict}" for run in progress.runs if run.state in BAD]
    )
    lines += ["", *(f"note: {note}" for note in progress.notes), _total(progress)]
    # Names and errors come from outside: what would steer a terminal comes out as a mark.
    return ["".join(c if c.isprintable() else "?" for c in line)[:100].rstrip() for line in lines]


def _row(label: str, done: str, running: str, bad: str, loss: str, rate: str, took: str, left: str) -> str:
    return f"  {label:24.24s} {done:>7s} {running:>8s} {bad:>5s} {loss:>14s} {rate:>11s} {took:>11s} {left:>10s}"


def _algorithm(label: str, runs: Sequence[Run], progress: Progress) -> str:
    ended = [run for run in runs if run.state in ENDED]
    running = sum(run.state == "running" for run in runs)
    bad = sum(run.state in BAD for run in runs)
    took = [run.wall_s for run in ended if math.isfinite(run.wall_s)]
    return _row(
        label,
        f"{len(ended)}/{len(runs)}" if progress.planned else str(len(ended)),
        str(running or NOTHING),
        str(bad or NOTHING),
        _mean([run.heldout_loss for run in runs]),
        _mean([run.samples_per_s for run in runs]),
        clock(sum(took)) if took else NOTHING,
        _left(*left_s(progress.runs, runs)) if len(ended) < len(runs) else NOTHING,
    )


def _mean(values: Sequence[float]) -> str:
    there = [value for value in values if math.isfinite(value)]
    if not there:
        return NOTHING
    mean = sum(there) / len(there)
    return f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.4g}"


def _left(seconds: float, known: bool) -> str:
    return clock(seconds) if known else "?"


def _going_on(run: Run) -> str:
    since = f"for {clock(run.since_s)}" if not run.reached_s else f"at {clock(run.reached_s)} {clock(run.since_s)} ago"
    return f"{run.run_id}  {since}" + ("" if math.isnan(run.budget_s) else f"  (budget {clock(run.budget_s)})")


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", title, *(f"  {line}" for line in lines[:MOST]))
        if len(lines) > MOST:
            yield f"  and {len(lines) - MOST} more"


def _total(progress: Progress) -> str:
    """The last line: how much is done, how much is left."""
    runs = progress.runs
    ended = sum(run.state in ENDED for run in runs)
    parts = [f"{ended} of {len(runs)} runs ended" if progress.planned else f"{ended} runs ended, the plan is not known"]
    for state in ("running", "silent", *BAD):
        if count := sum(run.state == state for run in runs):
            parts.append(f"{count} {state}")
    seconds, known = left_s(runs)
    if ended < len(runs):
        parts.append(f"{'about' if known else 'at least'} {clock(seconds)} to go" if seconds or known else "")
    return ", ".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
