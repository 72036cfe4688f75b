"""Where the runs come from, and the command that repeats them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports import words
from reports.runs import nested


def provenance(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What the runs of a study have in common; what differs between them stands with each run."""
    found = []
    for study, group in runs.groupby("study", sort=True):
        # Paths stand with the bytes that they carried.
        each = [{k: v for k, v in nested(str(text)) if k != "paths"} for text in group["provenance"]]
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
