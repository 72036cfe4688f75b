"""The decided claims of all results folders of a report, and where each stands in the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.claim_table import read


def folders(sources: Sequence[str]) -> Iterator[Path]:
    """The results folders and those above them, each once: a paper's claims lie in the folder above its parts."""
    yield from dict.fromkeys(folder for source in sources for folder in (Path(source).parent, Path(source)))


def of_papers(sources: Sequence[str]) -> bool:
    """Whether a report of these folders is one of claims, which leaves figures of studies to reports of their own."""
    claims, errors = decided(sources)
    return len(sources) > 1 and (len(claims) > 0 or bool(errors))


def decided(sources: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """All claims, sorted by paper and number, with `place`: their id in the page; and which files cannot be read."""
    parts, errors = [], []
    for folder in folders(sources):
        try:
            parts.append(read(folder))
        except ValueError as error:
            errors.append(str(error))
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=["paper", "claim_id", "verdict", "place"]), errors
    claims = pd.concat(parts, ignore_index=True).drop_duplicates()
    claims = claims.sort_values("claim_id", key=lambda ids: ids.map(_natural), kind="stable")
    claims = claims.sort_values("paper", kind="stable", ignore_index=True)
    by_paper = claims.groupby("paper")
    numbers = zip(by_paper.ngroup() + 1, by_paper.cumcount() + 1, strict=True)
    return claims.assign(place=[f"claim-{paper}-{claim}" for paper, claim in numbers]), errors


def _natural(claim_id: str) -> tuple[str, int, str]:
    """A2 before A2b before A10."""
    found = re.fullmatch(r"(\D*)(\d*)(.*)", claim_id, flags=re.S)
    assert found is not None  # every part may be empty
    return found[1], int(found[2] or 0), found[3]
