"""What lies between two models: the loss on the straight line, and the barrier that it has to climb.

Averaging is a step to the middle of such lines; an algorithm that averages needs them to be low. Batch-norm statistics
are estimated anew at every point.

Symbols: n models, P parameters, a in [0, 1]; barrier of x and y = max over a of
L((1 - a) x + a y) - ((1 - a) L(x) + a L(y)), never below 0.

Source: Entezari et al., The Role of Permutation Invariance in Linear Mode Connectivity, arXiv 2110.06296, definition
2.1; Frankle et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, arXiv 1912.05671.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.probes.loss import Loss, Vector, at_least


@dataclass(frozen=True)
class Barrier:
    """The highest rise above the straight line between two losses.

    Attributes:
        height: [nat], at least 0; seen at the points only, so that a finer line can show a higher one.
        alpha: where, from 0 (first model) to 1 (second); 0 if there is none.
    """

    height: float
    alpha: float


def interpolation(loss: Loss, x: Tensor, y: Tensor, *, points: int = 25, beyond: float = 0.0) -> pd.DataFrame:
    """Loss [nat] on the line from x (alpha = 0) to y (alpha = 1), and its rise above the straight line of losses.

    Args:
        loss: to look at.
        x, y: models [P]; both are met exactly.
        points: from x to y, both counted.
        beyond: how far to go on behind both, as a part of their distance (rounded to whole points).

    Returns:
        alpha, loss, rise [nat]; `attrs` hold the probe set and what became of batch norm.

    Raises:
        ValueError: fewer than 3 points, or `beyond` is negative.

    Example:
        >>> from analysis.probes.loss import ProbedLoss
        >>> from analysis.probes.probe_set import probe_set
        >>> from bench.workloads.quadratic import Quadratic
        >>> workload = Quadratic(dimension=2, condition=1).build(torch.device("cpu"), 1)
        >>> loss, at = ProbedLoss(workload.objective(), probe_set(workload.objective())), workload.minimiser
        >>> line = interpolation(loss, at - 1, at + 1, points=5)
        >>> line["loss"].tolist(), line["rise"].tolist()
        ([1.0, 0.25, 0.0, 0.25, 1.0], [0.0, -0.75, -1.0, -0.75, 0.0])
        >>> barrier(line)
        Barrier(height=0.0, alpha=0.0)
    """
    at_least("points", points, 3, "25 is usual")
    at_least("beyond", beyond, 0, "0 stays between the models")
    further = round(beyond * (points - 1))
    alphas = np.arange(-further, points + further) / (points - 1)
    losses = loss.values(torch.lerp(x, y, float(alpha)) for alpha in alphas)
    ends = losses[further], losses[further + points - 1]
    table = pd.DataFrame({"alpha": alphas, "loss": losses, "rise": losses - _straight(*ends, alphas)})
    table.attrs.update(loss.facts)
    return table


def barrier(line: pd.DataFrame) -> Barrier:
    """The barrier [nat] of a line between two models.

    Args:
        line: from `interpolation`; what lies beyond the models does not count.

    Example:
        >>> barrier(pd.DataFrame({"alpha": [0.0, 0.25, 0.5, 1.0, 1.5], "rise": [0.0, 0.5, 2.0, 0.0, 9.0]}))
        Barrier(height=2.0, alpha=0.5)
    """
    between = line[line["alpha"].between(0, 1)]
    return _highest(between["alpha"].to_numpy(), between["rise"].to_numpy())


def barriers(loss: Loss, models: Tensor | Sequence[Tensor], *, points: int = 11) -> pd.DataFrame:
    """The barrier [nat] between each two of n models: n (n - 1) / 2 rows, each pair once.

    Args:
        loss: to look at.
        models: [n, P], n at least 2.
        points: on each line, both ends counted; the ends cost one evaluation per model, all in all
            n + (points - 2) n (n - 1) / 2.

    Returns:
        first, second (numbers of the models), barrier, alpha (where), distance (Euclidean); `attrs` as of
        `interpolation`. Tables of several snapshots can be stacked.

    Raises:
        ValueError: fewer than 2 models or 3 points.

    Example:
        Between the two minima of (x^2 - 1)^2 there is a barrier of 1; from one of them to itself there is none:

        >>> class DoubleWell:
        ...     facts = {}
        ...     def values(self, points):
        ...         return np.array([float((x @ x - 1) ** 2) for x in points])
        >>> barriers(DoubleWell(), torch.tensor([[-1.0], [1.0], [-1.0]])).values.tolist()
        [[0.0, 1.0, 1.0, 0.5, 2.0], [0.0, 2.0, 0.0, 0.0, 0.0], [1.0, 2.0, 1.0, 0.5, 2.0]]
    """
    if len(models) < 2:
        raise ValueError(f"a barrier needs two models: got {len(models)} (give the replicas of at least two workers)")
    pairs = list(itertools.combinations(range(len(models)), 2))
    return _lines(loss, models, pairs, points)[0]


def barrier_matrix(pairs: pd.DataFrame) -> pd.DataFrame:
    """The barriers [nat] as a symmetric table [n, n] with zeros on the diagonal.

    Args:
        pairs: from `barriers`, of one snapshot.

    Example:
        >>> barrier_matrix(pd.DataFrame({"first": [0], "second": [1], "barrier": [2.0]})).values.tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    size = int(pairs["second"].max()) + 1
    matrix = np.zeros((size, size))
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    matrix[first, second] = matrix[second, first] = pairs["barrier"]
    names = pd.RangeIndex(size, name="worker")
    table = pd.DataFrame(matrix, index=names, columns=names)
    table.attrs.update(pairs.attrs)
    return table


def workers_against_mean(loss: Loss, models: Tensor, *, points: int = 11) -> pd.DataFrame:
    """How the workers' models compare with their average: is averaging a step down, and over which barrier?

    Args:
        loss: to look at.
        models: [n, P].
        points: on the line from each worker to the average.

    Returns:
        One row per worker: worker, loss, mean_loss (the average model's, the same in all rows), gap (loss - mean_loss:
        what averaging gains), distance (Euclidean, to the average), barrier, alpha (where on the way to the average);
        `attrs` as of `interpolation`. All zero but the losses where workers are equal, as in synchronous SGD.

    Raises:
        ValueError: fewer than 3 points, or no model.

    Example:
        Averaging takes two workers on opposite slopes of x^2 / 2 to its minimum:

        >>> class Bowl:
        ...     facts = {}
        ...     def values(self, points):
        ...         return np.array([float(x @ x / 2) for x in points])
        >>> table = workers_against_mean(Bowl(), torch.tensor([[-2.0], [2.0]]))
        >>> table[["loss", "mean_loss", "gap", "distance", "barrier"]].values.tolist()
        [[2.0, 0.0, 2.0, 2.0, 0.0], [2.0, 0.0, 2.0, 2.0, 0.0]]
    """
    at_least("models", len(models), 1, "give every worker's replica")
    # The mean of equal models is that model, bit for bit; their sum divided by n need not be.
    same = bool((models == models[0]).all())
    mean = models[0] if same else models.double().mean(0).to(models.dtype)
    n = len(models)
    table, losses = _lines(loss, [*models, mean], [(j, n) for j in range(n)], points)
    own = losses[:n]
    table = table.drop(columns="second").rename(columns={"first": "worker"})
    for place, (name, column) in enumerate({"loss": own, "mean_loss": losses[n], "gap": own - losses[n]}.items()):
        table.insert(place + 1, name, column)
    return table[["worker", "loss", "mean_loss", "gap", "distance", "barrier", "alpha"]]


def _lines(
    loss: Loss, models: Tensor | Sequence[Tensor], pairs: Sequence[tuple[int, int]], points: int
) -> tuple[pd.DataFrame, Vector]:
    """The barrier of each pair, and each model's own loss; all of it is one visit."""
    at_least("points", points, 3, "11 is usual")
    alphas = np.arange(points) / (points - 1)

    def places() -> Iterator[Tensor]:
        yield from models
        for i, j in pairs:
            yield from (torch.lerp(models[i], models[j], float(alpha)) for alpha in alphas[1:-1])

    losses = loss.values(places())
    own, inner = losses[: len(models)], losses[len(models) :].reshape(len(pairs), points - 2)
    rows = []
    for (i, j), between in zip(pairs, inner, strict=True):
        rise = between - _straight(own[i], own[j], alphas[1:-1])
        found = _highest(alphas, np.concatenate([[0.0], rise, [0.0]]))
        rows.append((i, j, found.height, found.alpha, float((models[i] - models[j]).double().norm())))
    table = pd.DataFrame(rows, columns=["first", "second", "barrier", "alpha", "distance"])
    table.attrs.update(loss.facts)
    return table, own


def _straight(first: float, second: float, alphas: Vector) -> Vector:
    """The straight line of losses, exact at both ends, and level where both are equal."""
    return np.where(alphas < 0.5, first + alphas * (second - first), second - (1 - alphas) * (second - first))


def _highest(alphas: Vector, rise: Vector) -> Barrier:
    """A loss that is no number is no valley either: NaN if there is one."""
    if np.isnan(rise).any():
        return Barrier(float("nan"), float(alphas[np.isnan(rise)][0]))
    k = int(rise.argmax())
    return Barrier(float(rise[k]), float(alphas[k])) if rise[k] > 0 else Barrier(0.0, 0.0)
