"""Straggler-resilient decentralized learning via adaptive asynchronous updates, MobiHoc 2024, arXiv 2306.06559."""

from __future__ import annotations

from analysis.papers.claim import Paper

PAPER = Paper(
    name="dsgd-aau",
    title="Straggler-resilient decentralized learning via adaptive asynchronous updates, MobiHoc 2024, "
    "arXiv 2306.06559",
    url="https://arxiv.org/abs/2306.06559",
    parts=(),
    claims=(),
)
