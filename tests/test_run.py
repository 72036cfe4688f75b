"""One run from its settings to its tables, where others run before it in the same process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import run
from bench.records import load
from bench.study import Cell, resolve


def cells(workload: dict[str, Any]) -> list[Cell]:
    """The runs of one algorithm with seeds 0 and 1, whose gradients are computed together."""
    study = {
        "name": "twice",
        "seeds": [0, 1],
        "workers": [5],
        "transports": ["simulated"],
        "budget": {"seconds": 0.2, "snapshots": 3},
        "compute": {"gradient_s": 0.01, "distribution": "exponential"},
        "workload": workload,
        "algorithm": {"name": "ad-psgd", "topology": "complete-bipartite"},
    }
    return list(resolve(study).cells())


def tables(cell: Cell, out: Path) -> list[pd.DataFrame]:
    assert run.run_cell(cell, out, world=None) is not None
    results = load(out)
    return [results.heldout, results.events]


@pytest.mark.parametrize("workload", [{"name": "digits-mlp", "batch_size": 4}, {"name": "quadratic"}], ids=str)
def test_a_run_is_the_same_bit_for_bit_whatever_ran_before_it(workload: dict[str, Any], tmp_path: Path) -> None:
    first, other = cells(workload)
    run._built.cache_clear()
    alone = tables(first, tmp_path / "alone")
    tables(other, tmp_path / "other")
    assert run._built.cache_info().hits == 1, "with the same workload"
    for before, after in zip(alone, tables(first, tmp_path / "after"), strict=True):
        pd.testing.assert_frame_equal(before, after, check_exact=True)
