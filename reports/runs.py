"""Every run: a table of their numbers, and each with its verdict, its settings, its facts and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis.summary import METRICS
from bench.records import STATUSES
from reports import words
from reports.comparison import counted, parts_of, reason, status
from reports.language import noted, t
from reports.sections.base import Setting
from reports.shown import Filter, Mark, Shown, ShownTable

FACTS = (
    ("wall_s", "s", noted("wall clock, evaluation included")),
    ("parameters", "", noted("parameters")),
    ("batch_size", "samples", noted("per worker and step")),
    ("interruptions", "", noted("times interrupted and continued")),
    ("dropped_rows", "rows", noted("event rows lost")),
    ("interface_nbytes", "byte", noted("sent by the hosts' interfaces, as the kernel counted")),
    ("mailbox_depth_max", "messages", noted("deepest mailbox")),
    ("clock_offset_s", "s", noted("largest clock offset, removed")),
    ("clock_error_s", "s", noted("clock error that may be left")),
    ("evaluated_model", "", noted("evaluated model")),
    ("device", "", noted("device")),
    ("initial_hash", "", noted("hash of the initial parameters")),
    ("first_batch_hash", "", noted("hash of worker 0's first batch")),
    ("started_utc", "", noted("started")),
)
OUTCOMES = (
    ("duration_s", "s", noted("duration")),
    ("steps", "steps", noted("of all workers")),
    ("samples", "samples", noted("of all workers")),
    ("nbytes", "byte", noted("payload, all ranks")),
    ("wire_nbytes", "byte", noted("on the wire, all ranks")),
)
UNITS = {
    "samples": noted("samples"), "rows": noted("rows"), "messages": noted("messages"), "steps": noted("steps"),
    "byte": noted("byte"),
}  # fmt: skip
JSON_COLUMNS = (
    ("settings", noted("algorithm")),
    ("workload_settings", noted("workload")),
    ("workload_facts", noted("what it is")),
    ("network", noted("network model")),
    ("provenance", noted("provenance")),
)


def led_to(setting: str, labels: Sequence[str]) -> dict[str, str]:
    """Label -> id of the place in the page with its runs."""
    return {label: f"{setting}-runs-{number}" for number, label in enumerate(sorted(labels), start=1)}


def runs_of(
    setting: Setting,
    runs: pd.DataFrame,
    table: pd.DataFrame,
    files: Mapping[str, Sequence[tuple[str, str]]],
    shared: Mapping[str, Mapping[str, Any]],
    opened: bool,
) -> dict[str, Any]:
    """What the template needs for the runs of one setting.

    Args:
        runs: rows of RUNS, of the setting.
        table: rows of `analysis.summary.per_run`, of the setting.
        files: run_id -> its files, as (link from the page, name).
        shared: what `shared_provenance` gives for all runs.
        opened: the lists of runs are open from the start.
    """
    places = led_to(setting.name, list(runs["label"].unique()))
    groups = [
        {
            "id": places[str(label)],
            "label": label,
            "open": opened,
            "counts": words.listed([counted(s, n) for s in STATUSES if (n := int((own["status"] == s).sum()))]),
            "runs": [
                _run(run, shared[setting.study], files.get(run["run_id"], ()))
                for run in own.sort_values(["simulated", "transport", "seed", "run_id"]).to_dict("records")
            ],
        }
        for label, own in runs.groupby("label", sort=True)
    ]
    return {"table": _numbers(setting, runs, table), "groups": groups}


def _numbers(setting: Setting, runs: pd.DataFrame, table: pd.DataFrame) -> ShownTable:
    """A row per run with its numbers; those of completed runs only."""
    own = ["run_id", "steps", "samples", "nbytes", "wire_nbytes", "wall_s", "interruptions"]
    measured = ["duration_s", *METRICS]
    frame = table.merge(runs[own], on="run_id")
    frame["run_id"] = frame["run_id"].astype(str)
    done = frame["status"] == "completed"
    frame[measured] = frame[measured].where(done)
    frame[own[1:5]] = frame[own[1:5]].astype("Float64").where(done).astype("float64")
    frame = frame.sort_values(["simulated", "transport", "label", "seed", "run_id"], kind="stable")

    def mark(row: Mapping[str, Any]) -> Mark:
        return Mark(
            badges=[
                *[("sim", t("simulated"))] * bool(row["simulated"]),
                *[("interrupted", t("interrupted {count} times", count=row["interruptions"]))]
                * (row["interruptions"] > 0),
            ],
            classes=" ".join(
                [*["simulated"] * bool(row["simulated"]), *["void"] * (row["status"] in ("failed", "crashed"))]
            ),
            href=f"#run-{quote(row['run_id'])}",
            choices={"on": [row["transport"]], "status": [row["status"]]},
        )

    transports = list(dict.fromkeys(frame["transport"]))
    return ShownTable(
        f"{setting.name}-runs",
        t("{setting}: one row per run", setting=setting.described),
        [
            Shown("label", t("Algorithm")),
            Shown("transport", t("On"), text=words.transport),
            Shown("seed", t("Seed")),
            Shown("status", t("Status"), text=status),
            Shown("time_to_target_s", t("Time to target"), "s"),
            Shown("final_heldout_loss", t("Final held-out loss"), "nat", text=lambda v: words.number(v, 4)),
            Shown("samples_per_s", t("Throughput"), "samples/s"),
            Shown("wire_nbytes", t("On the wire, all ranks"), "", text=words.nbytes),
            Shown("staleness_mean", t("Staleness, mean"), "writes"),
            Shown("duration_s", t("Duration"), "s"),
        ],
        frame.reset_index(drop=True),
        label="label",
        mark=mark,
        filters=[
            Filter("on", t("On"), [(on, words.transport(on)) for on in transports]),
            Filter("status", t("Status"), [(s, status(s)) for s in STATUSES if (frame["status"] == s).any()]),
        ],
        also=(
            "run_id", "study", "workload", "workers", "algorithm", "simulated", "diverged_at_s",
            *(name for name in METRICS), "target_loss", "steps", "samples", "nbytes", "wall_s",
        ),
    )  # fmt: skip


def _run(run: Mapping[Any, Any], shared: Mapping[str, Any], files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A run with its verdict, settings, facts and files; outcomes only of a completed one."""
    facts = [*(OUTCOMES if run["status"] == "completed" else ()), *FACTS]
    settings = []
    for name, title in JSON_COLUMNS:
        pairs = nested(run[name])
        if name == "provenance":  # what all runs of the study share stands once, under provenance
            pairs = [(key, value) for key, value in pairs if key not in shared]
        if pairs:
            settings.append((t(title), pairs))
    return {
        "id": run["run_id"],
        "status": run["status"],
        "status_words": status(run["status"]),
        "seed": run["seed"],
        "on": words.transport(run["transport"]),
        "simulated": bool(run["simulated"]),
        "reason": "" if run["status"] == "completed" else reason(run),
        "verdict": parts_of(run["verdict"]),
        "error": str(run["error"]),
        "facts": [(t(meaning), _fact(run[name]), t(UNITS.get(unit, unit))) for name, unit, meaning in facts],
        "settings": settings,
        "files": files,
    }


def shared_provenance(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Study -> what the provenance of all its runs has in common."""
    found = {}
    for study, group in runs.groupby("study", sort=True):
        each = [dict(nested(str(text))) for text in group["provenance"]]
        found[str(study)] = {k: v for k, v in each[0].items() if all(k in one and one[k] == v for one in each)}
    return found


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return words.number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def nested(text: str) -> list[tuple[str, Any]]:
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
