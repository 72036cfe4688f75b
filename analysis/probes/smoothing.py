"""The loss smoothed by Gaussian noise in the parameters: what spread-out workers see on average.

    L~(w) = E L(w + sigma u),   u ~ N(0, 1)^P

Decentralised SGD takes its gradients at replicas around their mean, and so nearly that of L~, which is less curved
than L: at most min(2 G / sigma, l) for a loss of slope at most G and curvature at most l. That is no law for networks
under cross-entropy, whose slope has no bound: noise makes their logits large, and the largest curvature of L~ can grow
with sigma (digits-mlp after 20 steps: 7.9, 7.0, 7.7 and 19 at sigma 0.003, 0.03, 0.1 and 0.3).

E L(w + sigma u) - L(w) is the expected sharpness; where L is a parabola it is sigma^2 tr(H) / 2.

Expectations are means over antithetic pairs w + sigma u, w - sigma u, drawn from a seed, the same on every rank; a
standard error stands beside each.

Source: Zhang et al., Loss Landscape Dependent Self-Adjusting Learning Rates in Decentralized Stochastic Gradient
Descent, arXiv 2112.01433; Nesterov and Spokoiny, Random Gradient-Free Minimization of Convex Functions, Foundations of
Computational Mathematics 17, 2017.

Symbols: P parameters, K pairs, g gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from analysis.probes.loss import Loss, Vector, at_least, positive
from bench.workloads.base import torch_generator

Gradient = Callable[[Tensor], Tensor]
"""A model [P] -> the gradient [P] of its loss there, always of the same samples."""

STEP = 0.5  # of a finite difference, in sigmas: along its direction the smoothing is wider by that, see `top_curvature`
RITZ_VECTORS = 20


@dataclass(frozen=True)
class Estimate:
    """A mean over random draws.

    Attributes:
        value: the mean.
        standard_error: of it.
        draws: independent ones (pairs).
    """

    value: float
    standard_error: float
    draws: int


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """The smoothed loss at one model.

    Attributes:
        loss: L(w) [nat].
        smoothed: L~(w) [nat].
        excess: expected sharpness L~(w) - L(w) [nat].
        sigma: of the noise, per parameter.
        seed: of the draws.
    """

    loss: float
    smoothed: Estimate
    excess: Estimate
    sigma: float
    seed: int


def smoothed_loss(
    loss: Loss, x: Tensor, *, sigma: float, pairs: int = 32, seed: int = 0, scale: Tensor | None = None
) -> Smoothed:
    """The smoothed loss [nat] at x, and its excess over the loss there (expected sharpness).

    Args:
        loss: to look at.
        x: w [P].
        sigma: of the noise, per parameter.
        pairs: K; 2 K + 1 evaluations.
        seed: of the draws.
        scale: multiplies the noise, per parameter [P]; |w| makes it adaptive.

    Raises:
        ValueError: sigma is not positive, or fewer than 2 pairs.

    Example:
        On a parabola of curvature 1 in 100 parameters the excess is 100 sigma^2 / 2:

        >>> class Bowl:
        ...     facts = {}
        ...     def values(self, points):
        ...         return np.array([float(x @ x / 2) for x in points])
        >>> found = smoothed_loss(Bowl(), torch.zeros(100).double(), sigma=0.1, pairs=400)
        >>> abs(found.excess.value - 0.5) < 3 * found.excess.standard_error < 0.02
        True
    """
    _check(sigma, pairs)

    def points() -> Iterator[Tensor]:
        yield x
        for u in _noise(x, pairs, seed):
            step = sigma * u if scale is None else sigma * scale * u
            yield x + step
            yield x - step

    losses = loss.values(points())
    here, means = float(losses[0]), losses[1:].reshape(pairs, 2).mean(1)
    return Smoothed(loss=here, smoothed=_estimate(means), excess=_estimate(means - here), sigma=sigma, seed=seed)


def smoothed_gradient(
    gradient: Gradient, x: Tensor, *, sigma: float, pairs: int = 32, seed: int = 0
) -> tuple[Tensor, float]:
    """Gradient [P] of the smoothed loss at x, the mean of g(x + sigma u) (float64, on the host), and its error: the
    root mean square distance of such an estimate from the truth.

    Args:
        gradient: of the loss.
        x: [P].
        sigma, pairs, seed: see `smoothed_loss`.

    Raises:
        ValueError: as `smoothed_loss`.

    Example:
        A parabola's gradient is the same, smoothed or not, and antithetic pairs find it exactly:

        >>> g, error = smoothed_gradient(lambda x: 3 * x, torch.ones(2).double(), sigma=0.5)
        >>> [round(v, 12) for v in g.tolist()], error < 1e-12
        ([3.0, 3.0], True)
    """
    _check(sigma, pairs)
    mean = torch.zeros(x.shape, dtype=torch.float64)
    spread = 0.0
    for count, u in enumerate(_noise(x, pairs, seed), 1):
        g = (_double(gradient(x + sigma * u)) + _double(gradient(x - sigma * u))) / 2
        away = g - mean
        mean += away / count
        spread += float(away @ (g - mean))  # Welford's sum of squares, with no second vector
    return mean, math.sqrt(spread / (pairs - 1) / pairs)


def smoothed_curvature(
    gradient: Gradient, x: Tensor, direction: Tensor, *, sigma: float, pairs: int = 256, seed: int = 0
) -> Estimate:
    """Curvature v^T (Hessian of L~) v of the smoothed loss at x along the direction v [1 / learning rate], unbiased.

    By Stein's identity it is E (g(x + sigma u) . v) (u . v) / sigma: no second derivative, and no step of a finite
    difference, so that it also holds where L has kinks.

    Args:
        gradient: of the loss.
        x: [P].
        direction: [P], of any length but zero.
        sigma, pairs, seed: see `smoothed_loss`.

    Raises:
        ValueError: as `smoothed_loss`.

    Example:
        The kink of |x| is smoothed to a curvature of sqrt(2 / pi) / sigma = 7.98:

        >>> found = smoothed_curvature(torch.sign, torch.zeros(1).double(), torch.ones(1), sigma=0.1, pairs=2000)
        >>> abs(found.value - 7.979) < 3 * found.standard_error < 0.5
        True
    """
    _check(sigma, pairs)
    v = _unit(direction).to(x)
    products = [
        float((gradient(x + sigma * u) - gradient(x - sigma * u)) @ v) * float(u @ v) / (2 * sigma)
        for u in _noise(x, pairs, seed)
    ]
    return _estimate(np.array(products))


def top_curvature(
    gradient: Gradient, x: Tensor, *, sigma: float, pairs: int = 8, seed: int = 0, tolerance: float = 1e-2
) -> float:
    """Largest curvature of the smoothed loss at x over all directions [1 / learning rate].

    The largest eigenvalue of the mean Hessian over 2 K points x +- sigma u, always the same ones, by Lanczos (ARPACK)
    on central differences of the gradient. Their step of sigma / 2 smooths a little more along the direction, by a
    variance of sigma^2 / 12, and sees kinks, which second derivatives do not. With few pairs too high rather than too
    low: the largest eigenvalue of a mean of few is that of all or more.

    Args:
        gradient: of the loss.
        x: [P], P at least 2.
        sigma, pairs, seed: see `smoothed_loss`.
        tolerance: relative, of the eigenvalue.

    Example:
        >>> round(top_curvature(lambda x: torch.tensor([1.0, 5.0, 2.0]) * x, torch.zeros(3), sigma=0.1, pairs=2), 3)
        5.0
    """
    _check(sigma, pairs)
    step = STEP * sigma

    def product(v: Vector) -> Vector:
        away = step * torch.from_numpy(np.ascontiguousarray(v).ravel()).to(x)
        mean = torch.zeros(x.shape, dtype=torch.float64)
        for u in _noise(x, pairs, seed):
            for at in (x + sigma * u, x - sigma * u):
                mean += _double(gradient(at + away)) - _double(gradient(at - away))
        return np.asarray(mean.numpy() / (4 * pairs * step))

    size = len(x)
    start = torch.randn(size, generator=torch_generator(seed, -1, "top curvature"), dtype=torch.float64).numpy()
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    (value,) = eigsh(
        operator, k=1, which="LA", v0=start, tol=tolerance, ncv=min(size, RITZ_VECTORS), return_eigenvectors=False
    )
    return float(value)


def _noise(x: Tensor, pairs: int, seed: int) -> Iterator[Tensor]:
    """The draws u [P], the same for every sigma: what changes with sigma is then not the draw."""
    generator = torch_generator(seed, -1, "smoothing")
    for _ in range(pairs):
        yield torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)


def _estimate(draws: Vector) -> Estimate:
    return Estimate(float(draws.mean()), float(draws.std(ddof=1)) / math.sqrt(len(draws)), len(draws))


def _double(v: Tensor) -> Tensor:
    return v.detach().cpu().double()


def _unit(v: Tensor) -> Tensor:
    length = float(v.norm())
    positive("the direction's length", length, "give a vector that is not zero")
    return v / length


def _check(sigma: float, pairs: int) -> None:
    positive("sigma", sigma, "of the order of the spread of the replicas, or 0.01")
    at_least("pairs", pairs, 2, "a standard error needs two; 32 is usual")
