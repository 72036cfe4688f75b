"""Simulated runs one after the other, in one process beside the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import launch


@contextmanager
def one_lane() -> Iterator[None]:
    """As on a single core: starting a second process takes longer than short runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "cores", lambda: 1)
        yield
