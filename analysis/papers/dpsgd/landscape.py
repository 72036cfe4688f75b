"""A0, A6, A8 and A9: what the loss landscape does to DPSGD's noise, and noise to the landscape."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dpsgd.found import finals, probed
from analysis.papers.evidence import Evidence, Missing
from analysis.probes.smoothing import smoothed_curvature
from analysis.probes.tables import NUMBERS

SETTLED = 150  # steps
FACTOR = 5.0
ZERO = 1e-10  # relative to the step's squared length
MEAN_STEP = 1e-10  # relative
KINK = 0.02  # relative
DRAWS = 40_000  # standard error 0.4 %
TRAINED = 0.2  # [nat]


def _mean_step(evidence: Evidence) -> Decision:
    """A0: mixing does not move the mean."""
    table = evidence.table("mean-step")
    worst = float(table["error"].max())
    apart = float(table["spread"].min())
    verdict: Verdict = "reproduced" if worst <= MEAN_STEP else "contradicted"
    return Decision(
        verdict="not shown" if not apart > 0 else verdict,
        found=f"largest difference {worst:.1e} of the step, on {', '.join(table['graph'].unique())}, with "
        f"{' and '.join(map(str, sorted(table['workers'].unique())))} learners",
        n=len(table),
        measured=worst,
        unit="relative error",
    )


def _follows_curvature(evidence: Evidence) -> Decision:
    """A6: the noise of the spread against the paper's formula."""
    table = evidence.table("diversity")
    rows = table[(table["case"] == "mnist-mlp") & (table["step"] >= SETTLED)]
    if rows.empty:
        raise Missing("diversity: rows of mnist-mlp")
    ratio = (rows["paper"] / rows["measured"]).to_numpy(dtype=np.float64)
    inside = int(((ratio >= 1 / FACTOR) & (ratio <= FACTOR)).sum())
    verdict: Verdict = "not shown"
    if len(ratio) < 4:
        pass
    elif inside == len(ratio):
        verdict = "reproduced"
    else:
        verdict = "partly" if 2 * inside >= len(ratio) else "contradicted"
    own = (rows["first_order"] / rows["measured"]).to_numpy(dtype=np.float64)
    return Decision(
        verdict=verdict,
        found=f"a^2 tr(H^2 C) over Delta^(2), from step {int(rows['step'].min())} to {int(rows['step'].max())}: "
        f"{ratio.min():.2g} to {ratio.max():.2g}, {inside} of {len(ratio)} within a factor of {FACTOR:g}; with each "
        f"mini-batch's own Hessian and all products, to first order: {own.min():.2g} to {own.max():.2g}",
        n=len(ratio),
        measured=float(np.median(ratio)),
        low=float(ratio.min()),
        high=float(ratio.max()),
        unit="formula over measured, median and range",
    )


def _common_hessian(evidence: Evidence) -> Decision:
    """A6q: no curvature that differs, no noise of the spread."""
    table = evidence.table("diversity")
    rows = table[table["case"] == "quadratic"]
    if rows.empty:
        raise Missing("diversity: rows of the quadratic")
    worst = float((rows["measured"] / rows["step_length"]).max())
    apart = bool((rows["replica_variance"] > 0).all())
    verdict: Verdict = "reproduced" if worst <= ZERO else "contradicted"
    return Decision(
        verdict=verdict if apart else "not shown",
        found=f"Delta^(2) at most {worst:.1e} of the step's squared length, with sigma_w^2 from "
        f"{rows['replica_variance'].min():.2g} to {rows['replica_variance'].max():.2g}",
        n=len(rows),
        measured=worst,
        unit="of the step's squared length",
    )


def _kink(evidence: Evidence) -> Decision:
    """A8: the bound on the smoothed loss's curvature, where it is known in closed form."""
    at, along = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    words, errors, bounded = [], [], True
    for sigma in (0.1, 0.5):
        found = smoothed_curvature(torch.sign, at, along, sigma=sigma, pairs=DRAWS)
        expected = math.sqrt(2 / math.pi) / sigma
        errors.append(abs(found.value / expected - 1))
        bounded = bounded and found.value <= 2 / sigma
        words.append(f"sigma {sigma:g}: {found.value:.4g} against {expected:.4g}, at most {2 / sigma:g}")
    return Decision(
        verdict="reproduced" if max(errors) <= KINK and bounded else "contradicted",
        found="; ".join(words),
        n=len(errors),
        measured=max(errors),
        unit="relative error",
    )


def _smoother(evidence: Evidence) -> Decision:
    """A8b: a network's loss, smoothed by noise of the size of the workers' spread."""
    table = evidence.table("smoothing")
    places = [group.sort_values("sigma")["eigenvalue"].to_numpy() for _, group in table.groupby(["seed", "step"])]
    falls = [bool((np.diff(values) < 0).all()) for values in places]
    lower = [bool(values[-1] < values[0]) for values in places]
    verdict: Verdict = "not shown"
    if all(falls):
        verdict = "reproduced"
    elif all(lower):
        verdict = "partly"
    elif not any(lower):
        verdict = "contradicted"
    words = [
        f"seed {seed}, step {step}: "
        + ", ".join(f"{r['eigenvalue']:.3g} at {r['factor']:g}" for r in group.sort_values("sigma").to_dict("records"))
        for (seed, step), group in table.groupby(["seed", "step"])
    ]
    return Decision(
        verdict=verdict,
        found="largest eigenvalue, at sigma in units of the workers' spread: " + "; ".join(words),
        n=len(places),
    )


def _flatter(evidence: Evidence) -> Decision:
    """A9: the largest eigenvalue where both train."""
    rows = probed(evidence, "minima", NUMBERS)
    rows = rows[(rows["kind"] == "hessian") & (rows["quantity"] == "eigenvalue") & (rows["number"] == 0)]
    rows = rows[rows["model"] == "evaluated"]
    ends = finals(evidence, "minima")
    trained = set(ends.loc[ends["loss"] < TRAINED, "run_id"])
    last = rows.sort_values("snapshot").groupby(["label", "seed"]).tail(1)
    last = last[last["run_id"].isin(trained)]
    each = {label: last[last["label"] == label].set_index("seed")["value"] for label in ("ssgd", "dpsgd-own", "dpsgd")}
    both = pd.concat({name: each[name] for name in ("ssgd", "dpsgd-own")}, axis=1).dropna()
    n = len(both)
    flatter = int((both["dpsgd-own"] <= both["ssgd"]).sum())
    verdict: Verdict = "not shown"
    if n >= LEAST_SEEDS:
        if flatter >= math.ceil(0.75 * n):
            verdict = "reproduced"
        elif flatter <= n // 4:
            verdict = "contradicted"
    words = "; ".join(
        f"{label} {', '.join(f'{v:.3g}' for v in values.sort_index())}" for label, values in each.items() if len(values)
    )
    return Decision(
        verdict=verdict,
        found=f"largest eigenvalue by seed: {words}; DPSGD's is not larger in {flatter} of {n}",
        n=n,
        measured=float((both["dpsgd-own"] / both["ssgd"]).median()) if n else math.nan,
        unit="DPSGD over SSGD, median",
        rows=sorted(set(last["run_id"].astype(str))),
    )


CLAIMS = (
    Claim(
        id="A0",
        statement="Mixing does not move the mean model: w_a(t+1) = w_a(t) - alpha mean_j grad L_j(w_j(t)), on any of "
        "the paper's graphs.",
        kind="exact",
        expected="0",
        tolerance="1e-10 of the step, in double precision",
        rule="One step of the run against the one foretold from where the learners stood and what they drew. "
        "Reproduced within the tolerance everywhere; else contradicted; not shown if the learners did not stand apart.",
        parts=("mean-step",),
        decide=_mean_step,
    ),
    Claim(
        id="A6",
        statement="The noise of the spread follows the landscape: Delta^(2) = alpha^2 tr(H^2 C).",
        kind="number",
        expected="ratio 1",
        tolerance="a factor of 5 after step 150",
        rule="With H of 10 000 samples and Delta^(2) averaged over 8 draws of mini-batches, n = 16, lr 0.8. Reproduced "
        "if all places after step 150 are within the factor; partly if half of them; else contradicted; below 4 places "
        "not shown.",
        parts=("diversity",),
        decide=_follows_curvature,
    ),
    Claim(
        id="A6q",
        statement="With one Hessian for all mini-batches the spread adds no noise, however large it is.",
        kind="exact",
        expected="0",
        tolerance="1e-10 of the step's squared length",
        rule="On quadratics. Reproduced within the tolerance on all graphs and numbers of learners; else contradicted; "
        "not shown if the learners did not stand apart.",
        parts=("diversity",),
        decide=_common_hessian,
    ),
    Claim(
        id="A8",
        statement="The loss smoothed by noise sigma has curvature of at most 2 G / sigma.",
        kind="exact",
        expected="|x| (G = 1) has sqrt(2 / pi) / sigma = 0.798 / sigma at its kink, below 2 / sigma",
        tolerance="2 %",
        rule="The estimator of the smoothed loss's curvature against the closed form, sigma 0.1 and 0.5, and below the "
        "bound. Reproduced if both hold for both; else contradicted.",
        parts=(),
        decide=_kink,
    ),
    Claim(
        id="A8b",
        statement="Noise of the size of the learners' spread makes a network's loss less curved, more so if larger.",
        kind="shape",
        expected="the largest eigenvalue of the smoothed loss falls with sigma",
        rule="At mean models of a DPSGD run, sigma 0, 0.5, 1, 2, 4 and 8 times the spread. Reproduced if it falls with "
        "each sigma at every model; partly if it is lower at the largest sigma than without at every model; "
        "contradicted if at none; else not shown.",
        parts=("smoothing",),
        decide=_smoother,
    ),
    Claim(
        id="A9",
        statement="DPSGD ends in flatter minima than SSGD where both train.",
        kind="shape",
        expected="flatter; the first version's abstract says so, without a number",
        rule="Largest eigenvalue of the Hessian after 600 steps at lr 0.5, seeds in which both end below 0.2 nat, "
        "learners that start apart. Reproduced if DPSGD's is not larger in at least 3 of 4 seeds; contradicted if in "
        "at most 1 of 4; else, or below 3 seeds, not shown.",
        parts=("minima",),
        decide=_flatter,
    ),
)
