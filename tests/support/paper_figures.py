"""What every figure of a paper must be, and the figures of a paper that some evidence suffices for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from analysis.papers.claim import Paper
from analysis.papers.evidence import Evidence, Missing
from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results
from reports.environment import environment
from reports.papers.base import Draw, PaperFigure
from reports.sections.base import Material


def material(*sources: Path) -> Material:
    """What a report without a run has."""
    nothing = pd.DataFrame()
    frames = [table.schema.empty_table().to_pandas() for table in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
    return Material(Results(*frames), nothing, nothing, nothing, {}, [str(s) for s in sources], environment({}))


def drawn(paper: Paper, figures: Sequence[Draw], evidence: Evidence) -> dict[str, PaperFigure]:
    """The figures by name, each of them checked: whole SVG, a caption without gaps, claims that the paper has."""
    found: dict[str, PaperFigure] = {}
    for draw in figures:
        try:
            figure = draw(evidence, material())
        except Missing:
            continue
        assert re.fullmatch(r"[a-z0-9-]+", figure.name) and figure.name not in found
        ElementTree.fromstring(figure.svg)
        ids = re.findall(r' id="([^"]*)"', figure.svg)
        assert len(ids) == len(set(ids)) and all(one.startswith(f"{figure.name}-") for one in ids)
        assert figure.title and figure.text.endswith((".", "。")) and not re.search(r"[{}]|\bnan\b", figure.text), (
            figure.text
        )
        assert figure.claims and set(figure.claims) <= {claim.id for claim in paper.claims}
        assert figure.table is not None and figure.table.name == f"paper-{figure.name}" and len(figure.table.frame)
        figure.table.html(environment({}))
        found[figure.name] = figure
    return found
