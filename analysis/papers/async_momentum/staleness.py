"""B1, B2: how stale gradients are, with memoryless compute times and on real ranks.

Source: Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774, theorem 5.
"""

from __future__ import annotations

import numpy as np

from analysis.asynchrony.law import WARM_UP, staleness_law
from analysis.asynchrony.recorded import center_writes
from analysis.papers.cases import all_cases, groups_of
from analysis.papers.claim import Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import mean_over_runs

MEAN, FRESH, REJECTED = 0.01, 0.02, 0.01
REAL_MEAN = 0.05
ENOUGH = 100_000


def geometric(evidence: Evidence) -> Decision:
    """B1.

    Source: arXiv 1605.09774, theorem 5.
    """
    cases, words, total = {}, [], 0
    for workers, own in groups_of(evidence.table("staleness"), "workers"):
        found = np.repeat(own["staleness"].to_numpy(), own["gradients"].to_numpy())
        if len(found) < ENOUGH:
            continue
        law = staleness_law(found, workers=int(workers), warm_up=0)
        cases[f"mean, M = {workers}"] = abs(law.mean / law.mean_expected - 1) <= MEAN
        cases[f"share of fresh gradients, M = {workers}"] = abs(law.zero_share * int(workers) - 1) <= FRESH
        cases[f"chi-square, M = {workers}"] = law.p_value > REJECTED
        words.append(
            f"mean {law.mean:.3f}, {100 * law.zero_share:.2f} % fresh, p = {law.p_value:.2f} with M = {workers}"
        )
        total += len(found)
    return all_cases(cases, least=9, found="; ".join(words))


def on_ranks(evidence: Evidence) -> Decision:
    """B2.

    Source: arXiv 1605.09774, assumptions A1 to A3.
    """
    results = evidence.with_events("mpi-staleness")
    runs = results.runs
    done = runs[runs["status"] == "completed"]
    if len(done) < len(runs):
        raise Missing(f"mpi-staleness: {len(runs) - len(done)} runs are not complete")
    writes = center_writes(results.events, done)
    found: dict[int, list[tuple[float, float]]] = {}
    of = {str(i): int(n) for i, n in zip(done["run_id"], done["workers"], strict=True)}
    for run_id, own in writes.groupby("run_id", observed=True):
        workers = of[str(run_id)]
        law = staleness_law(own["staleness_updates"].to_numpy(), workers=workers, warm_up=WARM_UP)
        found.setdefault(workers, []).append((law.mean, law.variance_ratio))
    away, words, enough = [], [], True
    for workers, values in sorted(found.items()):
        mean = mean_over_runs([m for m, _ in values])
        ratio = float(np.mean([r for _, r in values]))
        away.append(mean.mean / (workers - 1) - 1)
        enough &= len(values) >= 3
        words.append(
            f"mean {mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f}), variance {ratio:.2f} M (M - 1), M = {workers}"
        )
    worst = max((abs(a) for a in away), default=float("nan"))
    verdict: Verdict
    if len(away) < 2 or not enough:
        verdict = "not shown"
    elif worst <= REAL_MEAN:
        verdict = "reproduced"
    else:
        verdict = "partly" if min(abs(a) for a in away) <= REAL_MEAN else "contradicted"
    return Decision(
        verdict=verdict, found="; ".join(words), n=len(done), measured=100 * worst, unit="% off M - 1, largest",
        rows=done["run_id"].tolist(),
    )  # fmt: skip


CLAIMS = (
    Claim(
        id="B1",
        statement="With M memoryless workers the staleness of a gradient is geometric with mean M - 1.",
        kind="exact",
        expected="P(tau = l) = (1/M) (1 - 1/M)^l",
        tolerance="mean 1 %, share of fresh gradients 2 %, chi-square not rejected at 1 %",
        rule="Over 10^5 gradients of the registered async-sgd for each M. Reproduced if mean, share of fresh gradients "
        "and chi-square hold for every M; partly from 90 % of these on; contradicted below; not shown with fewer than "
        "three M.",
        parts=("staleness",),
        decide=geometric,
    ),
    Claim(
        id="B2",
        statement="The mean staleness is M - 1 on real ranks too, whatever their compute times; its law need not be "
        "geometric.",
        kind="number",
        expected="M - 1 writes",
        tolerance="5 %",
        rule="Real MPI ranks with 2 and 4 workers and a server. Reproduced if the mean over seeds is within 5 % of "
        "M - 1 for both; partly for one; else contradicted; not shown with fewer than 3 seeds. The variance beside "
        "that of the geometric law is told, not judged.",
        parts=("mpi-staleness",),
        decide=on_ranks,
    ),
)
