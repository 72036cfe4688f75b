"""At which bandwidth another algorithm becomes the fastest, from simulated runs over several networks.

`analysis.advice.flips` asks a simulator that answers at any bandwidth, and bisects. Here the simulator has answered
already, at some bandwidths; between two of them times are taken to be straight lines on logarithmic axes, and where
straight lines cross has a closed form. Nothing is said beyond the simulated bandwidths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.advice.flips import winner
from analysis.comparison import faster
from analysis.network_grid import GRID, network_grid

COLUMNS = (
    "study", "workload", "workers", "from_label", "to_label", "bandwidth_Gbit_per_s", "low", "high", "latency_s",
    "shown_low", "shown_high", "criterion", "variant",
)  # fmt: skip


def crossovers(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Bandwidths [Gbit/s] at which the fastest algorithm changes, of every study simulated on several networks.

    The fastest has the least mean time to the target. Without gradients there is no target: then it has the most
    samples/s, and `criterion` says so.

    Args:
        runs: rows of `bench.records.RUNS`.
        table: rows of `analysis.summary.per_run` for them.

    Returns:
        One row per change, sorted by grid, latency and bandwidth: `study` (without the change that its name asks
        about), `workload`, `workers`, `from_label` (fastest below), `to_label` (fastest above), `bandwidth_Gbit_per_s`
        (interpolated; NaN if one of the two did not reach the target on both sides), `low`, `high` (the simulated
        bandwidths beside it), `latency_s`, `shown_low` (the highest simulated bandwidth below at which the runs show
        `from_label` to be faster than `to_label`, by the rule of `analysis.comparison.faster`), `shown_high` (the
        lowest above at which they show the opposite); NaN where they nowhere do; `criterion` ("time_to_target_s" |
        "samples_per_s"), `variant` (of `analysis.network_grid.wires`).

    Source: the lower envelope of straight lines.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results
        >>> from analysis.summary import per_run
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> crossovers(empty[0], per_run(Results(*empty))).empty
        True
    """
    return of_grid(network_grid(runs, table))


def of_grid(grid: pd.DataFrame) -> pd.DataFrame:
    """`crossovers` from a table made by `network_grid`.

    Args:
        grid: rows of `analysis.network_grid.network_grid`.

    Source: as for `crossovers`.

    Example:
        >>> of_grid(pd.DataFrame(columns=[*GRID, "latency_s"])).empty
        True
    """
    rows: list[dict[str, Any]] = []
    for key, own in grid.groupby([*GRID, "latency_s"], sort=True):
        named = dict(zip([*GRID, "latency_s"], key, strict=True))
        criterion = "time_to_target_s" if bool(own["gradients"].iloc[0]) else "samples_per_s"
        own = own.assign(seconds=cost_s(own))
        for change in _changes(own):
            rows.append({**named, "criterion": criterion, **change, **_bracket(own, change, criterion)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cost_s(grid: pd.DataFrame) -> pd.Series:
    """What an algorithm is ranked by: seconds to the target, or seconds a sample where there are no gradients.

    Args:
        grid: rows of `analysis.network_grid.network_grid`.

    Source: the definition.

    Example:
        >>> rows = {"gradients": [True, False], "time_to_target_s": [2.0, np.nan], "samples_per_s": [100.0, 50.0]}
        >>> cost_s(pd.DataFrame(rows)).tolist()
        [2.0, 0.02]
    """
    return grid["time_to_target_s"].where(grid["gradients"].astype(bool), 1 / grid["samples_per_s"])


def log_log(x: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """The value at x on the straight line between two points (x, y) on logarithmic axes; at both points theirs exactly.

    Raises:
        ValueError: x is outside; nothing is extrapolated.

    Source: linear interpolation of the logarithms.

    Example:
        >>> round(log_log(3.0, (1.0, 8.0), (9.0, 2.0)), 12), log_log(9.0, (1.0, 8.0), (9.0, 2.0))
        (4.0, 2.0)
    """
    if not low[0] <= x <= high[0]:
        raise ValueError(f"x must lie between {low[0]} and {high[0]}: got {x}")
    if x in (low[0], high[0]):
        return low[1] if x == low[0] else high[1]
    part = math.log(x / low[0]) / math.log(high[0] / low[0])
    return float(low[1] * (high[1] / low[1]) ** part)


def left_out(grid: pd.DataFrame) -> pd.DataFrame:
    """How far interpolation is off where the truth is known: each inner bandwidth from its two neighbours.

    The steps are then twice as wide as those that the grid really has, so it is off by less within the grid.

    Args:
        grid: rows of `analysis.network_grid.network_grid`.

    Returns:
        One row per inner point that the algorithm reached, as did its neighbours: `GRID`, `latency_s`,
        `bandwidth_Gbit_per_s`, `label`, `simulated`, `interpolated` (see `cost_s`), `off` (interpolated over simulated,
        minus 1).

    Source: cross-validation that leaves one out.

    Example:
        >>> rows = [dict(study="s", workload="w", workers=2, variant="", latency_s=0.0, bandwidth_Gbit_per_s=x,
        ...     label="a", gradients=True, time_to_target_s=y, samples_per_s=1.0)
        ...     for x, y in ((1.0, 4.0), (2.0, 3.0), (4.0, 1.0))]
        >>> left_out(pd.DataFrame(rows))[["simulated", "interpolated"]].round(9).to_numpy().tolist()
        [[3.0, 2.0]]
    """
    rows = []
    keys = [*GRID, "latency_s", "label"]
    for key, own in grid.assign(seconds=cost_s(grid)).groupby(keys, sort=True):
        own = own.sort_values("bandwidth_Gbit_per_s")
        at = list(zip(own["bandwidth_Gbit_per_s"].astype(float), own["seconds"].astype(float), strict=True))
        for low, (x, y), high in zip(at, at[1:], at[2:], strict=False):
            if all(math.isfinite(seconds) for seconds in (low[1], y, high[1])):
                found = log_log(x, low, high)
                rows.append(
                    {**dict(zip(keys, key, strict=True)), "bandwidth_Gbit_per_s": x}
                    | {"simulated": y, "interpolated": found, "off": found / y - 1}
                )
    return pd.DataFrame(rows, columns=[*keys, "bandwidth_Gbit_per_s", "simulated", "interpolated", "off"])


def _changes(own: pd.DataFrame) -> list[dict[str, Any]]:
    """Changes of the fastest over the bandwidths of one latency."""
    places: dict[float, dict[str, float]] = {}
    for gbit in sorted(own["bandwidth_Gbit_per_s"].astype(float).unique()):
        at = own[own["bandwidth_Gbit_per_s"] == gbit]
        places[float(gbit)] = {
            str(label): float(seconds)
            for label, seconds in zip(at["label"], at["seconds"], strict=True)
            if math.isfinite(seconds)
        }
    found = []
    leader = ""
    for low, high in zip(places, list(places)[1:], strict=False):
        before, after = (winner(lambda label, x: places[x][label], sorted(places[x]), x) for x in (low, high))
        if before is None or after is None:
            leader = ""
            continue  # nobody gets there: no one has lost the lead to anyone
        if places[low].get(leader) == places[low][before]:
            before = leader  # of equally fast ones the leader leads on, or a change just here would not be seen
        both = {label: (places[low][label], places[high][label]) for label in places[low] if label in places[high]}
        beside = {"low": low, "high": high}
        leader = before
        if before in both and after in both:
            for part, was, leader in _envelope(both, before):
                gbit = low * (high / low) ** part
                found.append({"from_label": was, "to_label": leader, "bandwidth_Gbit_per_s": gbit, **beside})
        elif before != after:
            leader = after
            found.append({"from_label": before, "to_label": after, "bandwidth_Gbit_per_s": math.nan, **beside})
    return found


def _envelope(ends: Mapping[str, tuple[float, float]], first: str) -> list[tuple[float, str, str]]:
    """Who is lowest along straight lines on logarithmic axes, from a part 0 of the way to 1: (part, was, now)."""
    lines = {label: (math.log(low), math.log(high) - math.log(low)) for label, (low, high) in ends.items()}
    found: list[tuple[float, str, str]] = []
    now = first
    while True:
        level, slope = lines[now]
        falling = [(label, at, by) for label, (at, by) in lines.items() if by < slope]
        crossings = [((at - level) / (slope - by), by, label) for label, at, by in falling]
        part, _, label = min(crossings, default=(1.0, 0.0, ""))
        if part >= 1:
            return found
        found.append((max(part, 0.0), now, label))
        now = label


def _bracket(own: pd.DataFrame, change: Mapping[str, Any], criterion: str) -> dict[str, float]:
    """The simulated bandwidths around a change at which the runs show who is faster."""
    rows = {
        (float(row["bandwidth_Gbit_per_s"]), str(row["label"])): {str(name): value for name, value in row.items()}
        for row in own.to_dict("records")
    }
    was, now = change["from_label"], change["to_label"]

    def shown(gbit: float, better: str, worse: str) -> bool:
        if (gbit, better) not in rows or (gbit, worse) not in rows:
            return False
        a, b = rows[gbit, better], rows[gbit, worse]
        return faster(a, b).shown if criterion == "time_to_target_s" else _more_samples(a, b)

    below: Sequence[float] = sorted({gbit for gbit, _ in rows if gbit <= change["low"]})
    above: Sequence[float] = sorted({gbit for gbit, _ in rows if gbit >= change["high"]})
    return {
        "shown_low": max((gbit for gbit in below if shown(gbit, was, now)), default=np.nan),
        "shown_high": min((gbit for gbit in above if shown(gbit, now, was)), default=np.nan),
    }


def _more_samples(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    enough = min(a["samples_per_s_n"], b["samples_per_s_n"]) > 1
    return bool(enough and a["samples_per_s_low"] > b["samples_per_s_high"])
