"""Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651."""

from __future__ import annotations

from analysis.papers.claim import Paper

PAPER = Paper(
    name="easgd",
    title="Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651",
    url="https://arxiv.org/abs/1412.6651",
    parts=(),
    claims=(),
)
