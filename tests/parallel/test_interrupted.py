"""Runs on real ranks, interrupted three times: those in lock-step walk the simulator's trajectory all the same, and of
the others no gradient and no exchange is lost or done twice."""

from __future__ import annotations

import pytest

from tests.parallel.interrupted import CASES
from tests.support.mpi_launch import require, run_cases, selected

QUICK = ("mpi", "conserved-ad-psgd")
FAST = ("trajectory-allreduce-sgd", "trajectory-diloco", "conserved-ad-psgd", "arrives-once-async-sgd", "waits")


def marks(transport: str, name: str) -> list[pytest.MarkDecorator]:
    """Of a case: one stands for all in the default run."""
    if transport == QUICK[0] and name.startswith(QUICK[1]):
        return []
    return [pytest.mark.thorough if name.startswith(FAST) else pytest.mark.slow]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, str]]:
    """Transport -> case -> why it failed; filled by the first test of each transport."""
    return {}


PAIRS = [
    pytest.param(transport, name, marks=marks(transport, name))
    for transport in ("mpi", "horovod")
    for name, case in CASES.items()
    if transport == "mpi" or "collectives" in case.algorithm.needs
]


@pytest.mark.mpi
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("transport", "name"), PAIRS)
def test_interrupted_three_times(
    name: str, transport: str, outcomes: dict[str, dict[str, str]], request: pytest.FixtureRequest
) -> None:
    """The case holds on this transport."""
    require(transport)
    if transport not in outcomes:
        names = selected(request, transport)
        outcomes[transport] = run_cases("tests.parallel.interrupted", transport, {name: CASES[name] for name in names})
    assert not outcomes[transport][name], outcomes[transport][name]
