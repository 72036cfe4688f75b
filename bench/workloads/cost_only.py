"""A workload of which only time and bytes are simulated: vectors have a size, a type and no values.

They live on torch's `meta` device, where an operation checks shapes and computes nothing, so that the algorithms' own
files run unchanged on models that no memory could hold. Time, bytes and the order of events are those of a run with
gradients, bit for bit, since no algorithm lets values decide about them (`Algorithm.decides_by_values` names the
exceptions).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from bench.workloads import shapes
from bench.workloads.base import Batches, LayerSpan, OnReady, Workload
from bench.workloads.partition import Share

META = torch.device("meta")

NOTE = "not computed: time and bytes only"


class NoValues(RuntimeError):
    """A run without gradients asked for a value; the message is one line."""


def asked_for_a_value(error: BaseException | None) -> str:
    """Where the code that failed asked a meta tensor for a value: "FILE:LINE: its text"; empty if that is not why."""
    while error is not None:
        if isinstance(error, RuntimeError) and "meta tensor" in str(error):  # NotImplementedError is one, too
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "/torch/" not in Path(f.filename).as_posix() and f.filename != shapes.__file__]
            return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}: {ours[-1].line}" if ours else str(error)
        error = error.__cause__ or error.__context__
    return ""


class NoBatches:
    """A stream of mini-batches of nothing."""

    def next(self) -> tuple[Tensor, ...]:
        return ()

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a simulation of time and bytes must know of a model; see `bench.workloads.base.Workload`."""

    name: str
    dtype: torch.dtype
    batch_size: int
    optimizer: dict[str, Any]
    layers: Sequence[LayerSpan]
    spans: Sequence[tuple[int, int]]
    flops_per_sample: float
    facts: Mapping[str, str]
    target_loss: float = float("nan")
    metric: str = ""

    @property
    def parameters(self) -> int:
        """P."""
        return self.spans[-1][1]


class CostOnly:
    """A workload on the meta device, of the size of another; its loss is NaN. It reads no data."""

    together = 1

    def __init__(self, size: Workload | Size) -> None:
        self.name, self.parameters, self.dtype, self.device = size.name, size.parameters, size.dtype, META
        self.batch_size, self.optimizer = size.batch_size, size.optimizer
        self.metric, self.target_loss = size.metric, size.target_loss
        self.spans: Sequence[tuple[int, int]] = size.spans
        self.layers: Sequence[LayerSpan] = size.layers
        self.facts: Mapping[str, str] = {**size.facts, "gradients": NOTE}
        self._size = size
        self._loss = torch.tensor(float("nan"))

    @property
    def flops_per_sample(self) -> float:
        """Operations of one sample's gradient; NaN if unknown."""
        return self._size.flops_per_sample

    def initial(self, seed: int) -> Tensor:
        """A vector [P] without values."""
        return torch.empty(self.parameters, dtype=self.dtype, device=META)

    def shares(self, seed: int, size: int) -> Sequence[Share]:
        """Nothing is dealt."""
        return ()

    def batches(self, seed: int, rank: int, size: int) -> Batches:
        """Batches of nothing."""
        return NoBatches()

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        """Leaves `out` as it is, without values; the loss is NaN."""
        return self._loss

    def gradients(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """Gradients without values, and losses of NaN."""
        return torch.empty_like(xs), self._loss.expand(len(xs))

    def heldout(self, x: Tensor) -> NoReturn:
        """There is no model to evaluate.

        Raises:
            NoValues: always.
        """
        raise NoValues(f"{self.name}: a run without gradients has no model to evaluate")

    def objective(self) -> NoReturn:
        """There is no model to probe.

        Raises:
            NoValues: always.
        """
        raise NoValues(f"{self.name}: a run without gradients has no model to probe")
