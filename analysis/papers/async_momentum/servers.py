"""B11, C3: compute groups, and servers that correct stale gradients.

Source: Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774, section 5; Zhang, Gupta, Lian, Liu, arXiv 1511.05950; Zheng et
    al., arXiv 1609.08326; Barkai, Hakimi, Schuster, arXiv 1909.10802.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.papers.async_momentum.tuning import check
from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import above, best, errors
from analysis.targets import time_to_target

MITIGATED = ("sa-asgd", "dc-asgd", "gap-aware")


def groups(evidence: Evidence) -> Decision:
    """B11.

    Source: arXiv 1605.09774, section 5: hardware and statistical efficiency.
    """
    results, table = evidence.results("groups"), tuned_groups(group_runs(evidence))
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


def group_runs(evidence: Evidence) -> pd.DataFrame:
    """Time per step of the server, steps to the target and their product for each run.

    Returns:
        One row per run: `groups`, `momentum`, `lr`, `seed`, `size` (members of a group), `step_s`, `steps` (infinite if
        it never reached the target), `time_s`.

    Raises:
        Missing: the study has not been run, or runs of it failed.

    Source: arXiv 1605.09774, section 5.
    """
    results = evidence.results("groups")
    runs = results.runs
    check("groups", runs)
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
    return frame.fillna({"steps": np.inf, "time_s": np.inf})


def tuned_groups(runs: pd.DataFrame) -> pd.DataFrame:
    """Time per step of the server, steps to the target and their product for each number of groups, tuned for steps.

    Args:
        runs: of `group_runs`.

    Returns:
        One row per number of groups, ascending: `groups`, `momentum`, `lr`, `step_s`, `steps` (infinite if a seed never
        reached the target), `time_s`, `seeds`.

    Source: arXiv 1605.09774, section 5.

    Example:
        >>> rows = [(2, 0.0, 0.1, 0, 0.5, 40.0, 20.0), (2, 0.6, 0.1, 0, 0.5, 30.0, 15.0)]
        >>> names = ["groups", "momentum", "lr", "seed", "step_s", "steps", "time_s"]
        >>> tuned_groups(pd.DataFrame(rows, columns=names))[["momentum", "steps", "seeds"]].to_numpy().tolist()
        [[0.6, 30.0, 1.0]]
    """
    mean = runs.groupby(["groups", "momentum", "lr"])[["step_s", "steps", "time_s"]].mean()
    mean["seeds"] = runs.groupby(["groups", "momentum", "lr"])["seed"].nunique()
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
