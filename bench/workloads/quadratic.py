"""A noisy quadratic whose minimiser, curvature and gradient noise are known: the check on every other number.

Worker i minimises F_i(x) = 1/2 (x - b_i)^T A (x - b_i) with A diagonal, eigenvalues log-spaced from 1/condition to 1.
The mean of the b_i is the minimiser x* of the mean of the F_i, so

    mean_i F_i(x) - min = 1/2 (x - x*)^T A (x - x*)

which is the held-out loss. A mini-batch is (b_i, xi) with xi ~ N(0, noise^2 / batch_size) per coordinate; its loss is
F_i(x) + xi^T (x - b_i), its gradient A (x - b_i) + xi.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.workloads.base import (
    Batches,
    Heldout,
    LayerSpan,
    OnReady,
    generator_state,
    seed_sequence,
    set_generator_state,
)
from bench.workloads.objective import ArrayExamples, Examples
from bench.workloads.partition import Share
from bench.workloads.vectorised import PARTS

SPANS = 4  # parameter tensors the vector is cut into, so that bucketed reduction can be tested on it
LARGE = 4096  # dimensions above which one gradient by itself is faster


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """Settings of the quadratic.

    Attributes:
        dimension: P, at least 1.
        condition: largest over smallest eigenvalue, at least 1.
        noise: standard deviation of one sample's gradient noise per coordinate.
        heterogeneity: standard deviation over the workers of each coordinate of b_i, before they are centred.
        batch_size: samples averaged in one gradient; divides the noise variance.
    """

    title: ClassVar[str] = "quadratic"
    data: ClassVar[tuple[str, ...]] = ()
    # Stable below 2, the largest eigenvalue being 1.
    default_optimizer: ClassVar[dict[str, Any]] = {"name": "sgd", "lr": 0.1}

    dimension: int = 20
    condition: float = 10.0
    noise: float = 0.1
    heterogeneity: float = 0.0
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name, least in (("dimension", 1), ("condition", 1), ("noise", 0), ("heterogeneity", 0), ("batch_size", 1)):
            got = getattr(self, name)
            if not least <= got < float("inf"):
                raise ValueError(f"{name} must be finite and at least {least}: got {got} (default {_default(name)})")

    def optimizer_table(self) -> dict[str, Any]:
        """The tuned optimiser, as a study file would give it."""
        return dict(self.default_optimizer)

    def double(self) -> Quadratic:
        """Itself: it always computes in double precision."""
        return self

    def build(self, device: torch.device, workers: int) -> QuadraticWorkload:
        """The workload for this many workers."""
        return QuadraticWorkload(self, device, workers)


class QuadraticWorkload:
    """The quadratic as a `Workload`; see the module's docstring.

    Attributes:
        minimiser: x* [P], from -1 to 1, so that shrinking towards zero does not pass for optimising.
        eigenvalues: the diagonal of A [P], increasing.
        shifts: b [n, P] of the n workers; its mean is x* to rounding.
    """

    name = "quadratic"
    dtype = torch.float64
    metric = "distance"  # ||x - x*||
    # For the default settings: synchronous SGD by 4 workers passes it after 111 to 123 steps (4 seeds) and ends at the
    # noise floor, sum_k lr noise^2 / (2 n (2 - lr lambda_k)) = 0.005 / n; one worker needs 114 to 142.
    target_loss = 0.02

    def __init__(self, settings: Quadratic, device: torch.device, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1: got {workers} (the number of gradient-computing ranks)")
        self.optimizer = settings.optimizer_table()
        self.device = device
        self.parameters = size = settings.dimension
        self.batch_size = settings.batch_size
        self.flops_per_sample = 4.0 * size / settings.batch_size
        self.facts: Mapping[str, str] = {
            "data": "none: gradients of a known quadratic with added noise",
            "precision": "float64",
            "partition": f"each worker has its own minimum, {settings.heterogeneity:g} apart per coordinate",
            "held-out set": "none: the loss is the known excess over the minimum",
        }
        cuts = [size * k // SPANS for k in range(SPANS + 1)]
        self.spans: Sequence[tuple[int, int]] = [(lo, hi) for lo, hi in itertools.pairwise(cuts) if hi > lo]
        self.layers: Sequence[LayerSpan] = [
            LayerSpan(f"part {k}", lo, hi, True, ((hi - lo,),)) for k, (lo, hi) in enumerate(self.spans)
        ]
        self._noise = settings.noise / settings.batch_size**0.5
        self.eigenvalues = self._tensor(np.logspace(-np.log10(settings.condition), 0, size))
        minimiser = np.linspace(-1, 1, size)
        # The shifts belong to the problem, not to a run: no study seed, so that runs of all seeds share one minimum.
        draws = np.random.default_rng(seed_sequence(0, -1, "heterogeneity")).standard_normal((workers, size))
        self.minimiser = self._tensor(minimiser)
        self.shifts = self._tensor(minimiser + settings.heterogeneity * (draws - draws.mean(0)))

    def initial(self, seed: int) -> Tensor:
        """x* + random signs [P]: distance sqrt(P) and the same loss, trace(A) / 2, for every seed."""
        signs = np.random.default_rng(seed_sequence(seed, -1, "initial")).choice([-1.0, 1.0], self.parameters)
        return self.minimiser + self._tensor(signs)

    def shares(self, seed: int, size: int) -> Sequence[Share]:
        """Nothing: there is no training set, each worker has a quadratic of its own."""
        return []

    def batches(self, seed: int, rank: int, size: int) -> Batches:
        """The stream of (b_i, xi), both [P], of worker i = rank."""
        if size != len(self.shifts) or not 0 <= rank < size:
            raise ValueError(
                f"the quadratic has one shift per worker: built for {len(self.shifts)}, got rank {rank} of {size} "
                "(build it with the run's number of workers)"
            )
        return _NoiseBatches(self, self.shifts[rank], np.random.default_rng(seed_sequence(seed, rank, "batches")))

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        """Write A (x - b_i) + xi into out [P] and return F_i(x) + xi^T (x - b_i) (0-d)."""
        shift, noise = batch
        torch.sub(x, shift, out=out)
        loss = 0.5 * (out * out) @ self.eigenvalues + noise @ out
        if on_ready is None:
            out.mul_(self.eigenvalues).add_(noise)
            return loss
        for k in reversed(range(len(self.spans))):  # the last span first, as a backward pass does
            part = slice(*self.spans[k])
            out[part].mul_(self.eigenvalues[part]).add_(noise[part])
            on_ready(k)
        return loss

    def gradients(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """The gradients [k, P] and losses [k] of k replicas xs [k, P], newly allocated."""
        shifts, noise = (torch.stack(parts) for parts in zip(*batches, strict=True))
        outs = xs - shifts
        # No matrix times vector: what BLAS makes of a row depends on how many there are, by processor.
        losses = (0.5 * self.eigenvalues * outs.square() + noise * outs).sum(1)
        return outs.mul_(self.eigenvalues).add_(noise), losses

    @property
    def together(self) -> int:
        """How many gradients to give one call of `gradients` at most.

        128 are 24 times as fast as one by one with 20 dimensions, 16 are 4 times as fast with 1000; with 10 000 what is
        in between no longer stays in the caches, and they are slower.
        """
        return PARTS[0] if self.parameters <= LARGE else 1

    def heldout(self, x: Tensor) -> Heldout:
        """mean_i F_i(x) - min and the distance ||x - x*||."""
        away = x - self.minimiser
        return Heldout(
            loss=(0.5 * (away * away) @ self.eigenvalues).item(), metric=torch.linalg.vector_norm(away).item()
        )

    def objective(self) -> QuadraticObjective:
        """The noiseless loss as a function of x, for probes."""
        return QuadraticObjective(self)

    def draw_noise(self, rng: np.random.Generator) -> Tensor:
        """One mini-batch's gradient noise xi [P]."""
        return self._tensor(self._noise * rng.standard_normal(self.parameters))

    def _tensor(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype).to(self.device)


class QuadraticObjective:
    """F_i(x) as an `Objective`: training sample i is worker i, the only held-out sample is the minimum's.

    "Logits" are x - b [B, P], inputs the b.
    """

    has_statistics = False

    def __init__(self, workload: QuadraticWorkload) -> None:
        self.parameters, self.dtype, self.device = workload.parameters, workload.dtype, workload.device
        self.spans, self.layers = workload.spans, workload.layers
        self.shapes: Sequence[tuple[int, ...]] = [(hi - lo,) for lo, hi in self.spans]
        self.names: Sequence[str] = [layer.name for layer in self.layers]
        self.training: Examples = self._examples(workload.shifts)
        self.heldout: Examples = self._examples(workload.minimiser[None])
        self._eigenvalues = workload.eigenvalues

    def _examples(self, points: Tensor) -> ArrayExamples:
        return ArrayExamples(points, torch.zeros(len(points)), None, dtype=self.dtype, device=self.device)

    def logits(self, x: Tensor, inputs: Tensor) -> Tensor:
        return x - inputs

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (logits.square() @ self._eigenvalues).mean()

    def at(self, x: Tensor) -> AbstractContextManager[None]:
        return nullcontext()


class _NoiseBatches:
    def __init__(self, workload: QuadraticWorkload, shift: Tensor, rng: np.random.Generator) -> None:
        self._workload, self._shift, self._rng = workload, shift, rng

    def next(self) -> tuple[Tensor, ...]:
        return self._shift, self._workload.draw_noise(self._rng)

    def state(self) -> dict[str, Tensor]:
        return {"generator": generator_state(self._rng)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        set_generator_state(self._rng, state["generator"])


def _default(name: str) -> object:
    return Quadratic.__dataclass_fields__[name].default
