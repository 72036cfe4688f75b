"""Millions of events a few runs at a time, so that what is made on the way to a small table stays small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.records import Results

MOST = 400_000
"""Events looked at together, if no run alone has more."""


def in_batches(results: Results, most: int = MOST) -> Iterator[Results]:
    """The same tables as several: each has all rows of its runs; every run is in one of them.

    Args:
        results: with the events of a run side by side, as `bench.records.load` gives them.
        most: events of a batch; a run that has more is a batch of its own.
    """
    starts, names = _runs_of(results.events)
    ends = np.append(starts[1:], len(results.events))
    first, bounds = 0, []
    for i in range(1, len(starts)):
        if ends[i] - starts[first] > most:
            bounds.append((first, i))
            first = i
    bounds.append((first, len(starts)))
    silent = set(results.runs["run_id"]) - set(names)  # runs without events go with the first batch
    for low, high in bounds:
        own = set(names[low:high]) | silent
        silent = set()
        rows = slice(int(starts[low]), int(ends[high - 1])) if high > low else slice(0, 0)
        yield replace(
            results,
            runs=_of(results.runs, own),
            events=results.events.iloc[rows],
            snapshots=_of(results.snapshots, own),
            heldout=_of(results.heldout, own),
            shares=_of(results.shares, own),
        )


def _runs_of(events: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Where each run's events begin, and the runs in that order.

    Raises:
        ValueError: the events of a run stand in several places.
    """
    codes, names = pd.factorize(events["run_id"])
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if len(codes) else np.zeros(0, dtype=np.int64)
    order = [str(names[code]) for code in codes[starts]]
    if len(order) != len(set(order)):
        raise ValueError("the events of a run must stand side by side (sort them by run_id, stable)")
    return starts, order


def _of(frame: pd.DataFrame, run_ids: set[str]) -> pd.DataFrame:
    return frame[frame["run_id"].isin(run_ids)]
