"""What more workers bring: speed-up, efficiency, and the two factors of which the time to the target is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

GROUP = ["study", "workload", "transport"]
"""Within these, rows with different numbers of workers are compared."""

Row = Mapping[Any, Any]
Bounds = tuple[float, float, float]
"""A value, and the lowest and highest that it may have."""


def speed_up(summary: pd.DataFrame, baseline: str = "allreduce-sgd") -> pd.DataFrame:
    """How much faster n workers are than few, in samples per second and to the target.

    Two references: the same label with its smallest number of workers n0 (efficiency = speed-up n0 / n; 1 is linear),
    and the baseline on one worker, if the study has it, the only one that shows what an algorithm costs already there.
    A speed-up of throughput says nothing of learning: read it with the other.

    Args:
        summary: what `analysis.summary.summary` gives.
        baseline: label of the baseline.

    Returns:
        One row per row of `summary`, sorted by study, workload, transport, label, workers: these, `smallest` (n0), and
        for x = throughput, time: `x_speed_up`, its bounds `_low` and `_high` from the worst and best cases of both
        intervals (wider than a 95 % interval; NaN without intervals), `x_efficiency`, `x_speed_up_over_baseline`. NaN
        where a mean is missing, as a mean time to the target is if a run never got there.

    Source: strong scaling by time to the target as in MLPerf Training, Mattson et al., arXiv 1910.01500.

    Example:
        Four workers do 3 times the samples per second but need twice as many of them:

        >>> summary = pd.DataFrame({"study": "s", "workload": "w", "transport": "mpi", "label": "easgd",
        ...     "workers": [1, 4], "samples_per_s": [100.0, 300.0], "time_to_target_s": [30.0, 20.0]})
        >>> row = speed_up(summary).iloc[1]
        >>> float(row.throughput_speed_up), float(row.throughput_efficiency), float(row.time_speed_up)
        (3.0, 0.75, 1.5)
    """
    rows = []
    for key, group in summary.groupby(GROUP, sort=True, observed=True):
        one = group[(group["label"] == baseline) & (group["workers"] == 1)].to_dict("records")
        for label, own in group.sort_values("workers").groupby("label", sort=True, observed=True):
            first, *_ = records = own.to_dict("records")
            for row in records:
                found: dict[str, Any] = {**dict(zip(GROUP, key, strict=True)), "label": label}
                found.update(workers=row["workers"], smallest=first["workers"])
                for name, times in (("throughput", _times_the_rate), ("time", _times_as_early)):
                    value, low, high = times(row, first)
                    if row is first:
                        low = high = value  # 1, or NaN: no scatter between a number and itself
                    found[f"{name}_speed_up"] = value
                    found[f"{name}_speed_up_low"], found[f"{name}_speed_up_high"] = low, high
                    found[f"{name}_efficiency"] = value * first["workers"] / row["workers"]
                    found[f"{name}_speed_up_over_baseline"] = times(row, one[0])[0] if one else math.nan
                rows.append(found)
    ends = ("speed_up", "speed_up_low", "speed_up_high", "efficiency", "speed_up_over_baseline")
    columns = [*GROUP, "label", "workers", "smallest", *(f"{x}_{end}" for x in ("throughput", "time") for end in ends)]
    return pd.DataFrame(rows, columns=columns)


def _times_the_rate(row: Row, other: Row) -> Bounds:
    return _ratio(row, other, "samples_per_s")


def _times_as_early(row: Row, other: Row) -> Bounds:
    return _ratio(other, row, "time_to_target_s")


def _ratio(top: Row, bottom: Row, column: str) -> Bounds:
    """top / bottom of the means, and from the worst and the best case of both intervals."""

    def divided(a: float, b: float) -> float:
        return float(a) / float(b) if b > 0 else math.nan

    low = divided(top.get(f"{column}_low", math.nan), bottom.get(f"{column}_high", math.nan))
    high = divided(top.get(f"{column}_high", math.nan), bottom.get(f"{column}_low", math.nan))
    return divided(top[column], bottom[column]), low, high


def hardware_and_statistical(summary: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Time to the target, relative to a reference, as hardware efficiency times statistical efficiency.

    Hardware efficiency T_m / T_1 compares the time per mini-batch, statistical efficiency I_m / I_1 the number of
    mini-batches to the target; all three are better the lower they are. Mini-batches have one size in a study, so
    samples stand for them; T is the time to the target over the samples to the target, so that the product is exact.

    Args:
        summary: what `analysis.summary.summary` gives.
        reference: label to compare with at the same number of workers, such as "allreduce-sgd": what asynchrony costs
            and brings. None: each label with its own smallest number of workers: what more workers cost and bring.

    Returns:
        One row per row of `summary` that reached the target and has a reference that did, sorted by study, workload,
        transport, label, workers: these, `reference`, `reference_workers`, `samples` (to the target), `s_per_sample`,
        `hardware_efficiency`, `statistical_efficiency`, `time_ratio` (their product).

    Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774; Zhang and Re,
    DimmWitted, arXiv 1403.7550, who named the two.

    Example:
        Asynchrony halves the time per sample and needs 1.5 times the samples:

        >>> summary = pd.DataFrame({"study": "s", "workload": "w", "transport": "mpi", "workers": 4,
        ...     "label": ["sync", "async"], "time_to_target_s": [20.0, 15.0], "samples_to_target": [1000.0, 1500.0]})
        >>> row = hardware_and_statistical(summary, "sync").iloc[0]
        >>> row.label, float(row.hardware_efficiency), float(row.statistical_efficiency), float(row.time_ratio)
        ('async', 0.5, 1.5, 0.75)
    """
    rows = []
    reached = summary[(summary["time_to_target_s"] > 0) & (summary["samples_to_target"] > 0)]
    for key, group in reached.groupby(GROUP, sort=True, observed=True):
        # Among all rows, not only those that reached the target: else the reference would depend on luck.
        everybody = summary[(summary[GROUP] == list(key)).all(axis=1)]
        for row in group.sort_values(["label", "workers"]).to_dict("records"):
            if reference is None:
                workers, label = everybody.loc[everybody["label"] == row["label"], "workers"].min(), row["label"]
            else:
                workers, label = row["workers"], reference
            first = group[(group["label"] == label) & (group["workers"] == workers)]
            if first.empty:
                continue
            time, samples = float(row["time_to_target_s"]), float(row["samples_to_target"])
            time_1, samples_1 = float(first["time_to_target_s"].iloc[0]), float(first["samples_to_target"].iloc[0])
            rows.append(
                {
                    **dict(zip(GROUP, key, strict=True)),
                    "label": row["label"],
                    "workers": row["workers"],
                    "reference": label,
                    "reference_workers": workers,
                    "samples": samples,
                    "s_per_sample": time / samples,
                    "hardware_efficiency": (time / samples) / (time_1 / samples_1),
                    "statistical_efficiency": samples / samples_1,
                    "time_ratio": time / time_1,
                }
            )
    names = ["samples", "s_per_sample", "hardware_efficiency", "statistical_efficiency", "time_ratio"]
    table = pd.DataFrame(rows, columns=[*GROUP, "label", "workers", "reference", "reference_workers", *names])
    return table.astype(dict.fromkeys(names, np.float64))
