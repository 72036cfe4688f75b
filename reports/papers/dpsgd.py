"""Figures of Zhang et al., arXiv 2112.01433."""

from __future__ import annotations

from reports.papers.base import Draw

FIGURES: tuple[Draw, ...] = ()
