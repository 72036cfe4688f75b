"""A11, A13: where the time of a step goes on MPI, and how far workers go from the center.

Source: Zhang, Choromanska, LeCun, arXiv 1412.6651, section 2, and the supplement's table 4.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis.papers.cases import rows_of
from analysis.papers.claim import Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.summary import of_events

TIMES_LESS = 5.0
FLAT = 0.25
"""Share by which the time of a gradient may differ between numbers of workers and count as flat."""


def of_a_step(evidence: Evidence) -> pd.DataFrame:
    """Where the time of a worker's step goes on MPI, seconds: one row per run.

    Returns:
        `run_id`, `workers`, `period`, `compute_s` (gradient), `comm_s` (waiting), `step_s` (all).

    Raises:
        Missing: the study has not been run, or runs of it are not complete.

    Source: arXiv 1412.6651, supplement, table 4.

    Example:
        >>> from pathlib import Path
        >>> try:
        ...     of_a_step(Evidence(Path("nowhere"), "quick"))
        ... except Missing as missing:
        ...     print(str(missing).partition(":")[0])
        breakdown
    """
    results = evidence.with_events("breakdown")
    runs = results.runs
    if not (runs["status"] == "completed").all():
        raise Missing(f"breakdown: {int((runs['status'] != 'completed').sum())} runs are not complete")
    runs = runs.merge(of_events(results.events, runs), on="run_id")
    steps = (runs["steps"] / runs["workers"]).to_numpy()
    return pd.DataFrame(
        {
            "run_id": runs["run_id"].to_numpy(),
            "workers": runs["workers"].to_numpy(),
            "period": [int(json.loads(text)["period"]) for text in runs["settings"]],
            "comm_s": runs["exposed_comm_s"].to_numpy() / steps,
            "compute_s": (runs["gradient_share"] * runs["duration_s"]).to_numpy() / steps,
            "step_s": runs["duration_s"].to_numpy() / steps,
        }
    )


def breakdown(evidence: Evidence) -> Decision:
    """A11.

    Source: arXiv 1412.6651, supplement, table 4.
    """
    table = of_a_step(evidence)
    results = evidence.with_events("breakdown")
    raw = results.runs.set_index("run_id")
    exact = []
    done = results.events[results.events["kind"] == "gradient"].groupby(["run_id", "rank"], observed=True).size()
    for row in rows_of(table):
        messages = sum(2 * math.ceil(t / row.period) for t in done.loc[row.run_id])
        exact.append(int(raw.loc[row.run_id, "nbytes"]) == 4 * int(raw.loc[row.run_id, "parameters"]) * messages)
    mean = table.groupby(["workers", "period"])[["comm_s", "compute_s"]].mean()
    short, long = (mean.xs(period, level="period") for period in (1, 10))
    ratio = short["comm_s"] / long["comm_s"]
    less = bool((ratio >= TIMES_LESS).all())
    grows = bool(short["comm_s"].iloc[-1] > short["comm_s"].iloc[0])
    spread = float(mean["compute_s"].max() / mean["compute_s"].min() - 1)
    verdict: Verdict
    if len(table) < 6 or len(short) < 2:
        verdict = "not shown"
    elif all(exact) and less and grows and spread <= FLAT:
        verdict = "reproduced"
    else:
        verdict = "partly" if all(exact) and (less or grows) else "contradicted"
    waits = ", ".join(f"{1e3 * s:.2f} and {1e3 * t:.2f}" for s, t in zip(short["comm_s"], long["comm_s"], strict=True))
    found = (
        f"bytes as the formula says in {sum(exact)} of {len(exact)} runs; waiting per step at tau = 1 and 10: "
        f"{waits} ms with {', '.join(map(str, short.index))} workers; time of a gradient within {100 * spread:.0f} %"
    )
    return Decision(
        verdict=verdict, found=found, n=len(table), measured=float(ratio.min()), unit="x less waiting at tau = 10",
        rows=table["run_id"].tolist(),
    )  # fmt: skip


def exploration(evidence: Evidence) -> Decision:
    """A13.

    Source: arXiv 1412.6651, section 2.
    """
    table = evidence.table("exploration")
    mean = table.groupby("alpha")["distance"].agg(["mean", "count"]).sort_index()
    distances = mean["mean"].to_numpy()
    falls = bool((np.diff(distances) < 0).all())
    rank = float(spearmanr(mean.index, distances).statistic) if len(mean) > 2 else math.nan
    verdict: Verdict
    if len(mean) < 4 or mean["count"].min() < 3 or not np.isfinite(distances).all():
        verdict = "not shown"
    elif falls:
        verdict = "reproduced"
    else:
        verdict = "partly" if rank <= -0.8 else "contradicted" if rank > 0 else "not shown"
    words = ", ".join(f"{d:.3g} at alpha = {a:.3g}" for a, d in zip(mean.index, distances, strict=True))
    return Decision(
        verdict=verdict, found=f"mean distance of a worker from the center {words}", n=len(table),
        measured=rank, unit="rank correlation",
    )  # fmt: skip


CLAIMS = (
    Claim(
        id="A11",
        statement="The time for communication falls as 1/tau and at tau = 1 grows with p, while the time for computing "
        "does not change.",
        kind="shape",
        expected="5 times less or better from tau = 1 to 10; 8 n / tau bytes per step; computing flat in p",
        tolerance="bytes exact; gradients within 25 %",
        rule="Real MPI ranks with 1, 2 and 4 workers and a server. Reproduced if the bytes are 8 n for every tau-th "
        "step of each worker in every run, waiting per step is at least 5 times less at tau = 10 for each p, waiting "
        "at tau = 1 is longer with the most workers than with the fewest, and gradients take equally long within 25 %; "
        "partly if the bytes and one of the two about waiting hold; else contradicted. On fewer cores than ranks "
        "gradients cannot take the same time.",
        parts=("breakdown",),
        decide=breakdown,
    ),
    Claim(
        id="A13",
        statement="A weaker elastic force lets workers explore farther from the center.",
        kind="shape",
        expected="the mean distance falls as alpha grows",
        tolerance="none: monotone",
        rule="mnist-mlp, 4 workers, five moving rates, three seeds or more. Reproduced if the mean distance falls from "
        "each rate to the next; partly if the rank correlation is -0.8 or less; contradicted if it is above 0; else, "
        "or with fewer than 4 rates or 3 seeds, not shown.",
        parts=("exploration",),
        decide=exploration,
    ),
)
