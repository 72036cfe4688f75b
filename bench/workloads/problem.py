"""A learning problem as its author states it: a module, training data, a held-out set and a loss.

`bench.workloads.module.ModuleWorkload` turns it into a workload on a flat vector; partition, order, prefetching and
precision are added there, so that a problem knows nothing of workers, devices or files.

Axes: N samples, B batch, T context, C classes, S segments.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(inputs [B, ...], generator) -> inputs that the model is trained on; on the host."""

Noise = Callable[[int, torch.Generator], tuple[Tensor, ...]]
"""(B, generator) -> what else is random about a mini-batch, such as dropout masks; the module gets it after the
inputs, and only in training."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood [nat] of targets [...] under logits [..., C]."""
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """The fraction of targets [...] that are the largest of their logits [..., C]."""
    return (logits.argmax(-1) == targets).double().mean()


def error_rate(logits: Tensor, targets: Tensor) -> Tensor:
    """The fraction of targets [...] that are not the largest of their logits [..., C]."""
    return 1 - accuracy(logits, targets)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor that shares its memory; nobody may write to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # data sets are read-only, of which torch knows nothing
        return torch.from_numpy(array)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A training set of independent samples, in host memory and in a compact type: images stay uint8.

    Attributes:
        inputs: [N, ...].
        targets: [N, ...], what the loss takes.
        labels: classes [N] for a partition by label; None if there are none.
        groups: number of each sample's group [N] (its speaker), `group_names` says who that is; None if there are none.
    """

    inputs: Tensor
    targets: Tensor
    labels: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    group_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Text:
    """A training text; mini-batches are random windows of it, the targets are the next ids.

    Attributes:
        ids: [N], any integer type.
        context: T.
        segments: start and end [S, 2] of each speech or article, covering the text; None if it has no parts.
        groups: number of each segment's group [S] (its role), `group_names` says who that is.
    """

    ids: Tensor
    context: int
    segments: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    group_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Model, data and loss.

    Attributes:
        module: inputs [B, ...], and the noise if there is any, to logits [B, ..., C]. All its state is in its
            parameters: no buffers.
        train: the training set.
        heldout: (inputs, targets) of the held-out set, fixed and in a fixed order.
        heldout_chunk: samples evaluated at a time, to bound memory.
        initialise: fills the module's parameters from a generator.
        loss: mean loss from (logits, targets).
        metric: name of the held-out metric; `measure` computes its mean over a chunk from (logits, targets).
        augment, noise: see `Augment` and `Noise`.
        as_evaluated: training inputs [B, ...] as the model would see them in the held-out set; None if as they are.
        calibration: inputs on which batch-norm statistics are estimated anew before an evaluation; None without them.
        flops_per_sample: operations of one sample's gradient; None has them counted.
        target_loss: held-out loss that counts as reached; NaN if none.
        reached_in: where and how fast it was reached, in words.
        facts: what a reader of the results must know, in words: "data", "normalisation", "augmentation", ...
    """

    module: nn.Module
    train: Samples | Text
    heldout: tuple[Tensor, Tensor]
    initialise: Callable[[nn.Module, torch.Generator], None]
    heldout_chunk: int = 1000
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    metric: str = "accuracy"
    measure: Callable[[Tensor, Tensor], Tensor] = accuracy
    augment: Augment | None = None
    noise: Noise | None = None
    as_evaluated: Callable[[Tensor], Tensor] | None = None
    calibration: Tensor | None = None
    flops_per_sample: float | None = None
    target_loss: float = math.nan
    reached_in: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def count_flops(module: nn.Module, inputs: Tensor) -> float:
    """Operations of one sample's gradient, counted on one forward pass of inputs [B, ...].

    Two for each weight and place that it is applied at, in the forward pass; a backward pass counts twice that. A
    module whose matrices are not all in linear layers and convolutions is left to torch's own counter, which also sees
    other matrix products and attention, and takes seconds to load.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    counted = {id(layer.weight) for layer in layers}
    if all(p.dim() < 2 or id(p) in counted for p in module.parameters()):
        forward = _count_layers(module, layers, inputs)
    else:
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            module(inputs)
        forward = float(counter.get_total_flops())
    return 3 * forward / len(inputs)


def _count_layers(module: nn.Module, layers: Sequence[nn.Linear | nn.Conv2d], inputs: Tensor) -> float:
    total = 0.0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # Every number that comes out of a layer sums one row of its weights.
        total += 2.0 * output.numel() * weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total
