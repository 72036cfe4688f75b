"""The samples that a probe looks at: chosen once, in a fixed order, hashed, and dealt to ranks in micro-batches.

Axes: N samples, B micro-batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.workloads.base import seed_sequence
from bench.workloads.objective import Examples, Objective

Batches = Sequence[tuple[Tensor, Tensor]]
"""Inputs [B, ...] and targets [B, ...] of each micro-batch."""

Sum = Callable[[Tensor], Tensor]
"""A tensor (on the host or a GPU) -> its sum over all ranks; every rank calls it, in the same order."""

Part = Literal["training", "heldout"]

HASH_CHUNK = 256  # samples


def alone(v: Tensor) -> Tensor:
    """The `Sum` of one process."""
    return v


@dataclass(frozen=True)
class ProbeSet:
    """A frozen set of samples.

    Attributes:
        of: where they are from.
        samples: N, over all ranks.
        seed: that they were drawn with; -1 if they are all there are.
        digest: sha256 of all N samples' inputs and targets, first 16 hexadecimal digits; the same on every rank.
        batches: this rank's share.
    """

    of: Part
    samples: int
    seed: int
    digest: str
    batches: Batches


def probe_set(
    objective: Objective,
    *,
    of: Part = "training",
    samples: int | None = 512,
    seed: int = 0,
    micro_batch: int = 64,
    rank: int = 0,
    size: int = 1,
) -> ProbeSet:
    """The probe set of a seed: N samples drawn without replacement, in ascending order.

    It depends on nothing but the data, `of`, `samples` and `seed`, so that probes of other runs, snapshots and numbers
    of ranks see the same samples.

    Args:
        objective: whose samples.
        of: "training" (without augmentation) or "heldout".
        samples: N; None, or more than there are, takes all.
        seed: of the draw.
        micro_batch: largest B; bounds the memory of a probe.
        rank, size: this process and the number of those that share the samples; each gets every size-th.

    Raises:
        ValueError: fewer samples than ranks, or a number that is not positive.

    Example:
        >>> from bench.workloads.quadratic import Quadratic
        >>> objective = Quadratic(heterogeneity=1.0).build(torch.device("cpu"), 6).objective()
        >>> halves = [probe_set(objective, samples=4, micro_batch=2, rank=r, size=2) for r in range(2)]
        >>> [len(inputs) for half in halves for inputs, _ in half.batches], halves[0].digest == halves[1].digest
        ([2, 2], True)
    """
    for name, value in (("samples", samples), ("micro_batch", micro_batch)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1: got {value} (leave it out for the default)")
    examples = objective.training if of == "training" else objective.heldout
    everything = samples is None or samples >= len(examples)
    numbers = torch.arange(len(examples)) if everything else _draw(len(examples), samples or 0, seed)
    if len(numbers) < size:
        raise ValueError(
            f"every rank needs a sample: got {len(numbers)} samples ({of}) for {size} ranks (ask for more samples, or "
            "start fewer ranks)"
        )
    mine = numbers[rank::size]
    return ProbeSet(
        of=of,
        samples=len(numbers),
        seed=-1 if everything else seed,
        digest=_digest(examples, numbers),
        batches=[examples.take(part) for part in torch.split(mine, micro_batch)],
    )


def _draw(count: int, samples: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed_sequence(seed, -1, "probe set"))
    return torch.from_numpy(np.sort(rng.choice(count, samples, replace=False)).astype(np.int64))


def _digest(examples: Examples, numbers: Tensor) -> str:
    sha = hashlib.sha256()
    for part in torch.split(numbers, HASH_CHUNK):
        for data in examples.take(part):
            sha.update(data.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
