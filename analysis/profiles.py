"""Performance profiles: on which share of the workloads an algorithm is within a factor of the best."""

from __future__ import annotations

import numpy as np
import pandas as pd

SCORED_TO = 4.0
"""Largest factor that the score looks at: beyond four times the best time nobody waits."""


def costs(table: pd.DataFrame, value: str = "time_to_target_s") -> pd.DataFrame:
    """What each algorithm needed on each workload: median over its seeds; infinite if most never got there.

    Args:
        table: rows of `analysis.summary.per_run` with one transport and one number of workers.
        value: a column of it; lower is better.

    Returns:
        Workloads [rows] x labels [columns], in the unit of `value`. Infinite: most of its completed and diverged runs
        never got there, or it has none on this workload.

    Raises:
        ValueError: several transports or numbers of workers.

    Source: Dahl et al., Benchmarking Neural Network Training Algorithms, arXiv 2306.07179: median over runs.

    Example:
        >>> table = pd.DataFrame({"workload": "w", "label": ["a", "a", "a", "b"], "status": "completed",
        ...     "transport": "mpi", "workers": 4, "time_to_target_s": [3.0, 5.0, None, None]})
        >>> costs(table).loc["w"].tolist()
        [5.0, inf]
    """
    for name in ("transport", "workers"):
        if table[name].nunique() > 1:
            raise ValueError(
                f"rows with different {name} cannot be compared: {sorted(table[name].unique())} (select one of them)"
            )
    done = table[table["status"].isin(["completed", "diverged"])]
    filled = done.assign(**{value: done[value].astype("float64").fillna(np.inf)})
    found = filled.groupby(["workload", "label"], observed=True)[value].median().unstack("label")
    labels = sorted(table["label"].unique())
    return found.reindex(index=sorted(table["workload"].unique()), columns=labels).fillna(np.inf)


def ratios(costs: pd.DataFrame) -> pd.DataFrame:
    """Each cost as a multiple of the workload's lowest; infinite where nobody got there.

    Args:
        costs: workloads x labels, > 0, infinite for "never".

    Raises:
        ValueError: a cost is not positive, or NaN.

    Source: Dolan and More, Benchmarking optimization software with performance profiles, Mathematical Programming 91
    (2002), r_(p,s).

    Example:
        >>> ratios(pd.DataFrame({"a": [1.0, 6.0], "b": [2.0, 3.0]})).to_numpy().tolist()
        [[1.0, 2.0], [2.0, 1.0]]
    """
    values = costs.to_numpy(dtype=np.float64)
    if not (values > 0).all():
        raise ValueError("costs must be > 0: got 0, a negative number or NaN (infinite stands for never)")
    best = values.min(axis=1, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore"):
        found = np.where(np.isfinite(values), values / best, np.inf)
    return pd.DataFrame(found, index=costs.index, columns=costs.columns)


def performance_profile(costs: pd.DataFrame) -> pd.DataFrame:
    """rho(tau): share of the workloads on which an algorithm costs at most tau times the lowest cost.

    Args:
        costs: workloads x labels, as for `ratios`; from `costs`.

    Returns:
        One row per label and jump, by label and tau: `label`, `tau` (from 1), `rho`. rho holds from its tau to the
        next; what a label never reached is in no row.

    Raises:
        ValueError: as for `ratios`.

    Source: Dolan and More (2002), as for `ratios`: rho_s(tau).

    Example:
        >>> table = performance_profile(pd.DataFrame({"a": [1.0, 6.0], "b": [2.0, 3.0]}, index=["v", "w"]))
        >>> table.to_numpy().tolist()
        [['a', 1.0, 0.5], ['a', 2.0, 1.0], ['b', 1.0, 0.5], ['b', 2.0, 1.0]]
    """
    found = ratios(costs)
    rows = []
    for label in found.columns:
        own = np.sort(found[label].to_numpy(dtype=np.float64))
        for tau in np.unique(np.concatenate([[1.0], own[np.isfinite(own)]])):
            rows.append({"label": label, "tau": float(tau), "rho": float((own <= tau).sum() / max(len(own), 1))})
    return pd.DataFrame(rows, columns=["label", "tau", "rho"])


def profile_score(costs: pd.DataFrame, most: float = SCORED_TO) -> pd.Series[float]:
    """One number per algorithm in [0, 1]: the mean of rho(tau) for tau from 1 to `most`; 1 is best on all workloads.

    The integral is exact, not on a grid: a workload with ratio r adds (most - r) / (most - 1).

    Args:
        costs: workloads x labels, as for `ratios`.
        most: largest tau.

    Returns:
        Score by label, the highest first.

    Raises:
        ValueError: as for `ratios`; or `most` is not above 1.

    Source: Dahl et al., arXiv 2306.07179: the score of AlgoPerf, with 4 as the largest tau.

    Example:
        b needs twice the best time on one workload, (4 - 2) / 3, and never gets there on the other.

        >>> profile_score(pd.DataFrame({"a": [1.0, 6.0], "b": [2.0, float("inf")]})).round(4).to_dict()
        {'a': 1.0, 'b': 0.3333}
    """
    if not most > 1:
        raise ValueError(f"most must be > 1, the best algorithm's own ratio: got {most} (4 is usual)")
    share = (most - ratios(costs).clip(upper=most)) / (most - 1)
    return share.mean().sort_values(ascending=False, kind="stable").rename("score")
