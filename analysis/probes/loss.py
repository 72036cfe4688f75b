"""The mean loss over a probe set as a function of the model: at many points at once, and with its gradient.

What landscapes, barriers and sharpness walk on. Every rank visits every point with its own samples; one all-reduce of
all losses closes a visit, however many points it has. Batch-norm statistics are estimated anew at each point, since
those of another model are not this one's (Izmailov et al. 2018, arXiv 1803.05407, section 3.2).

Axes: P parameters, N samples, k points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.probes.probe_set import Batches, ProbeSet, Sum, alone
from bench.workloads.objective import Objective

Vector = NDArray[np.float64]
Facts = Mapping[str, str | int | float | bool]
"""What a reader of a table must know; kept in its `attrs`."""

ESTIMATED_ANEW = "statistics estimated anew at each point"


class Loss(Protocol):
    """A loss to walk on."""

    facts: Facts

    def values(self, points: Iterable[Tensor]) -> Vector:
        """Losses [k] at the points, each [P]; they are taken one at a time, so that an iterator needs no memory."""
        ...

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        """Loss at x [P] and its gradient [P] (float64, on the host)."""
        ...


class ProbedLoss:
    """The mean loss over a probe set.

    Args:
        objective: of the workload.
        chosen: this rank's share of the probe set.
        total: sums over the ranks that share it.

    Attributes:
        has_statistics: see `Objective`.

    Example:
        >>> from analysis.probes.probe_set import probe_set
        >>> from bench.workloads.quadratic import Quadratic
        >>> workload = Quadratic(dimension=4, condition=1).build(torch.device("cpu"), 1)
        >>> loss = ProbedLoss(workload.objective(), probe_set(workload.objective(), samples=None))
        >>> loss.values(workload.minimiser + step for step in (0, 1)).tolist()
        [0.0, 2.0]
    """

    def __init__(self, objective: Objective, chosen: ProbeSet, total: Sum = alone) -> None:
        self._objective, self._chosen, self._total = objective, chosen, total
        self.has_statistics = objective.has_statistics
        self.facts: Facts = {
            "probe_set": chosen.digest,
            "of": chosen.of,
            "samples": chosen.samples,
            "samples_seed": chosen.seed,
            "batch_norm": ESTIMATED_ANEW if objective.has_statistics else "none",
        }

    def values(self, points: Iterable[Tensor]) -> Vector:
        """See `Loss`."""
        return mean_losses(self._objective, points, self._chosen.batches, self._chosen.samples, self._total)

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        """See `Loss`."""
        return mean_loss_and_gradient(self._objective, x, self._chosen.batches, self._chosen.samples, self._total)


def mean_losses(
    objective: Objective, points: Iterable[Tensor], batches: Batches, samples: int, total: Sum = alone
) -> Vector:
    """Mean loss [nat] over the samples of all ranks at each point [k], in evaluation mode.

    Args:
        objective: to evaluate.
        points: models [P], any number of them; the same on every rank.
        batches: this rank's micro-batches.
        samples: N over all ranks.
        total: sums over them.

    Example:
        >>> from bench.workloads.quadratic import Quadratic
        >>> objective = Quadratic(dimension=2, condition=1).build(torch.device("cpu"), 1).objective()
        >>> batch = torch.tensor([[0.0, 0.0], [2.0, 0.0]]).double(), torch.zeros(2)
        >>> mean_losses(objective, [torch.zeros(2).double()], [batch], samples=2).tolist()
        [1.0]
    """
    losses = []
    with torch.no_grad():
        for x in points:
            mean = torch.zeros((), dtype=torch.float64, device=x.device)
            with objective.at(x):
                for inputs, targets in batches:
                    share = len(targets) / samples
                    mean += share * objective.loss(objective.logits(x, inputs), targets).double()
            losses.append(mean)
    mine = torch.stack(losses).cpu() if losses else torch.zeros(0, dtype=torch.float64)
    return np.asarray(total(mine).numpy(), dtype=np.float64)


def mean_loss(objective: Objective, x: Tensor, batches: Batches, samples: int, total: Sum = alone) -> float:
    """Mean loss [nat] over the samples of all ranks at x [P]; arguments as of `mean_losses`."""
    return float(mean_losses(objective, [x], batches, samples, total)[0])


def mean_loss_and_gradient(
    objective: Objective, x: Tensor, batches: Batches, samples: int, total: Sum = alone
) -> tuple[float, Tensor]:
    """Mean loss [nat] at x [P] and its gradient [P] (float64, on the host), by one all-reduce.

    Batch-norm statistics are those of x, and constants to the gradient: with batch norm it is the slope of the model
    that is evaluated at x, not of the losses that `mean_losses` finds around it.

    Args:
        objective, batches, samples, total: see `mean_losses`.
        x: [P].

    Example:
        >>> from bench.workloads.quadratic import Quadratic
        >>> objective = Quadratic(dimension=2, condition=1).build(torch.device("cpu"), 1).objective()
        >>> batch = torch.tensor([[0.0, 0.0], [2.0, 0.0]]).double(), torch.zeros(2)
        >>> loss, gradient = mean_loss_and_gradient(objective, torch.zeros(2).double(), [batch], samples=2)
        >>> loss, gradient.tolist()
        (1.0, [-1.0, 0.0])
    """
    whole = torch.zeros(objective.parameters + 1, dtype=torch.float64)  # the loss comes last
    with objective.at(x):
        for inputs, targets in batches:
            at = x.detach().requires_grad_(True)
            loss = objective.loss(objective.logits(at, inputs), targets)
            (g,) = torch.autograd.grad(loss, at)
            share = len(targets) / samples
            whole[:-1] += g.cpu().double() * share
            whole[-1] += loss.detach().cpu().double() * share
    whole = total(whole)
    return float(whole[-1]), whole[:-1]


def at_least(name: str, value: float, least: float, remedy: str) -> None:
    """Refuse a number below `least`, or one that is not finite.

    Raises:
        ValueError: it is.
    """
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least {least:g}: got {value:g} ({remedy})")


def positive(name: str, value: float, remedy: str) -> None:
    """Refuse a number that is not positive, or not finite.

    Raises:
        ValueError: it is.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite: got {value:g} ({remedy})")
