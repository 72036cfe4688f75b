"""B6, B7, B8, B11, C3: what asynchrony costs in steps, and what tuned momentum or corrected gradients save.

Source: Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774, figures 3, 4 and 8; the servers of C3: arXiv 1511.05950,
    1609.08326, 1909.10802.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.asynchrony.tuning import best_momentum, momentum_grid, penalty_curves, trend
from analysis.papers.claim import Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import LEAST_SEEDS, above, best, errors
from analysis.targets import time_to_target

WORKERS = (1, 2, 4, 8, 16, 32)
PARTS = tuple(f"momentum-{m}" for m in WORKERS)
FALLS = -0.8
USUAL = 0.9
DEAR, SLIGHT = 1.5, 1.1
AT = 16
"""Workers at which the price of a fixed momentum is asked."""
MITIGATED = ("sa-asgd", "dc-asgd", "gap-aware")


def _grid(evidence: Evidence) -> tuple[pd.DataFrame, list[str]]:
    """All runs over momentum and rate, and their run_ids."""
    parts, rows = [], []
    for part in PARTS:
        results = evidence.results(part)
        _check(part, results.runs)
        parts.append(momentum_grid(results.runs, time_to_target(results.heldout, results.runs)))
        rows += results.runs["run_id"].tolist()
    return pd.concat(parts, ignore_index=True), rows


def _check(part: str, runs: pd.DataFrame) -> None:
    bad = runs[~runs["status"].isin(["completed", "diverged"])]
    if len(bad):
        raise Missing(f"{part}: {len(bad)} of {len(runs)} runs failed, such as {bad['run_id'].iloc[0]}")


def best_falls(evidence: Evidence) -> Decision:
    """B6.

    Source: arXiv 1605.09774, figures 3 and 8.
    """
    grid, rows = _grid(evidence)
    found = best_momentum(grid)
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
    grid, rows = _grid(evidence)
    curves = penalty_curves(grid)
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
    grid, rows = _grid(evidence)
    found = best_momentum(grid)
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


def groups(evidence: Evidence) -> Decision:
    """B11.

    Source: arXiv 1605.09774, section 5: hardware and statistical efficiency.
    """
    results, table = evidence.results("groups"), efficiency(evidence)
    step, needed = table["step_s"].to_numpy(), table["steps"].to_numpy()
    quicker = bool((np.diff(step) < 0).all())
    verdict: Verdict
    if len(table) < 3 or table["seeds"].min() < LEAST_SEEDS or not np.isfinite(needed).all():
        verdict = "not shown"
    elif quicker and (np.diff(needed) >= 0).all() and needed[-1] > needed[0]:
        verdict = "reproduced"
    elif quicker or needed[-1] > needed[0]:
        verdict = "partly"
    else:
        verdict = "contradicted"
    words = ", ".join(
        f"{row['groups']:.0f} groups {row['step_s']:.2f} s a step, {row['steps']:.0f} steps, {row['time_s']:.0f} s"
        for row in table.to_dict("records")
    )
    rows = results.runs["run_id"].tolist()
    return Decision(verdict=verdict, found=words, n=len(rows), rows=rows)


def efficiency(evidence: Evidence) -> pd.DataFrame:
    """Time per step of the server, steps to the target and their product for each number of groups, tuned for steps.

    Returns:
        One row per number of groups, ascending: `groups`, `momentum`, `lr`, `step_s`, `steps` (infinite if a seed never
        reached the target), `time_s`, `seeds`.

    Raises:
        Missing: the study has not been run, or runs of it failed.

    Source: arXiv 1605.09774, section 5.
    """
    results = evidence.results("groups")
    runs = results.runs
    _check("groups", runs)
    settings = evidence.runs("groups").set_index("run_id")["settings"]
    reached = time_to_target(results.heldout, runs).set_index("run_id")
    frame = pd.DataFrame(
        {
            "groups": [n // settings[i]["group_size"] for i, n in zip(runs["run_id"], runs["workers"], strict=True)],
            "momentum": [settings[i]["momentum"] for i in runs["run_id"]],
            "lr": [settings[i]["optimizer"]["lr"] for i in runs["run_id"]],
            "seed": runs["seed"].to_numpy(),
            "size": [settings[i]["group_size"] for i in runs["run_id"]],
            "step_s": (runs["duration_s"] / runs["steps"]).to_numpy(),
            "steps": (reached["samples_to_target"].reindex(runs["run_id"]).to_numpy() / runs["batch_size"]).to_numpy(),
            "time_s": reached["time_to_target_s"].reindex(runs["run_id"]).to_numpy(),
        }
    )
    # A group's step is one gradient of each member.
    frame["step_s"] *= frame["size"]
    frame["steps"] /= frame["size"]
    frame = frame.fillna({"steps": np.inf, "time_s": np.inf})
    mean = frame.groupby(["groups", "momentum", "lr"])[["step_s", "steps", "time_s"]].mean()
    mean["seeds"] = frame.groupby(["groups", "momentum", "lr"])["seed"].nunique()
    tuned = mean.reset_index().sort_values("steps", kind="stable").groupby("groups").head(1)
    return tuned.sort_values("groups").reset_index(drop=True)


def mitigation(evidence: Evidence) -> Decision:
    """C3.

    Source: arXiv 1511.05950, 1609.08326, 1909.10802.
    """
    table = best(errors(evidence, "mitigation"), "lowest", by=("algorithm",))
    own = {str(row["algorithm"]): row for _, row in table.iterrows()}
    if "async-sgd" not in own or not set(MITIGATED) & set(own):
        raise Missing("mitigation: async-sgd or all that it is compared with are missing")
    plain, others = own["async-sgd"], [own[name] for name in MITIGATED if name in own]
    better, worse = (sum(above(a, b) for a, b in pairs) for pairs in (
        [(plain, row) for row in others], [(row, plain) for row in others],
    ))  # fmt: skip
    verdict: Verdict
    if table["n"].min() < LEAST_SEEDS or len(others) < len(MITIGATED):
        verdict = "not shown"
    elif better and not worse:
        verdict = "reproduced"
    elif better:
        verdict = "partly"
    else:
        verdict = "contradicted" if worse else "not shown"
    words = ", ".join(f"{name} {100 * row['mean']:.2f} %" for name, row in own.items())
    rows = [run for runs in table["rows"] for run in runs]
    return Decision(
        verdict=verdict, found=f"lowest test error, 16 workers: {words}; {better} better than async-sgd, {worse} worse",
        n=len(rows), rows=rows,
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
    Claim(
        id="B11",
        statement="More compute groups make a step shorter (hardware efficiency) and more of them necessary "
        "(statistical efficiency).",
        kind="shape",
        expected="time per step falls, steps to a loss rise, with 1, 2, 4, 8 groups of 8 machines",
        tolerance="none: monotone",
        rule="Momentum (0 to 0.9) and learning rate tuned for the fewest steps. Reproduced if the time per step falls "
        "and the number of steps never falls from each number of groups to the next, and ends higher; partly if one of "
        "both; contradicted if neither; not shown if a target is not reached, or with fewer than 3 seeds.",
        parts=("groups",),
        decide=groups,
    ),
    Claim(
        id="C3",
        statement="Staleness-aware, delay-compensated and gap-aware servers do at least as well as plain asynchronous "
        "SGD with 16 workers.",
        kind="shape",
        expected="none worse, some better; may tie",
        tolerance="2 standard errors",
        rule="Lowest test error, four learning rates for each. Reproduced if one is better than async-sgd by 2 "
        "standard errors and none worse by as much; partly if some are better and some worse; contradicted if some "
        "are worse and none better; a tie, or fewer than 3 seeds, is not shown.",
        parts=("mitigation",),
        decide=mitigation,
    ),
)
