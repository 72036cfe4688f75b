"""Zhang et al., Loss landscape dependent self-adjusting learning rates in decentralized SGD, arXiv 2112.01433."""

from __future__ import annotations

from analysis.papers.claim import Paper

PAPER = Paper(
    name="dpsgd",
    title="Zhang et al., Loss landscape dependent self-adjusting learning rates in decentralized SGD, arXiv 2112.01433",
    url="https://arxiv.org/abs/2112.01433",
    parts=(),
    claims=(),
)
