"""Where the real data sets are that some tests read: the folder PACELINE_DATA, or a folder beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def folder() -> Path | None:
    """The folder with the data sets, or None where there is none.

    A folder named by PACELINE_DATA counts as it stands; none beside the checkout is an ordinary case (a clean clone).
    """
    named = os.environ.get("PACELINE_DATA")
    if named:
        return Path(named)
    return BESIDE if BESIDE.is_dir() else None


needs_data = pytest.mark.skipif(
    folder() is None, reason="reads published data sets: PACELINE_DATA names their folder (`paceline data fetch`)"
)


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The product reads the data sets from this folder for the length of one test. Use with `needs_data`."""
    found = folder()
    if found is None:
        pytest.skip("no data sets here")
    monkeypatch.setenv("PACELINE_DATA", str(found))
    return found
