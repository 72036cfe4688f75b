"""A few runs at a time give what all at once give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.ages import applied_gradients
from analysis.summary import per_run
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


@pytest.mark.parametrize("reduced", [time_split, applied_gradients])
def test_reductions_of_batches_are_those_of_the_whole(reduced: Callable[..., pd.DataFrame], results: Results) -> None:
    whole = reduced(results.events, results.runs)
    parts = [reduced(batch.events, batch.runs) for batch in in_batches(results, 800)]
    assert len(parts) > 5
    joined = pd.concat([part for part in parts if len(part)], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole.reset_index(drop=True), check_exact=True)


def test_numbers_of_runs_are_the_same_from_batches(results: Results) -> None:
    parts = [applied_gradients(batch.events, batch.runs) for batch in in_batches(results, 800)]
    applied = pd.concat([part for part in parts if len(part)], ignore_index=True)
    pd.testing.assert_frame_equal(per_run(results, applied=applied), per_run(results), check_exact=True)


def test_nothing_has_one_batch_and_mixed_events_are_refused(results: Results) -> None:
    nothing = replace(results, runs=results.runs.iloc[:0], events=results.events.iloc[:0])
    assert [len(batch.runs) for batch in in_batches(nothing)] == [0]
    mixed = results.events.iloc[np.random.default_rng(0).permutation(len(results.events))]
    with pytest.raises(ValueError, match="side by side"):
        list(in_batches(replace(results, events=mixed)))
