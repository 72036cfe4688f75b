"""A run as MLPerf log lines (`:::MLLOG {...}`), such as the parsers of MLCommons' logging package read.

A run starts at `run_start` and stops where the held-out loss has reached the target for good, with the status
"success"; what came after is left out, as in MLPerf the run would have ended there. If it never got there, or
diverged, it stops at its end with the status "aborted". What Paceline does not know (the submission's organisation and
division, the initialisation) is not written, so that a compliance checker misses it. Times of the day are as exact as
the run's record of when it was started: a second. Those within a run are its own clock's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from reports.adapters.choice import nested

ACCURACY = "accuracy"
"""The held-out metric that goes under the key eval_accuracy as it is; with another the held-out loss does."""


def lines(run: Mapping[str, Any], heldout: pd.DataFrame) -> list[str]:
    """The lines of one run.

    Args:
        run: row of `bench.records.RUNS` with `time_to_target_s` [s].
        heldout: its rows of `bench.records.HELDOUT`.
    """
    start_ms = _epoch_ms(str(run["started_utc"]))
    reached = math.isfinite(run["time_to_target_s"]) and run["status"] == "completed"
    stop_s = float(run["time_to_target_s"] if reached else run["duration_s"])
    about = {"simulated": True} if run["simulated"] else {}
    written = [
        _line(start_ms, "POINT_IN_TIME", key, value, {**about, **more})
        for key, value, more in _known(run)
        if value is not None
    ]
    written.append(_line(start_ms, "INTERVAL_START", "run_start", None, about))
    own = heldout[(heldout["t_s"] <= stop_s) & heldout["heldout_loss"].notna()].sort_values("t_s")
    for row in own.to_dict("records"):
        loss, metric = float(row["heldout_loss"]), float(row["heldout_metric"])
        is_accuracy = run["metric"] == ACCURACY and math.isfinite(metric)
        facts = {
            "samples_count": int(row["samples"]),
            "metric": ACCURACY if is_accuracy else "heldout_loss",
            "heldout_loss": loss,
        }
        at_ms = start_ms + round(1000 * row["t_s"])
        value = metric if is_accuracy else loss
        written.append(_line(at_ms, "POINT_IN_TIME", "eval_accuracy", value, {**about, **facts}))
    outcome = {
        "status": "success" if reached else "aborted",
        "samples_count": int(own["samples"].iloc[-1]) if len(own) else 0,
        "target_heldout_loss": float(run["target_loss"]),
    }
    written.append(_line(start_ms + round(1000 * stop_s), "INTERVAL_END", "run_stop", None, {**about, **outcome}))
    return written


def _known(run: Mapping[str, Any]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Key, value (None: not known) and metadata of what is fixed before a run."""
    optimizer = nested(run, "settings").get("optimizer")
    optimizer = optimizer if isinstance(optimizer, dict) else {}
    ours = {"label": str(run["label"]), "algorithm": str(run["algorithm"]), "transport": str(run["transport"])}
    return [
        ("submission_benchmark", str(run["workload"]), {"study": str(run["study"]), **ours}),
        ("submission_platform", str(run["device"]) or None, {"workers": int(run["workers"])}),
        ("seed", int(run["seed"]), {}),
        ("global_batch_size", int(run["batch_size"]) * int(run["workers"]) if run["batch_size"] > 0 else None, {}),
        ("opt_name", optimizer.get("name"), {}),
        ("opt_base_learning_rate", optimizer.get("lr"), {}),
    ]


def _line(time_ms: int, event: str, key: str, value: Any, metadata: Mapping[str, Any]) -> str:
    told = {"namespace": "", "time_ms": time_ms, "event_type": event, "key": key, "value": value, "metadata": metadata}
    return ":::MLLOG " + json.dumps(told, allow_nan=False)


def _epoch_ms(text: str) -> int:
    when = datetime.fromisoformat(text)
    return round(1000 * (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
