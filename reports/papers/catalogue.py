"""The figures of each paper, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from reports.papers.base import Draw


def figures(paper: str) -> Sequence[Draw]:
    """The figures of the paper of that name; its rules, which need torch, are loaded only now.

    Args:
        paper: one of `analysis.papers.catalogue.NAMES`.
    """
    if paper == "dpsgd":
        from reports.papers.dpsgd import FIGURES
    elif paper == "easgd":
        from reports.papers.easgd import FIGURES
    elif paper == "dsgd-aau":
        from reports.papers.dsgd_aau import FIGURES
    elif paper == "async-momentum":
        from reports.papers.async_momentum import FIGURES
    elif paper == "streaming-diloco":
        from reports.papers.streaming_diloco import FIGURES
    else:
        raise KeyError(paper)
    return FIGURES
