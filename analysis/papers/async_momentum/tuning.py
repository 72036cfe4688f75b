"""B6, B7, B8: what asynchrony costs in steps, and what tuned momentum saves.

Source: Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774, figures 3, 4 and 8.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.asynchrony.tuning import best_momentum, momentum_grid, penalty_curves, trend
from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.targets import time_to_target

WORKERS = (1, 2, 4, 8, 16, 32)
PARTS = tuple(f"momentum-{m}" for m in WORKERS)
FALLS = -0.8
USUAL = 0.9
DEAR, SLIGHT = 1.5, 1.1
AT = 16
"""Workers at which the price of a fixed momentum is asked."""
FIGURE_8 = {1: 0.675, 2: 0.45, 4: 0.225, 8: 0.0, 16: -0.675}
"""Best explicit momentum in the paper, by workers."""
FIGURE_4 = {1: 1.0, 2: 1.0, 4: 2.0, 8: 2.0, 16: 6.0}
"""Steps, tuned, over those of one worker in the paper, by workers."""


def grid(evidence: Evidence) -> tuple[pd.DataFrame, list[str]]:
    """All runs over momentum and rate, as `analysis.asynchrony.tuning` reads them, and their run_ids.

    Raises:
        Missing: a study has not been run, or runs of it failed.

    Source: steps to a held-out loss, as in figures 4 and 8.
    """
    parts, rows = [], []
    for part in PARTS:
        results = evidence.results(part)
        check(part, results.runs)
        parts.append(momentum_grid(results.runs, time_to_target(results.heldout, results.runs)))
        rows += results.runs["run_id"].tolist()
    return pd.concat(parts, ignore_index=True), rows


def check(part: str, runs: pd.DataFrame) -> None:
    """Refuse a study of which runs failed.

    Raises:
        Missing: how many of how many, and one of them.

    Source: a setting without its runs would be left out of a grid without a word.
    """
    bad = runs[~runs["status"].isin(["completed", "diverged"])]
    if len(bad):
        raise Missing(f"{part}: {len(bad)} of {len(runs)} runs failed, such as {bad['run_id'].iloc[0]}")


def best_falls(evidence: Evidence) -> Decision:
    """B6.

    Source: arXiv 1605.09774, figures 3 and 8.
    """
    runs, rows = grid(evidence)
    found = best_momentum(runs)
    rho, p = trend(found)
    known = found.dropna(subset="momentum")
    negative = bool((known["momentum"] < 0).any())
    verdict: Verdict
    if len(known) < 4 or found["seeds"].min() < LEAST_SEEDS or np.isnan(rho):
        verdict = "not shown"
    elif rho < FALLS and negative:
        verdict = "reproduced"
    elif rho < FALLS or (rho < 0 and negative):
        verdict = "partly"
    else:
        verdict = "contradicted" if rho > 0 else "not shown"
    words = ", ".join(f"{m:g} with M = {w}" for w, m in zip(known["workers"], known["momentum"], strict=True))
    return Decision(
        verdict=verdict, found=f"best explicit momentum {words}; rank correlation {rho:.2f}, p = {p:.3f}", n=len(rows),
        measured=rho, unit="rank correlation", rows=rows,
    )  # fmt: skip


def fixed_momentum(evidence: Evidence) -> Decision:
    """B7.

    Source: arXiv 1605.09774, figures 4 and 8.
    """
    runs, rows = grid(evidence)
    curves = penalty_curves(runs)
    own = curves[curves["workers"] == AT].set_index("momentum")["cost"]
    if own.empty or USUAL not in own.index:
        raise Missing(f"no runs with {AT} workers and momentum {USUAL}")
    tuned, any_sign = float(own[own.index >= 0].min()), float(own.min())
    seeds = int(curves.loc[curves["workers"] == AT, "seeds"].min())
    price = float(own[USUAL]) / tuned if np.isfinite(tuned) else float("nan")
    verdict: Verdict
    if not np.isfinite(tuned) or seeds < LEAST_SEEDS:
        verdict = "not shown"
    elif price >= DEAR:
        verdict = "reproduced"
    else:
        verdict = "partly" if price >= SLIGHT else "contradicted"
    if np.isfinite(price):
        said = f"takes {price:.2f} times the steps of the best momentum from 0 on"
    else:
        said = (
            "never gets there with all seeds" if np.isfinite(tuned) else "gets there no more than any other from 0 on"
        )
    gain = f"; with negative ones the best takes {any_sign / tuned:.2f} times those" if np.isfinite(tuned) else ""
    found = f"momentum {USUAL:g} with M = {AT} {said}{gain}"
    return Decision(
        verdict=verdict, found=found, n=len(rows), measured=price if np.isfinite(price) else float("nan"),
        unit="x the steps", rows=rows,
    )  # fmt: skip


def penalty_grows(evidence: Evidence) -> Decision:
    """B8.

    Source: arXiv 1605.09774, figure 4.
    """
    runs, rows = grid(evidence)
    found = best_momentum(runs)
    penalty = found["statistical_penalty"].to_numpy(dtype=np.float64)
    # All alike have no rank correlation.
    alike = np.ptp(penalty) == 0
    rank = 0.0 if alike else float(found["workers"].corr(pd.Series(penalty), method="spearman"))
    verdict: Verdict
    if np.isnan(penalty).any() or len(penalty) < 4 or found["seeds"].min() < LEAST_SEEDS:
        verdict = "not shown"
    elif (np.diff(penalty) >= 0).all() and penalty[-1] > penalty[0]:
        verdict = "reproduced"
    elif rank >= -FALLS:
        verdict = "partly"
    else:
        verdict = "contradicted" if penalty[-1] <= penalty[0] else "not shown"
    words = ", ".join(f"{x:.2f} with M = {w}" for w, x in zip(found["workers"], penalty, strict=True))
    return Decision(
        verdict=verdict, found=f"steps to the target, tuned, over those of one worker: {words}", n=len(rows),
        measured=float(penalty[-1]), unit="x the steps, most workers", rows=rows,
    )  # fmt: skip


CLAIMS = (
    Claim(
        id="B6",
        statement="The best explicit momentum falls as workers are added, and can be negative.",
        kind="shape",
        expected="0.675, 0.45, 0.225, 0, -0.675 with M = 1, 2, 4, 8, 16 (figure 8)",
        tolerance="rank correlation below -0.8",
        rule="The momentum with the fewest steps to the target, its learning rate tuned, for each M. Reproduced if its "
        "rank correlation with M is below -0.8 and it is negative for some M; partly if one of these holds and it "
        "falls; contradicted if it rises; else, or with fewer than 4 M or 3 seeds, not shown.",
        parts=PARTS,
        decide=best_falls,
    ),
    Claim(
        id="B7",
        statement="A fixed momentum of 0.9 costs some 2.5 times the steps of a tuned one with 16 workers.",
        kind="number",
        expected="about 2.5 times (figure 4)",
        tolerance="1.5 times or more",
        rule="Steps to the target with 16 workers at momentum 0.9 over those of the best momentum from 0 on, learning "
        "rates tuned. Reproduced from 1.5 times on, or if 0.9 never gets there; partly from 1.1 on; contradicted "
        "below; not shown if no momentum gets there or with fewer than 3 seeds. What negative momentum adds is told, "
        "not judged.",
        parts=PARTS,
        decide=fixed_momentum,
    ),
    Claim(
        id="B8",
        statement="The statistical penalty, steps to a loss over those of one worker, grows with the workers.",
        kind="shape",
        expected="1, 1, 2, 2, 6 with M = 1, 2, 4, 8, 16 (figure 4)",
        tolerance="none: monotone",
        rule="Momentum and learning rate tuned for each M. Reproduced if the penalty never falls from one M to the "
        "next and ends above 1; partly if its rank correlation with M is 0.8 or more; contradicted if it ends at 1 or "
        "below; else, or if a target is not reached, or with fewer than 4 M or 3 seeds, not shown.",
        parts=PARTS,
        decide=penalty_grows,
    ),
)
