"""Prefetched mini-batches are those of the stream, and so is their state."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bench.workloads.prefetch import Prefetched
from tests.gpu.support import CPU, gpu, keep_busy, needs_gpu, wait_until


class Counting:
    """Mini-batch b is (b, b + 1, ..., b + size - 1) and b squared."""

    def __init__(self, size: int = 4, fails_at: int = -1) -> None:
        self.drawn, self.size, self.fails_at = 0, size, fails_at

    def next(self) -> tuple[Tensor, ...]:
        b, self.drawn = self.drawn, self.drawn + 1
        if b == self.fails_at:
            raise OSError("disk is gone")
        return torch.arange(b, b + self.size), torch.tensor([b * b])

    def state(self) -> dict[str, Tensor]:
        return {"drawn": torch.tensor([self.drawn])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.drawn = int(state["drawn"])


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_batches_and_state_are_the_streams_whatever_is_asked_in_whatever_order(depth: int) -> None:
    rng = random.Random(depth)
    plain, prefetched = Counting(), Prefetched(Counting(), CPU, depth)
    kept = [plain.state()]
    for _ in range(300):
        what = rng.choice(["next", "next", "next", "state", "load"])
        if what == "next":
            for a, b in zip(prefetched.next(), plain.next(), strict=True):
                assert torch.equal(a, b)
        elif what == "state":
            assert prefetched.state() == plain.state()
            kept.append(plain.state())
        else:
            state = rng.choice(kept)
            plain.load_state(state)
            prefetched.load_state(state)
    assert prefetched.state() == plain.state()


def test_a_state_loads_into_a_plain_stream_and_back() -> None:
    prefetched = Prefetched(Counting(), CPU)
    for _ in range(7):
        prefetched.next()
    plain = Counting()
    plain.load_state(prefetched.state())
    assert torch.equal(plain.next()[0], prefetched.next()[0])


@pytest.mark.parametrize("depth", [1, 3])
def test_it_draws_as_far_ahead_as_it_says_and_no_further(depth: int) -> None:
    stream = Counting()
    prefetched = Prefetched(stream, CPU, depth)
    assert stream.drawn == 0  # nothing before somebody asks
    for taken in range(1, 5):
        prefetched.next()
        wait_until(lambda taken=taken: stream.drawn >= taken + depth)
        assert stream.drawn == taken + depth


def test_what_fails_in_advance_is_raised_when_it_is_due() -> None:
    prefetched = Prefetched(Counting(fails_at=2), CPU, depth=3)
    assert [int(prefetched.next()[1]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="disk is gone"):
        prefetched.next()


@needs_gpu
def test_on_a_gpu_a_batch_is_whole_before_it_is_read_and_while_it_is_used() -> None:
    prefetched, plain = Prefetched(Counting(1 << 20), gpu()), Counting(1 << 20)
    sums = []
    for _ in range(20):
        ids, square = prefetched.next()
        assert ids.device == square.device == gpu()
        keep_busy(0.002)  # the read below happens long after the batch has been let go
        sums.append((ids.sum(), square.sum()))
        del ids, square
    for total, square_total in sums:
        ids, square = plain.next()
        assert int(total) == int(ids.sum()) and int(square_total) == int(square)
