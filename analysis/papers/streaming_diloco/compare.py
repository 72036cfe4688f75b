"""How runs of one seed are compared, and which verdict a difference and its interval give.

Losses are held-out losses of the evaluated model at the end of a run [nat]. Runs with one seed share the initial point
and, with as many workers and as large batches, the data: their relative difference is taken seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analysis.papers.claim import LEAST_SEEDS, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import mean_over_runs

Losses = Mapping[int, float]


def final(evidence: Evidence, part: str, label: str, workload: str | None = None) -> dict[int, float]:
    """Seed -> final held-out loss [nat] of a study's runs with this label; infinite if a run diverged.

    Args:
        workload: the study's label of it, if it has several.

    Raises:
        Missing: there is no such run, or one did not end.
    """
    table = evidence.runs(part)
    rows = table[table["label"] == label]
    if workload is not None:
        rows = rows[rows["workload"] == workload]
    ended = rows["status"].isin(["completed", "diverged"])
    if rows.empty or not ended.all():
        raise Missing(f"{part}: no run of {label}" if rows.empty else f"{part}: a run of {label} failed")
    losses = rows["final_heldout_loss"].where(rows["status"] == "completed", math.inf).fillna(math.inf)
    return {int(seed): float(loss) for seed, loss in zip(rows["seed"], losses, strict=True)}


def of_variant(evidence: Evidence, part: str, variant: str) -> dict[int, float]:
    """The same from an experiment's table.

    Raises:
        Missing: the experiment has not been made, or without this variant.
    """
    table = evidence.table(part)
    rows = table[table["variant"] == variant]
    if rows.empty:
        raise Missing(f"{part}: no variant {variant}")
    losses = rows["loss"].astype("float64").fillna(math.inf)
    return {int(seed): float(loss) for seed, loss in zip(rows["seed"], losses, strict=True)}


def rows_of(evidence: Evidence, part: str) -> tuple[str, ...]:
    """Ids of a study's runs."""
    return tuple(evidence.runs(part)["run_id"].astype(str))


@dataclass(frozen=True)
class Gap:
    """A relative difference over seeds: its mean, 95 % interval and number of pairs.

    Example:
        >>> gap({0: 1.01, 1: 1.02, 2: 1.03}, {0: 1.0, 1: 1.0, 2: 1.0}).words
        '+2.00 % [+1.00, +3.00]'
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def words(self) -> str:
        """In per cent, with the interval if there is one."""
        if not math.isfinite(self.high - self.low):
            return f"{100 * self.mean:+.2f} % (no interval)"
        return f"{100 * self.mean:+.2f} % [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"


def gap(a: Losses, b: Losses, *, perplexity: bool = False) -> Gap:
    """By how much the losses of a lie above those of b, relative to b, seed by seed.

    Args:
        perplexity: compare exp(loss) in place of the loss.

    Source: `analysis.statistics.mean_over_runs` of the pairs' differences.

    Example:
        >>> gap({0: 2.2}, {0: 2.0}).n, round(gap({0: 2.2}, {0: 2.0}, perplexity=True).mean, 4)
        (1, 0.2214)
    """
    seeds = sorted(set(a) & set(b))
    pairs = [(a[seed], b[seed]) for seed in seeds]
    if not all(math.isfinite(y) for _, y in pairs):
        return Gap(math.nan, -math.inf, math.inf, 0)  # nothing can be said against a baseline that diverged
    if not all(math.isfinite(x) for x, _ in pairs):
        return Gap(math.inf, math.inf, math.inf, len(pairs))
    differences = [math.expm1(x - y) if perplexity else (x - y) / y for x, y in pairs]
    mean = mean_over_runs(differences)
    low, high = (-math.inf, math.inf) if math.isnan(mean.low) else (mean.low, mean.high)
    return Gap(mean.mean, low, high, mean.n)


def mean_loss(losses: Losses) -> float:
    """Mean over seeds [nat]."""
    return float(np.mean(list(losses.values())))


def inside(found: Gap, low: float, high: float) -> Verdict:
    """Whether the mean lies in a range; "partly" if only its interval reaches there.

    Example:
        >>> inside(Gap(0.02, 0.01, 0.03, 3), 0, 0.05), inside(Gap(0.06, 0.04, 0.07, 3), 0, 0.05)
        ('reproduced', 'partly')
        >>> inside(Gap(0.2, 0.1, 0.3, 3), 0, 0.05), inside(Gap(0.02, 0.01, 0.03, 2), 0, 0.05)
        ('contradicted', 'not shown')
    """
    if found.n < LEAST_SEEDS:
        return "not shown"
    if low <= found.mean <= high:
        return "reproduced"
    return "partly" if found.low <= high and found.high >= low else "contradicted"


def above(found: Gap) -> Verdict:
    """Whether the difference is positive; "not shown" if the interval does not tell.

    Example:
        >>> above(Gap(0.2, 0.1, 0.3, 3)), above(Gap(0.2, -0.1, 0.3, 3)), above(Gap(-0.2, -0.3, -0.1, 3))
        ('reproduced', 'not shown', 'contradicted')
    """
    if found.n < LEAST_SEEDS or found.low <= 0 <= found.high:
        return "not shown"
    return "reproduced" if found.low > 0 else "contradicted"


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on several parts of one claim: the one that all have; partly, if some of it came out.

    Example:
        >>> together(["reproduced", "reproduced"]), together(["reproduced", "not shown"])
        ('reproduced', 'partly')
        >>> together(["contradicted", "not shown"]), together(["not shown"])
        ('contradicted', 'not shown')
    """
    found: set[Verdict] = set(verdicts)
    if len(found) == 1:
        return found.pop()
    return "partly" if found & {"reproduced", "partly"} else "contradicted"


def rising(values: Sequence[float]) -> bool:
    """Whether no value is below the one before.

    Example:
        >>> rising([1, 1, 2]), rising([1, 3, 2])
        (True, False)
    """
    return all(a <= b for a, b in pairwise(values))
