"""Every run with its verdict, its settings and its facts."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from reports import words
from reports.comparison import reason

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


def every_run(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Every run with its verdict and facts; outcomes only of completed ones."""
    found = []
    for run in runs.sort_values("run_id").to_dict("records"):
        facts = [*(OUTCOMES if run["status"] == "completed" else ()), *FACTS]
        found.append(
            {
                "id": run["run_id"],
                "status": run["status"],
                "simulated": bool(run["simulated"]),
                "reason": "" if run["status"] == "completed" else reason(run),
                "verdict": [part for line in str(run["verdict"]).splitlines() for part in line.split("; ") if part],
                "error": str(run["error"]),
                "facts": [(meaning, _fact(run[name]), unit) for name, unit, meaning in facts],
                "settings": [
                    (title, nested(run[name]))
                    for name, title in (
                        ("settings", "algorithm"),
                        ("workload_settings", "workload"),
                        ("workload_facts", "what it is"),
                        ("network", "network model"),
                        ("provenance", "provenance"),
                    )
                    if nested(run[name])
                ],
            }
        )
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
