"""The best explicit momentum for each number of workers, from a grid of runs, and how much can be known of it.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, figures 3, 4 and 8: not a fit, but
    the argmin over a grid of explicit momenta, learning rate tuned at each, and what the others cost in comparison.
Symbols: cost = steps or seconds to the target, penalty = cost / cost of the best momentum for the same workers.

A cost is the mean over seeds; a setting of which one seed never reached the target costs infinity. Minima are flat, so
that the best momentum is often not known, only that it falls as workers are added: intervals and the trend say so.
"""

from __future__ import annotations

import itertools
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from analysis.asynchrony.server import Array

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 20160531  # any fixed number: the same runs must give the same interval
FLAT = 0.05  # momenta within this share of the best cost are as good as the best
EXACT_UP_TO = 8  # numbers of workers whose orders are all tried

COLUMNS = ("workers", "momentum", "lr", "seed", "cost")


def momentum_grid(runs: pd.DataFrame, costs: pd.DataFrame, *, cost: str = "samples_to_target") -> pd.DataFrame:
    """The runs of one algorithm as a table for the functions below.

    Args:
        runs: rows of `bench.records.RUNS` of one algorithm, workload and transport, with different explicit momenta and
            learning rates. Completed and diverged ones count.
        costs: `run_id` and the column `cost`, as `analysis.targets.time_to_target` gives them.
        cost: "time_to_target_s" or "samples_to_target"; the latter is given per batch, as steps of all workers.

    Returns:
        One row per run: `workers`, `momentum`, `lr`, `seed`, `cost` (NaN if the target was never reached).

    Raises:
        ValueError: runs of several algorithms, workloads or transports, or without a momentum.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "algorithm": "async-sgd", "workload": "w", "transport": "mpi",
        ...     "workers": 4, "seed": 0, "status": "completed", "batch_size": 10,
        ...     "settings": '{"momentum": -0.3, "optimizer": {"lr": 0.1, "momentum": null}}'})
        >>> momentum_grid(runs, pd.DataFrame({"run_id": ["a"], "samples_to_target": [500.0]})).iloc[0].tolist()
        [4.0, -0.3, 0.1, 0.0, 50.0]
    """
    for name in ("algorithm", "workload", "transport"):
        if runs[name].nunique() > 1:
            raise ValueError(f"runs must be of one {name}: got {', '.join(map(str, runs[name].unique()))} (choose one)")
    table = runs[runs["status"].isin(["completed", "diverged"])].merge(costs[["run_id", cost]], on="run_id", how="left")
    momenta, rates = [], []
    for run_id, text in zip(table["run_id"], table["settings"], strict=True):
        settings = json.loads(text)
        momentum = settings.get("momentum", settings["optimizer"].get("momentum"))
        if momentum is None:
            raise ValueError(f"runs must have a momentum: {run_id} has none (use async-sgd, or the optimizer momentum)")
        momenta.append(float(momentum))
        rates.append(float(settings["optimizer"]["lr"]))
    spent = table[cost] / table["batch_size"] if cost == "samples_to_target" else table[cost]
    return pd.DataFrame(
        {"workers": table["workers"], "momentum": momenta, "lr": rates, "seed": table["seed"], "cost": spent}
    )


class _Grid(NamedTuple):
    """The runs of one number of workers: K settings with momentum [K] and rate [K], and their costs [K, seeds]."""

    momentum: Array
    lr: Array
    costs: Array


def _grids(runs: pd.DataFrame) -> dict[int, _Grid]:
    """By workers, ascending; never reached is infinity."""
    missing = [name for name in COLUMNS if name not in runs]
    if missing or runs.empty:
        raise ValueError(
            f"a table of runs with the columns {', '.join(COLUMNS)} is needed: missing {missing or 'rows'}"
        )
    keys = list(COLUMNS[:-1])
    twice = runs[runs.duplicated(keys)]
    if len(twice):
        raise ValueError(f"each setting may have one run per seed: got two of {twice[keys].iloc[0].to_dict()}")
    found = {}
    for workers in sorted(runs["workers"].unique()):
        part = runs.loc[runs["workers"] == workers].fillna({"cost": np.inf})
        table = part.pivot(index=["momentum", "lr"], columns="seed", values="cost")
        costs, settings = table.to_numpy(dtype=np.float64), np.array(table.index.to_list(), dtype=np.float64)
        lacking = np.isnan(costs).any(axis=1)
        if lacking.any():
            momentum, lr = settings[lacking][0]
            raise ValueError(
                f"all settings of {workers} workers must be run with the same seeds: momentum {momentum:g}, lr {lr:g} "
                "lacks some (leave out seeds that not all have; a run that never reached the target has the cost NaN)"
            )
        found[int(workers)] = _Grid(settings[:, 0] + 0.0, settings[:, 1], costs)  # -0.0 is 0.0
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
    for workers, grid in _grids(runs).items():
        mean, reached = grid.costs.mean(axis=1), np.isfinite(grid.costs).sum(axis=1)
        for momentum in np.unique(grid.momentum):
            of_rates = np.flatnonzero(grid.momentum == momentum)
            # The least mean; if no rate reached the target with all seeds, that with which most did.
            k = of_rates[np.lexsort((-reached[of_rates], mean[of_rates]))[0]]
            penalty = mean[k] / mean.min() if np.isfinite(mean[k]) else np.inf
            rows.append((workers, momentum, grid.lr[k], mean[k], penalty, grid.costs.shape[1], reached[k]))
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
    for workers, grid in _grids(runs).items():
        curve = curves[curves["workers"] == workers]
        tried, cost, penalty = (curve[name].to_numpy(dtype=np.float64) for name in ("momentum", "cost", "penalty"))
        best, seeds, unknown = int(cost.argmin()), grid.costs.shape[1], float("nan")
        if np.isfinite(cost[best]):
            good = tried[penalty <= 1 + flat]
            interval = _interval(grid) if seeds >= 3 else (unknown, unknown)
            at_edge = len(tried) > 1 and tried[best] in (tried[0], tried[-1])
            found = (tried[best], curve["lr"].iloc[best], cost[best], *interval, good.min(), good.max())
            rows.append((workers, *found, len(good) == len(tried), at_edge, seeds))
        else:
            rows.append((workers, *[unknown] * 7, False, False, seeds))
    names = ["workers", "momentum", "lr", "cost", "low", "high", "as_good_low", "as_good_high"]
    table = pd.DataFrame(rows, columns=[*names, "is_flat", "at_edge", "seeds"])
    table["statistical_penalty"] = table["cost"] / table["cost"].iloc[0]
    return table


def _interval(grid: _Grid) -> tuple[float, float]:
    """Of the best momentum, over draws of the seeds with replacement."""
    seeds = grid.costs.shape[1]
    counts = np.random.default_rng(SEED).multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES).T
    reached = np.isfinite(grid.costs)
    mean = np.where(reached, grid.costs, 0.0) @ counts
    mean[(~reached).astype(np.float64) @ counts > 0] = np.inf  # 0 x infinity would not be 0
    best = grid.momentum[mean.argmin(0)[np.isfinite(mean.min(0))]]
    low, high = np.quantile(best, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="inverted_cdf")
    return float(low), float(high)


def trend(best: pd.DataFrame) -> tuple[float, float]:
    """Spearman's rank correlation of the best momentum with the number of workers, and its one-sided p-value; no unit.

    That the best momentum falls is what the theory says; single minima are too flat for more. The p-value is the
    probability that the same momenta in random order would fall as much: exact for up to 8 numbers of workers, by
    Student's approximation beyond. Both are NaN for fewer than 3 numbers, or if all have the same best momentum.

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
    return np.asarray(rankdata(values) - (len(values) + 1) / 2, dtype=np.float64)
