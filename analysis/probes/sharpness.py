"""Sharpness: how much worse the loss gets within a ball around the model; plain, and in the model's own scale.

    S(w) = max over |u| <= rho of L(w + T u) - L(w),   T = 1 (plain) or diag(|w_1|, ..., |w_P|) (adaptive)

in the Euclidean norm (SAM's ball) or the largest component. A ReLU network that has one layer doubled and the next
halved is the same network; its plain sharpness changes, its adaptive sharpness does not.

The maximum is looked for by projected ascent from several starts, so that what is found is a lower bound; the number
of gradients says how hard it was looked for.

Source: Foret et al., Sharpness-Aware Minimization, arXiv 2010.01412; Kwon et al., ASAM: Adaptive Sharpness-Aware
Minimization, arXiv 2102.11600, definition 1 with element-wise T. Difference: T without a small constant, which would
break the invariance.

Symbols: P parameters, rho radius, h = T grad L(w + T u) the gradient in u.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from analysis.probes.loss import Loss, at_least, positive
from bench.workloads.base import torch_generator

Ball = Literal["l2", "linf"]

# The first step has two radii, then back into the ball. Going straight to the point of the sphere that h shows would be
# the power method, which swings for ever where negative curvature is the largest; this does not, as long as it is no
# larger than the positive one, and it shrinks what is flat threefold at each step. A step that does not go up is taken
# back, and the next is half as long: for a maximum that lies within the ball.
STEP = 2.0


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """The worst loss found in a ball.

    Attributes:
        loss: L(w) [nat].
        worst: largest loss found [nat]; infinite if the ball reaches where the loss is no number.
        sharpness: worst - loss: a lower bound of S(w).
        starts: what each start found [nat]; the first goes up the gradient, the others begin anywhere on the sphere.
            Starts that agree speak for a maximum, starts that differ for a search that was too short.
        radius: rho.
        ball: norm of the ball.
        adaptive: whether in the model's own scale.
        gradients: computed for it.
        seed: of the starts.
    """

    loss: float
    worst: float
    sharpness: float
    starts: tuple[float, ...]
    radius: float
    ball: Ball
    adaptive: bool
    gradients: int
    seed: int


def sharpness(
    loss: Loss,
    x: Tensor,
    *,
    radius: float = 0.05,
    ball: Ball = "l2",
    adaptive: bool = False,
    starts: int = 3,
    steps: int = 10,
    seed: int = 0,
) -> Sharpness:
    """The worst loss [nat] within a ball around x, by projected ascent: a lower bound.

    Args:
        loss: to look at.
        x: w [P].
        radius: rho. In the Euclidean norm 0.05 is SAM's default, and 0.5 ASAM's (for which |w| is the unit).
        ball: "l2", or "linf" for the largest component.
        adaptive: whether a parameter may move in proportion to its own size.
        starts, steps: of the ascent; starts * (steps + 1) gradients.
        seed: of the starts, in u: that of a rescaled model are the same.

    Raises:
        ValueError: unknown ball, or a number that is not positive.

    Example:
        At the minimum of x^2 / 2 + y^2 / 20 the worst of a circle lies on the steep axis, by rho^2 / 2:

        >>> class Bowl:
        ...     facts = {}
        ...     def value_and_gradient(self, x):
        ...         slope = torch.tensor([1.0, 0.1]).double() * x
        ...         return float(x @ slope / 2), slope
        >>> found = sharpness(Bowl(), torch.zeros(2).double(), radius=2.0, steps=20)
        >>> round(found.sharpness, 6), found.gradients
        (2.0, 43)
    """
    if ball not in get_args(Ball):
        raise ValueError(f"ball must be one of {', '.join(get_args(Ball))}: got {ball!r} (choose one of these)")
    positive("radius", radius, "SAM uses 0.05")
    at_least("starts", starts, 1, "3 is usual")
    at_least("steps", steps, 1, "10 is usual")
    w = x.detach().cpu().double()
    scale = w.abs() if adaptive else torch.ones_like(w)
    gradients = 0

    def look(u: Tensor) -> tuple[float, Tensor]:
        nonlocal gradients
        gradients += 1
        value, g = loss.value_and_gradient((w + scale * u).to(dtype=x.dtype, device=x.device))
        return (value if math.isfinite(value) else math.inf), scale * g

    here, slope = look(torch.zeros_like(w))
    found = []
    for start in range(starts):
        if start == 0:
            u, ascent, best = torch.zeros_like(w), slope, here
        else:
            generator = torch_generator(seed, -1, f"sharpness {start}")
            u = _onto_sphere(torch.randn(w.shape, generator=generator, dtype=w.dtype), radius, ball)
            best, ascent = look(u)
        step = STEP
        for _ in range(steps):
            if math.isinf(best) or not bool(ascent.any()):
                break
            there = _into_ball(u + step * _onto_sphere(ascent, radius, ball), radius, ball)
            value, h = look(there)
            if value > best:
                u, best, ascent = there, value, h
            else:
                step /= 2
        found.append(best)
    worst = max(found)
    return Sharpness(
        loss=here,
        worst=worst,
        sharpness=worst - here,
        starts=tuple(found),
        radius=radius,
        ball=ball,
        adaptive=adaptive,
        gradients=gradients,
        seed=seed,
    )


def _onto_sphere(h: Tensor, radius: float, ball: Ball) -> Tensor:
    """The point of the sphere at which h . u is largest."""
    return radius * (h / h.norm() if ball == "l2" else h.sign())


def _into_ball(u: Tensor, radius: float, ball: Ball) -> Tensor:
    """The nearest point of the ball."""
    if ball == "linf":
        return u.clamp(-radius, radius)
    length = float(u.norm())
    return u * (radius / length) if length > radius else u
