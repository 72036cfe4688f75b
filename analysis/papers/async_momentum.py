"""Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, Allerton 2016, arXiv 1605.09774."""

from __future__ import annotations

from analysis.papers.claim import Paper

PAPER = Paper(
    name="async-momentum",
    title="Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, Allerton 2016, arXiv 1605.09774",
    url="https://arxiv.org/abs/1605.09774",
    parts=(),
    claims=(),
)
