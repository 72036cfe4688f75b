"""The algorithms in the order in which they reach the target, with what it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.advice.sure import Ratio, Reached, chance_first, geometric_interval, versus
from analysis.targets import time_to_target

HOUR_S = 3600.0


def reached(heldout: pd.DataFrame, runs: pd.DataFrame) -> dict[str, dict[int, Reached]]:
    """Label -> seed -> when the run was at its target for good.

    A run that diverged never is; a run that failed or crashed is left out. Of several runs of one label and seed the
    longest counts.

    Args:
        heldout: rows of `bench.records.HELDOUT`.
        runs: rows of `bench.records.RUNS`, of one workload and number of workers.

    Source: as for `analysis.targets.time_to_target`.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "label": "easgd", "seed": 3, "budget_s": 4.0, "target_loss": [2.0],
        ...     "status": ["completed"]})
        >>> heldout = pd.DataFrame({"run_id": "a", "t_s": [1.0, 2.0, 3.0], "heldout_loss": [3.0, 2.5, 1.5],
        ...     "samples": 0, "nbytes": 0, "wire_nbytes": 0})
        >>> reached(heldout, runs)
        {'easgd': {3: Reached(earliest_s=2.0, latest_s=3.0)}}
    """
    done = runs[runs["status"].isin(["completed", "diverged"])].sort_values("budget_s", kind="stable")
    times = time_to_target(heldout, done)
    found: dict[str, dict[int, Reached]] = {}
    for label, seed, status, earliest_s, latest_s in zip(
        done["label"], done["seed"], done["status"], times["target_earliest_s"], times["target_latest_s"], strict=True
    ):
        never = status == "diverged"
        run = Reached(math.inf, math.inf) if never else Reached(float(earliest_s), float(latest_s))
        found.setdefault(str(label), {})[int(seed)] = run
    return found


def ranking(found: Mapping[str, Mapping[int, Reached]]) -> pd.DataFrame:
    """Labels by their predicted time to the target; those that do not get there with every seed come last.

    Args:
        found: as made by `reached`.

    Returns:
        One row per label: `label`, `seeds`, `reached` (seeds that got there), `time_s`, `low_s`, `high_s` (geometric
        mean and 95 % interval; infinite if a seed did not get there), `within_s` (it was not there before, where it did
        not get there), `ratio`, `ratio_low`, `ratio_high`, `chance_winner_faster` (against the first row; NaN in it).

    Source: as for `analysis.advice.sure`.

    Example:
        >>> fast, slow, never = Reached(0.9, 1.0), Reached(1.9, 2.0), Reached(9.0, math.inf)
        >>> table = ranking({"never": {0: never}, "slow": {0: slow}, "fast": {0: fast}})
        >>> table[["label", "time_s", "ratio", "within_s"]].to_numpy().tolist()
        [['fast', 1.0, nan, nan], ['slow', 2.0, 2.0, nan], ['never', inf, inf, 9.0]]
    """
    rows: list[dict[str, Any]] = []
    for label, by_seed in found.items():
        runs = list(by_seed.values())
        time_s, low_s, high_s = geometric_interval(runs)
        there = sum(math.isfinite(run.latest_s) for run in runs)
        late = [run.earliest_s for run in runs if math.isinf(run.latest_s)]
        rows.append(
            {"label": label, "seeds": len(runs), "reached": there, "time_s": time_s, "low_s": low_s, "high_s": high_s}
            | {"within_s": min(late, default=math.nan)}
        )
    rows.sort(key=lambda row: (row["time_s"], -row["reached"], row["label"]))
    nothing = Ratio(0, math.nan, math.nan, math.nan, math.nan)
    for row in rows:
        won = row is rows[0] or math.isinf(rows[0]["time_s"])
        ratio = nothing if won else versus(found[rows[0]["label"]], found[row["label"]])
        row |= {"ratio": ratio.middle, "ratio_low": ratio.low, "ratio_high": ratio.high}
        row["chance_winner_faster"] = ratio.chance
    return pd.DataFrame(rows)


def sureness(table: pd.DataFrame) -> float:
    """Probability that the first of a ranking is the fastest of all, at least; NaN with one seed or without a winner.

    Args:
        table: as made by `ranking`.

    Source: as for `analysis.advice.sure.chance_first`.

    Example:
        >>> fast, slow = Reached(1.0, 1.0), Reached(2.0, 2.0)
        >>> sureness(ranking({"fast": {0: fast, 1: fast}, "slow": {0: slow, 1: slow}}))
        1.0
    """
    if table.empty or math.isinf(table["time_s"].iloc[0]):
        return math.nan
    return chance_first([Ratio(0, 0, 0, 0, float(chance)) for chance in table["chance_winner_faster"].iloc[1:]])


def cost(time_s: float, ranks: int, price_per_hour: float) -> float:
    """What a run costs [currency of the price].

    Args:
        time_s: how long it takes [s].
        ranks: workers and servers, each of which is paid for.
        price_per_hour: of one rank.

    Source: the definition.

    Example:
        >>> cost(1800.0, ranks=16, price_per_hour=2.5)
        20.0
    """
    return time_s / HOUR_S * ranks * price_per_hour
