"""A workload of which only time and bytes are simulated: vectors have a size, a type and no values.

They live on torch's `meta` device, where an operation checks shapes and computes nothing, so that the algorithms' own
files run unchanged on models that no memory could hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from bench.workloads.base import Batches, LayerSpan, OnReady, Workload
from bench.workloads.partition import Share

META = torch.device("meta")


class NoBatches:
    """A stream of mini-batches of nothing."""

    def next(self) -> tuple[Tensor, ...]:
        return ()

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        pass


class CostOnly:
    """The size of a workload, as a workload on the meta device; its loss is NaN."""

    metric = "none"
    target_loss = float("nan")
    together = 1

    def __init__(self, workload: Workload) -> None:
        self.name, self.parameters, self.dtype = workload.name, workload.parameters, workload.dtype
        self.device = META
        self.batch_size, self.optimizer = workload.batch_size, workload.optimizer
        self.spans: Sequence[tuple[int, int]] = workload.spans
        self.layers: Sequence[LayerSpan] = workload.layers
        self.facts: Mapping[str, str] = {**workload.facts, "gradients": "not computed: time and bytes only"}
        self._workload = workload
        self._loss = torch.tensor(float("nan"))

    @property
    def flops_per_sample(self) -> float:
        return self._workload.flops_per_sample

    def initial(self, seed: int) -> Tensor:
        return torch.empty(self.parameters, dtype=self.dtype, device=META)

    def shares(self, seed: int, size: int) -> Sequence[Share]:
        return ()

    def batches(self, seed: int, rank: int, size: int) -> Batches:
        return NoBatches()

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        return self._loss

    def heldout(self, x: Tensor) -> NoReturn:
        raise AssertionError("a cost-only run has no model to evaluate")

    def objective(self) -> Any:
        raise AssertionError("a cost-only run has no model to probe")
