"""The best explicit momentum for each number of workers, from a grid of runs, and how much can be known of it.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, figures 3, 4 and 8: not a fit, but
    the argmin over a grid of explicit momenta, learning rate tuned at each, and what the others cost in comparison.
Symbols: cost = steps or seconds to the target, penalty = cost / cost of the best momentum for the same workers.

A cost is the mean over seeds; a setting of which one seed never reached the target costs infinity. Minima are flat, so
that the best momentum is often not known, only that it falls as workers are added: intervals and the trend say so.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis.asynchrony.server import Array

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 20160531  # any fixed number: the same runs must give the same interval
FLAT = 0.05  # momenta within this share of the best cost are as good as the best
EXACT_UP_TO = 8  # numbers of workers whose orders are all tried

COLUMNS = ("workers", "momentum", "lr", "seed", "cost")


def _grid(runs: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Costs by workers: rows (momentum, lr), a column per seed; never reached is infinity.

    Raises:
        ValueError: a column is missing, a run occurs twice, or settings were not run with the same seeds.
    """
    missing = [name for name in COLUMNS if name not in runs]
    if missing or runs.empty:
        raise ValueError(
            f"a table of runs with the columns {', '.join(COLUMNS)} is needed: missing {missing or 'rows'}"
        )
    keys = list(COLUMNS[:-1])
    twice = runs[runs.duplicated(keys)]
    if len(twice):
        raise ValueError(f"each setting may have one run per seed: got two of {twice.iloc[0][keys].to_dict()}")
    costs = runs.assign(cost=runs["cost"].fillna(np.inf)).pivot(
        index=["workers", "momentum", "lr"], columns="seed", values="cost"
    )
    found = {}
    for workers in costs.index.unique("workers"):
        part = costs.xs(workers, level="workers").dropna(axis=1, how="all")
        if part.isna().any(axis=None):
            setting = part.index[part.isna().any(axis=1)][0]
            raise ValueError(
                f"all settings of {workers} workers must be run with the same seeds: momentum {setting[0]}, lr "
                f"{setting[1]} lacks some (leave out seeds that not all have; a run that never reached is NaN)"
            )
        found[int(workers)] = part
    return found


def penalty_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """What each explicit momentum costs with its best learning rate, next to the best momentum.

    Args:
        runs: one row per run: `workers`, `momentum`, `lr`, `seed`, and `cost` (steps or seconds to the target; NaN or
            infinity if it was never reached).

    Returns:
        One row per number of workers and momentum, sorted: `workers`, `momentum`, `lr` (the best at this momentum),
        `cost` (in the unit of the runs; infinite if no rate reached the target with all seeds), `penalty` (1 for the
        best), `seeds`, `reached` (of them, at this rate).

    Raises:
        ValueError: a column is missing, a run occurs twice, or settings were not run with the same seeds.

    Source: arXiv 1605.09774, figures 4 and 8.

    Example:
        >>> runs = pd.DataFrame({"workers": 4, "momentum": [0.0, 0.0, 0.9], "lr": [0.1, 0.2, 0.1], "seed": 1,
        ...     "cost": [20.0, 10.0, 25.0]})
        >>> penalty_curves(runs)[["momentum", "lr", "penalty"]].to_numpy().tolist()
        [[0.0, 0.2, 1.0], [0.9, 0.1, 2.5]]
    """
    rows = []
    for workers, costs in _grid(runs).items():
        mean = costs.mean(axis=1)
        reached = np.isfinite(costs).sum(axis=1)
        best = mean.min()
        for momentum, of_rates in mean.groupby(level="momentum"):
            # If no rate reached the target with all seeds: that with which most did.
            setting = of_rates.idxmin() if np.isfinite(of_rates.min()) else reached[of_rates.index].idxmax()
            cost = float(mean[setting])
            penalty = cost / best if np.isfinite(cost) else np.inf
            rows.append(
                (workers, float(momentum), float(setting[1]), cost, penalty, costs.shape[1], int(reached[setting]))
            )
    return pd.DataFrame(rows, columns=["workers", "momentum", "lr", "cost", "penalty", "seeds", "reached"])


def best_momentum(runs: pd.DataFrame, *, flat: float = FLAT) -> pd.DataFrame:
    """The best explicit momentum for each number of workers, how well it is known, and the price of asynchrony.

    Args:
        runs: see `penalty_curves`.
        flat: momenta whose cost is within this share of the best are as good.

    Returns:
        One row per number of workers, ascending: `workers`, `momentum`, `lr`, `cost`; `low`, `high`: 95 % bootstrap
        interval of the best momentum over seeds, in each draw of which momentum and rate are chosen anew (NaN with
        fewer than 3 seeds); `as_good_low`, `as_good_high`: range of the momenta that are within `flat` of the best;
        `is_flat`: that is the whole grid, so the best momentum means nothing; `at_edge`: the best is the least or the
        greatest that was tried, so a better one may lie outside; `statistical_penalty`: cost / cost of the fewest
        workers, which is the price of asynchrony if costs are in steps; `seeds`. All but `workers`, `seeds` and the
        flags are NaN if the target was never reached with all seeds.

    Raises:
        ValueError: as `penalty_curves`, or a negative `flat`.

    Source: arXiv 1605.09774, figures 3 and 4.

    Example:
        >>> runs = pd.DataFrame({"workers": [1, 1, 1, 8, 8, 8], "momentum": [-0.3, 0.3, 0.6] * 2, "lr": 0.1, "seed": 1,
        ...     "cost": [40.0, 21.0, 20.0, 30.0, 60.0, 90.0]})
        >>> best_momentum(runs)[["workers", "momentum", "as_good_low", "statistical_penalty"]].to_numpy().tolist()
        [[1.0, 0.6, 0.3, 1.0], [8.0, -0.3, -0.3, 1.5]]
    """
    if not flat >= 0:
        raise ValueError(f"flat must be at least 0: got {flat} (0.05 takes 5 % as equal)")
    curves = penalty_curves(runs)
    rows = []
    for workers, costs in _grid(runs).items():
        curve = curves[curves["workers"] == workers]
        row: dict[str, object] = {"workers": workers, "momentum": np.nan, "lr": np.nan, "cost": np.nan}
        row |= {"low": np.nan, "high": np.nan, "as_good_low": np.nan, "as_good_high": np.nan}
        row |= {"is_flat": False, "at_edge": False, "seeds": costs.shape[1]}
        if np.isfinite(curve["cost"].min()):
            best = curve.loc[curve["cost"].idxmin()]
            tried, good = curve["momentum"], curve.loc[curve["penalty"] <= 1 + flat, "momentum"]
            row |= {"momentum": best["momentum"], "lr": best["lr"], "cost": best["cost"]}
            row |= {"as_good_low": good.min(), "as_good_high": good.max(), "is_flat": len(good) == len(tried)}
            row |= {"at_edge": len(tried) > 1 and best["momentum"] in (tried.min(), tried.max())}
            if costs.shape[1] >= 3:
                row["low"], row["high"] = _interval(costs)
        rows.append(row)
    found = pd.DataFrame(rows).sort_values("workers", ignore_index=True)
    found["statistical_penalty"] = found["cost"] / found["cost"].iloc[0]
    return found


def _interval(costs: pd.DataFrame) -> tuple[float, float]:
    """Of the best momentum, over draws of the seeds with replacement."""
    values, seeds = costs.to_numpy(dtype=np.float64), costs.shape[1]
    counts = np.random.default_rng(SEED).multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES).T
    mean = np.where(np.isfinite(values), values, 0.0) @ counts
    mean[(~np.isfinite(values)).astype(np.float64) @ counts > 0] = np.inf
    momenta = costs.index.get_level_values("momentum").to_numpy(dtype=np.float64)
    best = momenta[mean.argmin(0)[np.isfinite(mean.min(0))]]
    low, high = np.quantile(best, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="inverted_cdf")
    return float(low), float(high)


def trend(best: pd.DataFrame) -> tuple[float, float]:
    """Spearman's rank correlation of the best momentum with the number of workers, and its one-sided p-value; no unit.

    That the best momentum falls is what the theory says; single minima are too flat for more. The p-value is the
    probability that the same momenta in random order would fall as much: exact for up to 8 numbers of workers, Student's
    approximation beyond. Both are NaN for fewer than 3 numbers, or if all have the same best momentum.

    Args:
        best: what `best_momentum` gives; rows without a best momentum do not count.

    Source: Spearman, American Journal of Psychology 15 (1904); arXiv 1605.09774, figure 3.

    Example:
        Four numbers of workers can fall by chance once in 4! orders:

        >>> rho, p = trend(pd.DataFrame({"workers": [1, 2, 4, 8], "momentum": [0.7, 0.6, 0.2, 0.1]}))
        >>> round(rho, 12), round(p * 24, 12)
        (-1.0, 1.0)
    """
    known = best.dropna(subset="momentum")
    workers, momentum = (known[name].to_numpy(dtype=np.float64) for name in ("workers", "momentum"))
    if len(known) < 3 or (momentum == momentum[0]).all():
        return float("nan"), float("nan")
    if len(known) > EXACT_UP_TO:
        found = spearmanr(workers, momentum, alternative="less")
        return float(found.statistic), float(found.pvalue)
    x, y = _ranks(workers), _ranks(momentum)
    orders = y[np.array(list(itertools.permutations(range(len(y)))))] @ x
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale, float((orders <= x @ y + 1e-9).mean())


def _ranks(values: Array) -> Array:
    """Ranks less their mean; equal values share theirs."""
    return pd.Series(values).rank().to_numpy(dtype=np.float64) - (len(values) + 1) / 2
