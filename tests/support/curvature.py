"""Models small enough for their dense Hessian, and ranks as threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from analysis.probes.probe_set import Batches
from analysis.probes.products import Kind
from bench.workloads.base import LayerSpan
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.objective import ModuleObjective, Objective
from bench.workloads.problem import Problem, Samples

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("hessian", "ggn")
SAMPLES = 40


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mlp(dtype: str = "float64") -> tuple[Objective, Tensor]:
    """460 parameters, at a point where training has been."""
    workload = DigitsMlp(width=6, depth=1, dtype=dtype).build(CPU, 1)
    x, batches, g = (
        workload.initial(0),
        workload.batches(0, 0, 1),
        torch.empty(workload.parameters, dtype=workload.dtype),
    )
    for _ in range(200):
        workload.gradient(x, batches.next(), g)
        x -= 0.1 * g
    return workload.objective(), x


def own(module: nn.Module, inputs: Tensor, targets: Tensor, **options: Any) -> tuple[Objective, Tensor]:
    """The objective of a module, at its own parameters."""
    module = module.double()
    sizes = torch.tensor([0] + [p.numel() for p in module.parameters()]).cumsum(0).tolist()
    problem = Problem(
        module=module,
        train=Samples(inputs=inputs, targets=targets),
        heldout=(inputs, targets),
        initialise=lambda *_: None,
        **options,
    )
    x = nn.utils.parameters_to_vector(module.parameters()).detach()
    spans = list(itertools.pairwise(sizes))
    return ModuleObjective(problem, module, spans, [LayerSpan("all", 0, len(x), False)]), x


def dense(objective: Objective, x: Tensor, batches: Batches, kind: Kind) -> Tensor:
    """The matrix [P, P], all samples at once, by torch.func."""
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with objective.at(x):
        if kind == "hessian":
            whole: Tensor = torch.func.hessian(lambda y: objective.loss(objective.logits(y, inputs), targets))(x)
            return whole
        jacobian = torch.func.jacrev(lambda y: objective.logits(y, inputs).flatten())(x)
        z = objective.logits(x, inputs)
        curvature = torch.func.hessian(lambda flat: objective.loss(flat.view(z.shape), targets))(z.flatten())
        return jacobian.T @ curvature @ jacobian


def together(ranks: int, work: Callable[[int, Callable[[Tensor], Tensor]], Any]) -> list[Any]:
    """Run `work(rank, total)` on threads whose `total` sums over them."""
    barrier, parts, found = threading.Barrier(ranks, timeout=60), {}, {}

    def run(rank: int) -> None:
        def total(v: Tensor) -> Tensor:
            parts[rank] = v
            barrier.wait()
            whole = torch.stack([parts[k] for k in range(ranks)]).sum(0)
            barrier.wait()
            return whole

        found[rank] = work(rank, total)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(ranks)]
