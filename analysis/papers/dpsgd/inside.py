"""A4, A5 and A7: how DPSGD's effective learning rate, its noise and its workers' spread change while it trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dpsgd.found import Losses, probed
from analysis.papers.evidence import Evidence, Missing
from analysis.probes.tables import NOISE
from analysis.statistics import mean_over_runs

EARLY, LATE = 80, 400  # steps
LABEL = "dpsgd-own"
IDENTITY = 1e-5  # relative


def noise_rows(evidence: Evidence) -> pd.DataFrame:
    """The probes of the runs that start apart.

    Returns:
        `run_id`, `label`, `seed`, and the columns of `analysis.probes.tables.NOISE`.

    Raises:
        Missing: there are none, or none of the early or late steps.

    Source: the rules of A4, A5 and A7.

    Example:
        >>> from pathlib import Path
        >>> try:
        ...     noise_rows(Evidence(Path("nowhere"), "quick"))
        ... except Missing as missing:
        ...     print(str(missing).partition(":")[0])
        noise
    """
    rows = probed(evidence, "noise", NOISE)
    rows = rows[rows["label"] == LABEL]
    if not ((rows["step"] < EARLY).any() and (rows["step"] >= LATE).any()):
        raise Missing(f"noise: probes of {LABEL} before step {EARLY} and from step {LATE} on")
    return rows


def _medians(rows: pd.DataFrame, value: Callable[[pd.DataFrame], pd.Series]) -> Losses:
    """The median of a value over each seed's rows [seeds]; single values are heavy-tailed."""
    found: Losses = value(rows).groupby(rows["seed"]).median().to_numpy(dtype=np.float64)
    return found


def _both(rows: pd.DataFrame, value: Callable[[pd.DataFrame], pd.Series]) -> tuple[Losses, Losses]:
    """Medians [seeds] of the early and of the late steps."""
    early, late = rows[rows["step"] < EARLY], rows[rows["step"] >= LATE]
    return _medians(early, value), _medians(late, value)


def _listed(values: Losses) -> str:
    return ", ".join(f"{v:.2g}" for v in values)


def _self_adjusting(evidence: Evidence) -> Decision:
    """A4: from far below the learning rate up to it."""
    rows = noise_rows(evidence)
    early, late = _both(rows, lambda r: r["alpha_e"] / r["lr"])
    control = _both(rows, lambda r: r["alpha_e_control"] / r["lr"])
    steady = all(bool((np.abs(part - 1) <= 0.2).all()) for part in control)
    low, high = bool((early < 0.3).all()), bool((late > 0.7).all())
    verdict: Verdict = "not shown"
    if len(early) < LEAST_SEEDS:
        pass
    elif low and high and steady:
        verdict = "reproduced"
    elif bool((late > early).all()) and (low or high):
        verdict = "partly"
    elif 2 * int((late > early).sum()) < len(early):
        verdict = "contradicted"
    mean = mean_over_runs(late)
    return Decision(
        verdict=verdict,
        found=f"alpha_e / alpha, medians of each seed: before step {EARLY} {_listed(early)}, from step {LATE} "
        f"{_listed(late)}; SSGD's at the same places {_listed(control[0])} and {_listed(control[1])}",
        n=len(early),
        measured=mean.mean,
        low=mean.low,
        high=mean.high,
        unit="alpha_e / alpha, late",
        rows=_ids(rows),
    )


def _pythagoras(evidence: Evidence) -> Decision:
    """A4i: the two identities of the decomposition, in what was measured."""
    rows = probed(evidence, "noise", NOISE)
    step = rows["lr"] ** 2 * rows["mean_gradient"]
    along = (rows["alpha_e"] ** 2 * rows["slope"] + rows["noise"] - step).abs() / step
    parts = rows["noise_sampling"] + rows["noise_diversity_perp"] + rows["cross"]
    # Beside the whole step: the noise may be a small part of it, whose own rounding is of no interest.
    split = (parts - rows["noise"]).abs() / step
    worst = float(np.nanmax([along.max(), split.max()]))
    return Decision(
        verdict="reproduced" if worst <= IDENTITY else "contradicted",
        found=f"largest error {worst:.1e} of the step's squared length, in {len(rows)} places",
        n=len(rows),
        measured=worst,
        unit="relative error",
        rows=_ids(rows),
    )


def _parts_of_noise(evidence: Evidence) -> Decision:
    """A5: what the noise is made of."""
    rows = noise_rows(evidence)
    later = rows[rows["step"] > 0]  # at step 0 models are random draws, of which no step has made anything yet
    whole = _medians(later, lambda r: r["noise"] / (r["noise_sampling"] + r["noise_diversity_perp"]))
    early, late = _both(rows, lambda r: r["noise_diversity"] / r["noise_sampling"])
    printed = _both(rows, lambda r: r["noise"] / (r["noise_sampling"] + r["noise_diversity"]))
    adds = bool(((whole >= 0.7) & (whole <= 1.1)).all())
    large, small = bool((early > 10).all()), bool((late < 2).all())
    verdict: Verdict = "not shown"
    if len(early) < LEAST_SEEDS:
        pass
    elif adds and large and small:
        verdict = "reproduced"
    elif adds and bool((late < early).all()):
        verdict = "partly"
    elif bool((late >= early).all()):
        verdict = "contradicted"
    mean = mean_over_runs(whole)
    return Decision(
        verdict=verdict,
        found=f"Delta / (Delta_S + Delta_perp), medians of each seed: {_listed(whole)}; Delta^(2) / Delta_S before "
        f"step {EARLY} {_listed(early)}, from step {LATE} {_listed(late)}; Delta / (Delta_S + Delta^(2)), which counts "
        f"what lies along the slope too: {_listed(printed[0])}, then {_listed(printed[1])}",
        n=len(early),
        measured=mean.mean,
        low=mean.low,
        high=mean.high,
        unit="Delta / (Delta_S + Delta_perp)",
        rows=_ids(rows),
    )


def _shrinking(evidence: Evidence) -> Decision:
    """A7: the workers come together."""
    rows = noise_rows(evidence)
    early, late = _both(rows[rows["step"] > 0], lambda r: r["replica_variance"])
    ratio = late / early
    verdict: Verdict = "not shown"
    if len(ratio) < LEAST_SEEDS:
        pass
    elif bool((ratio < 0.2).all()):
        verdict = "reproduced"
    elif bool((ratio < 1).all()):
        verdict = "partly"
    elif 2 * int((ratio >= 1).sum()) > len(ratio):
        verdict = "contradicted"
    mean = mean_over_runs(ratio)
    return Decision(
        verdict=verdict,
        found=f"sigma_w^2, medians of each seed: before step {EARLY} {_listed(early)}, from step {LATE} "
        f"{_listed(late)}",
        n=len(ratio),
        measured=mean.mean,
        low=mean.low,
        high=mean.high,
        unit="late over early",
        rows=_ids(rows),
    )


def _ids(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows["run_id"].astype(str)))


CLAIMS = (
    Claim(
        id="A4",
        statement="DPSGD's effective learning rate is far below the set one at first and rises to it by itself; "
        "SSGD's is the set one throughout.",
        kind="shape",
        expected="alpha_e far below alpha at first, then near it; SSGD's near alpha",
        rule="Medians of alpha_e / alpha over each seed's probes, n = 16, lr 0.8. Reproduced if in every seed it is "
        "below 0.3 before step 80 and above 0.7 from step 400 on, and that of SSGD's gradient at the same mean models "
        "is within 0.2 of 1 both times; partly if it rises in every seed and one of the two bounds holds; contradicted "
        "if it rises in fewer than half; else, or below 3 seeds, not shown.",
        parts=("noise",),
        decide=_self_adjusting,
    ),
    Claim(
        id="A4i",
        statement="The mean model moves by -alpha_e g + eta with eta across g: alpha_e^2 |g|^2 + |eta|^2 = "
        "alpha^2 |g_a|^2; and |eta|^2 is Delta_S, what the spread adds across g, and their cross term.",
        kind="exact",
        expected="0",
        tolerance="1e-5 of the step's squared length",
        rule="Reproduced if both hold within the tolerance in every probe of every run; else contradicted.",
        parts=("noise",),
        decide=_pythagoras,
    ),
    Claim(
        id="A5",
        statement="DPSGD's noise is that of its mini-batches and that of its spread, of which the second is far larger "
        "at first and decays.",
        kind="shape",
        expected="Delta_DP = Delta_S + Delta^(2), Delta^(2) far above Delta_S at first, then decaying",
        rule="Medians over each seed's probes, n = 16, lr 0.8, with the part of Delta^(2) that is across the slope, "
        "Delta_perp, in the sum, since the rest is no noise but lowers alpha_e. Reproduced if in every seed "
        "Delta / (Delta_S + Delta_perp) is in 0.7 to 1.1 (all steps but the first), and Delta^(2) / Delta_S above 10 "
        "before step 80 and below 2 from step 400 on; partly if the sum holds and the ratio decays; contradicted if "
        "the ratio decays in no seed; else, or below 3 seeds, not shown.",
        parts=("noise",),
        decide=_parts_of_noise,
    ),
    Claim(
        id="A7",
        statement="The workers' spread shrinks as training proceeds.",
        kind="shape",
        expected="sigma_w^2 decreases over training",
        rule="Medians of sigma_w^2 over each seed's probes, n = 16, lr 0.8, of steps 1 to 79 and of those from 400 on; "
        "step 0 does not count, where learners have been drawn and not trained. Reproduced if late over early is "
        "below 0.2 in every seed; partly if below 1 in every seed; contradicted if not below 1 in most; else, or below "
        "3 seeds, not shown.",
        parts=("noise",),
        decide=_shrinking,
    ),
)
