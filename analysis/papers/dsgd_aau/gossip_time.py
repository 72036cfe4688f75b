"""Claims of the gossip papers about time: overlap, stragglers and slow links, latency against bandwidth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dsgd_aau.rules import without_exception, words
from analysis.papers.evidence import Evidence
from analysis.statistics import Mean, mean_over_runs

WITHIN = 0.05


def _overlap(evidence: Evidence) -> Decision:
    """C8."""
    table = evidence.table("overlap")
    alone = table["algorithm"] == "sgp"
    expected = (1 + table["transfer_s"]).where(alone, table["transfer_s"].clip(lower=1.0))
    off = (table["step_s"] / expected - 1).abs()
    found = (
        f"seconds per step off by at most {100 * off[~alone].max():.1f} % from max(gradient, message) overlapped, by "
        f"{100 * off[alone].max():.1f} % from their sum without"
    )
    return without_exception((off <= WITHIN).tolist(), found, measured=float(off.max()), least=2)


def ratio(table: pd.DataFrame, ours: str, theirs: str) -> Mean:
    """Gradients a second of one algorithm over those of another, mean and interval over seeds.

    Args:
        table: `algorithm`, `seed`, `gradients_per_s`.

    Source: `analysis.statistics.mean_over_runs`.

    Example:
        >>> rows = [("a", 0, 4.0), ("b", 0, 2.0), ("a", 1, 4.0), ("b", 1, 2.0), ("a", 2, 4.0), ("b", 2, 2.0)]
        >>> ratio(pd.DataFrame(rows, columns=["algorithm", "seed", "gradients_per_s"]), "a", "b").mean
        2.0
    """
    pace = table.pivot(index="seed", columns="algorithm", values="gradients_per_s")
    return mean_over_runs((pace[ours] / pace[theirs]).to_numpy(dtype=np.float64))


def _prague(evidence: Evidence) -> Decision:
    """C11."""
    table = evidence.table("prague")
    uneven = ratio(table[table["slow"] > 1], "prague", "allreduce-sgd")
    even = ratio(table[table["slow"] == 1], "prague", "ad-psgd")
    holds = [uneven.low > 2, even.low > 1]
    verdict: Verdict
    if min(uneven.n, even.n) < LEAST_SEEDS:
        verdict = "not shown"
    else:
        verdict = "reproduced" if all(holds) else "partly" if any(holds) else "contradicted"
    return Decision(
        verdict=verdict,
        found=f"one worker five times slower: {words(uneven)} times all-reduce's gradients; all alike: {words(even)} "
        "times AD-PSGD's",
        n=len(table),
        measured=uneven.mean,
        low=uneven.low,
        high=uneven.high,
        unit="times",
    )


def _shared(evidence: Evidence) -> Decision:
    """C12."""
    table = evidence.table("shared-network")
    shared = ratio(table[table["shared"]], "ad-psgd", "allreduce-sgd")
    alone = ratio(table[~table["shared"]], "ad-psgd", "allreduce-sgd")
    gossip = ratio(table[table["shared"]], "ad-psgd", "d-psgd")
    verdict: Verdict
    if shared.n < LEAST_SEEDS:
        verdict = "not shown"
    else:
        verdict = "reproduced" if shared.low > 2 else "partly" if shared.mean > 1 else "contradicted"
    return Decision(
        verdict=verdict,
        found=f"links of 2 of 16 nodes ten times slower: {words(shared)} times all-reduce's gradients, {words(gossip)} "
        f"times D-PSGD's; all links alike: {words(alone)} times all-reduce's",
        n=len(table),
        measured=shared.mean,
        low=shared.low,
        high=shared.high,
        unit="times",
    )


def expected_ratio(workers: float, latency_s: float, transfer_s: float) -> float:
    """Seconds of a ring all-reduce over those of an exchange with two neighbours, a = latency, b = M / bandwidth.

    (2 (n - 1) a + 2 (n - 1) / n b) / (a + 2 b): what goes to both neighbours leaves one after the other, but neither
    waits for the other's latency.

    Source: Patarasuk, Yuan, JPDC 2009, for the ring; Hockney 1994 for a message.

    Example:
        >>> expected_ratio(16, 1.0, 0.0), round(expected_ratio(16, 0.0, 1.0), 4)
        (30.0, 0.9375)
    """
    ring = 2 * (workers - 1) * (latency_s + transfer_s / workers)
    return ring / (latency_s + 2 * transfer_s)


def _crossover(evidence: Evidence) -> Decision:
    """C16."""
    table = evidence.table("crossover")
    if len(table) < 8:
        return Decision(verdict="not shown", found=f"{len(table)} networks", n=len(table))
    measured = (table["allreduce_s"] / table["gossip_s"]).to_numpy(dtype=np.float64)
    points = zip(table["workers"], table["latency_s"], table["transfer_s"], strict=True)
    expected = np.array([expected_ratio(*point) for point in points])
    off = np.abs(measured / expected - 1)
    same = (measured > 1) == (expected > 1)
    verdict: Verdict = "reproduced" if (off <= WITHIN).all() else "partly" if same.all() else "contradicted"
    narrow = table["latency_s"] == 0
    return Decision(
        verdict=verdict,
        found=f"{int((off <= WITHIN).sum())} of {len(off)} networks within 5 % of the formula, the worst off by "
        f"{100 * off.max():.0f} %; who is faster is as the formula says in {int(same.sum())}. All-reduce takes up to "
        f"{measured.max():.3g} times as long where latency counts, {measured[narrow].min():.2f} to "
        f"{measured[narrow].max():.2f} times where bandwidth alone does",
        n=len(table),
        measured=float(measured.max()) if len(measured) else math.nan,
        unit="times",
    )


OVERLAP = Claim(
    id="C8",
    statement="Overlapped SGP hides messages behind gradients (Assran et al. 2019).",
    kind="exact",
    expected="a step takes max(gradient, message) overlapped, their sum without",
    tolerance="5 %",
    rule="Messages of half, one and two gradients' time. reproduced: all within 5 %; contradicted: any is not.",
    parts=("overlap",),
    decide=_overlap,
)
PRAGUE = Claim(
    id="C11",
    statement="Prague is 4.4 times as fast as all-reduce on unequal workers, and 3.7 times as fast as AD-PSGD on equal "
    "ones (Luo et al. 2020).",
    kind="number",
    expected="4.4 and 3.7 times the gradients per second",
    tolerance="more than 2 times all-reduce with one of 16 workers five times slower; more than AD-PSGD on equal ones",
    rule="Virtual time, a model takes 0.1 of a gradient, AD-PSGD's exchange blocks. reproduced: both intervals above "
    "their bounds; partly: one; contradicted: none; not shown: fewer than 3 seeds.",
    parts=("prague",),
    decide=_prague,
)
SHARED = Claim(
    id="C12",
    statement="AD-PSGD's epochs are 4 to 8 times as fast as synchronous ones on shared networks (Lian et al. 2018).",
    kind="number",
    expected="4 to 8 times the gradients per second",
    tolerance="more than 2 times",
    rule="16 workers, a model takes 0.25 of a gradient, the links of two nodes ten times slower, as with other jobs on "
    "them. reproduced: the interval is above 2; partly: the mean is above 1; contradicted: it is not; not shown: fewer "
    "than 3 seeds.",
    parts=("shared-network",),
    decide=_shared,
)
CROSSOVER = Claim(
    id="C16",
    statement="D-PSGD is faster than all-reduce on networks of high latency or low bandwidth (Lian et al. 2017).",
    kind="number",
    expected="time per step (2 (n-1) a + 2 (n-1)/n b) / (a + 2 b), a = latency, b = model / bandwidth",
    tolerance="5 %",
    rule="Ring of 4 and 16 workers (full 8 and 32, too), latency and bandwidth over three decades. reproduced: every "
    "network within 5 %; partly: the formula says everywhere who is faster, but not by how much; contradicted: else; "
    "not shown: fewer than 8 networks.",
    parts=("crossover",),
    decide=_crossover,
)
