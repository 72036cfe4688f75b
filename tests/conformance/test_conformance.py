"""One suite of cases for all transports: what an algorithm may rely on, wherever it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from bench.kernel import TaskFailed
from tests.conformance.cases import CASES
from tests.support.mpi_cases import on_simulator
from tests.support.mpi_launch import LIKE_A_NETWORK, require, run_cases, selected

LARGE = {name for name in CASES if "64MiB" in name}
FEW, MANY = 3, 10
"""Shuffles in the fast tests, and in all."""


def simulated(name: str, shuffles: Iterable[int | None]) -> None:
    for shuffle in shuffles:
        try:
            on_simulator(CASES[name], shuffle=shuffle)
        except TaskFailed as error:
            raise AssertionError(f"with shuffle {shuffle}: {error}") from error.__cause__


def _tiered(name: str) -> Any:
    """Of a network's gradients in four sizes of bucket the fast tests have one; the quadratic has them all."""
    wide = name.startswith("mean-gradient-digits") and not name.endswith("bucket64")
    return pytest.param(name, marks=[pytest.mark.thorough] if wide else [])


@pytest.mark.parametrize("name", [_tiered(name) for name in CASES])
def test_simulated(name: str) -> None:
    """On the simulator, with simultaneous events in order of entry and shuffled: no order may matter."""
    simulated(name, (None, *range(1 if name in LARGE else FEW)))


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in CASES if name not in LARGE])
def test_simulated_in_more_orders(name: str) -> None:
    simulated(name, range(FEW, MANY))


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, str]]:
    """Transport -> case -> why it failed; filled by the first test of each transport."""
    return {}


# Fairness is measured among messages that have all arrived. On a paced wire they arrive as the senders' processes get
# the processor, so that the receiver sees whose turn it was; how it takes them is mpi's, where it is tested.
ON_RANKS = [
    (transport, name)
    for transport in ("mpi", "limited", "horovod")
    for name in CASES
    if (transport, name) != ("limited", "fairness")
]


@pytest.mark.mpi
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("transport", "name"), ON_RANKS)
def test_on_ranks(
    name: str, transport: str, outcomes: dict[str, dict[str, str]], request: pytest.FixtureRequest
) -> None:
    """Under mpirun, all cases of a transport in one launch: on mpi as over a network, on horovod as on one machine."""
    require(transport)
    if transport not in outcomes:
        names = selected(request, transport)
        outcomes[transport] = run_cases(
            "tests.conformance.cases",
            transport,
            {name: CASES[name] for name in names},
            environment=LIKE_A_NETWORK if transport == "mpi" else None,
        )
    assert not outcomes[transport][name], outcomes[transport][name]
