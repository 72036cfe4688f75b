"""What a report needs of events, reduced a few runs at a time: the events of hundreds of runs take gigabytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.staleness import staleness_histogram
from analysis.summary import of_events
from analysis.timing import time_split
from bench.records import Results

MOVED = ["run_id", "kind", "nbytes", "wire_nbytes"]


@dataclass(frozen=True)
class Traces:
    """Tables that are made from events, of all runs.

    Attributes:
        split: `analysis.timing.time_split`.
        numbers: `analysis.summary.of_events`.
        histogram: `analysis.staleness.staleness_histogram`.
        moved: bytes by run and kind of event, as if each were one event: `run_id`, `kind`, `nbytes`, `wire_nbytes`.
        ranks: which ranks of which runs have events: `run_id`, `rank`.
        skipped: files that could not be read, each with its reason.
    """

    split: pd.DataFrame
    numbers: pd.DataFrame
    histogram: pd.DataFrame
    moved: pd.DataFrame
    ranks: pd.DataFrame
    skipped: tuple[str, ...]


def traces(batches: Iterable[Results]) -> Traces:
    """What is to be known of the events of all runs.

    Args:
        batches: tables that have all rows of their runs; every run is in one of them.
    """
    found: list[Traces] = []
    for batch in batches:
        events, runs = batch.events, batch.runs
        split = time_split(events, runs)
        found.append(
            Traces(
                split=split,
                numbers=of_events(events, runs, split),
                histogram=staleness_histogram(events),
                moved=events[MOVED].groupby(["run_id", "kind"], observed=True, sort=False).sum().reset_index(),
                ranks=events[["run_id", "rank"]].drop_duplicates(),
                skipped=tuple(batch.skipped),
            )
        )
    return Traces(
        split=_joined([one.split for one in found]),
        numbers=_joined([one.numbers for one in found]),
        histogram=_joined([one.histogram for one in found]),
        moved=_joined([one.moved for one in found]),
        ranks=_joined([one.ranks for one in found]),
        skipped=tuple(line for one in found for line in one.skipped),
    )


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Frames of batches as one, without `attrs`; empty ones would make it forget its types."""
    whole = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    whole.attrs = {}
    return whole
