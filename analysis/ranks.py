"""Many algorithms on many workloads: mean ranks, whether they differ at all, and which differ from which."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, f, rankdata, studentized_range

FEWEST = 5
"""Workloads below which mean ranks show next to nothing."""


@dataclass(frozen=True)
class Ranks:
    """The data of a critical-difference diagram.

    Attributes:
        mean_rank: by label, the best (lowest) first.
        workloads: N.
        friedman: chi-squared of Friedman's test, corrected for ties.
        friedman_p: its p-value: the chance of mean ranks so different if all algorithms were alike.
        iman_davenport: the less conservative F of Iman and Davenport.
        iman_davenport_p: its p-value.
        alpha: level of the critical difference.
        critical_difference: two mean ranks that differ by at least this much differ significantly (Nemenyi).
        groups: the bars of the diagram: largest sets of neighbours that are not shown to differ, two or more each.
    """

    mean_rank: pd.Series[float]
    workloads: int
    friedman: float
    friedman_p: float
    iman_davenport: float
    iman_davenport_p: float
    alpha: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]

    @property
    def differ(self) -> bool:
        """Whether the algorithms differ at all; if not, the groups mean nothing."""
        return self.iman_davenport_p < self.alpha


def critical_difference(costs: pd.DataFrame, alpha: float = 0.05) -> Ranks:
    """Mean ranks of the algorithms over the workloads, and the difference of two that luck does not explain.

    Args:
        costs: workloads x labels, lower is better, from `analysis.profiles.costs`; infinite for "never", which shares
            the worst ranks.
        alpha: level.

    Raises:
        ValueError: fewer than 5 workloads or 2 algorithms, or a cost is NaN.

    Source: Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), sections 3.2.2 and
    3.2.4; Friedman, JASA 32 (1937); Nemenyi (1963); Iman and Davenport (1980).

    Example:
        The first always wins, the second always loses:

        >>> found = critical_difference(pd.DataFrame({"b": [3.0] * 6, "a": [1.0] * 6, "c": [2.0] * 6}))
        >>> found.mean_rank.to_dict(), found.friedman, round(found.critical_difference, 3), found.groups
        ({'a': 1.0, 'c': 2.0, 'b': 3.0}, 12.0, 1.353, (('a', 'c'), ('c', 'b')))
    """
    n, k = costs.shape
    if n < FEWEST:
        raise ValueError(
            f"mean ranks need at least {FEWEST} workloads: got {n} (compare on each workload by itself, or add some)"
        )
    if k < 2:
        raise ValueError(f"mean ranks need at least 2 algorithms: got {k}")
    values = costs.to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a cost is NaN: every algorithm must have run on every workload (infinite stands for never)")
    ranks = rankdata(values, axis=1)
    mean = pd.Series(ranks.mean(axis=0), index=[str(label) for label in costs.columns], name="mean_rank")
    mean = mean.sort_values(kind="stable")
    friedman = _friedman(ranks)
    # F has no bound: where all workloads agree on the order, there is nothing left to compare the differences with.
    rest = n * (k - 1) - friedman
    davenport = (n - 1) * friedman / rest if rest > 1e-9 * n * k else math.inf
    width = nemenyi(k, n, alpha)
    return Ranks(
        mean_rank=mean,
        workloads=n,
        friedman=friedman,
        friedman_p=float(chi2.sf(friedman, k - 1)),
        iman_davenport=davenport,
        iman_davenport_p=float(f.sf(davenport, k - 1, (k - 1) * (n - 1))),
        alpha=alpha,
        critical_difference=width,
        groups=_groups(mean, width),
    )


def _friedman(ranks: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Chi-squared from ranks [N, k]: spread of the mean ranks over what chance would give, ties included; 0 if all
    algorithms tie everywhere."""
    n, k = ranks.shape
    within = float(((ranks - (k + 1) / 2) ** 2).sum()) / (n * (k - 1))
    between = n * float(((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    return between / within if within > 0 else 0.0


def nemenyi(algorithms: int, workloads: int, alpha: float = 0.05) -> float:
    """Critical difference of two mean ranks: q sqrt(k (k + 1) / (6 N)).

    q is the upper point of the studentised range of k means with unbounded degrees of freedom, over sqrt 2.

    Args:
        algorithms: k.
        workloads: N.
        alpha: level.

    Source: Demsar (2006), section 3.2.2 and table 5(a).

    Example:
        Demsar's example, 4 algorithms on 14 data sets:

        >>> round(nemenyi(4, 14, 0.05), 2), round(nemenyi(4, 14, 0.10), 2)
        (1.25, 1.12)
    """
    q = float(studentized_range.ppf(1 - alpha, algorithms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(algorithms * (algorithms + 1) / (6 * workloads))


def _groups(mean: pd.Series[float], width: float) -> tuple[tuple[str, ...], ...]:
    """Largest runs of neighbours within the critical difference; runs inside another are left out."""
    labels, values = [str(label) for label in mean.index], mean.to_numpy(dtype=np.float64)
    found: list[tuple[str, ...]] = []
    reached = 0
    for first in range(len(labels)):
        behind = int((values < values[first] + width).sum())
        if behind > reached and behind - first > 1:
            found.append(tuple(labels[first:behind]))
        reached = max(reached, behind)
    return tuple(found)
