"""A few runs at a time give what all at once give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.timing import time_split
from bench.records import Results, load
from reports.batches import in_batches
from tests.support.synthetic import write_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_results(tmp_path_factory.mktemp("results") / "demo", steps=10))


@pytest.mark.parametrize("most", [1, 3000, 10**9])
def test_each_run_is_in_one_batch_with_all_its_rows(results: Results, most: int) -> None:
    batches = list(in_batches(results, most))
    assert sorted(run for batch in batches for run in batch.runs["run_id"]) == sorted(results.runs["run_id"])
    for name in ("runs", "events", "snapshots", "heldout", "shares"):
        together = pd.concat([getattr(batch, name) for batch in batches])
        assert sorted(together.index) == list(range(len(getattr(results, name))))
    for batch in batches:
        assert set(batch.events["run_id"]) <= set(batch.runs["run_id"])
        assert len(batch.events) <= most or batch.events["run_id"].nunique() == 1
    assert len(batches) == {1: results.events["run_id"].nunique(), 10**9: 1}.get(most, len(batches))


def test_time_split_of_batches_is_that_of_the_whole(results: Results) -> None:
    whole = time_split(results.events, results.runs)
    parts = [time_split(batch.events, batch.runs) for batch in in_batches(results, 800)]
    assert len(parts) > 5
    joined = pd.concat([part for part in parts if len(part)], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole, check_exact=True)


def test_nothing_has_one_batch_and_mixed_events_are_refused(results: Results) -> None:
    nothing = replace(results, runs=results.runs.iloc[:0], events=results.events.iloc[:0])
    assert [len(batch.runs) for batch in in_batches(nothing)] == [0]
    mixed = results.events.iloc[np.random.default_rng(0).permutation(len(results.events))]
    with pytest.raises(ValueError, match="side by side"):
        list(in_batches(replace(results, events=mixed)))
