"""Figures as in the papers, from the evidence that the claims' rules read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analysis.papers.catalogue import paper as paper_of
from analysis.papers.evidence import Missing, Scale
from reports import words
from reports.decided import decided, folders
from reports.language import t
from reports.papers import folder as results_folder
from reports.papers.at_hand import evidence_of
from reports.papers.base import PaperFigure
from reports.papers.catalogue import figures as figures_of
from reports.sections.base import Material, Section
from reports.sections.claims import BADGES, verdict_words
from reports.shown import ShownTable

Places = Mapping[tuple[str, str], tuple[str, str]]
"""(paper's title, claim) -> (id in the page, verdict)."""


def section(material: Material) -> Section | None:
    """The figures of each paper whose results folder is among the report's, or above one of these; None without."""
    found, errors = _papers(material)
    if not found and not errors:
        return None
    claims, _ = decided(material.sources)
    placed = zip(*(claims[name] for name in ("paper", "claim_id", "place", "verdict")), strict=True)
    places: Places = {(paper, claim): (place, verdict) for paper, claim, place, verdict in placed}
    tables: list[ShownTable] = []
    papers = []
    for name, (folder, scale) in found.items():
        figures, missing = _drawn(name, folder, scale, material)
        tables += [figure.table for figure in figures if figure.table is not None]
        title = paper_of(name).title
        papers.append(
            {
                "title": title,
                "figures": [_shown(figure, title, places, material) for figure in figures],
                "missing": words.listed(missing),
            }
        )
    html = material.environment.get_template("sections/papers.html.j2").render(papers=papers, errors=errors)
    return Section("papers", t("Figures as in the papers"), Markup(html), tuple(tables))


def _papers(material: Material) -> tuple[dict[str, tuple[Path, Scale]], list[str]]:
    """Folder and scale of each paper, and what cannot be read. Of one that is there at both scales, the full one."""
    found: dict[str, tuple[Path, Scale]] = {}
    errors = []
    for one in folders(material.sources):
        try:
            said = results_folder.read(one)
        except ValueError as error:
            errors.append(str(error))
            continue
        if said is not None and (said[0] not in found or _more(said[1], found[said[0]][1])):
            found[said[0]] = one, said[1]
    return found, errors


def _more(scale: Scale, than: Scale) -> bool:
    return scale == "full" and than == "quick"


def _drawn(name: str, folder: Path, scale: Scale, material: Material) -> tuple[list[PaperFigure], list[str]]:
    """The figures that there is evidence for, and the parts that others lack."""
    evidence = evidence_of(folder, name, scale, material)
    figures, missing = [], []
    for draw in figures_of(name):
        try:
            figures.append(draw(evidence, material))
        except Missing as error:
            missing.append(str(error).partition(":")[0])
    return figures, list(dict.fromkeys(missing))


def _shown(figure: PaperFigure, title: str, places: Places, material: Material) -> dict[str, Any]:
    """What the template needs for one figure."""
    claims = [(claim, *places[title, claim]) for claim in figure.claims if (title, claim) in places]
    return {
        "name": figure.name,
        "title": figure.title,
        "svg": Markup(figure.svg),
        "text": figure.text,
        "claims": [(claim, place, BADGES[verdict], verdict_words(verdict)) for claim, place, verdict in claims],
        "table": figure.table.html(material.environment) if figure.table is not None else "",
    }
