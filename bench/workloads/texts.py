"""What the workloads that read text share: Shakespeare's plays as ids, and windows for a held-out set."""

from __future__ import annotations

import functools
import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.workloads.problem import Text
from bench.workloads.roles import speeches

DATA = Path(__file__).parent / "data" / "tinyshakespeare.txt.gz"
HELDOUT_WINDOWS = 64
LONGEST_CONTEXT = 8192  # characters; the held-out text has 111 540


class Plays(NamedTuple):
    """The alphabet [V] in the order of its codes, the training text and the held-out text as ids [N] uint8."""

    alphabet: bytes
    train: NDArray[np.uint8]
    heldout: NDArray[np.uint8]


@functools.cache
def plays() -> Plays:
    """The text that comes with the product: 1 115 394 characters, the last 10 % held out."""
    raw = np.frombuffer(_raw(), dtype=np.uint8)
    alphabet = np.flatnonzero(np.bincount(raw)).astype(np.uint8)
    index = np.zeros(256, dtype=np.uint8)
    index[alphabet] = np.arange(len(alphabet))
    ids, cut = index[raw], len(raw) * 9 // 10
    return Plays(alphabet.tobytes(), ids[:cut], ids[cut:])


@functools.cache
def plays_by_role(context: int) -> Text:
    """The training text with its speeches, to be drawn from in windows of this many characters."""
    train = plays().train
    parts = speeches(_raw()[: len(train)])
    return Text(
        ids=torch.from_numpy(train),
        context=context,
        segments=parts.bounds,
        groups=parts.groups,
        group_names=parts.names,
    )


def plays_in_words() -> str:
    """Which data these are, for a run's records."""
    sha256 = hashlib.sha256(_raw()).hexdigest()[:16]
    return (
        f"tinyshakespeare.txt (shipped) sha256 {sha256}: the first 90 % of its characters; held out: "
        f"{HELDOUT_WINDOWS} windows evenly spaced over the last 10 %"
    )


def spread_windows(text: Tensor, context: int, count: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (the next ids), both [count, T] int64, of windows evenly spaced over a text [N].

    The first starts at the text's start, the last ends at its end.
    """
    starts = torch.linspace(0, len(text) - context - 1, count, dtype=torch.float64).long()
    windows = text.unfold(0, context + 1, 1)[starts].long()
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def check_context(context: int) -> None:
    """Refuse windows of the plays that are too long.

    Raises:
        ValueError: they are.
    """
    if context > LONGEST_CONTEXT:
        raise ValueError(f"context must be at most {LONGEST_CONTEXT}: got {context} (leave it out for the default)")


@functools.cache
def _raw() -> bytes:
    return gzip.decompress(DATA.read_bytes())
