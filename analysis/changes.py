"""What changed between two sets of runs of the same cells: every number, and whether the runs show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

import pandas as pd

from analysis.before_after import Side, Step, side, step
from analysis.summary import KEYS, METRICS, per_run, summarise
from bench.records import Results

EXTRA: dict[str, tuple[str, str]] = {
    "wire_nbytes_per_sample": ("byte/sample", "bytes put on the wire by all ranks, divided by the samples trained on"),
}
NUMBERS: dict[str, tuple[str, str]] = {**METRICS, **EXTRA}
"""Name -> (unit, meaning) of each number that is compared."""

LOWER_IS_BETTER = {
    "time_to_target_s",
    "samples_to_target",
    "wire_nbytes_to_target",
    "energy_J_to_target",
    "final_heldout_loss",
    "mean_over_t_s",
    "mean_over_samples",
    "mean_over_wire_nbytes",
    "exposed_comm_s",
    "exposed_comm_share",
    "straggler_share",
    "transfer_share",
    "energy_J",
    "wire_nbytes_per_sample",
}
HIGHER_IS_BETTER = {"samples_per_s", "overlap_fraction"}
"""Of the other numbers neither is better: a change is "higher" or "lower"."""

METRIC_IS_BETTER = {"accuracy": "higher", "distance": "lower"}
"""Which way the workloads' own held-out metrics go."""

BY_DIFFERENCE = {
    "final_heldout_loss",
    "mean_over_t_s",
    "mean_over_samples",
    "mean_over_wire_nbytes",
    "heldout_metric",
    "staleness_mean",
    "staleness_p95",
    "overlap_fraction",
    "consensus_distance",
    *(name for name in METRICS if name.endswith("_share")),
}
"""Numbers that may be zero, or whose zero is arbitrary; the others are compared by their ratio."""

Measure = Literal["ratio new/old", "difference new-old"]
Word = Literal["better", "worse", "higher", "lower", "not shown", "no change", "no value"]


@dataclass(frozen=True)
class Change:
    """One number of one cell, before and after.

    Attributes:
        unit: of `old`, `new` and `difference`.
        n_old: runs that have the number; a run that never reached the target counts.
        n_new: the same after.
        old: mean over the runs; infinite if one of them never reached the target, NaN if none has the number.
        new: the same after.
        missed_old: runs that never reached the target; 0 for numbers that are not about a target.
        missed_new: the same after.
        measure: which of `ratio` and `difference` decides.
        ratio: new/old; infinite if only NEW never got there, 0 if only OLD did; NaN if undefined.
        ratio_low: of its interval; NaN if there is none.
        ratio_high: the same.
        difference: new - old.
        difference_low: of its interval.
        difference_high: the same.
        interval: how the intervals were made.
        shown: the runs show that the number changed.
        word: "better", "worse" (or "higher", "lower" where neither is better), "not shown", "no change" (every pair is
            equal but for rounding), or "no value" (one side has none).
        chance: that equal things differ like this by luck; NaN if not shown or not known.
        reason: one sentence in plain words.
    """

    number: str
    unit: str
    n_old: int
    n_new: int
    old: float
    new: float
    missed_old: int
    missed_new: int
    measure: Measure
    ratio: float
    ratio_low: float
    ratio_high: float
    difference: float
    difference_low: float
    difference_high: float
    interval: str
    shown: bool
    word: Word
    chance: float
    reason: str


def numbers_per_run(results: Results) -> pd.DataFrame:
    """One row per run with all `NUMBERS`: `analysis.summary.per_run` and `EXTRA`.

    Args:
        results: what `bench.records.load` gives.

    Source: as for `per_run`.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> set(NUMBERS) <= set(numbers_per_run(Results(*empty)))
        True
    """
    samples = results.runs["samples"].astype("float64").where(results.runs["samples"] > 0)
    each = pd.DataFrame(
        {"run_id": results.runs["run_id"], "wire_nbytes_per_sample": results.runs["wire_nbytes"] / samples}
    )
    return per_run(results).merge(each, on="run_id", how="left")


def changes(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """What changed in the cells that both have: those with the same study, workload, workers, transport and label.

    Only completed runs have numbers; for what was needed to reach the target, a run that diverged or never got there
    counts as infinite. Where both sides have the same seeds, runs are compared in pairs of one seed; otherwise by their
    means. The rule for "shown":

    - with three pairs or more: the interval of the pairs leaves out "no change". With three to five pairs that means
      that all of them changed the same way; a time to the target is not taken to have changed between two snapshots.
    - else the rule of the report (`analysis.comparison`): with fewer than six runs of either, every run of one side
      lies beyond every run of the other; with six of both, their 95 % intervals do not overlap. One run is no evidence.

    Changes are not corrected for their number: of many cells and numbers, some change by luck (`chance`).

    Args:
        old: what `numbers_per_run` gives for the runs before.
        new: the same after.

    Returns:
        One row per cell and number that either side has: `KEYS`, and the attributes of `Change`.

    Source: those of `analysis.paired.paired` and `analysis.comparison.faster`.

    Example:
        Three seeds, each twice as slow as before.

        >>> import math
        >>> def table(rate):
        ...     known = dict(study="s", workload="w", workers=2, transport="mpi", label="a", status="completed")
        ...     missing = {name: math.nan for name in NUMBERS}
        ...     return pd.DataFrame([{**missing, **known, "algorithm": "a", "tuning_trials": -1, "tuning_searched": "",
        ...         "simulated": False, "metric": "", "target_loss": math.nan, "duration_s": 1.0, "diverged_at_s": 0.0,
        ...         "target_earliest_s": math.nan, "target_latest_s": math.nan, "seed": seed,
        ...         "samples_per_s": rate * (seed + 1)} for seed in range(3)])
        >>> found = changes(table(100.0), table(50.0))
        >>> found[["number", "ratio", "word", "chance"]].to_numpy().tolist()
        [['samples_per_s', 0.5, 'worse', 0.25]]
    """
    before, after = ({tuple(k): runs for k, runs in t.groupby(list(KEYS), observed=True)} for t in (old, new))
    rows = []
    for key in sorted(before.keys() & after.keys()):
        row_before, row_after = _row_of(before[key]), _row_of(after[key])
        metric = str(after[key]["metric"].iloc[0])
        for name in NUMBERS:
            a, b = side(row_before, before[key], name), side(row_after, after[key], name)
            if a.n or b.n:
                rows.append({**dict(zip(KEYS, key, strict=True)), **asdict(_change(name, a, b, metric))})
    return pd.DataFrame(rows, columns=[*KEYS, *(f.name for f in fields(Change))])


def _row_of(runs: pd.DataFrame) -> Callable[[], dict[str, Any]]:
    """Gives the row of the summary of one cell's runs, made once."""

    @cache
    def row() -> dict[str, Any]:
        return {str(name): value for name, value in summarise(runs).iloc[0].items()}

    return row


def _change(name: str, old: Side, new: Side, metric: str) -> Change:
    by_ratio = name not in BY_DIFFERENCE
    found = step(name, old, new, by_ratio=by_ratio)
    return Change(
        number=name,
        unit=NUMBERS[name][0],
        n_old=old.n,
        n_new=new.n,
        old=old.middle,
        new=new.middle,
        missed_old=old.missed,
        missed_new=new.missed,
        measure="ratio new/old" if by_ratio else "difference new-old",
        ratio=found.ratio.estimate,
        ratio_low=found.ratio.low,
        ratio_high=found.ratio.high,
        difference=found.difference.estimate,
        difference_low=found.difference.low,
        difference_high=found.difference.high,
        interval=found.interval,
        shown=found.direction != "",
        word=_word(name, found, old, new, metric),
        chance=found.chance,
        reason=found.reason,
    )


def _word(name: str, found: Step, old: Side, new: Side, metric: str) -> Word:
    if not old.n or not new.n:
        return "no value"
    if not found.direction:
        return "no change" if found.equal else "not shown"
    good = "lower" if name in LOWER_IS_BETTER else "higher" if name in HIGHER_IS_BETTER else ""
    if name == "heldout_metric":
        good = METRIC_IS_BETTER.get(metric, "")
    if not good:
        return found.direction
    return "better" if found.direction == good else "worse"
