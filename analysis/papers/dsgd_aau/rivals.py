"""Claims about learning with stragglers: DSGD-AAU against its rivals, each at its best learning rate of one grid."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dsgd_aau.rules import (
    Compared,
    Curve,
    Values,
    best_rate,
    compared,
    curves,
    final,
    ids,
    named,
    words,
)
from analysis.papers.evidence import Evidence
from analysis.statistics import Mean, mean_over_runs

STUDY, SIX, OURS, AD_PSGD = "stragglers", "stragglers-six", "dsgd-aau", "ad-psgd"
RIVALS = ("prague", "agp", "d-psgd", "allreduce-sgd")
FAILED = 0.5
"""A final accuracy below this is no learning; the classes are ten, so chance is 0.1."""
SAME = 0.95
"""The accuracy at which bytes and iterations are read: this share of what the worse of the two ends with."""


def _accuracies(found: list[Curve], share: float) -> list[float]:
    return [curve.at(share * float(curve.t_s[-1])) for curve in found]


def _against(ours: list[Curve], theirs: list[Curve]) -> list[Compared]:
    """At half the time and at its end, which both share."""
    return [compared(_accuracies(ours, share), _accuracies(theirs, share)) for share in (0.5, 1.0)]


def _rivals(evidence: Evidence, study: str = STUDY) -> Decision:
    """B4."""
    found = curves(evidence, study)
    told, all_compared, used, seeds = [], [], [], math.inf
    for workers in sorted({curve.workers for curve in found}):
        here = [curve for curve in found if curve.workers == workers]
        ours = best_rate(named(here, OURS))
        seeds = min(seeds, len(ours))
        told.append(
            f"N = {workers}: {OURS} {words(_final(ours))} at lr {_lr(ours)}" if ours else f"N = {workers}: none"
        )
        for name in RIVALS:
            theirs = best_rate(named(here, name))
            seeds = min(seeds, len(theirs))
            if seeds >= 2:
                all_compared += _against(ours, theirs)
                half, end = all_compared[-2:]
                told[-1] += f", {name} {words(_final(theirs))} (ahead by {half.by:.1f} and {end.by:.1f} sd)"
                used += theirs
        used += ours
    wins = sum(one.by > 1 for one in all_compared)
    verdict: Verdict
    if seeds < LEAST_SEEDS or not all_compared:
        verdict = "not shown"
    elif wins == len(all_compared):
        verdict = "reproduced"
    elif 2 * sum(one.by < -1 for one in all_compared) >= len(all_compared):
        verdict = "contradicted"
    else:
        verdict = "partly" if 2 * wins >= len(all_compared) else "not shown"
    return Decision(
        verdict=verdict,
        found=f"ahead by more than one standard deviation in {wins} of {len(all_compared)}; {'; '.join(told)}",
        n=len(used),
        rows=ids(used),
    )


def _final(found: list[Curve]) -> Mean:
    return mean_over_runs([final(curve) for curve in found])


def _lr(found: list[Curve]) -> str:
    return f"{found[0].lr:g}"


def _ad_psgd(evidence: Evidence, study: str = STUDY) -> Decision:
    """B5."""
    found = curves(evidence, study)
    workers = min((curve.workers for curve in found), default=0)
    here = [curve for curve in found if curve.workers == workers]
    ours, theirs = best_rate(named(here, OURS)), best_rate(named(here, AD_PSGD))
    seeds = min(len(ours), len(theirs))
    if seeds < LEAST_SEEDS:
        return Decision(verdict="not shown", found=f"{seeds} seeds", n=seeds)
    half, end = _against(ours, theirs)
    fails = {curve.lr for curve in named(here, AD_PSGD)}
    for curve in named(here, AD_PSGD):
        if final(curve) >= FAILED:
            fails.discard(curve.lr)
    holding = [lr for lr in sorted(fails) if all(final(c) >= FAILED for c in named(here, OURS) if c.lr == lr)]
    verdict: Verdict
    if half.by > 1 and end.by > 1:
        verdict = "reproduced"
    elif holding:
        verdict = "partly"
    else:
        verdict = "contradicted" if end.by < -1 else "not shown"
    per_rate = []
    for lr in sorted({curve.lr for curve in here}):
        two = [_final([c for c in named(here, name) if c.lr == lr]) for name in (OURS, AD_PSGD)]
        per_rate.append(f"lr {lr:g}: {two[0].mean:.3f}, {two[1].mean:.3f}")
    return Decision(
        verdict=verdict,
        found=f"N = {workers}, {OURS} at lr {_lr(ours)} {words(_final(ours))}, {AD_PSGD} at lr {_lr(theirs)} "
        f"{words(_final(theirs))}: ahead by {half.by:.1f} sd at half the time, {end.by:.1f} at its end; {AD_PSGD} "
        f"fails and {OURS} learns at {', '.join(f'lr {lr:g}' for lr in holding) or 'no rate'}. Final accuracies of "
        f"both: {'; '.join(per_rate)}",
        n=2 * seeds,
        measured=end.ahead,
        unit="accuracy",
        rows=ids(ours, theirs),
    )


def same_accuracy(evidence: Evidence) -> tuple[list[Curve], list[Curve], float]:
    """DSGD-AAU and AD-PSGD at their best rates with the fewest workers, and the accuracy to compare them at.

    Raises:
        Missing: the study has not been run.

    Source: 95 % of what the worse of the two ends with, so that both get there.
    """
    found = curves(evidence, STUDY)
    workers = min((curve.workers for curve in found), default=0)
    here = [curve for curve in found if curve.workers == workers]
    ours, theirs = best_rate(named(here, OURS)), best_rate(named(here, AD_PSGD))
    ends = [float(np.mean([final(curve) for curve in group])) for group in (ours, theirs) if group]
    return ours, theirs, SAME * min(ends, default=math.nan)


def iterations(evidence: Evidence, ours: list[Curve], theirs: list[Curve]) -> tuple[list[Values], list[Values]]:
    """Iterations by each snapshot of DSGD-AAU's curves and of AD-PSGD's, of which every gradient is one.

    Returns:
        For each curve one value per snapshot; those of DSGD-AAU are NaN where its pace is not known, and AD-PSGD has
        none where no pace is known.

    Raises:
        Missing: the experiment `pace` has not been made.

    Source: the iterations closed in runs without gradients, which close at the same times.
    """
    pace = evidence.table("pace")
    rates = {(row["workers"], row["seed"]): row["iterations"] / row["seconds"] for row in pace.to_dict("records")}
    batch = {(row["workers"], row["seed"]): row["gradients"] for row in pace.to_dict("records")}
    mine = [c.t_s * rates.get((c.workers, c.seed), math.nan) for c in ours]
    per_step = [c.samples[-1] / batch[c.workers, c.seed] for c in ours if (c.workers, c.seed) in batch]
    return mine, [c.samples / float(np.mean(per_step)) for c in theirs] if per_step else []


def _iterations(evidence: Evidence) -> Decision:
    """B6."""
    ours, theirs, level = same_accuracy(evidence)
    mine, others = (
        [c.first(level, axis) for c, axis in zip(group, counted, strict=False)]
        for group, counted in zip((ours, theirs), iterations(evidence, ours, theirs), strict=True)
    )
    if min(len(mine), len(others)) < LEAST_SEEDS or not np.isfinite([*mine, *others]).all():
        return Decision(
            verdict="not shown", found=f"accuracy {level:.3f} not reached by all", n=len(mine) + len(others)
        )
    ratio = mean_over_runs(np.array(mine) / float(np.mean(others)))
    verdict: Verdict = "reproduced" if ratio.high < 1 / 3 else "partly" if ratio.mean < 1 else "contradicted"
    return Decision(
        verdict=verdict,
        found=f"to accuracy {level:.3f}: {np.mean(mine):.0f} iterations of {OURS}, {np.mean(others):.0f} of {AD_PSGD}: "
        f"{words(ratio)}",
        n=len(mine) + len(others),
        measured=ratio.mean,
        low=ratio.low,
        high=ratio.high,
        rows=ids(ours, theirs),
    )


def _bytes(evidence: Evidence) -> Decision:
    """B9."""
    ours, theirs, level = same_accuracy(evidence)
    mine, others = ([c.first(level, c.nbytes) for c in group] for group in (ours, theirs))
    if min(len(mine), len(others)) < LEAST_SEEDS or not np.isfinite([*mine, *others]).all():
        return Decision(
            verdict="not shown", found=f"accuracy {level:.3f} not reached by all", n=len(mine) + len(others)
        )
    ratio = mean_over_runs(np.array(mine) / float(np.mean(others)))
    verdict: Verdict
    if ratio.mean <= 0.9:
        verdict = "reproduced"
    elif ratio.low <= 0.9:
        verdict = "partly"
    else:
        verdict = "contradicted"
    return Decision(
        verdict=verdict,
        found=f"to accuracy {level:.3f}: {np.mean(mine) / 1e6:.0f} MB of {OURS}, {np.mean(others) / 1e6:.0f} MB of "
        f"{AD_PSGD}: {words(ratio)}",
        n=len(mine) + len(others),
        measured=ratio.mean,
        low=ratio.low,
        high=ratio.high,
        rows=ids(ours, theirs),
    )


TRAINED = Claim(
    id="B4",
    statement="With 10 % of gradients ten times slower and 5 of 10 classes per worker DSGD-AAU is ahead of Prague, "
    "AGP, synchronous DSGD and all-reduce at equal time.",
    kind="shape",
    expected="higher accuracy at half the time and at its end",
    tolerance="one standard deviation",
    rule="Each algorithm at its best learning rate of one grid by mean final accuracy. reproduced: ahead of all "
    "four at both times and every N by more than the larger standard deviation; contradicted: behind by as much "
    "in half of the comparisons; partly: ahead in at least half; not shown: else, or fewer than 3 seeds.",
    parts=(STUDY,),
    decide=_rivals,
)

COMPARED = Claim(
    id="B5",
    statement="DSGD-AAU is ahead of AD-PSGD at equal time.",
    kind="shape",
    expected="higher accuracy at half the time and at its end",
    tolerance="one standard deviation",
    rule="Both at their best learning rates of one grid. reproduced: ahead at both times by more than the larger "
    "standard deviation; partly: not so, but there is a rate at which AD-PSGD ends below 0.5 in every seed and "
    "DSGD-AAU above it in every seed; contradicted: neither, and behind by as much at the end; not shown: else, or "
    "fewer than 3 seeds.",
    parts=(STUDY,),
    decide=_ad_psgd,
)

TRAINED_SIX = replace(
    TRAINED,
    id="B4s",
    statement="With 10 % of gradients six times slower and 5 of 10 classes per worker DSGD-AAU is ahead of Prague, "
    "AGP, synchronous DSGD and all-reduce at equal time.",
    parts=(SIX,),
    decide=partial(_rivals, study=SIX),
)

COMPARED_SIX = replace(
    COMPARED,
    id="B5s",
    statement="DSGD-AAU is ahead of AD-PSGD at equal time, with gradients six times slower.",
    parts=(SIX,),
    decide=partial(_ad_psgd, study=SIX),
)

ITERATIONS = Claim(
    id="B6",
    statement="DSGD-AAU needs fewer iterations k than AD-PSGD, whose every gradient is one.",
    kind="shape",
    expected="fewer",
    tolerance="below a third",
    rule="To 95 % of the accuracy with which the worse of the two ends, both at their best rates; iterations of "
    "DSGD-AAU are those closed. reproduced: the interval of the ratio over seeds is below 1/3; partly: the mean is "
    "below 1; contradicted: it is not; not shown: fewer than 3 seeds, or the accuracy is not reached by all.",
    parts=(STUDY, "pace"),
    decide=_iterations,
)

SENT = Claim(
    id="B9",
    statement="DSGD-AAU sends fewer bytes than AD-PSGD to the same accuracy.",
    kind="shape",
    expected="fewer",
    tolerance="ratio at most 0.9",
    rule="To 95 % of the accuracy with which the worse of the two ends, both at their best rates; bytes on the "
    "wire, control messages and headers included. reproduced: mean ratio at most 0.9; partly: its interval "
    "reaches 0.9; contradicted: it does not; not shown: fewer than 3 seeds, or the accuracy is not reached by "
    "all.",
    parts=(STUDY,),
    decide=_bytes,
)
