"""Directions in which to look at a loss: random ones of a scale that belongs to the model, and those a run has taken.

A ReLU network does not change when one layer is doubled and the next halved, but a picture along a plain Gaussian
direction does. With the direction's filters as long as the model's own, pictures of different models can be compared.

Source: Li et al., Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913, section 4. Differences: a filter of
zeros gets a direction of zeros, without a small constant in the quotient; two directions are orthogonal exactly.

Axes: P parameters, k directions, n models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.probes.loss import Facts, at_least
from bench.workloads.base import torch_generator

Normalisation = Literal["filter", "layer", "none"]

NOTHING_LEFT = 1e-6  # of a row, after projecting on another one: rounding


@dataclass(frozen=True, eq=False)
class Directions:
    """Axes of a landscape.

    Attributes:
        vectors: [k, P].
        facts: how they were made, enough to make them again.
    """

    vectors: Tensor
    facts: Facts = field(default_factory=dict)


def random_directions(
    x: Tensor,
    spans: Sequence[tuple[int, int]],
    shapes: Sequence[tuple[int, ...]],
    *,
    count: int = 2,
    seed: int = 0,
    normalisation: Normalisation = "filter",
) -> Directions:
    """Random directions [count, P] of the model's own scale, orthogonal to each other.

    filter  every row of the first axis (a filter, a unit's incoming weights) as long as the model's row; biases and
            other tensors of one axis stay where they are
    layer   every tensor as long as the model's; those of one axis stay
    none    plain Gaussian, in all parameters

    They are made orthogonal within each row (tensor, vector), before it is brought to length, so that both properties
    hold exactly. A row with fewer entries than directions has no room for the later ones; it is zero there.

    Args:
        x: the model [P].
        spans, shapes: of its parameter tensors, see `Objective`.
        count: k.
        seed: of the draw; the first direction does not depend on `count`.
        normalisation: see above.

    Raises:
        ValueError: unknown normalisation, no direction wanted, or nothing in which the model may move.

    Example:
        >>> x = torch.tensor([3.0, 4.0, 0.0, 2.0, 7.0]).double()
        >>> two = random_directions(x, [(0, 4), (4, 5)], [(2, 2), (1,)]).vectors
        >>> two[:, :4].view(2, 2, 2).norm(dim=2).round(decimals=9).tolist(), two[:, 4].tolist()
        ([[5.0, 2.0], [5.0, 2.0]], [0.0, 0.0])
    """
    if normalisation not in get_args(Normalisation):
        allowed = ", ".join(get_args(Normalisation))
        raise ValueError(f"normalisation must be one of {allowed}: got {normalisation!r} (choose one of these)")
    at_least("count", count, 1, "1 for a line, 2 for a plane")
    found: list[Tensor] = []
    for k in range(count):
        draw = torch.randn(len(x), generator=torch_generator(seed, -1, f"direction {k}"), dtype=torch.float64)
        direction = torch.zeros_like(draw)
        for lo, hi, rows in _groups(spans, shapes, len(x), normalisation):
            row, own = draw[lo:hi].view(rows, -1), x[lo:hi].cpu().double().view(rows, -1)
            left = _orthogonal(row, [earlier[lo:hi].view(rows, -1) for earlier in found])
            if normalisation != "none":
                left = left * (own.norm(dim=1, keepdim=True) / left.norm(dim=1, keepdim=True)).nan_to_num(0, 0, 0)
            direction[lo:hi] = left.flatten()
        found.append(direction)
    vectors = torch.stack(found)
    if not bool(vectors.any(dim=1).all()):
        raise ValueError(
            f"a direction must not be zero: normalisation={normalisation!r} leaves nothing of {len(shapes)} tensors "
            "(use normalisation='none')"
        )
    return Directions(
        vectors.to(dtype=x.dtype, device=x.device),
        {"directions": "random", "direction_seed": seed, "normalisation": normalisation, "orthogonal": count > 1},
    )


def _groups(
    spans: Sequence[tuple[int, int]], shapes: Sequence[tuple[int, ...]], parameters: int, normalisation: Normalisation
) -> list[tuple[int, int, int]]:
    """[lo, hi) of what moves, and into how many rows of their own length it is cut."""
    if normalisation == "none":
        return [(0, parameters, 1)]
    return [
        (lo, hi, shape[0] if normalisation == "filter" else 1)
        for (lo, hi), shape in zip(spans, shapes, strict=True)
        if len(shape) > 1 and hi > lo
    ]


def _orthogonal(rows: Tensor, others: Sequence[Tensor]) -> Tensor:
    """What is left of each row without its parts along the rows of others, which are orthogonal to each other."""
    left = rows
    for other in others:
        square = other.square().sum(1, keepdim=True)
        left = left - torch.where(square > 0, (left * other).sum(1, keepdim=True) / square, 0) * other
    kept = left.norm(dim=1, keepdim=True) > NOTHING_LEFT * rows.norm(dim=1, keepdim=True)
    return torch.where(kept, left, 0)


def principal_directions(models: Tensor, origin: Tensor, *, count: int = 2) -> Directions:
    """Orthonormal directions [count, P] in which the models lie furthest from the origin (uncentred principal axes).

    The plane of a trajectory: models along a run, seen from its last one. `share_1`, ... in `facts` say how much of the
    squared distances each axis holds; a plane that holds little of them shows little of the run.

    Args:
        models: [n, P].
        origin: [P].
        count: k; at most n.

    Raises:
        ValueError: the models span fewer directions than wanted.

    Example:
        >>> models = torch.tensor([[0.0, 3.0, 0.0], [0.0, -3.0, 0.0], [1.0, 0.0, 0.0]])
        >>> principal_directions(models, torch.zeros(3)).vectors.abs().tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    away = (models - origin).cpu().double()
    squares, turns = np.linalg.eigh((away @ away.T).numpy())  # [n], [n, n]: small, however many the parameters
    squares, turns = squares[::-1][:count], turns[:, ::-1][:, :count]
    if len(squares) < count or squares[-1] <= NOTHING_LEFT**2 * squares[0]:
        raise ValueError(f"count must be at most the directions that the models span: got {count} (leave some out)")
    vectors = torch.from_numpy((turns / np.sqrt(squares)).T.copy()) @ away
    shares = squares / float(away.square().sum())
    return Directions(
        vectors.to(dtype=origin.dtype, device=origin.device),
        {"directions": "principal", **{f"share_{k + 1}": float(share) for k, share in enumerate(shares)}},
    )


def coordinates(models: Tensor, origin: Tensor, directions: Directions) -> pd.DataFrame:
    """Where models stand in a landscape: the nearest point of its line or plane, and how far they are from it.

    Args:
        models: [n, P]: workers' replicas, or snapshots of a run.
        origin: [P], the landscape's middle.
        directions: its axes, one or two.

    Returns:
        One row per model: model, alpha, beta (for a plane), distance (Euclidean, from the model to that point).

    Example:
        >>> axes = Directions(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        >>> coordinates(torch.tensor([[1.0, 3.0, 4.0]]), torch.zeros(3), axes).values.tolist()
        [[0.0, 0.5, 3.0, 4.0]]
    """
    axes, away = directions.vectors.cpu().double(), (models - origin).cpu().double()
    places = torch.linalg.solve(axes @ axes.T, axes @ away.T).T
    table = pd.DataFrame(places.numpy(), columns=["alpha", "beta"][: len(axes)])
    table.insert(0, "model", range(len(models)))
    return table.assign(distance=(away - places @ axes).norm(dim=1).numpy())
