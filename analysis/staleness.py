"""How old gradients were when they were applied, in writes to the target between reading and applying."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Index = NDArray[np.int64]


def staleness(events: pd.DataFrame) -> pd.DataFrame:
    """Staleness of the applied gradients of each run [writes].

    Args:
        events: rows of `bench.records.EVENTS`; only those with kind = apply count.

    Returns:
        One row per run that applied a gradient: `run_id`, `staleness_mean`, `staleness_p95`, `staleness_max` [writes],
        `gradients_applied`. The 95th percentile is a value that occurred: the smallest s such that at least 95 % of
        the gradients had staleness s or less.

    Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774: the number of writes between a
    worker's read and its write.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "kind": "apply", "staleness_updates": [0] * 94 + [1] * 2 + [3] * 4})
        >>> staleness(events).iloc[0, 1:].tolist()
        [0.14, 1.0, 3.0, 100.0]
    """
    found = distribution(_applied(events))
    columns = {"updates_mean": "staleness_mean", "updates_p95": "staleness_p95", "updates_max": "staleness_max"}
    found = found.rename(columns={**columns, "gradients": "gradients_applied"})
    return found[["run_id", *columns.values(), "gradients_applied"]]


def _applied(events: pd.DataFrame) -> pd.DataFrame:
    return events.loc[(events["kind"] == "apply") & (events["staleness_updates"] >= 0), ["run_id", "staleness_updates"]]


def staleness_histogram(events: pd.DataFrame) -> pd.DataFrame:
    """How many gradients of each run were applied at each staleness.

    Args:
        events: rows of `bench.records.EVENTS`; only those with kind = apply count.

    Returns:
        One row per run and staleness that occurred: `run_id`, `staleness_updates` [writes], `gradients`, `share` (of
        the run's applied gradients; sums to 1 per run), sorted.

    Source: as for `staleness`.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "kind": "apply", "staleness_updates": [0, 2, 0, 0]})
        >>> staleness_histogram(events)[["staleness_updates", "share"]].to_numpy().tolist()
        [[0.0, 0.75], [2.0, 0.25]]
    """
    grouped = _applied(events).groupby(["run_id", "staleness_updates"], observed=True)
    counts = grouped.size().rename("gradients").reset_index()
    counts["run_id"] = counts["run_id"].astype(object)
    total = counts.groupby("run_id")["gradients"].transform("sum")
    return counts.assign(share=counts["gradients"] / total)


def distribution(applied: pd.DataFrame, by: Sequence[str] = ("run_id",)) -> pd.DataFrame:
    """Count, mean, median, 95th percentile and maximum of the ages, in writes and (where known) in seconds.

    Args:
        applied: what `analysis.ages.applied_gradients` gives, or a part of it.
        by: columns that tell the groups apart: ("run_id",), ("run_id", "rank"), ("run_id", "worker").

    Returns:
        One row per group, in the order of their first gradients: `by`, `gradients`, `updates_mean`, `updates_p50`,
        `updates_p95`, `updates_max` [writes]; and `s_mean`, `s_p50`, `s_p95`, `s_max` [s] if `applied` has
        `staleness_s`, over those whose age is known. Percentiles are values that occurred.

    Source: as for `staleness`.

    Example:
        >>> applied = pd.DataFrame({"run_id": "a", "rank": [0, 0, 1], "staleness_updates": [0, 4, 1]})
        >>> distribution(applied, ("run_id", "rank"))[["rank", "updates_mean", "updates_max"]].to_numpy().tolist()
        [[0.0, 2.0, 4.0], [1.0, 1.0, 1.0]]
    """
    grouped = applied.groupby(list(by), observed=True, sort=False)
    group = np.asarray(grouped.ngroup(), dtype=np.int64)
    table = grouped.size().rename("gradients").reset_index()
    if isinstance(table["run_id"].dtype, pd.CategoricalDtype):
        table["run_id"] = table["run_id"].astype(object)
    for column, name in (("staleness_updates", "updates"), ("staleness_s", "s")):
        if column in applied:
            values = _reduced(group, applied[column].to_numpy(), len(table))
            table = table.assign(**{f"{name}_{end}": value for end, value in values.items()})
    return table


def _reduced(group: Index, values: NDArray[np.float64], groups: int) -> dict[str, NDArray[np.float64]]:
    """Mean, percentiles and maximum of each group; NaN are left out, and what has nothing else is NaN."""
    known = ~np.isnan(values)
    order = np.lexsort((values[known], group[known]))
    in_order, of = values[known][order], group[known][order]
    count = np.bincount(of, minlength=groups)
    behind = np.cumsum(count)
    with np.errstate(invalid="ignore"):
        found = {"mean": np.bincount(of, weights=in_order, minlength=groups) / count}
    # The smallest value with at least this share of the group at or below it; the share in hundredths, exactly.
    for name, hundredths in (("p50", 50), ("p95", 95), ("max", 100)):
        place = behind - count + np.maximum(-(-count * hundredths // 100) - 1, 0)
        taken = in_order[np.minimum(place, max(len(in_order) - 1, 0))] if len(in_order) else np.zeros(groups)
        found[name] = taken if (count > 0).all() else np.where(count > 0, taken, np.nan)
    return found
