"""Claims of the gossip papers about limits: how much may be left out, and how unequal speeds may be."""

from __future__ import annotations

import numpy as np

from analysis.papers.claim import Claim, Decision, Verdict
from analysis.papers.evidence import Evidence

CHOCO = {("top-k", 0.01): (0.05, 0.45), ("top-k", 0.1): (0.15, 0.9)}
"""Compressor and share -> a gamma that must agree and one that must not: half of the largest known to agree, one and a
half times the smallest known to diverge."""

LOW_RANK_ROUNDS, LOW_RANK_LEFT = 400, 0.05
"""After so many rounds at rank 1 less than this must be left of the distance."""


def _compression(evidence: Evidence) -> Decision:
    """C9."""
    table = evidence.table("compression")
    left = {(r["compressor"], r["fraction"], r["gamma"]): r["left"] for r in table.to_dict("records")}
    holds = []
    for (name, share), (agrees, diverges) in CHOCO.items():
        if (name, share, agrees) in left and (name, share, diverges) in left:
            holds += [left[name, share, agrees] < 1, not left[name, share, diverges] < 1]
    plain = [value for (name, _, _), value in left.items() if name == "identity"]
    holds += [value < 1e-12 for value in plain]
    told = (f"{name} {100 * share:g} % gamma {gamma:g}: {value:.2g}" for (name, share, gamma), value in left.items())
    verdict: Verdict
    if len(holds) < 2 * len(CHOCO) + 1:
        verdict = "not shown"
    else:
        verdict = "reproduced" if all(holds) else "partly" if sum(holds) >= len(holds) - 1 else "contradicted"
    return Decision(verdict=verdict, found=f"what is left of the distance: {'; '.join(told)}", n=len(table))


def _low_rank(evidence: Evidence) -> Decision:
    """C10."""
    table = evidence.table("low-rank")
    after = table[table["rounds"] == LOW_RANK_ROUNDS].groupby("rank")["left"].max()
    shrinks = [
        bool((np.diff(rows.sort_values("rounds")["left"]) < 0).all()) for _, rows in table.groupby(["rank", "seed"])
    ]
    told = (
        f"rank {rank}, {count} rounds: {own.min():.2g} to {own.max():.2g}"
        for (rank, count), own in table.groupby(["rank", "rounds"])["left"]
    )
    verdict: Verdict
    if 1 not in after.index:
        verdict = "not shown"
    elif after[1] < LOW_RANK_LEFT and all(shrinks):
        verdict = "reproduced"
    else:
        verdict = "partly" if all(shrinks) else "contradicted"
    return Decision(
        verdict=verdict,
        found=f"what is left of the distance: {'; '.join(told)}",
        n=table["seed"].nunique(),
        measured=float(after.get(1, np.nan)),
    )


def _push_bias(evidence: Evidence) -> Decision:
    """C15."""
    table = evidence.table("push-bias")
    even, paper = table["slowest"] == 1, ~table["scaled"]
    exact, biased = table.loc[even, "distance"], table.loc[~even & paper, "distance"]
    holds = [*(exact < 1e-2), *(biased > 0.1)]
    told = (
        f"{row['workers']} workers, slowest {row['slowest']:g} times, {'scaled' if row['scaled'] else 'paper'}: "
        f"{row['distance']:.2g}"
        for row in table.to_dict("records")
    )
    verdict: Verdict
    if exact.empty or biased.empty:
        verdict = "not shown"
    elif all(holds) and np.isfinite(biased).all():
        verdict = "reproduced"
    else:
        verdict = "partly" if (exact < 1e-2).all() and (biased > 0.1).any() else "contradicted"
    return Decision(verdict=verdict, found=f"distance to the optimum: {'; '.join(told)}", n=len(table))


COMPRESSION = Claim(
    id="C9",
    statement="CHOCO agrees on 1 % and 10 % of the values with a small enough gamma and diverges with a large one "
    "(Koloskova et al. 2019).",
    kind="shape",
    expected="threshold of gamma between 0.1 and 0.3 for top 1 %, between 0.3 and 0.6 for top 10 %; none without",
    tolerance="50 % on the threshold",
    rule="Ring of 16, 1000 values. reproduced: top 1 % shrinks at 0.05 and not at 0.45, top 10 % at 0.15 and not at "
    "0.9, no compression with gamma 1 to below 1e-12; partly: all of these but one; contradicted: fewer.",
    parts=("compression",),
    decide=_compression,
)
LOW_RANK = Claim(
    id="C10",
    statement="PowerGossip agrees with factors of rank 1, without a step to tune (Vogels, Karimireddy, Jaggi 2020).",
    kind="shape",
    expected="less than 0.05 of the distance left after 400 rounds, on a ring of 8 with matrices of 32 x 32",
    tolerance="none",
    rule="Random models, no gradients, three starts. reproduced: below 0.05 after 400 rounds at rank 1 in all of them, "
    "and less left at each later count of rounds, at rank 1 and 4; partly: less left, but 0.05 or more; contradicted: "
    "not always less.",
    parts=("low-rank",),
    decide=_low_rank,
)
PUSH_BIAS = Claim(
    id="C15",
    statement="Asynchronous gradient push is exact where all workers are equally fast and biased where they are not "
    "(Assran, Rabbat 2018).",
    kind="shape",
    expected="the minimiser; another point",
    tolerance="distance below 1e-2; above 0.1",
    rule="Unlike quadratics, full gradients; the paper's step and the one scaled by the weight. reproduced: both steps "
    "within 1e-2 at equal speeds, the paper's finite and above 0.1 at unequal ones; partly: exact at equal speeds, and "
    "so at some unequal ones; contradicted: else.",
    parts=("push-bias",),
    decide=_push_bias,
)
