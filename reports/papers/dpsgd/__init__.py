"""Figures of Zhang et al., Loss landscape dependent self-adjusting learning rates, arXiv 2112.01433.

The paper's text was not at hand, only its abstract and what its authors published beside it: captions name what is
drawn there, not figure numbers.
"""

from __future__ import annotations

from reports.papers.base import Draw
from reports.papers.dpsgd import inside, landscape, rates, scaling

FIGURES: tuple[Draw, ...] = (*rates.FIGURES, *inside.FIGURES, *landscape.FIGURES, *scaling.FIGURES)
