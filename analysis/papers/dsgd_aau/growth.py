"""Claims about what grows: the advantage with stragglers' slowness and frequency, the speed with the workers."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dsgd_aau.rules import Curve, curves, ids, named, words
from analysis.papers.evidence import Evidence
from analysis.statistics import Mean, mean_over_runs

REACHED = 0.75
"""The accuracy that is waited for; alike for all."""
PER_DOUBLING = 1.4


def _times(found: list[Curve]) -> list[float]:
    return [curve.first(REACHED) for curve in found]


def advantages(found: list[Curve]) -> dict[tuple[float, float], Mean]:
    """(rate of stragglers, their slowness) -> time to the accuracy of synchronous DSGD over DSGD-AAU's, over seeds.

    Args:
        found: curves of the study `slowdown`; settings that not all reach, or with too few seeds, are left out.

    Source: the ratio of each run of the one to the mean of the other.
    """
    ratios: dict[tuple[float, float], Mean] = {}
    for workload in sorted({curve.workload for curve in found}):
        said = re.fullmatch(r"p=([\d.]+),slow=([\d.]+)", workload)
        here = [curve for curve in found if curve.workload == workload]
        slow, ours = _times(named(here, "d-psgd")), _times(named(here, "dsgd-aau"))
        if said and min(len(slow), len(ours)) >= LEAST_SEEDS and np.isfinite([*slow, *ours]).all():
            ratios[float(said[1]), float(said[2])] = mean_over_runs(np.array(slow) / float(np.mean(ours)))
    return ratios


def _slowdown(evidence: Evidence) -> Decision:
    """B7."""
    found = curves(evidence, "slowdown")
    ratios = advantages(found)
    sweeps = [
        [ratios[key] for key in sorted(ratios) if key[0] == 0.1],
        [ratios[key] for key in sorted(ratios) if key[1] == 10],
    ]
    told = "; ".join(f"p = {p:g}, {s:g} times: {words(ratio)}" for (p, s), ratio in sorted(ratios.items()))
    verdict: Verdict
    if len(sweeps[0]) < 5 or len(sweeps[1]) < 4:
        verdict = "not shown"
    else:
        rising = [all(a.mean < b.mean for a, b in pairwise(sweep)) for sweep in sweeps]
        falling = any(sweep[-1].mean < sweep[0].mean for sweep in sweeps)
        verdict = "reproduced" if all(rising) else "contradicted" if falling else "partly"
    return Decision(
        verdict=verdict,
        found=f"time to accuracy {REACHED} of synchronous DSGD over DSGD-AAU's: {told or 'not reached'}",
        n=len(found),
        measured=sweeps[0][-1].mean if sweeps[0] else math.nan,
        low=sweeps[0][-1].low if sweeps[0] else math.nan,
        high=sweeps[0][-1].high if sweeps[0] else math.nan,
        unit="times",
        rows=ids(found),
    )


def at_own_rates(found: list[Curve]) -> dict[int, list[Curve]]:
    """Number of workers -> the curves at the rate in proportion to sqrt(N), the least rate with the fewest workers.

    Source: the rate sqrt(N / K) of the paper's theorem.
    """
    sizes = sorted({curve.workers for curve in found})
    start = min((curve.lr for curve in found), default=math.nan)
    return {
        n: [c for c in found if c.workers == n and math.isclose(c.lr, start * math.sqrt(n / sizes[0]), rel_tol=1e-3)]
        for n in sizes
    }


def times(found: list[Curve]) -> Mean | None:
    """Time to the accuracy over seeds [s]; None if one did not reach it, or with too few seeds.

    Source: `Curve.first`.

    Example:
        >>> times([]) is None
        True
    """
    reached = _times(found)
    return mean_over_runs(reached) if len(found) >= LEAST_SEEDS and np.isfinite(reached).all() else None


def _workers(evidence: Evidence) -> Decision:
    """B8."""
    found = curves(evidence, "workers")
    start = min((curve.lr for curve in found), default=math.nan)
    needed, used, fixed = {}, [], []
    for workers, own in at_own_rates(found).items():
        mean = times(own)
        if mean is not None:
            needed[workers] = mean
            used += own
        still = [c.first(REACHED) for c in found if c.workers == workers and c.lr == start]
        fixed.append(f"{np.mean(still):.3g} s at N = {workers}" if still else "")
    known = [workers for workers in needed if workers <= 128]
    ratios = [
        (needed[a].mean / needed[b].mean) ** (1 / math.log2(b / a)) for a, b in pairwise(known) if needed[b].mean > 0
    ]
    verdict: Verdict
    if not ratios or known[-1] < 128:
        verdict = "not shown"
    elif min(ratios) >= PER_DOUBLING:
        verdict = "reproduced"
    else:
        verdict = "partly" if needed[known[0]].mean > needed[known[-1]].high else "contradicted"
    told = "; ".join(f"{words(mean)} s at N = {workers}" for workers, mean in needed.items())
    return Decision(
        verdict=verdict,
        found=f"to accuracy {REACHED} at rates in proportion to sqrt(N): {told or 'not reached'}; per doubling "
        f"{', '.join(f'{ratio:.2f}' for ratio in ratios) or 'unknown'}. At the one rate {start:g}: {', '.join(fixed)}",
        n=len(used),
        measured=min(ratios, default=math.nan),
        unit="times per doubling",
        rows=ids(used),
    )


CLAIMS = (
    Claim(
        id="B7",
        statement="The advantage over synchronous DSGD grows with the stragglers' slowness and with their rate.",
        kind="shape",
        expected="increasing",
        tolerance="strictly, in the means",
        rule="Ratio of the times to accuracy 0.75, over slowness 2, 6, 10, 20, 40 at rate 0.1 and over rate 0.05, "
        "0.1, 0.2, 0.4 at slowness 10. reproduced: both increase at every step; contradicted: one ends lower than it "
        "begins; partly: else; not shown: fewer than 3 seeds, or 0.75 is not reached by all.",
        parts=("slowdown",),
        decide=_slowdown,
    ),
    Claim(
        id="B8",
        statement="The time to an accuracy falls nearly in proportion to the number of workers.",
        kind="shape",
        expected="near linear speed-up with the rate in proportion to sqrt(N)",
        tolerance="at least 1.4 times per doubling until N = 128",
        rule="Time to accuracy 0.75 at the rate 0.1 sqrt(N / 32). reproduced: every step of N up to 128 brings at "
        "least 1.4 per doubling; partly: N = 128 is sooner than N = 32, its interval included; contradicted: it is "
        "not; not shown: fewer than 3 seeds, or 0.75 is not reached by all.",
        parts=("workers",),
        decide=_workers,
    ),
)
