"""What a figure of a paper is made from, and what it gives to the page.

A figure decides nothing: it shows the tables that the claims' rules read, so that a verdict can be checked by eye.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.papers.evidence import Evidence
from reports.sections.base import Material
from reports.shown import ShownTable


@dataclass(frozen=True)
class PaperFigure:
    """One figure.

    Attributes:
        name: of its id in the page and of its table's files; unique among all papers: letters, digits, hyphens.
        title: what is drawn, and which figure of the paper it is like.
        svg: from `reports.drawing.to_svg`.
        text: the caption: what is seen here, with the key numbers, and what the paper shows.
        table: the numbers drawn.
        claims: ids of the claims that it illustrates.
    """

    name: str
    title: str
    svg: str
    text: str
    table: ShownTable | None = None
    claims: tuple[str, ...] = ()


Draw = Callable[[Evidence, Material], PaperFigure]
"""Makes one figure; raises `analysis.papers.evidence.Missing` where its part of the evidence is not there."""
