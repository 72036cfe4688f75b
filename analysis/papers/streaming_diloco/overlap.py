"""Claims about overlap and wire formats: how much later and in how few bits outer gradients may come."""

from __future__ import annotations

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence
from analysis.papers.streaming_diloco.compare import (
    above,
    final,
    gap,
    inside,
    mean_loss,
    of_variant,
    rows_of,
    together,
)
from analysis.papers.streaming_diloco.methods import decision


def harmless_delay(evidence: Evidence) -> Decision:
    """D17."""
    base = final(evidence, "methods", "streaming")
    gaps = {1: gap(final(evidence, "methods", "overlapped"), base)}
    for delay in (2, 5, 10, 20):
        gaps[delay] = gap(final(evidence, "delays", f"overlapped@delay={delay}"), base)
    replaced = gap(final(evidence, "delays", "replaced"), base)
    return decision(
        together(inside(gaps[delay], -1.0, 0.01) for delay in (1, 2, 5)),
        "against no overlap: "
        + "; ".join(f"tau {delay} {found.words}" for delay, found in gaps.items())
        + f"; tau 5, alpha 0 {replaced.words}",
        gaps[5],
        rows=rows_of(evidence, "delays"),
    )


def unequal_delays(evidence: Evidence) -> Decision:
    """D18."""
    found = gap(final(evidence, "delays", "unequal"), final(evidence, "methods", "overlapped"))
    return decision(
        inside(found, -1.0, 0.01),
        f"tau = (1, 5) against tau = 1 {found.words}",
        found,
        rows=rows_of(evidence, "delays"),
    )


def few_bits(evidence: Evidence) -> Decision:
    """D19."""
    exact = final(evidence, "methods", "overlapped")
    formats = {name: gap(final(evidence, "methods", f"overlapped-{name}"), exact) for name in ("bf16", "fp8", "fp4")}
    fp4 = final(evidence, "methods", "overlapped-fp4")
    drops = {name: gap(of_variant(evidence, "dropped-values", name), fp4) for name in ("random", "rescaled", "largest")}
    return decision(
        together([inside(formats["fp4"], -1.0, 0.005), above(drops["random"])]),
        "against 32 bits: "
        + "; ".join(f"{name} {found.words}" for name, found in formats.items())
        + ". Dropping values at equal bytes against fp4: "
        + "; ".join(f"{name} {found.words}" for name, found in drops.items()),
        formats["fp4"],
        rows=rows_of(evidence, "methods"),
    )


def outer_model(evidence: Evidence) -> Decision:
    """D20."""
    outer, mean, replica = (of_variant(evidence, "models", name) for name in ("outer", "mean", "replica"))
    over_mean, over_replica = gap(mean, outer), gap(replica, mean)
    return decision(
        together([above(over_mean), above(over_replica)]),
        f"outer {mean_loss(outer):.4f}, mean of replicas {mean_loss(mean):.4f} ({over_mean.words} over outer), first "
        f"replica {mean_loss(replica):.4f} ({over_replica.words} over the mean)",
        over_replica,
    )


def eager(evidence: Evidence) -> Decision:
    """D21."""
    base = final(evidence, "methods", "diloco")
    naive, lowered, fresh = (gap(final(evidence, "eager", name), base) for name in ("naive", "naive-lowered", "eager"))
    verdict: Verdict = "not shown"
    if min(naive.n, fresh.n) >= LEAST_SEEDS:
        # Of a gap that is none, three times is none: the naive one must be worse beyond its interval.
        enough = naive.mean >= 3 * max(fresh.mean, 0.0) and naive.low > 0
        verdict = "reproduced" if enough else "partly" if naive.low > max(fresh.high, 0.0) else "contradicted"
    return decision(
        verdict,
        f"against no overlap: naive {naive.words}, naive with a quarter of the rate {lowered.words}, eager "
        f"{fresh.words}",
        naive,
        rows=rows_of(evidence, "eager"),
    )


def freezing(evidence: Evidence) -> Decision:
    """D29."""
    found = gap(of_variant(evidence, "frozen", "frozen"), final(evidence, "methods", "streaming"))
    return decision(inside(found, 0.03, float("inf")), f"freezing the other fragments {found.words}", found)


CLAIMS = (
    Claim(
        id="D17",
        statement="Overlap of up to five inner steps is harmless with alpha = 0.5.",
        kind="number",
        expected="below 0.2 % up to tau = 10 (500M)",
        tolerance="1 % up to tau = 5; 10 and 20 are reported",
        rule="Reproduced if the mean differences to no overlap (tau = 0, alpha = 0) of tau = 1, 2 and 5 are at most 1 "
        "%; partly if some are, or an interval reaches there; else contradicted; not shown below 3 seeds.",
        parts=("methods", "delays"),
        decide=harmless_delay,
    ),
    Claim(
        id="D18",
        statement="An overlap that differs between workers is harmless.",
        kind="number",
        expected="very robust for tau_2 < 5 (figure 10)",
        tolerance="1 %",
        rule="Reproduced if the mean difference of tau = (1, 5) to tau = 1 is at most 1 %; partly if its interval "
        "reaches there; else contradicted; not shown below 3 seeds.",
        parts=("methods", "delays"),
        decide=unequal_delays,
    ),
    Claim(
        id="D19",
        statement="Four bits a value cost nothing, dropping values at random does.",
        kind="shape",
        expected="fp32 = bf16 = fp8 = fp4; dropping worse, at random worst",
        tolerance="fp4 at most +0.5 %",
        rule="Two parts: the mean difference of fp4 to 32 bits is at most 0.5 %; random values at equal bytes are "
        "worse than fp4 beyond the interval. Reproduced if both; partly if one, or if an interval reaches there; "
        "contradicted if neither; not shown below 3 seeds.",
        parts=("methods", "dropped-values"),
        decide=few_bits,
    ),
    Claim(
        id="D20",
        statement="The outer model is better than the mean of the replicas, and that better than a replica.",
        kind="shape",
        expected="2.67 < 2.68 << 2.77",
        rule="Two parts: mean above outer and replica above mean, each beyond its interval over seeds. Reproduced if "
        "both; partly if one; contradicted if one is the other way round and none holds; not shown if the intervals "
        "contain 0.",
        parts=("models",),
        decide=outer_model,
    ),
    Claim(
        id="D21",
        statement="Outer gradients a whole round late are bad as they come, and nearly harmless with the own part "
        "fresh.",
        kind="shape",
        expected="2.67 without overlap, 3.01 naive (2.73 with a lower rate), 2.69 eager",
        tolerance="naive gap at least three times the eager one",
        rule="Reproduced if the naive gap is beyond its interval above 0 and at least three times the eager one; "
        "partly if the two intervals lie apart in that order; else contradicted; not shown below 3 seeds.",
        parts=("methods", "eager"),
        decide=eager,
    ),
)

FREEZING_CLAIM = Claim(
    id="D29",
    statement="Freezing the fragments that are not exchanged next, as FedPart does, is bad.",
    kind="number",
    expected="+20 % (3.2145 against 2.6749)",
    tolerance="above +3 %",
    rule="Reproduced if the mean difference to Streaming without overlap is above 3 %; partly if its interval reaches "
    "there; else contradicted; not shown below 3 seeds.",
    parts=("methods", "frozen"),
    decide=freezing,
)
