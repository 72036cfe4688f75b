"""One cluster for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import PrivateSlurm, private_slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[PrivateSlurm]:
    with private_slurm(nodes=4, gpus=2) as up:
        yield up
    assert up.processes() == []
    assert not up.folder.exists()
