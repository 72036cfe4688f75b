"""The loss as a function of the parameters, to be differentiated as often as one likes: what probes look at.

Evaluation mode throughout: no augmentation, no dropout, batch norm with statistics that stay put; attention and
recurrences are written out, since fused kernels have no second derivative. Samples come in a fixed order.

Axes: P parameters, N samples, B batch, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.workloads.base import LayerSpan
from bench.workloads.models.lstm import Lstm
from bench.workloads.norm import CALIBRATION_CHUNK, BatchNorm, calibrated
from bench.workloads.problem import Problem, Samples, Text


class Examples(Protocol):
    """Samples in a fixed order, as they are evaluated."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, ...] and targets [B, ...] of the samples with these numbers (int64 [B]), on the device."""
        ...


class Objective(Protocol):
    """A workload's loss as a function of x [P]; `torch.autograd` and `torch.func` may differentiate it twice."""

    parameters: int  # P
    dtype: torch.dtype
    device: torch.device
    spans: Sequence[tuple[int, int]]  # [lo, hi) of each parameter tensor in x, in order, covering [0, P)
    shapes: Sequence[tuple[int, ...]]  # of each parameter tensor; the first axis of a matrix counts its outputs
    names: Sequence[str]  # of each parameter tensor
    layers: Sequence[LayerSpan]  # the same vector by layers of the model
    training: Examples
    heldout: Examples
    has_statistics: bool  # whether the model normalises with statistics that `at` estimates

    def logits(self, x: Tensor, inputs: Tensor) -> Tensor:
        """What the model at x [P] makes of inputs [B, ...]: [B, ..., C], differentiable in x."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss (0-d) of logits [B, ..., C] for targets [B, ...]; [nat]."""
        ...

    def at(self, x: Tensor) -> AbstractContextManager[None]:
        """Estimate batch-norm statistics at x [P] and hold them within; costs nothing without batch norm.

        Derivatives are then those of the model that is evaluated at x: statistics are constants.
        """
        ...


class ArrayExamples:
    """Independent samples.

    Args:
        inputs, targets: [N, ...], in host memory, in any type.
        prepare: inputs [B, ...] of the training set as they are evaluated (without augmentation); None if as they are.
        dtype: of floating inputs.
        device: where samples are wanted.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        prepare: Callable[[Tensor], Tensor] | None,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._inputs, self._targets, self._prepare = inputs, targets, prepare
        self._dtype, self._device = dtype, device

    def __len__(self) -> int:
        return len(self._targets)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = (part.index_select(0, indices.to(part.device)) for part in (self._inputs, self._targets))
        if self._prepare is not None:
            inputs = self._prepare(inputs)
        if inputs.is_floating_point():
            inputs = inputs.to(self._dtype)
        return inputs.to(self._device), targets.to(self._device)


class WindowExamples:
    """A text cut into windows that follow each other and do not overlap; what is left at the end is left out.

    Args:
        text: [n] of any integer type, longer than the context.
        context: T.
        device: where samples are wanted.
    """

    def __init__(self, text: Tensor, context: int, device: torch.device) -> None:
        self._windows = text.unfold(0, context + 1, context)  # a view: each shares its last id with the next one
        self._device = device

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        windows = self._windows[indices].to(self._device).long()
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


class ModuleObjective:
    """The objective of a problem made of a torch module; it has a copy of the module to itself.

    Args:
        problem: model, data and loss.
        module: the module in the wanted type, on the wanted device.
        spans, layers: see `Objective`.
    """

    def __init__(
        self, problem: Problem, module: nn.Module, spans: Sequence[tuple[int, int]], layers: Sequence[LayerSpan]
    ) -> None:
        # Copied without the gradients, views of vectors that are none of ours.
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        for part in self._module.modules():
            if isinstance(part, Lstm):
                part.fused = False
        parameters = list(self._module.parameters())
        self.spans, self.layers = spans, layers
        self.names: Sequence[str] = [name for name, _ in self._module.named_parameters()]
        self.shapes: Sequence[tuple[int, ...]] = [tuple(p.shape) for p in parameters]
        self.parameters = spans[-1][1]
        self.dtype, self.device = parameters[0].dtype, parameters[0].device
        self.has_statistics = any(isinstance(part, BatchNorm) for part in self._module.modules())
        self._sizes = [hi - lo for lo, hi in spans]
        self._calibration, self._loss = problem.calibration, problem.loss
        train = problem.train
        self.training: Examples
        if isinstance(train, Text):
            self.training = WindowExamples(train.ids, train.context, self.device)
        else:
            assert isinstance(train, Samples)
            self.training = ArrayExamples(
                train.inputs, train.targets, problem.as_evaluated, dtype=self.dtype, device=self.device
            )
        self.heldout: Examples = ArrayExamples(*problem.heldout, None, dtype=self.dtype, device=self.device)

    def logits(self, x: Tensor, inputs: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            logits: Tensor = torch.func.functional_call(self._module, self._shaped(x), (inputs,))
        return logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss(logits, targets)

    @contextmanager
    def at(self, x: Tensor) -> Iterator[None]:
        with calibrated(self._module, lambda: self._see_calibration_set(x)):
            yield

    def _see_calibration_set(self, x: Tensor) -> None:
        assert self._calibration is not None
        with torch.no_grad():
            for chunk in torch.split(self._calibration, CALIBRATION_CHUNK):
                inputs = chunk.to(self.dtype) if chunk.is_floating_point() else chunk
                self.logits(x, inputs.to(self.device))

    def _shaped(self, x: Tensor) -> dict[str, Tensor]:
        parts = torch.split(x, self._sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
