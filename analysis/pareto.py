"""Time against bytes: which algorithms no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def dominated(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point is dominated: some point is at least as low in every coordinate and lower in one.

    Equal points do not dominate each other. Infinity (never) is worse than any number.

    Args:
        points: [k, d], lower is better.

    Returns:
        Element [i, j]: point j dominates point i [k, k].

    Raises:
        ValueError: a coordinate is NaN.

    Source: Pareto dominance; Deb, Multi-Objective Optimization using Evolutionary Algorithms (2001).

    Example:
        The third is no better than the first in anything; the first two are equal:

        >>> dominated(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [2.0, 1.0]])).any(axis=1).tolist()
        [False, False, True, False]
    """
    if np.isnan(points).any():
        raise ValueError("points must be numbers: got NaN (leave unknown ones out; infinite stands for never)")
    here, other = points[:, None, :], points[None, :, :]
    return np.asarray((other <= here).all(axis=2) & (other < here).any(axis=2), dtype=np.bool_)


def pareto_front(
    summary: pd.DataFrame, axes: Sequence[str] = ("time_to_target_s", "wire_nbytes_to_target")
) -> pd.DataFrame:
    """Which algorithms reach the target on the front of time against bytes, and who dominates the others.

    By the means over the seeds. An algorithm with a run that never reached the target has no mean and is in no row.

    Args:
        summary: what `analysis.summary.summary` gives.
        axes: columns of it, lower is better.

    Returns:
        One row per algorithm with all `axes`, by study, workload, workers, transport, then along the first axis:
        these keys, `label`, `axes`, `on_front`, `dominated_by` (labels, comma-separated; "" on the front).

    Source: as for `dominated`.

    Example:
        >>> summary = pd.DataFrame({"study": "s", "workload": "w", "workers": 4, "transport": "mpi",
        ...     "label": ["fast", "lean", "neither", "never"], "time_to_target_s": [1.0, 3.0, 3.0, None],
        ...     "wire_nbytes_to_target": [9.0, 2.0, 9.0, None]})
        >>> pareto_front(summary)[["label", "on_front", "dominated_by"]].to_numpy().tolist()
        [['fast', True, ''], ['lean', True, ''], ['neither', False, 'fast, lean']]
    """
    keys = ["study", "workload", "workers", "transport"]
    known = summary.dropna(subset=list(axes))
    parts = []
    for _, group in known.groupby(keys, sort=True, observed=True):
        own = group.sort_values([*axes, "label"])
        by = dominated(own[list(axes)].to_numpy(dtype=np.float64))
        labels = own["label"].to_numpy()
        names = [", ".join(labels[row]) for row in by]
        parts.append(own[[*keys, "label", *axes]].assign(on_front=[not name for name in names], dominated_by=names))
    if not parts:
        return pd.DataFrame(columns=[*keys, "label", *axes, "on_front", "dominated_by"])
    return pd.concat(parts, ignore_index=True)
