"""Figures of DSGD-AAU, arXiv 2306.06559, and of the gossip papers whose claims stand beside its own.

Its text was not at hand, only its abstract and what is reported of it: captions say what is reported, not figure
numbers.
"""

from __future__ import annotations

from reports.papers.base import Draw
from reports.papers.dsgd_aau import gossip, growth, learning, limits

FIGURES: tuple[Draw, ...] = (*learning.FIGURES, *growth.FIGURES, *gossip.FIGURES, *limits.FIGURES)
