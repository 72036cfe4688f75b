"""A9, A10, A12: more workers, the time to a test error with and without a price of communication, and one worker.

Source: Zhang, Choromanska, LeCun, arXiv 1412.6651, section 5, figures 3 and 4, and the supplement's figure 6.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import above, best, errors

LEVELS = (0.15, 0.10, 0.08)
"""Test errors whose first time is asked."""
RIVALS = ("downpour", "mdownpour")
ELASTIC = ("easgd", "eamsgd")


def more_workers(evidence: Evidence) -> Decision:
    """A9.

    Source: arXiv 1412.6651, figure 3.
    """
    table = best(errors(evidence, "workers"), "lowest")
    words, rows, holds, worse = [], [], [], []
    for algorithm in ELASTIC:
        own = table[table["algorithm"] == algorithm].sort_values("workers")
        if len(own) < 3:
            raise Missing(f"workers: {algorithm} was run with fewer than 3 numbers of workers")
        mean, error = own["mean"].to_numpy(), own["standard_error"].to_numpy()
        apart = np.hypot(error[1:], error[:-1])
        holds.append(bool((mean[1:] <= mean[:-1] + apart).all() and mean[-1] < mean[0]))
        worse.append(above(own.iloc[-1], own.iloc[0]))
        said = ", ".join(f"{100 * m:.2f}" for m in mean)
        words.append(f"{algorithm} {said} % with {', '.join(str(p) for p in own['workers'])} workers")
        rows += [run for runs in own["rows"] for run in runs]
    verdict: Verdict
    if table["n"].min() < LEAST_SEEDS:
        verdict = "not shown"
    elif all(holds):
        verdict = "reproduced"
    elif all(worse):
        verdict = "contradicted"
    else:
        verdict = "partly" if any(holds) else "not shown"
    return Decision(verdict=verdict, found=f"lowest test error: {'; '.join(words)}", n=len(rows), rows=rows)


def times(evidence: Evidence, part: str) -> pd.DataFrame:
    """The median time to each test error with the learning rate that is fastest there.

    Returns:
        One row per algorithm, workers and level: `algorithm`, `workers`, `level`, `lr`, `time_s` (virtual; infinite if
        half of the seeds never got there), `n` (seeds), `resolution_s` (time between two snapshots), `rows`.

    Raises:
        Missing: the study has not been run, or runs of it failed.

    Source: arXiv 1412.6651, supplement, times to a threshold.
    """
    runs = errors(evidence, part)
    curves = evidence.results(part).heldout
    curves = curves.assign(error=1 - curves["heldout_metric"])
    found = []
    for level in LEVELS:
        first = curves[curves["error"] <= level].groupby("run_id", observed=True)["t_s"].min()
        reached = runs.assign(time_s=runs["run_id"].map(first).astype("float64").fillna(np.inf))
        for (algorithm, workers), own in reached.groupby(["algorithm", "workers"]):
            middle = own.groupby("lr")["time_s"].median()
            lr = float(middle.index.to_numpy()[middle.to_numpy().argmin()])
            used = own[own["lr"] == lr]
            found.append((algorithm, workers, level, lr, float(middle[lr]), len(used), used["run_id"].tolist()))
    table = pd.DataFrame(found, columns=["algorithm", "workers", "level", "lr", "time_s", "n", "rows"])
    spacing = float(np.median(curves.sort_values("t_s").groupby("run_id", observed=True)["t_s"].diff().dropna()))
    return table.assign(resolution_s=spacing)


def fastest(evidence: Evidence) -> Decision:
    """A10.

    Source: arXiv 1412.6651, figures 3 and 4 and supplement.
    """
    paying, free = times(evidence, "workers-paying"), times(evidence, "workers")
    won, of, words = _wins(paying)
    free_won, free_of, _ = _wins(free)
    rows = [run for runs in paying["rows"] for run in runs]
    verdict: Verdict
    if of == 0 or paying["n"].min() < LEAST_SEEDS:
        verdict = "not shown"
    elif won == of:
        verdict = "reproduced"
    elif won == 0:
        verdict = "contradicted"
    else:
        verdict = "partly" if 2 * won >= of else "not shown"
    found = (
        f"where an exchange takes half a gradient's time EAMSGD is no slower than its rivals in {won} of {of} cases "
        f"({words}); where it takes none in {free_won} of {free_of}"
    )
    return Decision(
        verdict=verdict, found=found, n=len(rows), measured=won / of if of else np.nan, unit="share of cases", rows=rows
    )


def _wins(table: pd.DataFrame) -> tuple[int, int, str]:
    """How often EAMSGD is no slower than each rival, to the time between two snapshots, and of how many."""
    at = table.set_index(["algorithm", "workers", "level"])["time_s"]
    spacing, won, of, words = float(table["resolution_s"].iloc[0]), 0, 0, []
    for workers in sorted(table["workers"].unique()):
        for level in LEVELS:
            ours = at.get(("eamsgd", workers, level), np.inf)
            theirs = {name: at.get((name, workers, level), np.inf) for name in RIVALS}
            if not np.isfinite([ours, *theirs.values()]).any():
                continue
            for name, time_s in theirs.items():
                of += 1
                won += bool(np.isfinite(ours) and ours <= time_s + spacing)
                words.append(f"{ours:.0f}:{time_s:.0f} {name} p = {workers} {100 * level:g} %")
    return won, of, ", ".join(words)


def sequential(evidence: Evidence) -> Decision:
    """A12.

    Source: arXiv 1412.6651, supplement, figure 6.
    """
    table = best(errors(evidence, "sequential"), "lowest").set_index("algorithm").sort_values("mean")
    if "msgd" not in table.index or len(table) < 2:
        raise Missing("sequential: msgd or all of its rivals are missing")
    ours, others = table[table.index == "msgd"].iloc[0], table.drop(index="msgd")
    verdict: Verdict
    if table["n"].min() < LEAST_SEEDS:
        verdict = "not shown"
    elif ours["mean"] < others["mean"].min():
        verdict = "reproduced"
    else:
        verdict = "contradicted" if any(above(ours, row) for _, row in others.iterrows()) else "not shown"
    words = ", ".join(f"{name} {100 * row['mean']:.2f} %" for name, row in table.iterrows())
    rows = [run for runs in table["rows"] for run in runs]
    return Decision(verdict=verdict, found=f"lowest test error: {words}", n=len(rows), rows=rows)


CLAIMS = (
    Claim(
        id="A9",
        statement="The lowest test error of EASGD and EAMSGD falls as workers are added, at period 10.",
        kind="shape",
        expected="falls over p = 4, 8, 16",
        tolerance="1 standard error between neighbours",
        rule="The learning rate with the least mean is taken for each p. Reproduced if for both algorithms no p is "
        "worse than the next smaller one by more than a standard error of the difference and p = 16 is better than "
        "p = 4; partly if for one; contradicted if for both p = 16 is worse than p = 4 by 2 standard errors; else, or "
        "with fewer than 3 seeds, not shown.",
        parts=("workers",),
        decide=more_workers,
    ),
    Claim(
        id="A10",
        statement="Given a price of communication, EAMSGD with period 10 is the fastest to a test error, against "
        "DOWNPOUR and MDOWNPOUR with period 1.",
        kind="shape",
        expected="EAMSGD first at every error level",
        tolerance="the time between two snapshots",
        rule="Times to 15, 10 and 8 % test error, medians over seeds, each with the rate that is fastest there, with 4 "
        "and 16 workers where an exchange takes half a gradient's time. Reproduced if EAMSGD is no slower than each "
        "rival in every case; partly in at least half; contradicted in none; else, or with fewer than 3 seeds, not "
        "shown. What happens without that price is told, not judged.",
        parts=("workers-paying", "workers"),
        decide=fastest,
    ),
    Claim(
        id="A12",
        statement="Nesterov momentum (MSGD) is the best of the sequential methods SGD, MSGD, ASGD and MVASGD.",
        kind="shape",
        expected="MSGD has the lowest test error",
        tolerance="rank only",
        rule="The learning rate with the least mean is taken for each. Reproduced if MSGD's mean lowest test error is "
        "the least; contradicted if it is above another's by 2 standard errors; else, or with fewer than 3 seeds, not "
        "shown.",
        parts=("sequential",),
        decide=sequential,
    ),
)
