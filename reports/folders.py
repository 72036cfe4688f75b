"""Results folders as the commands take them: one that holds runs, or one whose sub-folders do."""

from __future__ import annotations

from pathlib import Path

from bench.records import Results, load


def with_parts(given: str | Path) -> list[Path]:
    """A results folder and those below it: `paceline predict` makes one for each network that it is asked about."""
    root = Path(given)
    below = [runs.parent for pattern in ("*/runs", "*/*/runs") for runs in sorted(root.glob(pattern))]
    inside = [folder for folder in below if (folder / "study.json").is_file()]
    return [root, *inside] if (root / "runs").is_dir() or not inside else inside


def read(given: str | Path) -> Results:
    """The finished runs of a results folder and of those below it.

    Raises:
        ValueError: it is not a results folder, or holds no finished run.
    """
    results = load(*with_parts(given))
    if results.runs.empty:
        why = f": {results.skipped[0]}" if results.skipped else " (paceline watch tells how far a study is)"
        raise ValueError(f"no finished run in {given}{why}")
    return results
