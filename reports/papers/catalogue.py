"""The figures of each paper, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from reports.papers import async_momentum, dpsgd, dsgd_aau, easgd, streaming_diloco
from reports.papers.base import Draw

FIGURES: dict[str, Sequence[Draw]] = {
    "dpsgd": dpsgd.FIGURES,
    "easgd": easgd.FIGURES,
    "dsgd-aau": dsgd_aau.FIGURES,
    "async-momentum": async_momentum.FIGURES,
    "streaming-diloco": streaming_diloco.FIGURES,
}
