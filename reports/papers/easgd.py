"""Figures of Zhang, Choromanska, LeCun, arXiv 1412.6651."""

from __future__ import annotations

from reports.papers.base import Draw

FIGURES: tuple[Draw, ...] = ()
