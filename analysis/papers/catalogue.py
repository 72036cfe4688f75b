"""The papers that `paceline reproduce` knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.papers.claim import Paper

NAMES = ("dpsgd", "easgd", "dsgd-aau", "async-momentum", "streaming-diloco")


def paper(name: str) -> Paper:
    """The paper of that name, with its claims.

    Args:
        name: one of `NAMES`.

    Source: the papers themselves; each module cites its own.

    Example:
        >>> paper("easgd").name
        'easgd'
    """
    if name == "dpsgd":
        from analysis.papers.dpsgd import PAPER
    elif name == "easgd":
        from analysis.papers.easgd import PAPER
    elif name == "dsgd-aau":
        from analysis.papers.dsgd_aau import PAPER
    elif name == "async-momentum":
        from analysis.papers.async_momentum import PAPER
    elif name == "streaming-diloco":
        from analysis.papers.streaming_diloco import PAPER
    else:
        raise KeyError(name)
    return PAPER
