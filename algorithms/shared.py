"""Random numbers: those that all ranks share, the same on every rank, so that no message has to agree on them; and one
for each element of a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def shared_generator(seed: int, purpose: str, t: int = 0) -> np.random.Generator:
    """A generator that depends on its arguments alone: every rank gets the same numbers, in any order of asking.

    Args:
        seed: the run's seed, at least 0.
        purpose: what the numbers are for; two purposes are independent of each other.
        t: round from 1; 0 for what is drawn once.

    Example:
        >>> shared_generator(7, "mixing", t=3).random() == shared_generator(7, "mixing", t=3).random()
        True
    """
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(t, *purpose.encode())))


def for_each(like: Tensor, draw: Callable[[int], np.ndarray[Any, Any]]) -> Tensor:
    """A random number for each element of `like` [L], drawn on the host, on its device; where vectors have no values,
    nothing is drawn: the model may be larger than any memory.

    Args:
        draw: makes that many numbers, such as `Generator.standard_normal`.
    """
    if like.is_meta:
        return torch.empty_like(like)
    return torch.from_numpy(draw(like.numel())).to(like.device)
