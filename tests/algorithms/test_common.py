"""What every algorithm must do, for every row of the table of algorithms: each family's test file brings its `ROWS`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algorithms.registry import names
from bench.check import (
    CHECKS,
    NotApplicable,
    Row,
    a_run_goes_on_from_the_kept_state_alone,
    exchanges_conserve_the_sum_in_any_order,
    the_formulas_say_what_is_moved_and_kept,
    the_minimiser_of_a_quadratic_is_reached,
)

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py") if path.stem != Path(__file__).stem)
MODULES = [importlib.import_module(f"tests.algorithms.{family}") for family in FAMILIES]
ROWS: list[Row] = [row for module in MODULES for row in getattr(module, "ROWS", [])]


def test_every_algorithm_has_a_row_an_oracle_and_a_bug_that_is_noticed() -> None:
    assert {row.name for row in ROWS} == set(names())
    assert {name for module in MODULES for name, _ in getattr(module, "ORACLES", [])} >= set(names())
    assert {mutation.name for module in MODULES for mutation in getattr(module, "MUTATIONS", [])} == set(names())


FIRST = {row.name: row for row in reversed(ROWS)}

LONG = (
    the_minimiser_of_a_quadratic_is_reached,
    the_formulas_say_what_is_moved_and_kept,
    a_run_goes_on_from_the_kept_state_alone,
)
"""Nearly all the time of these checks: the fast tests have them for each algorithm's first row."""

FEW, MORE = 10, 60
"""Random orders in the fast tests, which have them for the first rows, and in the thorough ones; the slow ones try all
300."""


def _case(check: Callable[[Row], None], row: Row) -> Any:
    marks = [pytest.mark.thorough] if check in LONG and row is not FIRST[row.name] else []
    return pytest.param(check, row, id=f"{check.__name__}-{row}", marks=marks)


@pytest.mark.parametrize(
    ("check", "row"),
    [_case(check, row) for check in CHECKS if check is not exchanges_conserve_the_sum_in_any_order for row in ROWS],
)
def test_every_algorithm(check: Callable[[Row], None], row: Row) -> None:
    run(check, row)


@pytest.mark.parametrize("row", FIRST.values(), ids=str)
def test_random_orders(row: Row) -> None:
    run(functools.partial(exchanges_conserve_the_sum_in_any_order, schedules=FEW), row)


@pytest.mark.thorough
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_more_random_orders(row: Row) -> None:
    run(functools.partial(exchanges_conserve_the_sum_in_any_order, schedules=MORE), row)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_in_all_the_random_orders(row: Row) -> None:
    run(exchanges_conserve_the_sum_in_any_order, row)


def run(check: Callable[[Row], None], row: Row) -> None:
    """The check; skipped where it says nothing."""
    try:
        check(row)
    except NotApplicable as reason:
        pytest.skip(str(reason))
