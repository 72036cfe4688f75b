"""What a workload is: model, data, loss and held-out set on a flat vector of parameters.

The runner, the algorithms' oracles and the probes all see a model as a vector x of shape [P]; only workloads know
layers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from bench.workloads.objective import Objective
    from bench.workloads.partition import Share

# Called during the backward pass when the gradient of the k-th parameter tensor (see `spans`) is final in `out`.
OnReady = Callable[[int], None]


@dataclass(frozen=True)
class Heldout:
    """Result of an evaluation on the fixed held-out set: mean loss [nat] and the workload's metric."""

    loss: float
    metric: float


class Batches(Protocol):
    """One worker's endless stream of mini-batches; `next()` returns tensors on the workload's device.

    `state()` is where the stream stands; a stream of the same workload, seed and rank goes on from there after
    `load_state`.
    """

    def next(self) -> tuple[Tensor, ...]: ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: Mapping[str, Tensor]) -> None: ...


class LayerSpan(NamedTuple):
    """Consecutive parameters [lo, hi) that belong together; `is_block`: one of the model's repeated blocks; `shapes` of
    their tensors, in order, empty if they are not known."""

    name: str
    lo: int
    hi: int
    is_block: bool
    shapes: tuple[tuple[int, ...], ...] = ()


class Workload(Protocol):
    """Model + data + loss on a flat parameter vector.

    Everything random derives from the study seed: `initial(seed)` is the same on all ranks, `batches(seed, rank, size)`
    depends on nothing else. The held-out set is fixed and unshuffled.
    """

    name: str  # registry name with its size, for tables: "shakespeare-gpt-0.2M"
    parameters: int  # P
    dtype: torch.dtype
    device: torch.device
    batch_size: int  # samples per worker and step
    metric: str  # name of Heldout.metric
    target_loss: float  # held-out loss that counts as reached; NaN if none
    optimizer: dict[str, Any]  # the table a study file would hold: this workload's own tuned default
    spans: Sequence[tuple[int, int]]  # [lo, hi) of each parameter tensor in the flat vector, in order, covering [0, P)
    layers: Sequence[LayerSpan]  # the same vector by layers of the model
    facts: Mapping[str, str]  # what a reader of the results must know, in words: data, normalisation, precision, ...

    @property
    def flops_per_sample(self) -> float:
        """Operations of one sample's gradient; NaN if unknown."""
        ...

    def initial(self, seed: int) -> Tensor:
        """Initial parameters [P], a function of the seed alone."""
        ...

    def shares(self, seed: int, size: int) -> Sequence[Share]:
        """What training data each of `size` workers has; empty if there is no such thing.

        Raises:
            ValueError: the data cannot be dealt to so many workers in the way that the settings ask for.
        """
        ...

    def batches(self, seed: int, rank: int, size: int) -> Batches:
        """The stream of mini-batches of worker `rank` of `size`."""
        ...

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        """Write the gradient of the batch's mean loss at x [P] into out [P] and return the loss (0-d, detached).

        `x` is read in place (no copy): the caller must not change it meanwhile. `on_ready(k)` is called as soon as
        out[spans[k]] is final, in the order of the backward pass.
        """
        ...

    def gradients(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """The gradients [k, P] and losses [k] of k replicas xs [k, P], each on its own mini-batch, newly allocated.

        The same as k calls of `gradient`, to rounding.
        """
        ...

    @property
    def together(self) -> int:
        """How many gradients to give one call of `gradients` at most; 1 where one by one is faster.

        A function of model, settings and kind of device, never of a clock: the same everywhere.
        """
        ...

    def heldout(self, x: Tensor) -> Heldout:
        """Mean loss and metric of x [P] on the fixed held-out set, in evaluation mode."""
        ...

    def objective(self) -> Objective:
        """The loss as a function of the parameters, to be differentiated as often as one likes."""
        ...


def seed_sequence(seed: int, rank: int, purpose: str) -> np.random.SeedSequence:
    """The one source of randomness for (study seed, rank, purpose); rank -1 is for what all ranks share.

    Distinct arguments give independent streams (unlike `seed + rank`, where seed 1 rank 0 equals seed 0 rank 1).
    """
    return np.random.SeedSequence(entropy=seed, spawn_key=(rank + 1, *purpose.encode()))


def torch_generator(seed: int, rank: int, purpose: str) -> torch.Generator:
    """A CPU torch generator for (study seed, rank, purpose); see `seed_sequence`."""
    state = int(seed_sequence(seed, rank, purpose).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state & (2**63 - 1))


def generator_state(generator: np.random.Generator) -> Tensor:
    """Where a generator stands, as a tensor that a checkpoint can hold (uint8)."""
    text = json.dumps(generator.bit_generator.state)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def set_generator_state(generator: np.random.Generator, state: Tensor) -> None:
    """Put a generator where `generator_state` found it."""
    generator.bit_generator.state = json.loads(state.numpy().tobytes().decode())


def digest(*tensors: Tensor) -> str:
    """sha256 of the tensors' bytes, first 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
