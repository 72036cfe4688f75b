"""The noise that DPSGD adds, Delta^(2), against what the paper derives it from: the curvature times the spread.

    Delta^(2) = a^2 |mean_j G_j - mean_j S_j|^2       G_j = grad L^(mu_j)(w_j), S_j = grad L^(mu_j)(w_a)
    paper:      a^2 / n^2 sum_j |H (w_j - w_a)|^2     = a^2 tr(H^2 C), C = n^-2 sum_j (w_j - w_a)(w_j - w_a)^T
    first order: a^2 / n^2 |sum_j H^(mu_j) (w_j - w_a)|^2

with H the Hessian of the overall loss at the mean model w_a and H^(mu_j) that of worker j's mini-batch. The paper's
formula drops the products of different workers; were all H^(mu_j) equal to H these would cancel the rest, since the
w_j - w_a add up to zero: on quadratics with a common Hessian Delta^(2) is zero.

Source: Zhang et al., arXiv 2112.01433; the remark on the common Hessian also in Zhu et al., arXiv 2306.02913, after
Eq. 4.
Shapes: n workers, P parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.d_psgd import DPSGD
from bench.experiments.base import Rows, Scale
from bench.experiments.dpsgd.stopped import Stopped, mean_gradient
from bench.workloads.base import Workload
from bench.workloads.mnist_mlp import MnistMlp
from bench.workloads.objective import Objective
from bench.workloads.quadratic import Quadratic

WORKERS = 16
BATCH = 125
LR = 0.8
SAMPLES = 10_000  # of the training set, for H
DRAWS = 8  # mini-batches per worker over which Delta^(2) is averaged
STEPS = (40, 80, 160, 240, 320, 400, 480, 560)
QUADRATIC_LR = 0.1


def diversity(scale: Scale) -> Rows:
    """One row for each seed and step on MNIST (`case` "mnist-mlp") and for each graph and number of workers on a
    quadratic: `measured` Delta^(2), `paper` and `first_order` (MNIST only), `replica_variance` mean_j |w_j - w_a|^2,
    `step_length` a^2 |mean_j G_j|^2."""
    rows = [row for seed in range(1 if scale == "quick" else 3) for row in on_mnist(seed)]
    return rows + [on_quadratic(graph, workers) for graph in ("ring", "random-pair") for workers in (4, 16)]


def on_mnist(seed: int) -> Rows:
    """A row for each of `STEPS` of a run of DPSGD."""
    workload = MnistMlp(batch_size=BATCH).build(torch.device("cpu"), WORKERS)
    objective = workload.objective()
    overall = objective.training.take(torch.arange(SAMPLES))
    run = Stopped(DPSGD(start="own"), workload, workers=WORKERS, seed=seed, lr=LR)
    rows: Rows = []
    for step in STEPS:
        stands, streams = run.to(step), run.streams()
        mean = stands.double().mean(0).float()
        away = stands - mean
        curved = [_product(objective, mean, overall, v) for v in away]
        measured, lengths, first_order = [], [], []
        for _ in range(DRAWS):
            batches = [stream.next() for stream in streams]
            found, length = of_step(workload, stands, mean, batches, LR)
            measured.append(found)
            lengths.append(length)
            own = torch.stack([_product(objective, mean, (b[0], b[1]), v) for b, v in zip(batches, away, strict=True)])
            first_order.append(float(own.sum(0).square().sum()) * (LR / WORKERS) ** 2)
        rows.append(
            {
                "case": "mnist-mlp", "graph": "ring", "workers": WORKERS, "seed": seed, "step": step,
                "measured": sum(measured) / DRAWS, "step_length": sum(lengths) / DRAWS,
                "paper": sum(float(v.square().sum()) for v in curved) * (LR / WORKERS) ** 2,
                "first_order": sum(first_order) / DRAWS,
                "replica_variance": float(away.double().square().sum()) / WORKERS,
            }
        )  # fmt: skip
    return rows


def on_quadratic(graph: str, workers: int) -> dict[str, object]:
    """A row for the fourth step of DPSGD on a quadratic that all workers have in common."""
    workload = Quadratic(dimension=50, noise=0.5).build(torch.device("cpu"), workers)
    algorithm = DPSGD(topology=graph, start="own")  # type: ignore[arg-type]
    run = Stopped(algorithm, workload, workers=workers, seed=0, lr=QUADRATIC_LR)
    stands = run.to(3)
    mean = stands.mean(0)
    batches = [stream.next() for stream in run.streams()]
    found, length = of_step(workload, stands, mean, batches, QUADRATIC_LR)
    return {
        "case": "quadratic", "graph": graph, "workers": workers, "seed": 0, "step": 3, "measured": found,
        "step_length": length, "paper": float("nan"), "first_order": float("nan"),
        "replica_variance": float((stands - mean).square().sum()) / workers,
    }  # fmt: skip


def of_step(
    workload: Workload, stands: Tensor, mean: Tensor, batches: list[tuple[Tensor, ...]], lr: float
) -> tuple[float, float]:
    """Delta^(2) and a^2 |mean G|^2 of one draw of mini-batches."""
    here = mean_gradient(workload, stands, batches)
    at_mean = mean_gradient(workload, mean.expand(len(stands), -1), batches)
    return lr**2 * float((here - at_mean).square().sum()), lr**2 * float(here.square().sum())


def _product(objective: Objective, x: Tensor, samples: tuple[Tensor, Tensor], v: Tensor) -> Tensor:
    """Hessian of the samples' mean loss at x, times v [P]."""
    inputs, targets = samples
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(objective.loss(objective.logits(x, inputs), targets), x, create_graph=True)
    (product,) = torch.autograd.grad(g @ v, x)
    return product.double()
