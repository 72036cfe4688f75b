"""Conservation laws and trajectories of the algorithms on five real ranks, all in one launch per transport."""

from __future__ import annotations

import pytest

from tests.parallel.cases import CASES
from tests.support.mpi_launch import require, run_cases, selected


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, str]]:
    """Transport -> case -> why it failed; filled by the first test of each transport."""
    return {}


PAIRS = [
    (transport, name)
    for transport in ("mpi", "horovod")
    for name, case in CASES.items()
    if transport == "mpi" or "collectives" in case.algorithm.needs  # Horovod adds nothing to the others
]


@pytest.mark.mpi
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("transport", "name"), PAIRS)
def test_on_ranks(
    name: str, transport: str, outcomes: dict[str, dict[str, str]], request: pytest.FixtureRequest
) -> None:
    """The case holds on this transport."""
    require(transport)
    if transport not in outcomes:
        names = selected(request, transport)
        outcomes[transport] = run_cases("tests.parallel.cases", transport, {name: CASES[name] for name in names})
    assert not outcomes[transport][name], outcomes[transport][name]
