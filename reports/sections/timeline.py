"""A short window of one run of each algorithm, rank by rank: lock-step or asynchronous at a glance."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.timeline import AT, STEPS, collectives, messages, pieces, windows
from reports import words
from reports.chosen import events_of, first_runs, transports, varied
from reports.figures_timeline import ARROWS, Window, timeline
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.style import PARTS

ALGORITHMS = 8
RANKS = 8
COLUMNS = ["run_id", "rank", "kind", "t0_s", "t1_s", "label", "peer"]
"""Of the events, that the windows need."""


def section(material: Material) -> Section | None:
    """The windows of each transport; None without events."""
    shown, seen = [], set()
    for transport in transports(material.table):
        runs = first_runs(material.table, transport)
        rows = material.summary[material.summary["transport"] == transport]
        labels = _labels(material, rows, runs)
        found, length_s = _windows(material, {label: runs[label] for label in labels})
        if not found:
            continue
        assert material.setting is not None
        where = f"{material.setting.described}, {words.transport(transport)}"
        svg = timeline(material.id(f"{transport}-timeline"), found, length_s, where)
        shown.append(Panel(transport, [svg], _notes(found, len(runs), material.setting.workers)))
        seen |= {part for window in found for part in window.pieces["part"]}
    parts = [part for part in PARTS if part[0] in seen and part[0] != "other_s"]
    key = material.environment.get_template("sections/parts.html.j2").render(parts=parts)
    hint = t(
        "One run of each algorithm (its smallest seed), about {steps} steps of the median run. Each window begins a "
        "little before the first message or collective after {part} of its run. Arrows: messages, from sending to "
        "arrival. Upright lines: a collective of all workers is done. Blank: none of the parts (drawing batches, the "
        "harness, waiting for a processor core). In lock-step the rows look alike; asynchronous ranks drift apart.",
        steps=STEPS,
        part=words.percent(AT),
    )
    return panels(material, "timeline", t("Who did what when: a short window"), hint, shown, key=key)


def _labels(material: Material, rows: pd.DataFrame, runs: Mapping[str, str]) -> list[str]:
    """At most `ALGORITHMS` of the labels, as many in lock-step as not where there are enough of both."""
    known = material.results.runs.set_index("run_id")["lockstep"]
    together = [label for label, run_id in runs.items() if known[run_id]]
    apart = [label for label in runs if label not in together]
    half = ALGORITHMS // 2
    first = varied(rows, together, material.look_of, max(half, ALGORITHMS - len(apart)))
    return sorted([*first, *varied(rows, apart, material.look_of, ALGORITHMS - len(first))])


def _windows(material: Material, runs: Mapping[str, str]) -> tuple[list[Window], float]:
    """The windows of these runs (label -> run), and their length [s]."""
    known = material.results.runs
    known = known[known["run_id"].isin(runs.values()) & (known["steps"] > 0) & (known["duration_s"] > 0)]
    starts = events_of(material.results.events, list(known["run_id"]), ["run_id", "kind", "t0_s"])
    known = known[known["run_id"].isin(starts["run_id"].unique())]
    if known.empty:
        return [], 0.0
    cut = windows(starts, known)
    length_s = float((cut["t1_s"] - cut["t0_s"]).iloc[0])
    found = []
    for label, run_id in runs.items():
        run, own = known[known["run_id"] == run_id], cut[cut["run_id"] == run_id]
        if len(run):
            found.append(_window(material, label, run, own))
    return found, length_s


def _window(material: Material, label: str, run: pd.DataFrame, cut: pd.DataFrame) -> Window:
    """What happened in one run's window.

    Args:
        run: its row of RUNS.
        cut: its row of `analysis.timeline.windows`.
    """
    events = events_of(material.results.events, list(run["run_id"]), COLUMNS)
    workers, start, end = int(run["workers"].iloc[0]), float(cut["t0_s"].iloc[0]), float(cut["t1_s"].iloc[0])
    own = _inside(pieces(events, run, cut), "t0_s", "t1_s", start, end)
    there = sorted(set(own["rank"]))
    ranks = [*(r for r in there if r < min(workers, RANKS)), *[r for r in there if r >= workers][:1]]
    moved = _inside(messages(events), "sent_s", "arrived_s", start, end)
    moved = moved[moved["source"].isin(ranks) & moved["destination"].isin(ranks)]
    done = _inside(collectives(events, run), "done_s", "done_s", start, end)
    begun = events[(events["kind"] == "gradient").to_numpy(dtype=bool)]
    begun = _inside(begun, "t0_s", "t0_s", start, end)
    gradients = list(zip(begun["rank"].astype(int), begun["t0_s"].astype(float), strict=True))
    lockstep = bool(run["lockstep"].iloc[0])
    ends = [float(s) for s in done["done_s"]]
    return Window(label, material.look_of[label], lockstep, workers, ranks, own, moved, ends, gradients)


def _inside(rows: pd.DataFrame, first: str, last: str, start: float, end: float) -> pd.DataFrame:
    """The rows that lie at least partly in the window, their times since its start."""
    own = rows[(rows[last] > start) & (rows[first] < end)]
    return own.assign(**{name: own[name] - start for name in dict.fromkeys((first, last))})


def _notes(found: list[Window], labels: int, workers: int) -> list[str]:
    """What is left out."""
    notes = []
    if len(found) < labels:
        notes.append(
            t(
                "{n} of {all} algorithms are shown: the baseline, and the fastest to the target of those in lock-step "
                "and of the asynchronous ones.",
                n=len(found),
                all=labels,
            )
        )
    if workers > RANKS:
        notes.append(t("The first {n} of {all} workers are shown, and the first server.", n=RANKS, all=workers))
    crowded = [window.label for window in found if len(window.messages) > ARROWS]
    if crowded:
        notes.append(t("Too many messages to draw: {labels}.", labels=words.listed(crowded)))
    return notes
