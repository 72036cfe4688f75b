"""The small file that `paceline reproduce` leaves in a results folder: which paper it is of, and at which scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from analysis.papers.catalogue import NAMES
from analysis.papers.evidence import Scale
from bench.records import write_atomic

FILE = "paper.json"


def write(folder: Path, paper: str, scale: Scale) -> None:
    """Say in a results folder, which is made if need be, what it is of."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / FILE, (json.dumps({"paper": paper, "scale": scale}) + "\n").encode())


def read(folder: Path) -> tuple[str, Scale] | None:
    """Paper and scale of a results folder; None if it does not say.

    Raises:
        ValueError: the file says what cannot be; in one line.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        paper, scale = said["paper"], said["scale"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error
    if paper not in NAMES or scale not in get_args(Scale):
        raise ValueError(
            f"{path}: paper must be one of {', '.join(NAMES)} and scale one of {', '.join(get_args(Scale))}: "
            f"got {paper!r} and {scale!r}"
        )
    return paper, scale
