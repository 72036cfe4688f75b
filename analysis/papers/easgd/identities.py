"""A14, A15: EASGD as heavy ball, and on a tree.

Source: Zhang, Distributed stochastic optimization for deep learning, thesis, arXiv 1605.02216.
"""

from __future__ import annotations

import math

from analysis.papers.cases import all_cases, rows_of
from analysis.papers.claim import Claim, Decision
from analysis.papers.evidence import Evidence

EQUAL = 1e-6
MOVED = 0.01
"""Share of the largest element by which a model must have moved for a comparison to mean something."""


def heavy_ball(evidence: Evidence) -> Decision:
    """A14.

    Source: arXiv 1605.02216, abstract and chapter 5.
    """
    cases, worst = {}, 0.0
    for row in rows_of(evidence.table("heavy-ball")):
        away = max(row.worker, row.center)
        cases[f"{row.net}, delta = {row.delta:g}"] = away <= EQUAL and row.moved >= MOVED
        worst = max(worst, away)
    return all_cases(
        cases, least=2, found=f"largest difference {worst:.1e} of the largest element", measured=worst, unit="relative"
    )


def tree(evidence: Evidence) -> Decision:
    """A15.

    Source: arXiv 1605.02216, chapter 6.
    """
    cases, words = {}, []
    for row in rows_of(evidence.table("tree")):
        depth = max(1, math.ceil(math.log(row.workers) / math.log(row.degree) - 1e-9))
        star = 2 * row.workers * row.steps * row.model_nbytes
        cases[f"bytes at the root, degree {row.degree}"] = row.root_nbytes * row.upper_period ** (depth - 1) == star
        words.append(f"1/{star / row.root_nbytes:g} of the bytes with degree {row.degree}, depth {depth}")
        if depth == 1:
            cases["depth 1 is EASGD"] = row.away == 0
    return all_cases(cases, least=3, found=", ".join(words))


CLAIMS = (
    Claim(
        id="A14",
        statement="EASGD with one worker, alpha = -delta and beta = 1 is heavy ball with momentum delta.",
        kind="exact",
        expected="equal at every step, on any net",
        tolerance="1e-6 of the largest element",
        rule="The registered easgd-sync beside the registered sgd with heavy-ball momentum, on two networks with real "
        "data. Reproduced if model and center are equal to 1e-6 after every step looked at; else contradicted.",
        parts=("heavy-ball",),
        decide=heavy_ball,
    ),
    Claim(
        id="A15",
        statement="An EASGD tree of depth 1 is EASGD; with degree d, each further level cuts the bytes at the root by "
        "d where nodes exchange once in d exchanges of their children.",
        kind="exact",
        expected="no difference at depth 1; bytes at the root divided by d for each level",
        tolerance="none",
        rule="Reproduced if models of depth 1 are equal bit for bit and the root's bytes are counted as the formula "
        "says for every tree; else contradicted.",
        parts=("tree",),
        decide=tree,
    ),
)
