"""Figures of Douillard et al., Streaming DiLoCo, arXiv 2501.18512, and of the papers around it."""

from __future__ import annotations

from reports.papers.base import Draw
from reports.papers.streaming_diloco import methods, rounds, utilization

FIGURES: tuple[Draw, ...] = (*methods.FIGURES, *rounds.FIGURES, *utilization.FIGURES, *utilization.COUNTED)
