"""How far a study is, as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.launch import clock
from bench.progress import ENDED, Progress, Run, left_s

BAD = ("diverged", "failed", "crashed")
NOTHING = "-"
MOST = 8
"""Lines of a list; of more only how many."""


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
    budget = "" if math.isnan(run.budget_s) else f"  (budget {clock(run.budget_s)})"
    interrupted = f"  interrupted {run.interruptions} times, goes on" if run.interruptions else ""
    return f"{run.run_id}  {since}{budget}{interrupted}"


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
