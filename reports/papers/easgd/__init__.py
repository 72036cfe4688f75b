"""Figures of Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, arXiv 1412.6651."""

from __future__ import annotations

from reports.papers.base import Draw
from reports.papers.easgd import costs, learning, noise, stability, workers

FIGURES: tuple[Draw, ...] = (
    *learning.FIGURES,
    *workers.FIGURES,
    *stability.FIGURES,
    *noise.FIGURES,
    *costs.FIGURES,
)
