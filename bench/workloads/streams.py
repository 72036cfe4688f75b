"""One worker's endless stream of mini-batches: samples in a new random order each pass, or random windows of a text.

A stream counts: mini-batch b is a function of (seed, rank, b) alone, so where it stands is one integer, and going there
is exact. Small mini-batches are gathered many at a time and handed out as views: between two gradients nothing of a
gather is in the caches, so that it costs little more for 20 mini-batches than for one. How many changes no result. A
simulation has thousands of streams in one process, so the more there are, the fewer each gathers, and each draws the
order of its samples a piece at a time.

Everything is on the host and in the data's own type; a device is somebody else's business.

Axes: N samples of the whole training set, n of the worker's share, B batch, T context, M mini-batches gathered at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.workloads.base import seed_sequence, torch_generator
from bench.workloads.problem import Augment, Noise

# Gathered at once, if a mini-batch is smaller: by one stream, and by all streams of the process, unless that leaves one
# of them less than the least. Measured on mnist-mlp, whose mini-batches are 99 KiB, on a busy machine: with 256 KiB a
# step takes 13 % longer than with a cached mini-batch, with 1 MiB 6 %, with 2 MiB 5 %; more gains nothing. What is left
# is reading the data from memory. With hundreds of streams of digits-mlp, 16 samples or 4 KiB each, 8 mini-batches at
# once cost as much each as 64 do; the first 256 of one stream, in memory never used before, cost 3.8 ms.
AHEAD_NBYTES = 2 * 2**20
AHEAD_TOGETHER_NBYTES = 16 * 2**20
AHEAD_LEAST_NBYTES = 32 * 2**10
MOST_AHEAD = 256  # mini-batches

# Indices drawn from one generator, seeds drawn from one sequence. Between the gradients of a small model, with nothing
# of it in the caches, making a seed sequence takes a tenth of a millisecond: as long as such a gradient.
BLOCK = 16384
SEEDS = 256
PIECE = 1024  # indices of a block drawn at once, at least
COMPACT = 2**16  # samples whose numbers fit into 16 bits


class _CountedBatches(ABC):
    """Mini-batch b is made of the indices [b B, (b + 1) B) of an endless sequence, which comes in blocks."""

    def __init__(
        self,
        batch_size: int,
        sample_nbytes: int,
        *,
        block_size: int,
        piece_size: int,
        seed: int,
        rank: int,
        augment: Augment | None,
        noise: Noise | None,
    ) -> None:
        assert batch_size >= 1
        self._block_size, self._piece_size = block_size, piece_size  # indices
        self._batch_size, self._seed, self._rank = batch_size, seed, rank
        self._augment, self._noise = augment, noise
        self._batch_nbytes = max(1, sample_nbytes * batch_size)
        _LIVING.add(self)
        self._drawn = 0  # mini-batches handed out
        self._ahead: list[tuple[Tensor, Tensor]] = []  # those gathered and not yet handed out, the next one last
        self._piece_number, self._piece = (-1, -1), torch.empty(0)  # block and place in it
        self._source: torch.Generator | None = None  # what the block's next piece comes from
        self._seeds: dict[str, tuple[int, list[int]]] = {}

    def next(self) -> tuple[Tensor, ...]:
        """Mini-batch number `state()["drawn"]`: (inputs [B, ...], targets [B, ...], *noise)."""
        if not self._ahead:
            self._gather_ahead()
        batch = self._ahead.pop()
        b, self._drawn = self._drawn, self._drawn + 1
        if self._augment is None and self._noise is None:
            return batch
        inputs, targets = batch
        if self._augment is not None:
            inputs = self._augment(inputs, self._generator("augment", b))
        if self._noise is None:
            return inputs, targets
        return inputs, targets, *self._noise(self._batch_size, self._generator("noise", b))

    def state(self) -> dict[str, Tensor]:
        """Where the stream stands: how many mini-batches were drawn [1]."""
        return {"drawn": torch.tensor([self._drawn])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there; what was gathered ahead is dropped."""
        self._drawn = int(state["drawn"].item())
        self._ahead = []

    def _gather_ahead(self) -> None:
        nbytes = min(AHEAD_NBYTES, max(AHEAD_LEAST_NBYTES, AHEAD_TOGETHER_NBYTES // len(_LIVING)))
        count = max(1, min(MOST_AHEAD, nbytes // self._batch_nbytes))
        lo = self._drawn * self._batch_size
        gathered = self._gather(self._indices(lo, lo + count * self._batch_size))
        inputs, targets = (data.view(count, self._batch_size, *data.shape[1:]).unbind() for data in gathered)
        self._ahead = list(zip(inputs, targets, strict=True))[::-1]

    def _indices(self, lo: int, hi: int) -> Tensor:
        """Those [lo, hi) of the endless sequence, int32."""
        parts = []
        while lo < hi:
            block, at = divmod(lo, self._block_size)
            place, at = divmod(at, self._piece_size)
            if (block, place) != self._piece_number:
                self._go_to(block, place)
            parts.append(self._piece[at : at + hi - lo].int())
            lo += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _go_to(self, block: int, place: int) -> None:
        """Draw a piece, and those of its block that come before it and were not drawn last."""
        (last_block, last), source = self._piece_number, self._source
        if source is None or block != last_block or place <= last:
            source, last = torch_generator(self._seed, self._rank, f"batches/{block}"), -1
        for number in range(last + 1, place + 1):
            self._piece = self._draw(source, self._piece_size * number)
        self._piece_number = block, place
        complete = self._piece_size * (place + 1) >= self._block_size
        self._source = None if complete else source

    def _generator(self, purpose: str, b: int) -> torch.Generator:
        """For mini-batch b alone."""
        number, at = divmod(b, SEEDS)
        if self._seeds.get(purpose, (-1,))[0] != number:
            sequence = seed_sequence(self._seed, self._rank, f"{purpose}/{number}")
            self._seeds[purpose] = number, sequence.generate_state(SEEDS, np.uint64).tolist()
        return torch.Generator().manual_seed(self._seeds[purpose][1][at] & (2**63 - 1))

    @abstractmethod
    def _draw(self, source: torch.Generator, at: int) -> Tensor:
        """The piece that begins at index `at` of a block: `_piece_size` indices, or as many as are left of the block.

        The pieces come from the block's generator one after the other."""

    @abstractmethod
    def _gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the samples with these indices, newly allocated."""


_LIVING: WeakSet[_CountedBatches] = WeakSet()  # the streams of this process, which share its memory


class SampleBatches(_CountedBatches):
    """Passes over the worker's share of samples, in a new random order each pass.

    A batch may hold the end of one pass and the start of the next, so every sample is seen once per pass and every
    batch has the same size. With a share smaller than a batch, samples repeat within a batch.

    Args:
        inputs: of the whole training set [N, ...]; it is not copied.
        targets: [N, ...].
        batch_size: B.
        seed, rank: the stream is a function of both.
        share: indices of the worker's samples [n], at least one; None for all.
        augment, noise: what else is random about a mini-batch; drawn from (seed, rank, b) alone too.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        seed: int,
        rank: int,
        share: NDArray[np.int64] | None = None,
        augment: Augment | None = None,
        noise: Noise | None = None,
    ) -> None:
        assert len(inputs) == len(targets) and (share is None or len(share) > 0)
        count = len(inputs) if share is None else len(share)
        super().__init__(
            batch_size, sum(data[:1].numel() * data.element_size() for data in (inputs, targets)),
            block_size=-(-BLOCK // count) * count, piece_size=-(-PIECE // count) * count,
            seed=seed, rank=rank, augment=augment, noise=noise,
        )  # fmt: skip
        self._inputs, self._targets, self._count = inputs, targets, count
        self._share = None if share is None else torch.from_numpy(share.astype(np.int32))

    def _draw(self, source: torch.Generator, at: int) -> Tensor:
        passes = (min(self._piece_size, self._block_size - at)) // self._count
        orders = [torch.randperm(self._count, generator=source, dtype=torch.int32) for _ in range(passes)]
        piece = orders[0] if passes == 1 else torch.cat(orders)
        # Thousands of simulated workers may each hold an order of the whole set.
        return piece.to(torch.uint16) if self._count <= COMPACT else piece

    def _gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if self._share is not None:
            indices = self._share.index_select(0, indices)
        # index_select copies whole rows; indexing with [] is ten times slower on small types.
        return self._inputs.index_select(0, indices), self._targets.index_select(0, indices)


class WindowBatches(_CountedBatches):
    """Windows of the worker's text at random places: (ids [B, T], the next ids [B, T]), int64.

    Every place is as likely as any other, with replacement. A worker's share of a larger text is made by `joined`; a
    window may then run over a seam between two of its segments.

    Args:
        text: [n], any integer type, longer than T.
        context: T.
        batch_size: B.
        seed, rank: the stream is a function of both.
        augment, noise: what else is random about a mini-batch; drawn from (seed, rank, b) alone too.
    """

    def __init__(
        self,
        text: Tensor,
        context: int,
        batch_size: int,
        *,
        seed: int,
        rank: int,
        augment: Augment | None = None,
        noise: Noise | None = None,
    ) -> None:
        assert len(text) > context >= 1
        super().__init__(
            batch_size, 16 * context, block_size=BLOCK, piece_size=PIECE,
            seed=seed, rank=rank, augment=augment, noise=noise,
        )  # fmt: skip
        self._windows = text.unfold(0, context + 1, 1)  # [n - T, T + 1], a view

    def _draw(self, source: torch.Generator, at: int) -> Tensor:
        return torch.randint(len(self._windows), (self._piece_size,), generator=source)

    def _gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        windows = self._windows.index_select(0, indices).long()
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def joined(text: Tensor, bounds: NDArray[np.int64], items: NDArray[np.int64]) -> Tensor:
    """A worker's own text: its segments one after the other [n].

    Windows drawn from it run over the seams: a role's next speech follows its last one, whatever was said in between.

    Args:
        text: the whole training text [N].
        bounds: start and end [S, 2] of the text's segments.
        items: the worker's segments.
    """
    return torch.cat([text[lo:hi] for lo, hi in bounds[items].tolist()])
