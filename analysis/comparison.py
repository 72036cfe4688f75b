"""Who is faster to the target, and whether the runs show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.statistics import chance_of_separation

ENOUGH_FOR_BOOTSTRAP = 6
"""Seeds from which bootstrap intervals that do not overlap are taken as evidence; below, all runs must be separated."""


@dataclass(frozen=True)
class Claim:
    """Whether the runs show that `better` beats `worse`, and how.

    Attributes:
        shown: the rule of `faster` or `lower_loss` is met.
        n_better: completed (and diverged) runs of `better`.
        n_worse: the same of `worse`.
        chance: probability that two equal algorithms are separated like this by luck; NaN if not shown or not known.
        reason: one sentence in plain words.
    """

    better: str
    worse: str
    shown: bool
    n_better: int
    n_worse: int
    chance: float
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The answer for one workload on one transport with one number of workers.

    Attributes:
        criterion: "time_to_target_s", or "final_heldout_loss" if no algorithm reached the target in all its runs.
        best: label of the algorithm with the best mean; None if there is no completed run.
        clear: `best` is shown to beat every other contender.
        ties: contenders that `best` is not shown to beat.
        claims: `best` against every other row, in the order of their means.
        baseline: label of the baseline's row; None if it has none.
    """

    criterion: str
    best: str | None
    clear: bool
    ties: tuple[str, ...]
    claims: tuple[Claim, ...]
    baseline: str | None

    def against(self, label: str | None) -> Claim | None:
        """The claim of `best` against one other row."""
        return next((claim for claim in self.claims if claim.worse == label), None)


def _results(row: Mapping[str, Any]) -> int:
    return int(row["completed"]) + int(row["diverged"])


def faster(a: Mapping[str, Any], b: Mapping[str, Any]) -> Claim:
    """Whether the runs show that A reaches the target sooner than B.

    A snapshot that is at the target says only that the target was passed since the snapshot before. So the latest
    possible time of A is compared with the earliest possible time of B. The rule: both have at least two runs, and

    - with fewer than 6 runs of either: every run of A was at the target before any run of B can have been (a run of B
      that never got there counts with its last snapshot, a diverged one never gets there);
    - with 6 or more of both: A's and B's 95 % intervals do not overlap, not even with B's moved to the snapshot before.

    Otherwise the answer is "not shown". This asks at least for what the plain rule asks (intervals, or with n = 2 the
    ranges, do not overlap).

    Args:
        a: row of `analysis.summary.summary`.
        b: another.

    Source: as for `analysis.statistics.chance_of_separation`: complete separation is the most extreme order.

    Example:
        >>> common = dict(completed=2, diverged=0, seeds=2, reached=2)
        >>> a = dict(common, label="a", target_earliest_s=2.0, target_latest_s=3.0)
        >>> b = dict(common, label="b", target_earliest_s=3.5, target_latest_s=5.0)
        >>> faster(a, b).shown, faster(b, a).shown
        (True, False)
    """
    n_a, n_b = _results(a), _results(b)
    if n_a < 2 or n_b < 2:
        return _not_shown(a, b, "one run is no evidence")
    if int(a["reached"]) < n_a:
        return _not_shown(a, b, f"{a['label']} reached the target in only {int(a['reached'])} of {n_a} runs")
    missed = n_b - int(b["reached"])
    if min(n_a, n_b) >= ENOUGH_FOR_BOOTSTRAP and not missed:
        if a["time_to_target_s_high"] <= b["time_to_target_s_low"] - b["target_resolution_s"]:
            return _shown(a, b, math.nan, "the 95 % intervals do not overlap")
        return _not_shown(a, b, "the 95 % intervals overlap, or differ by less than the time between snapshots")
    if a["target_latest_s"] <= b["target_earliest_s"]:
        how = f"every run of {a['label']} was at the target before any run of {b['label']} can have been"
        never = f" ({b['label']} never got there in {missed} of {n_b} runs)" if missed else ""
        return _shown(a, b, chance_of_separation(n_a, n_b), how + never)
    return _not_shown(a, b, "the ranges overlap, or differ by less than the time between snapshots")


def lower_loss(a: Mapping[str, Any], b: Mapping[str, Any]) -> Claim:
    """Whether the runs show that A ends with a lower held-out loss than B: intervals (n = 2: ranges) do not overlap.

    Source: as for `analysis.statistics.mean_over_runs`.

    Example:
        >>> common = dict(completed=2, diverged=0)
        >>> a = dict(common, label="a", final_heldout_loss_high=1.0, final_heldout_loss_n=2)
        >>> lower_loss(a, dict(common, label="b", final_heldout_loss_low=1.1, final_heldout_loss_n=2)).shown
        True
    """
    n_a, n_b = int(a["final_heldout_loss_n"]), int(b["final_heldout_loss_n"])
    if n_a < 2 or n_b < 2:
        return _not_shown(a, b, "one run is no evidence")
    if a["final_heldout_loss_high"] < b["final_heldout_loss_low"]:
        chance = chance_of_separation(n_a, n_b) if n_a == n_b == 2 else math.nan
        return _shown(a, b, chance, "the intervals do not overlap")
    return _not_shown(a, b, "the intervals overlap")


def _shown(a: Mapping[str, Any], b: Mapping[str, Any], chance: float, reason: str) -> Claim:
    return Claim(a["label"], b["label"], True, _results(a), _results(b), chance, f"{reason}: {_counts(a, b)}")


def _not_shown(a: Mapping[str, Any], b: Mapping[str, Any], reason: str) -> Claim:
    return Claim(a["label"], b["label"], False, _results(a), _results(b), math.nan, f"{reason}: {_counts(a, b)}")


def _counts(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return f"n={_results(a)} runs of {a['label']}, n={_results(b)} of {b['label']}"


def winner(
    summary: pd.DataFrame,
    workload: str,
    transport: str,
    workers: int | None = None,
    study: str | None = None,
    baseline: str = "allreduce-sgd",
) -> Verdict:
    """Who reached the target first, or, if nobody did in all runs, who ended with the lowest held-out loss.

    Args:
        summary: what `analysis.summary.summary` gives.
        workload: only rows of this workload.
        transport: only rows of this transport: measured and simulated times are never compared with each other.
        workers: only rows with this number of workers; None if there is but one.
        study: only rows of this study; None if there is but one.
        baseline: registry name of the algorithm to compare with.

    Raises:
        ValueError: several studies or numbers of workers remain; comparing over them would mean nothing.

    Source: as for `faster` and `lower_loss`.

    Example:
        >>> winner(pd.DataFrame(columns=["workload", "transport", "workers", "study"]), "w", "mpi").best is None
        True
    """
    rows = summary[(summary["workload"] == workload) & (summary["transport"] == transport)]
    for name, wanted in (("workers", workers), ("study", study)):
        if wanted is not None:
            rows = rows[rows[name] == wanted]
        elif rows[name].nunique() > 1:
            values = sorted(rows[name].unique())
            raise ValueError(f"rows with different {name} cannot be compared: {values} (give {name}=...)")
    if rows.empty:
        return Verdict("time_to_target_s", None, False, (), (), None)
    base = rows.loc[rows["algorithm"] == baseline, "label"]
    base_label = None if base.empty else (baseline if baseline in set(base) else str(base.iloc[0]))
    alive = rows[rows["seeds"] > 0]
    criterion = "time_to_target_s" if alive["time_to_target_s"].notna().any() else "final_heldout_loss"
    order = _records(alive.sort_values([criterion, "label"], na_position="last"))
    if not order or math.isnan(order[0][criterion]):
        return Verdict(criterion, None, False, (), (), base_label)
    first = order[0]
    # An algorithm that only ever diverged has no mean, but it is a contender that lost.
    rest = order[1:] + _records(rows[(rows["seeds"] == 0) & (rows["diverged"] > 0)])
    rule = faster if criterion == "time_to_target_s" else lower_loss
    claims = tuple(rule(first, other) for other in rest)
    ties = tuple(claim.worse for claim in claims if not claim.shown)
    return Verdict(criterion, str(first["label"]), not ties, ties, claims, base_label)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def saving(best: Mapping[str, Any], base: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    """Share of the base's `name` that the best saves: (from the means, at least, at most).

    The bounds take the worst and the best case of both intervals, so they are wider than a 95 % interval of the ratio;
    they are NaN where one of the two has no interval. Negative: more, not less.

    Source: the extremes of a ratio of two intervals (interval arithmetic).

    Example:
        >>> a = dict(t=2.0, t_low=1.0, t_high=3.0)
        >>> b = dict(t=8.0, t_low=6.0, t_high=10.0)
        >>> saving(a, b, "t")
        (0.75, 0.5, 0.9)
    """
    if not base[name] > 0:
        return math.nan, math.nan, math.nan
    low, high = base[f"{name}_low"], base[f"{name}_high"]
    at_least = 1 - best[f"{name}_high"] / low if low > 0 else math.nan
    at_most = 1 - best[f"{name}_low"] / high if high > 0 else math.nan
    return float(1 - best[name] / base[name]), float(at_least), float(at_most)
