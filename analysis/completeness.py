"""What a results folder lacks: runs and ranks whose rows are missing."""

from __future__ import annotations

import pandas as pd


def missing(runs: pd.DataFrame, events: pd.DataFrame, heldout: pd.DataFrame) -> list[str]:
    """One sentence for each completed or diverged run that lacks a rank's events or its held-out losses.

    Runs that crashed or failed are not looked at: they need not have either. Runs without gradients have no loss.

    Source: a completed run has a file of events per rank and one of held-out losses, see `bench.records`.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "status": ["completed"], "ranks": [3]})
        >>> events = pd.DataFrame({"run_id": ["a", "a"], "rank": [0, 2]})
        >>> missing(runs, events, pd.DataFrame({"run_id": []}))
        ['a: no events of rank 1', 'a: no held-out losses (heldout.parquet)']
    """
    ranks_of = events.groupby("run_id", observed=True)["rank"]
    have = {run_id: set(group.unique()) for run_id, group in ranks_of}
    evaluated = set(heldout["run_id"])
    sentences = []
    costs = runs["gradients"] == "none" if "gradients" in runs else [False] * len(runs)
    for run_id, status, ranks, cost_only in zip(runs["run_id"], runs["status"], runs["ranks"], costs, strict=True):
        if status not in ("completed", "diverged"):
            continue
        absent = sorted(set(range(int(ranks))) - have.get(run_id, set()))
        if absent:
            named = ", ".join(map(str, absent[:8])) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
            sentences.append(f"{run_id}: no events of rank{'s' * (len(absent) > 1)} {named}")
        if run_id not in evaluated and not cost_only:
            sentences.append(f"{run_id}: no held-out losses (heldout.parquet)")
    return sentences
