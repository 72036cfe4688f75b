"""Whether noise in the parameters makes a network's loss less curved where DPSGD passes: the largest eigenvalue of the
smoothed loss.

    L~(w) = E L(w + sigma u),  u ~ N(0, 1)^P;  Hessian of L~ times v by a difference of its gradients

at mean models of a DPSGD run, with sigma from a half to eight times the spread of its workers there, per parameter.
Expectations are means over antithetic pairs, the same for all sigmas.

Source: Zhang et al., arXiv 2112.01433, where the workers' spread is taken for such noise.
Symbols: P parameters.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from algorithms.d_psgd import DPSGD
from bench.experiments.base import Rows, Scale
from bench.experiments.dpsgd.stopped import Stopped
from bench.workloads.base import torch_generator
from bench.workloads.mnist_mlp import MnistMlp
from bench.workloads.objective import Objective

WORKERS = 16
BATCH = 125
LR = 0.8
STEPS = (40, 400)
FACTORS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the workers' spread
SAMPLES = 1000
PAIRS = 4
STEP = 1e-3  # of the difference, in lengths of the model: the same for all sigmas, for it smooths along its direction
TOLERANCE = 0.02  # relative, of an eigenvalue
RITZ_VECTORS = 12


def smoothing(scale: Scale) -> Rows:
    """One row for each seed, step and sigma: `factor` sigma over the workers' `spread`, `sigma`, `eigenvalue` the
    largest of the smoothed loss (sigma 0: of the loss itself)."""
    rows: Rows = []
    for seed in range(1 if scale == "quick" else 3):
        workload = MnistMlp(batch_size=BATCH).build(torch.device("cpu"), WORKERS)
        objective = workload.objective()
        samples = objective.training.take(torch.arange(SAMPLES))
        run = Stopped(DPSGD(start="own"), workload, workers=WORKERS, seed=seed, lr=LR)
        for step in STEPS:
            stands = run.to(step)
            mean = stands.double().mean(0).float()
            spread = math.sqrt(float((stands - mean).double().square().mean()))
            for factor in FACTORS:
                value = largest_eigenvalue(objective, samples, mean, factor * spread)
                rows.append(
                    {
                        "seed": seed, "step": step, "factor": factor, "sigma": factor * spread, "spread": spread,
                        "eigenvalue": value,
                    }
                )  # fmt: skip
    return rows


def largest_eigenvalue(objective: Objective, samples: tuple[Tensor, Tensor], x: Tensor, sigma: float) -> float:
    """Largest eigenvalue of the Hessian of the loss smoothed by sigma at x [P]; of the loss itself for sigma 0."""
    generator = torch_generator(0, -1, "smoothing experiment")
    start = torch.randn(len(x), generator=generator, dtype=torch.float64).numpy()
    draws = [torch.randn(len(x), generator=generator).to(x) for _ in range(PAIRS)]
    points = [x + sign * sigma * u for u in draws for sign in (1, -1)] if sigma else [x]
    step = STEP * float(x.norm())

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        away = step * torch.from_numpy(np.ascontiguousarray(v).ravel()).to(x)
        total = torch.zeros(len(x), dtype=torch.float64)
        for at in points:
            total += (_gradient(objective, samples, at + away) - _gradient(objective, samples, at - away)).double()
        found: NDArray[np.float64] = total.numpy() / (2 * step * len(points))
        return found

    operator = LinearOperator((len(x), len(x)), matvec=product, dtype=np.float64)
    (value,) = eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE, ncv=RITZ_VECTORS, return_eigenvectors=False)
    return float(value)


def _gradient(objective: Objective, samples: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(objective.loss(objective.logits(x, samples[0]), samples[1]), x)
    return g
