"""How decentralised SGD steps where it stands: effective learning rate, gradient noise and its parts, from replicas.

Every worker's mini-batch of the snapshot's step is drawn again, as the run drew it, and its gradient taken twice: at
the worker's own replica (G_j) and at the mean of all (S_j).

Symbols: n workers, P parameters, B mini-batch, w_j replica, w_a their mean, g gradient of the overall loss at w_a.

Source: Zhang et al., Loss Landscape Dependent Self-Adjusting Learning Rates in Decentralized Stochastic Gradient
Descent, arXiv 2112.01433. Noise scale: McCandlish et al., An Empirical Model of Large-Batch Training, arXiv 1812.06162.
Diversity: Yin et al., Gradient Diversity, arXiv 1706.05699.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.effective_rate import EffectiveRate, Vector, effective_rate
from analysis.probes.probe_set import Sum, alone
from bench.workloads.base import Batches, Workload


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What one snapshot of all replicas says.

    Attributes:
        rate: the step of the mean model in parts.
        replica_variance: sigma_w^2 = mean over workers of |w_j - w_a|^2.
        mean_gradient: |mean G|^2.
        noise_scale: B_simple = tr(Sigma) / |g|^2 [samples], with tr(Sigma) from the spread of the S_j.
        diversity: sum_j |S_j|^2 / |sum_j S_j|^2; 1/n if all are equal, 1 if they are orthogonal.
    """

    rate: EffectiveRate
    replica_variance: float
    mean_gradient: float
    noise_scale: float
    diversity: float


def overall_halves(
    workload: Workload, x: Tensor, streams: Mapping[int, Batches], workers: int, each: int, total: Sum = alone
) -> tuple[Tensor, Tensor]:
    """Two estimates [P] of the overall gradient at x from disjoint mini-batches, as training sees them (float64).

    Args:
        workload: whose gradient, with augmentation and dropout.
        x: [P].
        streams: worker -> its stream, for this rank's workers; 2 `each` mini-batches are drawn from each.
        workers: n over all ranks.
        each: mini-batches per worker and half.
        total: sums over ranks.
    """
    halves = torch.zeros(2, workload.parameters, dtype=torch.float64)
    out = torch.empty_like(x)
    for worker in sorted(streams):
        for k in range(2 * each):
            workload.gradient(x, streams[worker].next(), out)
            halves[k % 2] += out.cpu().double()
    first, second = total(halves) / (workers * each)
    return first, second


def noise(
    workload: Workload,
    replicas: Mapping[int, Tensor],
    batches: Mapping[int, tuple[Tensor, ...]],
    mean: Tensor,
    overall: Sequence[Tensor],
    *,
    workers: int,
    lr: float,
    total: Sum = alone,
) -> Noise:
    """Effective learning rate and gradient noise of one step of n workers.

    Args:
        workload: whose gradient.
        replicas: worker -> w_j [P], for this rank's workers.
        batches: worker -> its mini-batch of the step.
        mean: w_a [P].
        overall: (g,) of the whole training set (`mean_loss_and_gradient`), or (g1, g2) of disjoint parts
            (`overall_halves`).
        workers: n over all ranks.
        lr: a, the step's learning rate.
        total: sums over ranks.

    Raises:
        ValueError: g is zero, or the two halves show no slope.

    Example:
        Workers on a common quadratic, wherever they stand, have no diversity beyond sampling:

        >>> from bench.workloads.quadratic import Quadratic
        >>> workload = Quadratic(noise=0.1).build(torch.device("cpu"), 2)
        >>> batches = {j: workload.batches(0, j, 2).next() for j in range(2)}
        >>> stands = {j: workload.initial(j) for j in range(2)}
        >>> middle = (stands[0] + stands[1]) / 2
        >>> g = workload.eigenvalues * (middle - workload.minimiser)
        >>> found = noise(workload, stands, batches, middle, [g], workers=2, lr=0.1)
        >>> found.rate.noise_diversity < 1e-20, found.replica_variance > 1
        (True, True)
    """
    sums = torch.zeros(2, workload.parameters, dtype=torch.float64)
    squares = torch.zeros(2, dtype=torch.float64)  # of w_j - w_a and of S_j
    out = torch.empty_like(mean)
    for worker in sorted(replicas):
        x = replicas[worker]
        workload.gradient(x, batches[worker], out)
        sums[0] += out.cpu().double()
        # Where the replica is the mean, bit for bit, S_j is G_j and nothing is left of their difference.
        workload.gradient(mean, batches[worker], out)
        at_mean = out.cpu().double()
        sums[1] += at_mean
        squares[0] += (x.cpu().double() - mean.cpu().double()).square().sum()
        squares[1] += at_mean.square().sum()
    sums, squares = total(sums), total(squares)
    here, control = (_array(v / workers) for v in sums)
    g = [_array(v) for v in overall]
    rate = effective_rate(lr, g[0], here, control, other_half=g[1] if len(g) > 1 else None)
    control_square = float(control @ control)
    spread = max(0.0, float(squares[1]) / workers - control_square) * workers / max(1, workers - 1)
    return Noise(
        rate=rate,
        replica_variance=float(squares[0]) / workers,
        mean_gradient=float(here @ here),
        noise_scale=workload.batch_size * spread / rate.slope if workers > 1 else float("nan"),
        diversity=float(squares[1]) / (workers**2 * control_square) if control_square > 0 else float("nan"),
    )


def _array(v: Tensor) -> Vector:
    array: Vector = v.cpu().double().numpy()
    return array
