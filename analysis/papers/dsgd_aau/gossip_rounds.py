"""Claims of the gossip papers that are formulas: rates of consensus, exact averages, bias, stability, digraphs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.papers.claim import Claim, Decision
from analysis.papers.dsgd_aau.rules import without_exception
from analysis.papers.evidence import Evidence


def expected_rate(topology: str, workers: int) -> float:
    """The factor by which the consensus distance shrinks in a round, in closed form.

    Source: eigenvalues of circulants, products of paths and stars; exponential graphs (even n): Ying et al. 2021,
        arXiv 2110.13363. Weights: ring 1/3, torus 1/5, hypercube and exponential 1 / (1 + degree), star Metropolis.

    Example:
        >>> [round(expected_rate(name, 16), 4) for name in ("ring", "torus", "star", "hypercube", "exponential")]
        [0.9493, 0.6, 0.9375, 0.6, 0.6]
    """
    if topology == "ring":
        return 1 / 3 + 2 / 3 * math.cos(2 * math.pi / workers)
    if topology == "star":
        return 1 - 1 / workers
    if topology == "hypercube":
        return (math.log2(workers) - 1) / (math.log2(workers) + 1)
    if topology == "exponential":
        return 1 - 2 / (1 + math.ceil(math.log2(workers)))
    sides = [a for a in range(3, math.isqrt(workers) + 1) if workers % a == 0]
    a, b = sides[-1], workers // sides[-1]
    large = (3 + 2 * math.cos(2 * math.pi / b)) / 5
    small = (1 + 2 * math.cos(math.pi * (a // 2 * 2 / a)) + 2 * math.cos(math.pi * (b // 2 * 2 / b))) / 5
    return max(large, abs(small))


def _consensus(evidence: Evidence) -> Decision:
    """C1."""
    table = evidence.table("consensus")
    expected = [expected_rate(name, n) for name, n in zip(table["topology"], table["workers"], strict=True)]
    off = (table["rate"] - expected).abs()
    found = f"largest distance {off.max():.1g} over {', '.join(sorted(table['topology'].unique()))}"
    return without_exception((off <= 1e-4).tolist(), found, measured=float(off.max()))


def _one_peer(evidence: Evidence) -> Decision:
    """C2."""
    table = evidence.table("one-peer-rounds")
    powers = (table["workers"] & (table["workers"] - 1)) == 0
    exact, other = table.loc[powers, "left"], table.loc[~powers, "left"]
    found = f"left over {exact.max():.1g} at n = 2^k, at least {other.min():.2g} at {len(other)} other n"
    return without_exception([*(exact <= 1e-13), *(other > 1e-3)], found, measured=float(exact.max()), least=2)


def _gap(evidence: Evidence) -> Decision:
    """C3."""
    table = evidence.table("exponential-gap")
    off = (table["gap"] - 2 / (1 + np.ceil(np.log2(table["workers"])))).abs()
    found = f"largest distance {off.max():.1g} over even n from {table['workers'].min()} to {table['workers'].max()}"
    return without_exception((off <= 1e-9).tolist(), found, measured=float(off.max()))


def unbiased(table: pd.DataFrame) -> tuple[list[bool], str]:
    """Whether D-PSGD's error goes down with the rate and the others have none: each case, and words.

    Args:
        table: of the experiment `bias`.

    Source: Tang et al. 2018, arXiv 1803.07068, and what halving the rate does to an error in proportion to it.

    Example:
        >>> rows = [("d-psgd cta", 0.1, 1.0), ("d-psgd cta", 0.05, 0.55), ("d2", 0.2, 1e-14)]
        >>> unbiased(pd.DataFrame(rows, columns=["algorithm", "lr", "error"]).assign(workers=8))[0]
        [True, True]
    """
    holds, ratios, errors = [], [], []
    for (name, _), rows in table.groupby(["algorithm", "workers"], sort=False):
        if str(name).startswith("d-psgd"):
            by_rate = rows.sort_values("lr", ascending=False)["error"].to_numpy()
            halved = (by_rate[1:] / by_rate[:-1]).tolist()
            ratios += halved
            holds += [0.45 <= ratio <= 0.65 for ratio in halved]
        else:
            errors.append(float(rows["error"].max()))
            holds.append(errors[-1] < 1e-9)
    return holds, (
        f"D-PSGD's error times {min(ratios, default=math.nan):.2f} to {max(ratios, default=math.nan):.2f} at half the "
        f"rate, that of the others at most {max(errors, default=math.nan):.1g}"
    )


def _stability(evidence: Evidence) -> Decision:
    """C6."""
    table = evidence.table("d2-stability")
    below = table["smallest"] < -1 / 3 - 1e-9
    holds = (table["diverged"] > 0) == below
    told = (f"{row['topology']} of {row['workers']}: {row['diverged']}" for row in table[below].to_dict("records"))
    found = (
        f"steps until a million away where the least eigenvalue is below -1/3: {', '.join(told)}; none of the "
        f"{int((~below).sum())} others diverged; refused by the settings: {int(table.loc[below, 'refused'].sum())}"
    )
    both = bool(below.any() and not below.all())
    decided = without_exception(holds.tolist(), found)
    return decided if both else Decision(verdict="not shown", found=found, n=len(table))


def _directed(evidence: Evidence) -> Decision:
    """C7."""
    table = evidence.table("directed")
    found = (
        f"push-sum at most {table['push_sum'].max():.1g} from the mean, rows that add up to 1 at least "
        f"{table['row_stochastic'].min():.2g}"
    )
    holds = [*(table["push_sum"] < 1e-10), *(table["row_stochastic"] > 1e-2)]
    return without_exception(holds, found, measured=float(table["push_sum"].max()))


CONSENSUS = Claim(
    id="C1",
    statement="Gossip on a fixed graph agrees at the rate rho, the second largest singular value of its matrix.",
    kind="exact",
    expected="ring 1/3 + 2/3 cos(2 pi / n), torus, star 1 - 1/n, hypercube (k-1)/(k+1), exponential 1 - 2/(1 + log2 n)",
    tolerance="1e-4",
    rule="The factor on the consensus distance per round of D-PSGD at rate 0, by the power method on its models, "
    "against the closed form. reproduced: all within 1e-4; contradicted: any is not.",
    parts=("consensus",),
    decide=_consensus,
)
ONE_PEER = Claim(
    id="C2",
    statement="log2 n rounds on the one-peer exponential graph average exactly if n is a power of two (Ying et al. "
    "2021).",
    kind="exact",
    expected="0; not 0 for other n",
    tolerance="1e-13",
    rule="reproduced: what is left is at most 1e-13 at every power of two and above 1e-3 at every other n.",
    parts=("one-peer-rounds",),
    decide=_one_peer,
)
GAP = Claim(
    id="C3",
    statement="The static exponential graph has the spectral gap 2 / (1 + ceil(log2 n)) for even n (Ying et al. 2021).",
    kind="exact",
    expected="2 / (1 + ceil(log2 n))",
    tolerance="1e-9",
    rule="W is read off one round of D-PSGD on unit vectors. reproduced: all even n within 1e-9; contradicted: any "
    "is not.",
    parts=("exponential-gap",),
    decide=_gap,
)
STABILITY = Claim(
    id="C6",
    statement="D2 is unstable where W has an eigenvalue below -1/3 (Tang et al. 2018).",
    kind="exact",
    expected="diverges within 200 steps below -1/3, on no graph above",
    tolerance="none",
    rule="reproduced: D2, its refusal switched off, is a million away within 200 steps on every graph below -1/3 and "
    "on none above; contradicted: any other; not shown: graphs of one kind only.",
    parts=("d2-stability",),
    decide=_stability,
)
DIRECTED = Claim(
    id="C7",
    statement="Push-sum finds the mean on irregular directed graphs, where weights that add up to 1 by row are biased "
    "(Assran et al. 2019).",
    kind="exact",
    expected="0 against a bias",
    tolerance="1e-10, and a bias above 1e-2",
    rule="SGP at rate 0 on a star with a directed ring, 400 rounds. reproduced: z within 1e-10 of the mean everywhere, "
    "the row-stochastic recursion more than 1e-2 off everywhere; contradicted: any is not.",
    parts=("directed",),
    decide=_directed,
)
