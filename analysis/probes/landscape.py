"""The loss around a model, along one direction or over the plane of two.

Source: Li et al., Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from torch import Tensor

from analysis.probes.directions import Directions
from analysis.probes.loss import Loss, Vector, positive


def landscape_1d(loss: Loss, x: Tensor, directions: Directions, *, span: float = 1.0, points: int = 51) -> pd.DataFrame:
    """Loss [nat] at x + alpha d, for alpha from -span to span; d is the first of the directions.

    Args:
        loss: to look at.
        x: the model [P]; the middle of the landscape, where the loss is the model's own, bit for bit.
        directions: of which one is used.
        span: largest alpha.
        points: how many; odd, so that the model is among them.

    Returns:
        alpha, loss; in `attrs` the probe set, what became of batch norm, and how the direction was made.

    Raises:
        ValueError: `span` is not positive, or `points` not an odd number of at least 3.

    Example:
        >>> import torch
        >>> from analysis.probes.loss import ProbedLoss
        >>> from analysis.probes.probe_set import probe_set
        >>> from bench.workloads.quadratic import Quadratic
        >>> workload = Quadratic(dimension=2, condition=1).build(torch.device("cpu"), 1)
        >>> loss = ProbedLoss(workload.objective(), probe_set(workload.objective(), samples=None))
        >>> along = Directions(torch.tensor([[2.0, 0.0]]).double())
        >>> landscape_1d(loss, workload.minimiser, along, points=5)["loss"].tolist()
        [2.0, 0.5, 0.0, 0.5, 2.0]
    """
    alphas = _grid(span, points)
    d = directions.vectors[0]
    losses = loss.values(x + float(alpha) * d for alpha in alphas)
    table = pd.DataFrame({"alpha": alphas, "loss": losses})
    table.attrs.update({**loss.facts, **directions.facts})
    return table


def landscape_2d(loss: Loss, x: Tensor, directions: Directions, *, span: float = 1.0, points: int = 25) -> pd.DataFrame:
    """Loss [nat] at x + alpha d1 + beta d2, for alpha and beta from -span to span.

    Args:
        loss, x, span: see `landscape_1d`.
        directions: of which two are used.
        points: on each axis; odd.

    Returns:
        alpha, beta, loss, one row per point, beta running faster; `attrs` as of `landscape_1d`.

    Raises:
        ValueError: as `landscape_1d`; or there is one direction only.

    Example:
        >>> import torch
        >>> from analysis.probes.loss import ProbedLoss
        >>> from analysis.probes.probe_set import probe_set
        >>> from bench.workloads.quadratic import Quadratic
        >>> workload = Quadratic(dimension=2, condition=1).build(torch.device("cpu"), 1)
        >>> loss = ProbedLoss(workload.objective(), probe_set(workload.objective(), samples=None))
        >>> plane = landscape_2d(loss, workload.minimiser, Directions(torch.eye(2).double()), points=3)
        >>> plane.pivot(index="alpha", columns="beta", values="loss").values.tolist()
        [[1.0, 0.5, 1.0], [0.5, 0.0, 0.5], [1.0, 0.5, 1.0]]
    """
    if len(directions.vectors) < 2:
        raise ValueError(f"a plane needs two directions: got {len(directions.vectors)} (ask for count=2)")
    axis = _grid(span, points)
    d1, d2 = directions.vectors[:2]

    def plane() -> Iterator[Tensor]:
        for alpha in axis:
            row = x + float(alpha) * d1
            for beta in axis:
                yield row + float(beta) * d2

    losses = loss.values(plane())
    table = pd.DataFrame({"alpha": np.repeat(axis, points), "beta": np.tile(axis, points), "loss": losses})
    table.attrs.update({**loss.facts, **directions.facts})
    return table


def _grid(span: float, points: int) -> Vector:
    positive("span", span, "1 is as far as the model is long")
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points must be odd and at least 3, to have the model among them: got {points} (try 51)")
    half = points // 2
    return span * np.arange(-half, half + 1) / half
