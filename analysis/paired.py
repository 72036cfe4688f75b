"""Two algorithms compared seed by seed: runs with one seed share the data's order and the start, which cancels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

LEVEL = 0.05
"""1 - confidence of the interval, where the number of pairs allows it."""

BEYOND = 1e300
"""Stands for infinity in averages, so that infinity and its opposite have a middle."""


@dataclass(frozen=True)
class Paired:
    """A against B over the seeds that both have.

    Attributes:
        measure: "ratio A/B" or "difference A-B".
        n: pairs.
        lower: pairs in which A's value is the lower one.
        equal: pairs without a difference, or with one that is not resolved; the test leaves them out.
        estimate: Hodges-Lehmann: the middle of all averages of two pairs' differences (of logarithms for a ratio).
        low: of its interval, from the same test: the differences that it would not reject.
        high: the same.
        confidence: that this interval has: at least 0.95, or what so few pairs can give, 1 - 2 / 2^n.
        p: two-sided p-value of Wilcoxon's signed-rank test, exact.
        effect: Cohen's d_z, mean of the differences (of logarithms) over their standard deviation; NaN below two pairs,
            or if one of a pair never got there. Negative: A is lower.
    """

    measure: str
    n: int
    lower: int
    equal: int
    estimate: float
    low: float
    high: float
    confidence: float
    p: float
    effect: float


def paired(
    a: Mapping[Any, float], b: Mapping[Any, float], *, ratio: bool = True, unresolved: Collection[int] = ()
) -> Paired:
    """How A's values compare with B's, seed by seed.

    Signed ranks need no normal distribution, and a run that never reached the target (infinite) has its place among
    them: behind all others. The p-value is exact for any number of pairs, with ties too; below six pairs it cannot fall
    below 0.05.

    Args:
        a: seed -> value of A; infinite where it never got there; a seed with NaN is left out.
        b: the same of B.
        ratio: compare by ratios (times, bytes); otherwise by differences (losses).
        unresolved: seeds whose difference is smaller than what was measured can tell; it counts as none.

    Raises:
        ValueError: a ratio of values that are not positive.

    Source: Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1 (1945); Hodges and Lehmann,
    Estimates of location based on rank tests, Annals of Mathematical Statistics 34 (1963); Cohen, Statistical Power
    Analysis for the Behavioral Sciences (1988) (d_z).

    Example:
        Half the time with each of six seeds: all 2^6 signs but two are less extreme.

        >>> slow = {0: 10.0, 1: 11.0, 2: 12.0, 3: 13.0, 4: 14.0, 5: 15.0}
        >>> found = paired({seed: t / 2 for seed, t in slow.items()}, slow)
        >>> found.n, found.lower, round(found.estimate, 12), found.p == 2 / 2**6
        (6, 6, 0.5, True)
    """
    seeds = sorted(s for s in set(a) & set(b) if not (math.isnan(a[s]) or math.isnan(b[s])))
    x, y = (np.array([values[s] for s in seeds], dtype=np.float64) for values in (a, b))
    if ratio and len(seeds):
        worst = float(min(x.min(), y.min()))
        if not worst > 0:
            raise ValueError(f"a ratio needs values > 0: got {worst} (compare by differences: ratio=False)")
        x, y = np.log(x), np.log(y)
    with np.errstate(invalid="ignore"):
        same = (x == y) | np.isin(seeds, list(unresolved))  # both never: no difference
        difference = np.where(same, 0.0, x - y)
    estimate, low, high, confidence = _location(difference)
    if ratio:
        with np.errstate(over="ignore"):
            estimate, low, high = (float(np.exp(v)) for v in (estimate, low, high))
    spread = float(difference.std(ddof=1)) if len(seeds) > 1 and np.isfinite(difference).all() else math.nan
    return Paired(
        measure="ratio A/B" if ratio else "difference A-B",
        n=len(seeds),
        lower=int((difference < 0).sum()),
        equal=int((difference == 0).sum()),
        estimate=estimate,
        low=low,
        high=high,
        confidence=confidence,
        p=signed_rank_p(difference),
        effect=float(difference.mean()) / spread if spread > 0 else math.nan,
    )


def signed_rank_p(difference: NDArray[np.float64]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, exact for any number of pairs, ties and zeros.

    The distribution over all 2^n choices of signs, given the sizes of the differences; zeros are left out, equal sizes
    share their mean rank.

    Args:
        difference: [n]; may be infinite.

    Source: Wilcoxon (1945), as for `paired`.

    Example:
        >>> signed_rank_p(np.array([1.0, 2.0, 3.0, 4.0])), signed_rank_p(np.array([1.0, -1.0]))
        (0.125, 1.0)
    """
    real = difference[difference != 0]
    if not len(real):
        return 1.0
    doubled = np.rint(2 * rankdata(np.abs(real))).astype(np.int64)  # mean ranks are halves at most
    chance = _signed_rank_distribution(doubled)
    positive = int(doubled[real > 0].sum())
    return float(min(1.0, 2 * min(chance[: positive + 1].sum(), chance[positive:].sum())))


def _signed_rank_distribution(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each sum of the ranks with a positive sign, signs being fair coins [sum of ranks + 1]."""
    chance = np.zeros(int(ranks.sum()) + 1)
    chance[0] = 1
    for rank in ranks:
        chance = chance / 2
        chance[rank:] += chance[: len(chance) - rank].copy()
    return chance


def _location(difference: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Hodges-Lehmann estimate, its interval, and the interval's confidence."""
    n = len(difference)
    if n == 0:
        return math.nan, math.nan, math.nan, math.nan
    finite = np.clip(difference, -BEYOND, BEYOND)
    first, second = np.triu_indices(n)
    averages = np.sort((finite[first] + finite[second]) / 2)
    averages = np.where(np.abs(averages) >= BEYOND / 2, np.copysign(np.inf, averages), averages)
    middle = (len(averages) - 1) / 2
    with np.errstate(invalid="ignore"):
        estimate = float((averages[math.floor(middle)] + averages[math.ceil(middle)]) / 2)
    if n == 1:
        return estimate, math.nan, math.nan, math.nan
    # With c averages cut off at either end, what is left are the shifts that a test of level 2 P(sum <= c) accepts.
    below = np.cumsum(_signed_rank_distribution(np.arange(1, n + 1)))
    cut = max(int(np.searchsorted(below, LEVEL / 2, side="right")) - 1, 0)
    return estimate, float(averages[cut]), float(averages[-1 - cut]), float(1 - 2 * below[cut])


def paired_table(table: pd.DataFrame, value: str = "time_to_target_s", baseline: str = "allreduce-sgd") -> pd.DataFrame:
    """Every algorithm against the baseline, seed by seed.

    A time to the target lies between two snapshots: where those of a pair overlap, the pair shows no difference. (For
    samples and bytes that is not looked at: a snapshot's number stands for them.) Completed and diverged runs count;
    one that has no time (or samples, bytes, joules) to the target though there is
    a target never got there, which is infinite.

    Args:
        table: rows of `analysis.summary.per_run`.
        value: a column of it. Rates, and what was needed to the target, are compared by ratios; losses, metrics and
            distances by differences.
        baseline: label of the row to compare with, in the same study, on the same workload, transport and number of
            workers.

    Returns:
        One row per other label: `study`, `workload`, `workers`, `transport`, `label`, `baseline`, `value`, and the
        attributes of `Paired` with A = the label, B = the baseline.

    Source: as for `paired`.

    Example:
        >>> table = pd.DataFrame({"study": "s", "workload": "w", "workers": 4, "transport": "mpi", "seed": [0, 1, 0, 1],
        ...     "label": ["a", "a", "b", "b"], "status": "completed", "target_loss": 1.0,
        ...     "time_to_target_s": [1.0, 2.0, 4.0, 4.0], "target_earliest_s": [0.5, 1.5, 3.5, 3.5],
        ...     "target_latest_s": [1.0, 2.0, 4.0, 4.0]})
        >>> paired_table(table, baseline="b")[["label", "n", "lower", "low", "high"]].to_numpy().tolist()
        [['a', 2, 2, 0.25, 0.5]]
    """
    keys = ["study", "workload", "workers", "transport"]
    ratio = value.endswith("_to_target") or value == "time_to_target_s" or value.endswith("_per_s")
    done = table[table["status"].isin(["completed", "diverged"])]
    values = done[value].astype("float64")
    if "_to_target" in value:
        values = values.mask(values.isna() & done["target_loss"].notna(), math.inf)
    done = done.assign(**{value: values})
    rows = []
    for key, group in done.groupby(keys, sort=True, observed=True):
        of = {str(label): own.set_index("seed") for label, own in group.groupby("label", observed=True)}
        for label, own in of.items() if baseline in of else ():
            if label == baseline:
                continue
            base = of[baseline]
            found = paired(
                own[value].to_dict(),
                base[value].to_dict(),
                ratio=ratio,
                unresolved=_unresolved(own, base) if value == "time_to_target_s" else (),
            )
            rows.append(
                {**dict(zip(keys, key, strict=True)), "label": label, "baseline": baseline, "value": value}
                | {name: getattr(found, name) for name in Paired.__dataclass_fields__}
            )
    return pd.DataFrame(rows, columns=[*keys, "label", "baseline", "value", *Paired.__dataclass_fields__])


def _unresolved(a: pd.DataFrame, b: pd.DataFrame) -> list[int]:
    """Seeds with which either may have been the first at the target."""
    both = a.index.intersection(b.index)
    a, b = a.loc[both], b.loc[both]
    first = (a["target_latest_s"] <= b["target_earliest_s"]) | (b["target_latest_s"] <= a["target_earliest_s"])
    return [int(seed) for seed in both[~first]]
