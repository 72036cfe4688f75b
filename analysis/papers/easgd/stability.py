"""A1, A2, A7: where EASGD, ADMM and DOWNPOUR stop shrinking.

Source: Zhang, Choromanska, LeCun, arXiv 1412.6651, section 4; the limit of DOWNPOUR is derived in
    `analysis.theory.downpour`.
"""

from __future__ import annotations

import math

from analysis.papers.cases import all_cases, rows_of
from analysis.papers.claim import Claim, Decision
from analysis.papers.evidence import Evidence
from analysis.theory.downpour import largest_period
from analysis.theory.easgd import largest_moving_rate

BAND = 0.02
"""Around the limit, as a share of it, where nothing is asked."""
PAPERS_ADMM = {2: 0.99900, 3: 1.00097}
"""Workers -> growth per round at eta = 0.001, rho = 2.5: largest modulus of the paper's matrix F."""
ADMM_TOLERANCE = 1e-5


def stable_region(evidence: Evidence) -> Decision:
    """A1.

    Source: arXiv 1412.6651, section 4.
    """
    cases = {}
    table = evidence.table("stability-map")
    for row in rows_of(table):
        limit = largest_moving_rate(row.eta_h) if row.eta_h <= 2 else -1.0
        if abs(row.alpha - limit) > BAND * abs(limit):
            name = f"p = {row.workers}, eta h = {row.eta_h:.3g}, alpha = {row.alpha:.3g}"
            cases[name] = (row.growth_per_round < 1) == (row.alpha < limit)
    workers = ", ".join(str(p) for p in sorted(table["workers"].unique()))
    inside = sum(1 for row in rows_of(table) if row.growth_per_round < 1)
    return all_cases(
        cases, least=500, found=f"{inside} of {len(table)} points shrink, with p = {workers}", unit=""
    )  # fmt: skip


def admm(evidence: Evidence) -> Decision:
    """A2.

    Source: arXiv 1412.6651, section 4 and figure 1.
    """
    found = evidence.table("admm").set_index("workers")["growth_per_round"]
    cases, words = {}, []
    for workers, expected in PAPERS_ADMM.items():
        if workers in found.index:
            measured = float(found[workers])
            cases[f"p = {workers}"] = abs(measured - expected) <= ADMM_TOLERANCE
            words.append(f"{measured:.6f} per round with p = {workers}")
    three = float(found.get(3, math.nan))
    return all_cases(cases, least=2, found=", ".join(words), measured=three, unit="growth per round, p = 3")


def downpour_periods(evidence: Evidence) -> Decision:
    """A7.

    Source: `analysis.theory.downpour`.
    """
    cases = {}
    for row in rows_of(evidence.table("downpour-periods")):
        limit = largest_period(eta=row.eta_h, workers=int(row.workers))
        name = f"p = {row.workers}, eta h = {row.eta_h:g}, tau = {row.period} (tau* = {limit:.2f})"
        cases[name] = (row.growth < 1) == (row.period < limit)
    return all_cases(cases, least=8, found="growth at the whole numbers around tau*")


CLAIMS = (
    Claim(
        id="A1",
        statement="Round-robin EASGD on a quadratic is stable for alpha up to (4 - 2 eta h) / (4 - eta h), whatever p.",
        kind="exact",
        expected="alpha <= (4 - 2 eta h) / (4 - eta h), 0 <= eta h <= 2, independent of p",
        tolerance="2 % of alpha around the limit is left out",
        rule="The registered easgd runs 300 rounds over a grid of eta h, alpha and p. Reproduced if its distance from "
        "the minimum shrinks below the limit and grows above it at every point off the band; partly from 90 % of the "
        "points on; contradicted below; not shown with fewer than 500 points.",
        parts=("stability-map",),
        decide=stable_region,
    ),
    Claim(
        id="A2",
        statement="Round-robin ADMM with three workers is unstable at eta = 0.001, rho = 2.5, where EASGD is stable.",
        kind="exact",
        expected="growth per round 1.00097 with p = 3, 0.99900 with p = 2",
        tolerance="1e-5 per round",
        rule="The registered admm runs 10 000 rounds from 1000. Reproduced if its growth per round is the largest "
        "eigenvalue of the paper's matrix within 1e-5 for both p; else contradicted.",
        parts=("admm",),
        decide=admm,
    ),
    Claim(
        id="A7",
        statement="DOWNPOUR with evenly staggered workers is stable up to a period tau* that has a closed form: 11.5 "
        "for p = 4 and eta h = 0.05.",
        kind="exact",
        expected="tau* = ln(1 - 2 sin(pi / (4 p - 2))) / ln(1 - eta h)",
        tolerance="the whole numbers below and above tau*",
        rule="Derived here, not in the paper, as the reason for its claim A6. Reproduced if the registered downpour "
        "shrinks at the whole number below tau* and grows at the one above for every p and eta h; partly from 90 % on; "
        "contradicted below; not shown with fewer than 8 cases.",
        parts=("downpour-periods",),
        decide=downpour_periods,
    ),
)
