"""Figures of Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774."""

from __future__ import annotations

from reports.papers.async_momentum import momentum, servers, staleness
from reports.papers.base import Draw

FIGURES: tuple[Draw, ...] = (*momentum.FIGURES, *staleness.FIGURES, *servers.FIGURES)
