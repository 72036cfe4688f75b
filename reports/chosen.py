"""Which transports, runs and algorithms a figure shows, where it cannot show all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from reports.style import Look

ORDER = ("mpi", "horovod", "simulated")
"""Measured first; any other transport comes after these."""


def transports(table: pd.DataFrame) -> list[str]:
    """The transports of a table in the report's order.

    Example:
        >>> transports(pd.DataFrame({"transport": ["simulated", "other", "mpi"]}))
        ['mpi', 'simulated', 'other']
    """
    found = {str(name) for name in table["transport"]}
    return [*(name for name in ORDER if name in found), *sorted(found.difference(ORDER))]


def first_runs(table: pd.DataFrame, transport: str) -> dict[str, str]:
    """Label -> the completed run with its smallest seed: one run that stands for the algorithm where each has its own
    course. Fixed by the seed, so that nobody picked the one that looks best.

    Args:
        table: rows of `analysis.summary.per_run` of one setting.

    Example:
        >>> table = pd.DataFrame({"label": "easgd", "transport": "mpi", "status": ["crashed", "completed", "completed"],
        ...     "seed": [0, 2, 1], "run_id": ["a", "b", "c"]})
        >>> first_runs(table, "mpi")
        {'easgd': 'c'}
    """
    own = table[(table["transport"] == transport) & (table["status"] == "completed")].sort_values(["label", "seed"])
    first = own.drop_duplicates("label")
    return dict(zip(first["label"].astype(str), first["run_id"].astype(str), strict=True))


def events_of(events: pd.DataFrame, run_ids: Collection[str], columns: Sequence[str]) -> pd.DataFrame:
    """These columns of these runs' events: of millions of rows a copy of everything would not fit.

    Example:
        >>> events = pd.DataFrame({"run_id": ["a", "b"], "rank": [0, 1], "kind": "send"})
        >>> events_of(events, ["b"], ["run_id", "rank"]).to_numpy().tolist()
        [['b', 1]]
    """
    return events.loc[events["run_id"].isin(list(run_ids)).to_numpy(dtype=bool), list(columns)]


def varied(summary: pd.DataFrame, labels: Sequence[str], looks: Mapping[str, Look], most: int) -> list[str]:
    """At most so many of the labels: the baseline, then the fastest to the target of each algorithm, then the others.

    Args:
        summary: rows of `analysis.summary.summarise`, one setting and transport.
        looks: the baseline's look is number 0.

    Returns:
        The labels in that order if some are left out, else in the alphabet's.
    """
    if len(labels) <= most:
        return sorted(labels)
    rows = summary[summary["label"].isin(list(labels))].sort_values(
        ["time_to_target_s", "final_heldout_loss", "label"], na_position="last"
    )
    again = rows["algorithm"].duplicated()
    order = [*rows.loc[~again, "label"], *rows.loc[again, "label"]]
    baseline = [label for label in order if looks[label].number == 0][:1]
    return [*baseline, *(label for label in order if label not in baseline)][:most]
