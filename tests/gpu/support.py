"""What the tests of the GPU's path share. Those marked `needs_gpu` are skipped where torch sees none."""

from __future__ import annotations

import time

import pytest
import torch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

CPU = torch.device("cpu")


def gpu() -> torch.device:
    """The first GPU."""
    return torch.device("cuda", 0)


def keep_busy(seconds: float) -> None:
    """Enqueue about that much work on the current stream of the first GPU."""
    torch.cuda._sleep(int(seconds * _cycles_per_s()))


def _cycles_per_s() -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    torch.cuda._sleep(1_000_000)
    end.record()
    end.synchronize()
    return 1e6 / (start.elapsed_time(end) * 1e-3)


def wait_until(met, seconds: float = 5.0) -> None:
    """Wait until `met()`; fail if that takes too long."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(1e-3)
