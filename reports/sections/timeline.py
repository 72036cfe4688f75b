"""A short window of one run of each algorithm, rank by rank: lock-step or asynchronous at a glance."""

from __future__ import annotations

import pandas as pd

from analysis.timeline import AT, STEPS, collectives, messages, pieces, windows
from reports import words
from reports.chosen import first_runs, transports, varied
from reports.figures_timeline import ARROWS, Window, timeline
from reports.language import t
from reports.sections.base import Material, Section
from reports.sections.panels import Panel, panels
from reports.style import PARTS

ALGORITHMS = 8
RANKS = 8


def section(material: Material) -> Section | None:
    """The windows of each transport; None without events."""
    shown, seen = [], set()
    for transport in transports(material.table):
        runs = first_runs(material.table, transport)
        rows = material.summary[material.summary["transport"] == transport]
        labels = sorted(varied(rows, list(runs), material.look_of, ALGORITHMS))
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


def _windows(material: Material, runs: dict[str, str]) -> tuple[list[Window], float]:
    """The windows of these runs (label -> run), and their length [s]."""
    known = material.results.runs
    known = known[known["run_id"].isin(runs.values()) & (known["steps"] > 0) & (known["duration_s"] > 0)]
    events = material.results.events
    events = events[events["run_id"].isin(known["run_id"]).to_numpy(dtype=bool)]
    if events.empty:
        return [], 0.0
    cut = windows(events, known)
    start = dict(zip(cut["run_id"], cut["t0_s"], strict=True))
    length_s = float((cut["t1_s"] - cut["t0_s"]).iloc[0])
    parts = {str(run_id): own for run_id, own in pieces(events, known, cut).groupby("run_id")}
    sent = {str(run_id): own for run_id, own in messages(events).groupby("run_id", observed=True)}
    joint = {str(run_id): own for run_id, own in collectives(events, known).groupby("run_id", observed=True)}
    begun = events.loc[(events["kind"] == "gradient").to_numpy(dtype=bool), ["run_id", "rank", "t0_s"]]
    begun = begun.merge(cut.rename(columns={"t0_s": "from_s"}), on="run_id")
    begun = begun[(begun["t0_s"] > begun["from_s"]) & (begun["t0_s"] < begun["t1_s"])]
    found = []
    for label, run_id in runs.items():
        if run_id not in parts:
            continue
        row = known[known["run_id"] == run_id].iloc[0]
        workers = int(row["workers"])
        there = sorted(set(parts[run_id]["rank"]))
        ranks = [*(r for r in there if r < min(workers, RANKS)), *[r for r in there if r >= workers][:1]]
        moved = _inside(sent.get(run_id), ("sent_s", "arrived_s"), start[run_id], length_s)
        if len(moved):
            moved = moved[moved["source"].isin(ranks) & moved["destination"].isin(ranks)]
        done = _inside(joint.get(run_id), ("done_s", "done_s"), start[run_id], length_s)
        own = _inside(parts[run_id], ("t0_s", "t1_s"), start[run_id], length_s)
        ends = [float(s) for s in done["done_s"]] if len(done) else []
        look = material.look_of[label]
        steps = begun[begun["run_id"] == run_id]
        gradients = list(zip(steps["rank"].astype(int), (steps["t0_s"] - start[run_id]).astype(float), strict=True))
        found.append(Window(label, look, bool(row["lockstep"]), workers, ranks, own, moved, ends, gradients))
    return found, length_s


def _inside(rows: pd.DataFrame | None, names: tuple[str, str], start: float, length_s: float) -> pd.DataFrame:
    """The rows that lie at least partly in the window, their times since its start."""
    if rows is None:
        return pd.DataFrame()
    first, last = names
    own = rows[(rows[last] > start) & (rows[first] < start + length_s)]
    return own.assign(**{name: own[name] - start for name in dict.fromkeys(names)})


def _notes(found: list[Window], labels: int, workers: int) -> list[str]:
    """What is left out."""
    notes = []
    if len(found) < labels:
        notes.append(
            t(
                "{n} of {all} algorithms are shown: the baseline, and the fastest to the target of the others, one of "
                "each kind first.",
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
