"""Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512."""

from __future__ import annotations

from analysis.papers.claim import Paper

PAPER = Paper(
    name="streaming-diloco",
    title="Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512",
    url="https://arxiv.org/abs/2501.18512",
    parts=(),
    claims=(),
)
