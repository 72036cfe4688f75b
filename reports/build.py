"""The report: tables and templates to one HTML string. The same tables give the same bytes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.comparison import Verdict, winner
from analysis.completeness import missing
from analysis.staleness import staleness_histogram
from analysis.summary import per_run, summarise
from analysis.timing import time_split
from bench.records import STATUSES, TABLES, Results
from reports import figures, words
from reports.conditions import conditions
from reports.definitions import DEFINITIONS, NOTES
from reports.predictions import predictions
from reports.style import PARTS, Look, looks

MEASURED = ("mpi", "horovod")
BASELINE = "allreduce-sgd"
SIMULATED_ANSWERS = 3  # of more, each has a line only


def build(
    results: Results,
    *,
    sources: Sequence[str] = (),
    studies: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
) -> str:
    """The report as one self-contained HTML page.

    Args:
        results: what `bench.records.load` gives.
        sources: names of the results folders, for the command that repeats the report.
        studies: name of a results folder -> its resolved study (study.json), shown as it is.
        problems: what else could not be read or is not finished, one sentence each.
    """
    split = time_split(results.events, results.runs)
    table = per_run(results, split=split)
    summary = summarise(table)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    split = split.merge(table[["run_id", "label"]], on="run_id")
    histogram = staleness_histogram(results.events)
    keys = ["study", "workload", "workers"]
    settings = []
    for number, (key, rows) in enumerate(summary.groupby(keys, sort=True), start=1):
        own = table[(table[keys] == list(key)).all(axis=1)]
        settings.append(
            _setting(f"s{number}", dict(zip(keys, key, strict=True)), rows, own, results, split, histogram, look_of)
        )
    simulated = sum(one["answer"]["simulated"] for one in settings)
    for one in settings:  # predictions for many sizes and networks would bury what was measured
        one["brief"] = one["answer"]["simulated"] and simulated > SIMULATED_ANSWERS
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # names, settings and errors come from outside; HTML in them must come out as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["named"] = _namer(look_of)
    environment.globals.update(look_of=look_of, nothing=words.NOTHING)
    counts = results.runs["status"].value_counts()
    return (
        environment.get_template("report.html.j2").render(
            studies=sorted(results.runs["study"].unique()),
            several_studies=results.runs["study"].nunique() > 1,
            counts=[(status, int(counts[status])) for status in STATUSES if status in counts],
            total=len(results.runs),
            settings=settings,
            predicted=predictions(results.runs, table, summary, look_of),
            parts=PARTS,
            definitions=DEFINITIONS,
            notes=NOTES,
            tables=[(t.name, [(c.name, c.unit, c.meaning) for c in t.columns]) for t in TABLES.values()],
            runs=_runs(results.runs),
            provenance=_provenance(results.runs),
            sources=sources,
            study_files=[
                (name, json.dumps(study, indent=2, sort_keys=True)) for name, study in sorted((studies or {}).items())
            ],
            problems=[*problems, *results.skipped, *missing(results.runs, results.events, results.heldout)],
            palette=sorted({look.number: look for look in look_of.values()}.items()),
        )
        + "\n"
    )


def _namer(look_of: Mapping[str, Look]) -> Callable[[str], Markup]:
    """A filter that sets algorithms' names in a sentence in their colour, and keeps them on one line."""
    looks_by_text = {str(escape(label)): look for label, look in look_of.items()}
    longest_first = sorted(looks_by_text, key=lambda text: (-len(text), text))
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])")

    def mark(found: re.Match[str]) -> str:
        return f'<span class="name" style="color:var(--a{looks_by_text[found[0]].number})">{found[0]}</span>'

    return lambda sentence: Markup(pattern.sub(mark, str(escape(sentence))))


# -- one workload with one number of workers ---------------------------------------------------------------------------


def _setting(
    name: str,
    key: Mapping[str, Any],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    results: Results,
    split: pd.DataFrame,
    histogram: pd.DataFrame,
    look_of: Mapping[str, Look],
) -> dict[str, Any]:
    """Everything the template needs for one (study, workload, workers)."""
    transports = [t for t in (*MEASURED, "simulated") if t in set(rows["transport"])]
    transports += sorted(set(rows["transport"]) - set(transports))
    verdicts = {t: winner(rows, key["workload"], t, baseline=BASELINE) for t in transports}
    # Measured over MPI is the answer; without that any other measurement; without that the simulator, and said so.
    asked = next((t for t in transports if verdicts[t].best is not None), None)
    done = table[table["status"] == "completed"]
    described = f"{key['workload']}, {words.plural(int(key['workers']), 'worker')}"
    runs = results.runs[results.runs["run_id"].isin(table["run_id"])]
    target = float(rows["target_loss"].max())
    drawn = []
    for t in transports:
        own, where = table[table["transport"] == t], f"{described}, {words.TRANSPORTS.get(t, t)}"
        lines = [
            figures.curves(f"{name}-{t}-{axis}", axis, own, results.heldout, look_of, target, where)
            for axis in figures.AXES
        ]
        old = histogram.merge(done.loc[done["transport"] == t, ["run_id", "label"]], on="run_id")
        most = int(old["staleness_updates"].max()) if len(old) else 0
        groups = [(str(label), group) for label, group in old.groupby("label")]
        stale = [
            figures.staleness(f"{name}-{t}-stale-{i}", label, group, most, look_of[label], where)
            for i, (label, group) in enumerate(groups)
            if group["staleness_updates"].max() > 0
        ]
        fresh = words.listed([label for label, group in groups if group["staleness_updates"].max() == 0])
        bars = figures.time_split(
            f"{name}-{t}-time", split[split["run_id"].isin(done.loc[done["transport"] == t, "run_id"])], where
        )
        drawn.append(
            {
                "transport": t,
                "title": words.TRANSPORTS.get(t, t),
                "simulated": bool(rows.loc[rows["transport"] == t, "simulated"].any()),
                "curves": [svg for svg in lines if svg],
                "staleness": stale,
                "fresh": fresh,
                "time": bars,
            }
        )
    return {
        "name": name,
        **key,
        "described": described,
        "answer": _answer(name, asked, verdicts, rows, table, look_of, described),
        "target": target,
        "metric": _metric(rows),
        "rows": [_row(row) for row in _records(rows, transports)],
        "columns": DEFINITIONS,
        "intervals": sorted({str(v) for v in rows["final_heldout_loss_interval"] if v != "no value"}),
        "bad": [_bad(run) for run in runs[runs["status"] != "completed"].sort_values("run_id").to_dict("records")],
        "drawn": drawn,
        "conditions": conditions(results, runs),
        "parts": [part for part in PARTS if (split.loc[split["run_id"].isin(done["run_id"]), part[0]] > 0).any()],
        "many_ranks": int(key["workers"]) > figures.RANKS,
    }


def _answer(
    name: str,
    asked: str | None,
    verdicts: Mapping[str, Verdict],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    look_of: Mapping[str, Look],
    described: str,
) -> dict[str, Any]:
    """What stands in the first screen for this setting."""
    if asked is None:
        return {"transport": None, **_without_a_loss(rows)}

    def of(transport: str) -> dict[str, dict[str, Any]]:
        return {str(row["label"]): row for row in rows[rows["transport"] == transport].to_dict("records")}

    verdict = verdicts[asked]
    where = f"{described}, {words.TRANSPORTS.get(asked, asked)}"
    return {
        "transport": asked,
        "title": words.TRANSPORTS.get(asked, asked),
        "simulated": asked == "simulated",
        "headline": words.headline(verdict, of(asked)),
        "clear": verdict.clear,
        "tiles": words.tiles(verdict, of(asked)),
        "sure": words.how_sure(verdict, of(asked)),
        "others": [
            (words.TRANSPORTS.get(t, t), t == "simulated", words.headline(v, of(t)))
            for t, v in verdicts.items()
            if t != asked and v.best is not None
        ],
        "figure": figures.time_to_target(
            f"{name}-target", table[table["transport"] == asked], rows[rows["transport"] == asked], look_of, where
        ),
    }


def _without_a_loss(rows: pd.DataFrame) -> dict[str, Any]:
    """What is left to say where no model was evaluated: nothing ran, or only time and bytes were simulated."""
    done = rows[(rows["seeds"] > 0) & rows["samples_per_s"].notna()]
    if done.empty:
        return {"headline": "No run completed, so there is no answer.", "simulated": False}
    best = done.loc[done["samples_per_s"].idxmax()]
    return {
        "headline": f"No held-out loss was recorded, only time and bytes: {best['label']} has the highest throughput, "
        f"{words.number(float(best['samples_per_s']))} samples/s.",
        "simulated": bool(done["simulated"].all()),
    }


def _records(rows: pd.DataFrame, transports: Sequence[str]) -> list[dict[str, Any]]:
    """Rows in reading order: measured first, the fastest first, those without a result last."""
    order = rows.assign(place=rows["transport"].map(transports.index), none=rows["seeds"] == 0)
    order = order.sort_values(
        ["place", "none", "time_to_target_s", "final_heldout_loss", "label"], na_position="last", kind="stable"
    )
    return [{str(k): v for k, v in row.items()} for row in order.to_dict("records")]


def _metric(rows: pd.DataFrame) -> str:
    named = sorted(set(rows["metric"]) - {""})
    return words.listed(named)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the comparison table: texts, and numbers to sort by."""
    badges = [(status, f"{row[status]} {status}") for status in STATUSES if row[status]]
    return {
        "label": row["label"],
        "transport": row["transport"],
        "title": words.TRANSPORTS.get(row["transport"], row["transport"]),
        "simulated": bool(row["simulated"]),
        "badges": [badge for badge in badges if badge[0] != "completed"],
        "n": row["seeds"],
        "cells": [_cell(row, d.name) for d in DEFINITIONS] if row["seeds"] else None,
        "reason": words.listed([text for _, text in badges]),
    }


def _cell(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    value, low, high = float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])
    factor = 100.0 if name == "overlap_fraction" else 1.0
    digits = 4 if name in ("final_heldout_loss", "heldout_metric") else 3
    as_text = (lambda v: f"{v:g}") if name == "staleness_p95" else (lambda v: words.number(v * factor, digits))
    text, lowest, highest = as_text(value), as_text(low), as_text(high)
    if math.isnan(value):
        text = words.NOTHING
    small = "" if math.isnan(low) or lowest == highest == text else f"{lowest} to {highest}"
    if name == "time_to_target_s" and math.isnan(value):
        tried = row["completed"] + row["diverged"]
        text = "no target" if math.isnan(row["target_loss"]) else f"reached in {row['reached']} of {tried}"
        if row["completed"] and math.isnan(row["final_heldout_loss"]):
            text = "no loss"  # only time and bytes were simulated
    if name == "exposed_comm_s" and not math.isnan(value):
        text += f" ({words.percent(float(row['exposed_comm_share']))})"
    return {
        "text": text,
        "small": small,
        "sort": "" if math.isnan(value) else f"{value:.9g}",
        "note": row[f"{name}_interval"],
        "is_number": not math.isnan(value),
    }


def _reason(run: Mapping[str, Any]) -> str:
    """Why a run is no result, in one line."""
    if run["status"] == "diverged":
        return f"a loss was not finite at {words.seconds(float(run['diverged_at_s']))}"
    verdict = [line.strip() for line in str(run["verdict"]).splitlines() if line.strip()]
    if run["status"] == "crashed":
        error = [line.strip() for line in str(run["error"]).splitlines() if line.strip()]
        return ": ".join(dict.fromkeys([*verdict[:1], *error[-1:]])) or "no reason was recorded"
    parts = [part for line in verdict for part in line.split("; ")]
    broken = [part for part in parts if re.search(r"\bNO\b|fail", part)]
    return "; ".join(broken) or "; ".join(parts) or "no reason was recorded"


def _bad(run: Mapping[str, Any]) -> dict[str, Any]:
    keep = ("run_id", "label", "transport", "seed", "status")
    return {**{name: run[name] for name in keep}, "reason": _reason(run)}


# -- runs and where they come from -------------------------------------------------------------------------------------

FACTS = (
    ("wall_s", "s", "wall clock, evaluation included"),
    ("parameters", "", "parameters"),
    ("batch_size", "samples", "per worker and step"),
    ("dropped_rows", "rows", "event rows lost"),
    ("mailbox_depth_max", "messages", "deepest mailbox"),
    ("clock_offset_s", "s", "largest clock offset, removed"),
    ("clock_error_s", "s", "clock error that may be left"),
    ("evaluated_model", "", "evaluated model"),
    ("device", "", "device"),
    ("initial_hash", "", "hash of the initial parameters"),
    ("first_batch_hash", "", "hash of worker 0's first batch"),
    ("started_utc", "", "started"),
)
OUTCOMES = (
    ("duration_s", "s", "duration"),
    ("steps", "steps", "of all workers"),
    ("samples", "samples", "of all workers"),
    ("nbytes", "byte", "payload, all ranks"),
    ("wire_nbytes", "byte", "on the wire, all ranks"),
)


def _runs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Every run with its verdict and facts; outcomes only of completed ones."""
    found = []
    for run in runs.sort_values("run_id").to_dict("records"):
        facts = [*(OUTCOMES if run["status"] == "completed" else ()), *FACTS]
        found.append(
            {
                "id": run["run_id"],
                "status": run["status"],
                "simulated": bool(run["simulated"]),
                "reason": "" if run["status"] == "completed" else _reason(run),
                "verdict": [part for line in str(run["verdict"]).splitlines() for part in line.split("; ") if part],
                "error": str(run["error"]),
                "facts": [(meaning, _fact(run[name]), unit) for name, unit, meaning in facts],
                "settings": [
                    (title, _nested(run[name]))
                    for name, title in (
                        ("settings", "algorithm"),
                        ("workload_settings", "workload"),
                        ("workload_facts", "what it is"),
                        ("network", "network model"),
                        ("provenance", "provenance"),
                    )
                    if _nested(run[name])
                ],
            }
        )
    return found


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return words.number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _nested(text: str) -> list[tuple[str, Any]]:
    """A JSON object as (key, value) pairs, values being texts or such lists again; what is no object as one pair."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return [("(not JSON)", text)]
    pairs = _pairs(value)
    return pairs if isinstance(pairs, list) else [("", pairs)]


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return [(str(key), _pairs(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        if any(isinstance(inner, (dict, list)) for inner in value):
            return [(str(i), _pairs(inner)) for i, inner in enumerate(value)]
        return ", ".join(map(str, value))
    return str(value)


def _provenance(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What the runs of a study have in common; what differs between them stands with each run."""
    found = []
    for study, group in runs.groupby("study", sort=True):
        # Paths stand with the bytes that they carried.
        each = [{k: v for k, v in _nested(str(text)) if k != "paths"} for text in group["provenance"]]
        same = [(key, value) for key, value in each[0].items() if all(one.get(key) == value for one in each)]
        differs = sorted({key for one in each for key in one} - {key for key, _ in same})
        commands = sorted({str(one[key]) for one in each for key in ("command", "command_line", "argv") if key in one})
        budgets = sorted(
            {
                f"{words.number(limit)} s" if not math.isnan(limit) else f"{int(steps)} steps"
                for limit, steps in zip(group["budget_s"], group["budget_steps"], strict=True)
            }
        )
        found.append(
            {
                "study": study,
                "runs": len(group),
                "seeds": words.listed([str(seed) for seed in sorted(group["seed"].unique())]),
                "transports": words.listed(sorted(group["transport"].unique())),
                "budget": words.listed(budgets if len(budgets) < 5 else [budgets[0], "...", budgets[-1]]),
                "started": f"{group['started_utc'].min()} to {group['started_utc'].max()}",
                "clock_error": words.number(float(group["clock_error_s"].max())),
                "devices": words.listed(sorted(set(group["device"]) - {""})),
                "commands": commands,
                "pairs": same,
                "differs": words.listed(differs),
            }
        )
    return found
