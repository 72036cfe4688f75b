"""One number before and after: ratio, difference, their intervals, and whether the runs show that it changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.comparison import ENOUGH_FOR_BOOTSTRAP, faster, lower_loss
from analysis.paired import Paired, paired
from analysis.statistics import Mean, chance_of_separation, mean_over_runs

PAIRS = 3
"""Pairs from which their interval decides: with two, equal things differ the same way half of the time."""

TINY = 1e-4
"""Relative change that is none: sums in another order, or on another processor, differ by as much."""

Direction = Literal["", "lower", "higher"]


@dataclass(frozen=True)
class Side:
    """A number of the runs of one cell, before or after.

    Attributes:
        row: gives the cell's row of `analysis.summary.summary`; asked only if it is needed, as it takes a while.
        values: seed -> value; infinite if the run never reached the target.
        bounds: seed -> times before which and by which the target was reached [s].
        repeated: a seed has several runs.
    """

    row: Callable[[], Mapping[str, Any]]
    values: dict[Hashable, float]
    bounds: dict[Hashable, tuple[float, float]]
    repeated: bool = False

    @property
    def n(self) -> int:
        """Runs that have the number."""
        return len(self.values)

    @property
    def missed(self) -> int:
        """Runs that never reached the target."""
        return sum(math.isinf(v) for v in self.values.values())

    @property
    def middle(self) -> float:
        """Mean; infinite if a run never reached the target, NaN of no run."""
        numbers = list(self.values.values())
        if len(set(numbers)) < 2:  # the mean of equal numbers is that number, not one rounding away from it
            return numbers[0] if numbers else math.nan
        return float(np.mean(numbers))

    @cached_property
    def mean(self) -> Mean:
        """Mean of the runs that have a finite value, with its interval."""
        return mean_over_runs([v for v in self.values.values() if math.isfinite(v)])


def side(row: Callable[[], Mapping[str, Any]], runs: pd.DataFrame, name: str) -> Side:
    """A number of the runs of one cell.

    Args:
        row: gives the cell's row of `analysis.summary.summary`.
        runs: the cell's rows of `analysis.summary.per_run`.
        name: a column of `runs`. Only completed runs have it; if it is about the target, diverged ones never got there.

    Source: as for `analysis.summary.summary`.

    Example:
        >>> runs = pd.DataFrame({"seed": [0, 1], "status": ["completed", "diverged"], "target_loss": 1.0,
        ...     "time_to_target_s": [3.0, math.nan], "target_earliest_s": [2.0, math.inf],
        ...     "target_latest_s": [3.0, math.inf]})
        >>> side(dict, runs, "time_to_target_s").values
        {0: 3.0, 1: inf}
    """
    target = "_to_target" in name
    runs = runs[runs["status"].isin(["completed", "diverged"] if target else ["completed"])]
    values = runs[name].astype("float64")
    if target:
        # A run without a held-out curve, such as one that computed no gradients, has missed nothing.
        never = np.isposinf(runs["target_latest_s"]) | (runs["status"] == "diverged")
        values = values.mask(never, math.inf).where(runs["target_loss"].notna())
    if name == "energy_J_to_target":
        values = values.where(runs["energy_J"].notna())
    runs, values = runs[values.notna()], values[values.notna()]
    seeds, numbers = runs["seed"].tolist(), values.to_numpy(dtype=np.float64)
    bounds = zip(runs["target_earliest_s"].tolist(), runs["target_latest_s"].tolist(), strict=True)
    return Side(
        row=row,
        values=dict(zip(seeds, numbers.tolist(), strict=True)),
        bounds=dict(zip(seeds, bounds, strict=True)),
        repeated=len(set(seeds)) < len(seeds),
    )


@dataclass(frozen=True)
class Bounds:
    """An estimate and its interval; NaN where there is none."""

    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Step:
    """From before to after.

    Attributes:
        ratio: after / before.
        difference: after - before.
        interval: how both intervals were made.
        direction: which way the number is shown to have gone; "" if that is not shown.
        chance: that equal things differ like this by luck; NaN if not shown or not known.
        reason: one sentence in plain words.
        equal: compared in pairs, and all pairs are equal but for rounding (`TINY`).
    """

    ratio: Bounds
    difference: Bounds
    interval: str
    direction: Direction
    chance: float
    reason: str
    equal: bool = False


def step(name: str, old: Side, new: Side, *, by_ratio: bool) -> Step:
    """How the number `name` changed from `old` to `new`; see `analysis.changes.changes` for the rule.

    Args:
        by_ratio: whether the ratio or the difference decides.

    Source: those of `analysis.paired.paired` and `analysis.comparison.faster`.

    Example:
        >>> def of(*values):
        ...     known = dict(enumerate(values))
        ...     return Side(dict, known, dict.fromkeys(known, (0.0, 0.0)))
        >>> found = step("samples_per_s", of(100.0, 130.0, 90.0), of(110.0, 143.0, 99.0), by_ratio=True)
        >>> found.direction, round(found.ratio.low, 9), found.reason
        ('higher', 1.1, '0 of 3 pairs lower, 3 higher')
    """
    for which, n in (("OLD", old.n), ("NEW", new.n)):
        if not n:
            return Step(Bounds(), Bounds(), "none", "", math.nan, f"{which} has no run with this number")
    if old.values.keys() != new.values.keys() or old.n < 2 or old.repeated or new.repeated:
        ratio, difference, interval = _of_means(old, new)
        return Step(ratio, difference, interval, *_by_the_reports_rule(name, old, new))
    if old.missed == new.missed == old.n == new.n:
        reason = "the target was missed before and after"
        return Step(Bounds(), Bounds(), "none", "", math.nan, reason, equal=True)
    same = [seed for seed, value in old.values.items() if math.isclose(value, new.values[seed], rel_tol=TINY)]
    close = same + (_too_close(old, new) if name == "time_to_target_s" else [])
    differences = _pairs(old, new, close, ratio=False)
    ratios = _pairs(old, new, close, ratio=True) if min(*old.values.values(), *new.values.values()) > 0 else None
    interval = f"{old.n} pairs of runs with one seed, {100 * differences.measured.confidence:.0f} %"
    decides = ratios if by_ratio and ratios else differences
    said = _by_pairs(decides.resolved) if old.n >= PAIRS else _by_the_reports_rule(name, old, new)
    if len(same) == old.n:
        said = "", math.nan, "equal but for rounding"
    return Step(ratios.bounds if ratios else Bounds(), differences.bounds, interval, *said, equal=len(same) == old.n)


Said = tuple[Direction, float, str]
"""Direction, chance and reason of a `Step`."""


# -- runs in pairs of one seed -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """Pairs as they were measured, and with those set equal that the snapshots cannot tell apart."""

    measured: Paired
    resolved: Paired

    @property
    def bounds(self) -> Bounds:
        """What was measured, with an interval wide enough for both."""
        m, r = self.measured, self.resolved
        return Bounds(m.estimate, min(m.low, r.low), max(m.high, r.high))


def _pairs(old: Side, new: Side, close: Collection[Any], *, ratio: bool) -> _Pairs:
    measured = paired(new.values, old.values, ratio=ratio)
    return _Pairs(measured, paired(new.values, old.values, ratio=ratio, unresolved=close) if close else measured)


def _too_close(old: Side, new: Side) -> list[Hashable]:
    """Seeds with which the target may have been reached first either before or after."""
    found = []
    for seed, (earliest, latest) in old.bounds.items():
        if not (latest <= new.bounds[seed][0] or new.bounds[seed][1] <= earliest):
            found.append(seed)
    return found


def _by_pairs(found: Paired) -> Said:
    neutral = 1.0 if found.measure == "ratio A/B" else 0.0
    direction: Direction = "lower" if found.high < neutral else "higher" if found.low > neutral else ""
    higher = found.n - found.lower - found.equal
    reason = f"{found.lower} of {found.n} pairs lower, {higher} higher"
    if found.equal:
        reason += f", {found.equal} equal or too close to tell"
    return direction, found.p if direction else math.nan, reason


# -- means of runs with different seeds --------------------------------------------------------------------------------


def _of_means(old: Side, new: Side) -> tuple[Bounds, Bounds, str]:
    """Ratio and difference of the means; intervals from the worst and best cases of both means' intervals."""
    if old.missed and new.missed:
        return Bounds(), Bounds(), "none"
    if new.missed:
        return Bounds(math.inf), Bounds(math.inf), "none"
    if old.missed:
        return Bounds(0.0), Bounds(-math.inf), "none"
    a, b = new.mean, old.mean
    ratio = Bounds()
    if min(*new.values.values(), *old.values.values()) > 0:
        ratio = Bounds(a.mean / b.mean, a.low / b.high, a.high / b.low)
    how = "none" if min(a.n, b.n) < 2 else "worst and best cases of both means' intervals"
    return ratio, Bounds(a.mean - b.mean, a.low - b.high, a.high - b.low), how


def _by_the_reports_rule(name: str, old: Side, new: Side) -> Said:
    """Whether all runs of one side lie beyond all of the other; from six runs, whether the intervals are apart."""
    counts = f"n={old.n} before, n={new.n} after"
    if min(old.n, new.n) < 2:
        return "", math.nan, f"one run is no evidence: {counts}"
    if name in ("time_to_target_s", "final_heldout_loss"):
        rule = faster if name == "time_to_target_s" else lower_loss
        before, after = {**old.row(), "label": "OLD"}, {**new.row(), "label": "NEW"}
        lower, higher = rule(after, before), rule(before, after)
        if lower.shown:
            return "lower", lower.chance, lower.reason
        return ("higher" if higher.shown else ""), higher.chance, (higher if higher.shown else lower).reason
    a, b = list(new.values.values()), list(old.values.values())
    if min(len(a), len(b)) >= ENOUGH_FOR_BOOTSTRAP and not (old.missed or new.missed):
        below, above = new.mean.high < old.mean.low, new.mean.low > old.mean.high
        chance, what = math.nan, "the 95 % intervals"
    else:
        below, above = max(a) < min(b), min(a) > max(b)
        chance, what = chance_of_separation(len(a), len(b)), "the ranges"
    if below or above:
        return ("lower" if below else "higher"), chance, f"{what} do not overlap: {counts}"
    return "", math.nan, f"{what} overlap: {counts}"
