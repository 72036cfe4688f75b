"""What every workload must do, whoever wrote it: run by `paceline workloads check NAME` and by the tests.

The checks build the workload several times, so that nothing can hide in an instance, and use mini-batches of a few
samples, since what holds for four holds for a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.workloads.base import Workload
from bench.workloads.registry import WorkloadSettings

CPU = torch.device("cpu")
SAMPLES = 4  # in the checks' mini-batches
WORKERS = 4
REPLICAS = 3  # evaluated in one call
STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # of finite differences: a kink within the largest is not within the smallest
DIRECTIONS = 3
SLOPE_ERROR = 1e-5  # of a slope, relative to the gradient's length
VECTORISED_ERROR = 1e-9  # in double precision, relative to the gradient's length
FACTS = ("data", "partition", "precision", "held-out set")


class Violation(Exception):
    """A workload does not do what every workload must."""


@dataclass(frozen=True)
class Subject:
    """A workload under check."""

    settings: WorkloadSettings

    def small(self, settings: WorkloadSettings) -> WorkloadSettings:
        """The same with few samples in a mini-batch."""
        batch_size = min(SAMPLES, getattr(settings, "batch_size", SAMPLES))
        changed: Any = replace(settings, batch_size=batch_size)  # type: ignore[type-var]
        return changed  # type: ignore[no-any-return]

    def build(self) -> Workload:
        """A new instance."""
        return self.small(self.settings).build(CPU, WORKERS)

    @cached_property
    def one(self) -> Workload:
        """An instance."""
        return self.build()

    @cached_property
    def other(self) -> Workload:
        """Another one, of the same settings."""
        return self.build()

    @cached_property
    def double(self) -> Workload:
        """One in double precision."""
        return self.small(self.settings.double()).build(CPU, WORKERS)


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation(otherwise)


def _gradient(workload: Workload, x: Tensor, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    out = torch.full_like(x, math.nan)
    loss = workload.gradient(x, batch, out)
    return loss, out


def _first_batch(workload: Workload, *, seed: int = 0, rank: int = 0) -> tuple[Tensor, ...]:
    return workload.batches(seed, rank, WORKERS).next()


def _same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return len(a) == len(b) and all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


def _near_the_start(workload: Workload, count: int) -> list[Tensor]:
    """Points [P] a little away from the initial one, where no gain is exactly 1 and no bias exactly 0."""
    generator, start = torch.Generator().manual_seed(3), workload.initial(0)
    spread = 0.1 * float(start.double().square().mean().sqrt())
    draws = (torch.randn(start.shape, generator=generator, dtype=torch.float64) for _ in range(count))
    return [start + (spread * draw).to(start.dtype) for draw in draws]


def initial_point_depends_on_the_seed_alone(subject: Subject) -> None:
    """Bit for bit, on another instance, after work and whatever the global generators hold."""
    x = subject.one.initial(1)
    _demand(bool(torch.isfinite(x).all()), "the initial point has values that are not finite")
    torch.manual_seed(99)
    np.random.seed(99)
    _gradient(subject.one, subject.one.initial(0), _first_batch(subject.one))
    for again in (subject.one.initial(1), subject.other.initial(1)):
        _demand(torch.equal(x, again), "initial(1) is another point when it is called again")
    _demand(not torch.equal(x, subject.one.initial(2)), "initial(2) is the same point as initial(1)")


def mini_batches_depend_on_seed_and_rank_alone(subject: Subject) -> None:
    """Bit for bit; another worker and another seed see others; a stream goes on where its state was taken."""

    def draw(workload: Workload, seed: int, rank: int) -> list[tuple[Tensor, ...]]:
        stream = workload.batches(seed, rank, WORKERS)
        return [stream.next() for _ in range(4)]

    want = draw(subject.one, 1, 2)
    torch.manual_seed(99)
    for again in (draw(subject.one, 1, 2), draw(subject.other, 1, 2)):
        _demand(all(map(_same, want, again)), "worker 2 of seed 1 sees other mini-batches when asked again")
    for seed, rank in ((1, 3), (2, 2)):
        differs = not all(map(_same, want, draw(subject.one, seed, rank)))
        _demand(differs, f"worker {rank} of seed {seed} sees the same mini-batches as worker 2 of seed 1")
    stream = subject.one.batches(1, 2, WORKERS)
    stream.next()
    resumed = subject.other.batches(1, 2, WORKERS)
    resumed.load_state(stream.state())
    _demand(_same(stream.next(), resumed.next()), "a stream does not go on where its state was taken")


def gradient_depends_on_model_and_mini_batch_alone(subject: Subject) -> None:
    """Bit for bit, on another instance, after other work and whatever the global generators hold."""
    x, elsewhere = _near_the_start(subject.one, 2)
    batch, before = _first_batch(subject.one), x.clone()
    want = _gradient(subject.one, x, batch)
    _demand(bool(torch.isfinite(want[1]).all()), "the gradient has values that are not finite")
    _gradient(subject.one, elsewhere, _first_batch(subject.one, rank=1))
    torch.manual_seed(99)
    for workload in (subject.one, subject.other):
        _demand(_same(want, _gradient(workload, x, batch)), "the same model and mini-batch give another gradient")
    _demand(torch.equal(x, before), "the gradient changes the model")


def gradient_equals_finite_differences(subject: Subject) -> None:
    """In double precision, along random directions."""
    workload = subject.double
    (x,) = _near_the_start(workload, 1)
    batch = _first_batch(workload)
    _, gradient = _gradient(workload, x, batch)
    generator, length = torch.Generator().manual_seed(5), float(gradient.norm())
    for _ in range(DIRECTIONS):
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        errors = []
        for step in STEPS:
            ahead, behind = (_gradient(workload, x + sign * step * direction, batch)[0] for sign in (1, -1))
            errors.append(abs(float((ahead - behind) / (2 * step)) - float(gradient @ direction)) / length)
        _demand(
            min(errors) < SLOPE_ERROR, f"the slope along a random direction is off by {min(errors):.1e} of the gradient"
        )


def gradients_of_many_replicas_equal_one_by_one(subject: Subject) -> None:
    """Evaluated at once against a loop, in double precision; then again elsewhere, as what is replayed there must not
    hold anything of the first time."""
    workload = subject.double
    streams = [workload.batches(0, rank, WORKERS) for rank in range(REPLICAS)]
    for xs in torch.stack(_near_the_start(workload, 2 * REPLICAS)).view(2, REPLICAS, -1):
        batches = [stream.next() for stream in streams]
        outs, losses = workload.gradients(xs, batches)
        for k in range(REPLICAS):
            loss, gradient = _gradient(workload, xs[k], batches[k])
            off = float((outs[k] - gradient).norm() / gradient.norm())
            _demand(off < VECTORISED_ERROR, f"replica {k}'s gradient is off by {off:.1e} of its length")
            _demand(abs(float(losses[k] - loss)) <= VECTORISED_ERROR * abs(float(loss)), f"replica {k}'s loss is off")


def together_is_a_number_of_gradients(subject: Subject) -> None:
    """And the same on another instance."""
    together = subject.one.together
    _demand(isinstance(together, int) and together >= 1, f"together is {together!r}")
    _demand(together == subject.build().together, "together is another number when the workload is built anew")


def gradient_is_announced_tensor_by_tensor(subject: Subject) -> None:
    """Each parameter tensor once, when its part is final, so that it may be reduced while the rest is computed."""
    workload = subject.one
    (x,) = _near_the_start(workload, 1)
    batch, out = _first_batch(workload), torch.empty(workload.parameters, dtype=workload.dtype)
    _, want = _gradient(workload, x, batch)
    seen: dict[int, Tensor] = {}

    def on_ready(k: int) -> None:
        _demand(k not in seen, f"parameter tensor {k} is announced twice")
        seen[k] = out[slice(*workload.spans[k])].clone()

    workload.gradient(x, batch, out, on_ready)
    _demand(sorted(seen) == list(range(len(workload.spans))), "not every parameter tensor is announced")
    _demand(torch.equal(out, want), "the gradient is another one when it is announced")
    _demand(all(torch.equal(v, want[slice(*workload.spans[k])]) for k, v in seen.items()), "announced before final")


def heldout_set_is_fixed(subject: Subject) -> None:
    """The same samples and the same loss on another instance, and after training."""
    one, other = subject.one, subject.other
    (x,) = _near_the_start(one, 1)
    before = one.heldout(x)
    _demand(math.isfinite(before.loss) and math.isfinite(before.metric), "the held-out loss or metric is not finite")
    _gradient(other, other.initial(1), _first_batch(other, seed=1, rank=1))
    _demand(other.heldout(x) == before, "the same model has another held-out loss on another instance")
    _demand(one.facts["held-out set"] == other.facts["held-out set"], "the held-out set is another one when built anew")


def training_data_reach_every_worker(subject: Subject) -> None:
    """Every worker has samples, as recorded."""
    shares = subject.one.shares(0, WORKERS)
    _demand(len(shares) in (0, WORKERS), f"{len(shares)} shares for {WORKERS} workers")
    _demand(all(share.samples > 0 for share in shares), "a worker has no training data")


def says_what_it_is(subject: Subject) -> None:
    """Parameters, operations, metric and what a reader must know."""
    workload = subject.one
    edges = [edge for span in workload.spans for edge in span]
    _demand(edges[0] == 0 and edges[-1] == workload.parameters, "the spans do not cover the parameters")
    _demand(edges[1:-1:2] == edges[2:-1:2], "the spans leave gaps or overlap")
    _demand(workload.flops_per_sample > 0, "flops_per_sample is not positive")
    _demand(bool(workload.metric), "the metric has no name")
    missing = [fact for fact in FACTS if not workload.facts.get(fact)]
    _demand(not missing, f"facts do not say: {', '.join(missing)}")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    says_what_it_is,
    initial_point_depends_on_the_seed_alone,
    mini_batches_depend_on_seed_and_rank_alone,
    training_data_reach_every_worker,
    gradient_depends_on_model_and_mini_batch_alone,
    gradient_equals_finite_differences,
    gradients_of_many_replicas_equal_one_by_one,
    together_is_a_number_of_gradients,
    gradient_is_announced_tensor_by_tensor,
    heldout_set_is_fixed,
)
