"""Claims of the gossip papers about learning on MNIST, each algorithm at its best rate of one grid."""

from __future__ import annotations

import math

import numpy as np

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dsgd_aau.gossip_rounds import unbiased
from analysis.papers.dsgd_aau.rules import Curve, best_rate, curves, final, ids, named, words
from analysis.papers.evidence import Evidence
from analysis.statistics import Mean, mean_over_runs


def difference(ours: list[Curve], theirs: list[Curve]) -> Mean:
    """Final accuracy of one algorithm less that of another, seed by seed, with its interval.

    Source: `analysis.statistics.mean_over_runs`, of pairs with one seed.

    Example:
        >>> difference([], []).n
        0
    """
    other = {curve.seed: final(curve) for curve in theirs}
    return mean_over_runs([final(curve) - other[curve.seed] for curve in ours if curve.seed in other])


def _one_peer(evidence: Evidence) -> Decision:
    """C4."""
    found = curves(evidence, "one-peer")
    one, static = best_rate(named(found, "one-peer")), best_rate(named(found, "static"))
    apart = difference(one, static)
    if apart.n < LEAST_SEEDS:
        return Decision(verdict="not shown", found=f"{apart.n} seeds", n=apart.n)
    share = float(np.mean([c.nbytes[-1] for c in one]) / np.mean([c.nbytes[-1] for c in static]))
    expected = 1 / math.ceil(math.log2(one[0].workers))
    cheap = abs(share / expected - 1) <= 0.01
    verdict: Verdict
    if cheap and max(abs(apart.low), abs(apart.high)) < 0.01:
        verdict = "reproduced"
    elif abs(apart.mean) < 0.01:
        verdict = "partly"
    else:
        verdict = "contradicted" if apart.low > 0.01 or apart.high < -0.01 else "not shown"
    return Decision(
        verdict=verdict,
        found=f"accuracy {words(apart)} apart (one peer at lr {one[0].lr:g}, static at lr {static[0].lr:g}) at "
        f"{share:.4f} of the bytes (1 / log2 n = {expected:g})",
        n=len(one) + len(static),
        measured=apart.mean,
        low=apart.low,
        high=apart.high,
        unit="accuracy",
        rows=ids(one, static),
    )


def _unlike(evidence: Evidence) -> Decision:
    """C5."""
    holds, told = unbiased(evidence.table("bias"))
    found = curves(evidence, "unlike-data")
    base = best_rate(named(found, "d-psgd"))
    gains, used = {}, list(base)
    for name in ("d2", "exact-diffusion", "gradient-tracking"):
        ours = best_rate(named(found, name))
        gains[name] = difference(ours, base)
        used += ours
    ahead = [gain.mean >= 0.03 for gain in gains.values()]
    verdict: Verdict
    if not (holds and all(holds)):
        verdict = "contradicted"
    elif min(gain.n for gain in gains.values()) < LEAST_SEEDS:
        verdict = "not shown"
    elif all(ahead):
        verdict = "reproduced"
    else:
        verdict = "contradicted" if all(gain.high < 0 for gain in gains.values()) else "partly"
    return Decision(
        verdict=verdict,
        found=f"quadratics: {told}; MNIST, accuracy above D-PSGD's at equal steps: "
        + ", ".join(f"{name} {words(gain)}" for name, gain in gains.items()),
        n=len(holds) + len(used),
        measured=max((gain.mean for gain in gains.values()), default=math.nan),
        unit="accuracy",
        rows=ids(used),
    )


def _matchings(evidence: Evidence) -> Decision:
    """C13."""
    found = curves(evidence, "matchings")
    half, whole = best_rate(named(found, "half")), best_rate(named(found, "whole"))
    if min(len(half), len(whole)) < LEAST_SEEDS:
        return Decision(verdict="not shown", found=f"{len(half)} and {len(whole)} seeds", n=len(found))
    sent = [np.array([curve.nbytes[-1] for curve in group]) for group in (half, whole)]
    share = mean_over_runs(sent[0] / sent[1].mean())
    held = evidence.results("matchings").heldout.sort_values("t_s").groupby("run_id", observed=True)["heldout_loss"]
    last = held.last()
    losses = [np.array([float(last[curve.run_id]) for curve in group]) for group in (half, whole)]
    loss = mean_over_runs(losses[0] / losses[1].mean())
    holds = [abs(share.mean - 0.5) <= 0.05, abs(loss.mean - 1) <= 0.05]
    verdict: Verdict = "reproduced" if all(holds) else "partly" if any(holds) else "contradicted"
    return Decision(
        verdict=verdict,
        found=f"{words(share)} of the bytes, {words(loss)} of the held-out loss at equal steps",
        n=len(half) + len(whole),
        measured=share.mean,
        low=share.low,
        high=share.high,
        rows=ids(half, whole),
    )


def _slow_momentum(evidence: Evidence) -> Decision:
    """C14."""
    found = curves(evidence, "slow-momentum")
    ours, base = best_rate(named(found, "slowmo")), best_rate(named(found, "local-sgd"))
    gain = difference(ours, base)
    verdict: Verdict
    if gain.n < LEAST_SEEDS:
        verdict = "not shown"
    elif gain.low > 0:
        verdict = "reproduced"
    else:
        verdict = "contradicted" if gain.high < 0 else "partly" if gain.mean > 0 else "not shown"
    return Decision(
        verdict=verdict,
        found=f"accuracy {words(gain)} above local SGD's at equal steps and bytes"
        + (f" (lr {ours[0].lr:g} and {base[0].lr:g})" if ours and base else ""),
        n=len(ours) + len(base),
        measured=gain.mean,
        low=gain.low,
        high=gain.high,
        unit="accuracy",
        rows=ids(ours, base),
    )


ONE_PEER = Claim(
    id="C4",
    statement="One peer per step on the exponential graph is as accurate as log2 n of them, at that fraction of the "
    "bytes (Ying et al. 2021).",
    kind="number",
    expected="91.84 against 91.21 % (n = 4, ResNet-56 on CIFAR-10)",
    tolerance="0.01 in accuracy, 1 % on the bytes",
    rule="MNIST, 16 workers, equal steps, both at their best of three rates. reproduced: the interval of the "
    "difference over seeds lies within 0.01 and the bytes are 1 / log2 n; partly: the mean difference is within "
    "0.01; contradicted: the whole interval is beyond; not shown: else, or fewer than 3 seeds.",
    parts=("one-peer",),
    decide=_one_peer,
)
UNLIKE = Claim(
    id="C5",
    statement="D2, exact diffusion and gradient tracking remove the bias that unlike data give to D-PSGD (Tang et al. "
    "2018 and others).",
    kind="shape",
    expected="no error on quadratics where D-PSGD's is in proportion to the rate; higher accuracy on unlike classes",
    tolerance="error below 1e-9, D-PSGD's times 0.45 to 0.65 at half the rate; 0.03 in accuracy",
    rule="Unlike quadratics; and MNIST, 8 workers of 2 classes on a ring, equal steps, best of three rates. "
    "reproduced: the quadratics hold and each of the three gains at least 0.03 in the mean; contradicted: a "
    "quadratic does not hold, or all three are below D-PSGD with their intervals; partly: else; not shown: fewer "
    "than 3 seeds.",
    parts=("bias", "unlike-data"),
    decide=_unlike,
)
MATCHINGS = Claim(
    id="C13",
    statement="MATCHA with half the budget halves the messages at the same loss per epoch (Wang et al. 2019).",
    kind="number",
    expected="half the bytes, the same loss",
    tolerance="bytes 0.5 within 0.05; loss within 5 %",
    rule="MNIST, 16 workers, equal steps, against the whole graph, both at their best of two rates by mean final "
    "accuracy. reproduced: both means hold; partly: one; "
    "contradicted: none; not shown: fewer than 3 seeds.",
    parts=("matchings",),
    decide=_matchings,
)
SLOW_MOMENTUM = Claim(
    id="C14",
    statement="Slow momentum improves local SGD at equal communication (Wang et al. 2020).",
    kind="shape",
    expected="higher accuracy",
    tolerance="the interval over seeds is above 0",
    rule="MNIST, 8 workers of 5 classes, period 24, both at their best of three rates. reproduced: the interval of the "
    "difference is above 0; partly: its mean is; contradicted: the interval is below 0; not shown: else, or fewer than "
    "3 seeds.",
    parts=("slow-momentum",),
    decide=_slow_momentum,
)
