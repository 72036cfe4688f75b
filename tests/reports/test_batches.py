"""A few runs at a time give what all at once give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.ages import applied_gradients
from analysis.summary import per_run
from analysis.timing import time_split
from bench.records import Results, load, load_in_batches
from reports.batches import in_batches
from reports.traces import traces
from tests.support.synthetic import write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results") / "demo", steps=10)


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load(folder)


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
    found = traces(in_batches(results, 800))
    pd.testing.assert_frame_equal(per_run(results, traced=found.numbers), per_run(results), check_exact=True)
    whole = traces([results])
    for name in ("split", "numbers", "histogram", "moved", "ranks"):
        few, at_once = (
            of[sorted(of.columns)].sort_values(sorted(of.columns)).reset_index(drop=True)
            for of in (getattr(found, name).astype({"run_id": str}), getattr(whole, name).astype({"run_id": str}))
        )
        pd.testing.assert_frame_equal(few, at_once, check_exact=True, check_categorical=False)


def test_batches_from_files_are_those_of_the_whole(results: Results, folder: Path) -> None:
    """The same page follows from them, and each is as small as it can be."""
    batches = list(load_in_batches(folder, most=800))
    assert len(batches) > 5 and sum(len(batch.events) for batch in batches) == len(results.events)
    for batch in batches:
        assert len(batch.events) <= 800 or batch.events["run_id"].nunique() == 1
    assert [run for batch in batches for run in batch.runs["run_id"]] == results.runs["run_id"].tolist()
    lean = load(folder, events=False)
    assert lean.events.empty and list(lean.events) == list(results.events)
    pd.testing.assert_frame_equal(lean.heldout, results.heldout)
    found = traces(batches)
    pd.testing.assert_frame_equal(per_run(lean, traced=found.numbers), per_run(results), check_exact=True)


def test_nothing_has_one_batch_and_mixed_events_are_refused(results: Results) -> None:
    nothing = replace(results, runs=results.runs.iloc[:0], events=results.events.iloc[:0])
    assert [len(batch.runs) for batch in in_batches(nothing)] == [0]
    mixed = results.events.iloc[np.random.default_rng(0).permutation(len(results.events))]
    with pytest.raises(ValueError, match="side by side"):
        list(in_batches(replace(results, events=mixed)))
