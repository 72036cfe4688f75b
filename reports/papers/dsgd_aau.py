"""Figures of DSGD-AAU."""

from __future__ import annotations

from reports.papers.base import Draw

FIGURES: tuple[Draw, ...] = ()
