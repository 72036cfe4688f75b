"""Claims about the loss that the methods reach on equal tokens: size, fragments, period, replicas."""

from __future__ import annotations

import math
from itertools import pairwise

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence
from analysis.papers.streaming_diloco.compare import Gap, final, gap, inside, rising, rows_of, together
from analysis.papers.streaming_diloco.printed import GAP_BY_REPLICAS

SIZES = ("small", "middle", "large")
PERIODS = (1, 5, 10, 30, 100)


def decision(verdict: Verdict, found: str, gap_: Gap, *, rows: tuple[str, ...] = ()) -> Decision:
    """A decision whose number is a gap [%]."""
    low, high = (100 * gap_.low, 100 * gap_.high) if math.isfinite(gap_.high - gap_.low) else (math.nan, math.nan)
    return Decision(
        verdict=verdict,
        found=found,
        n=gap_.n,
        measured=100 * gap_.mean,
        low=low,
        high=high,
        unit="%",
        rows=rows,
    )


def near_data_parallel(evidence: Evidence) -> Decision:
    """D12."""
    gaps = {}
    for size in SIZES:
        part, workload = ("methods", None) if size == "middle" else ("sizes", size)
        losses = [final(evidence, part, label, workload) for label in ("diloco", "data-parallel")]
        gaps[size] = gap(*losses)
    near = inside(gaps["large"], 0, 0.05)
    shrinks: Verdict = "not shown"
    if min(found.n for found in gaps.values()) >= LEAST_SEEDS:
        shrinks = "reproduced" if rising([-gaps[size].mean for size in SIZES]) else "contradicted"
    return decision(
        together([near, shrinks]),
        "; ".join(f"{size} {found.words}" for size, found in gaps.items()),
        gaps["large"],
        rows=(*rows_of(evidence, "sizes"), *rows_of(evidence, "methods")),
    )


def streaming_is_as_good(evidence: Evidence) -> Decision:
    """D13."""
    diloco = final(evidence, "methods", "diloco")
    fp4 = gap(final(evidence, "methods", "overlapped-fp4"), diloco)
    plain = gap(final(evidence, "methods", "streaming"), diloco)
    verdict = inside(fp4, -0.01, 0.01)
    if verdict == "contradicted" and fp4.low <= 0 <= fp4.high:
        verdict = "partly"
    return decision(
        verdict,
        f"overlapped FP4 Streaming against DiLoCo {fp4.words}; without overlap, in 32 bits {plain.words}",
        fp4,
        rows=rows_of(evidence, "methods"),
    )


def longer_period(evidence: Evidence) -> Decision:
    """D14."""
    found = gap(final(evidence, "methods", "overlapped-fp4-H100"), final(evidence, "methods", "overlapped-fp4"))
    return decision(
        inside(found, 0, 0.03),
        f"H = 100 against H = 30 {found.words}",
        found,
        rows=rows_of(evidence, "methods"),
    )


def more_replicas(evidence: Evidence) -> Decision:
    """D15."""
    base = final(evidence, "replicas-1", "data-parallel")
    gaps = {m: gap(final(evidence, _part(m), "diloco"), base) for m in GAP_BY_REPLICAS}
    several = [m for m in gaps if m >= 2]
    enough = min(found.n for found in gaps.values()) >= LEAST_SEEDS
    worse: Verdict = "not shown"
    if enough:
        worse = "reproduced" if rising([gaps[m].mean for m in several]) else "contradicted"
    sized = together(inside(gaps[m], *_about(GAP_BY_REPLICAS[m] / 100)) for m in several)
    return decision(
        together([worse, sized]),
        "over data-parallel: "
        + "; ".join(f"M = {m} {found.words} (paper {GAP_BY_REPLICAS[m]:+.1f})" for m, found in gaps.items()),
        gaps[8],
        rows=tuple(row for m in GAP_BY_REPLICAS for row in rows_of(evidence, _part(m))),
    )


def _part(replicas: int) -> str:
    return "methods" if replicas == 2 else f"replicas-{replicas}"


def _about(share: float) -> tuple[float, float]:
    """The range within a factor of 2.5."""
    return share / 2.5, share * 2.5


def one_replica(evidence: Evidence) -> Decision:
    """D16."""
    found = gap(final(evidence, "replicas-1", "diloco"), final(evidence, "replicas-1", "data-parallel"))
    return decision(
        inside(found, -1.0, 0.005),
        f"DiLoCo with one worker against its inner optimiser alone {found.words}",
        found,
        rows=rows_of(evidence, "replicas-1"),
    )


def period_sweep(evidence: Evidence) -> Decision:
    """D26."""
    losses = {
        period: final(evidence, "methods", "diloco")
        if period == 30
        else final(evidence, "periods", f"diloco@period={period}")
        for period in PERIODS
    }
    gaps = {period: gap(losses[period], losses[10]) for period in PERIODS}
    enough = min(found.n for found in gaps.values()) >= LEAST_SEEDS
    verdicts: list[Verdict] = ["not shown"]
    if enough:
        best = min(PERIODS, key=lambda period: gaps[period].mean)
        beyond = [period for period in PERIODS if period >= best]
        # A step down that its interval does not tell from none is no fall.
        falls = any(gap(losses[later], losses[sooner]).high < 0 for sooner, later in pairwise(beyond))
        worst = max(PERIODS, key=lambda period: gaps[period].mean)
        verdicts = [
            "contradicted" if falls or len(beyond) < 2 else "reproduced",
            "reproduced" if worst == 1 else "contradicted",
        ]
    return decision(
        together(verdicts),
        "against H = 10: " + "; ".join(f"H = {period} {found.words}" for period, found in gaps.items() if period != 10),
        gaps[100],
        rows=rows_of(evidence, "periods"),
    )


CLAIMS = (
    Claim(
        id="D12",
        statement="DiLoCo with H = 30 and two replicas comes near data-parallel training on equal tokens, the nearer "
        "the larger the model.",
        kind="shape",
        expected="+0.9 % at 35M, 0 at 1B",
        tolerance="0 to 5 % at the largest size",
        rule="Two parts: the mean gap at 210k parameters lies within 0 to 5 %; the mean gaps of 14k, 55k and 210k do "
        "not grow. Reproduced if both; partly if one, or if only the interval reaches into the range; contradicted if "
        "neither; not shown below 3 seeds.",
        parts=("methods", "sizes"),
        decide=near_data_parallel,
    ),
    Claim(
        id="D13",
        statement="Streaming DiLoCo, overlapped and in 4 bits, is as good as DiLoCo at H = 30.",
        kind="number",
        expected="equal within 0.01 of 2.5 to 3.5",
        tolerance="1 %",
        rule="Reproduced if the mean difference is at most 1 % either way; partly if the interval reaches there; else "
        "contradicted; not shown below 3 seeds.",
        parts=("methods",),
        decide=streaming_is_as_good,
    ),
    Claim(
        id="D14",
        statement="H = 100 is slightly worse than H = 30.",
        kind="number",
        expected="+0.02 to +0.03 of 2.5 to 3.5",
        tolerance="0 to 3 %",
        rule="Reproduced if the mean difference lies within 0 to 3 %; partly if its interval reaches there; else "
        "contradicted; not shown below 3 seeds.",
        parts=("methods",),
        decide=longer_period,
    ),
    Claim(
        id="D15",
        statement="More replicas are worse on equal tokens.",
        kind="shape",
        expected="M = 2, 4, 8: +0.7, +2.0, +3.9 % over data-parallel (35M)",
        tolerance="each gap within a factor of 2.5",
        rule="Two parts: mean gaps do not fall from M = 2 over 4 to 8; each lies within a factor of 2.5 of the "
        "paper's. Reproduced if both; partly if one or a part of it; contradicted if neither; not shown below 3 seeds.",
        parts=("methods", "replicas-1", "replicas-4", "replicas-8"),
        decide=more_replicas,
    ),
    Claim(
        id="D16",
        statement="A single replica with the outer optimiser is no worse than data-parallel training.",
        kind="number",
        expected="-0.1 % at 35M",
        tolerance="at most +0.5 %",
        rule="Reproduced if the mean gap is at most +0.5 %; partly if its interval reaches there; else contradicted; "
        "not shown below 3 seeds.",
        parts=("replicas-1",),
        decide=one_replica,
    ),
)

PERIOD_CLAIM = Claim(
    id="D26",
    statement="With a fixed outer rate H = 1 is worst, and beyond the best H the loss rises slowly with H.",
    kind="shape",
    expected="H = 1 worst; H = 1000 against 50 +2.9 % perplexity",
    rule="Two parts: from the best of H = 1, 5, 10, 30, 100 on no step to a longer period lowers the loss by more than "
    "its interval, and there is such a step; the mean is worst at H = 1. Reproduced if both; partly if one; "
    "contradicted if neither; not shown below 3 seeds.",
    parts=("methods", "periods"),
    decide=period_sweep,
)
