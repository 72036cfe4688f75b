"""What holds for all tests: one thread each, and property tests that try the same cases every time."""

from __future__ import annotations

import gc
import os

# Before torch is imported; it holds for the processes that tests start, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

from tests.support.datasets import data_folder

__all__ = ["data_folder"]  # a fixture for all tests

settings.register_profile("paceline", deadline=None, derandomize=True, database=None)
settings.load_profile("paceline")


def pytest_collection_finish() -> None:
    """Thousands of collected tests are looked through by every full garbage collection, of which simulations cause
    many; they will not be garbage."""
    gc.collect()
    gc.freeze()
