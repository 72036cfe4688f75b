"""The self-adjusting learning rate of decentralised SGD: how much of a step goes down the slope, and how much is noise.

Symbols: n workers, P parameters; w_a = mean of the workers' parameters; g = gradient of the overall loss at w_a;
G_j = worker j's gradient where it stands, S_j = its gradient of the same mini-batch at w_a; a = learning rate; "perp"
is what is left of a vector without its part along g.

Source: Zhang et al., Loss Landscape Dependent Self-Adjusting Learning Rates in Decentralized Stochastic Gradient
Descent, arXiv 2112.01433: w_a moves by -a mean G = -alpha_e g + eta with eta orthogonal to g.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EffectiveRate:
    """The parts of one step of the mean model.

    Attributes:
        slope: |g|^2.
        alpha_e: effective learning rate a (mean G . g) / |g|^2.
        alpha_e_control: the same with mean S: what synchronous SGD would have had; a, up to sampling noise.
        noise: Delta = |eta|^2.
        noise_sampling: Delta_S, of mean S alone.
        noise_diversity: Delta^(2) = a^2 |mean G - mean S|^2.
        noise_diversity_perp: the part of it that is orthogonal to g, and so can be in eta.
        cross: 2 a^2 (mean S)_perp . (mean G - mean S)_perp.
    """

    slope: float
    alpha_e: float
    alpha_e_control: float
    noise: float
    noise_sampling: float
    noise_diversity: float
    noise_diversity_perp: float
    cross: float


def effective_rate(
    lr: float, g: Vector, here: Vector, at_mean: Vector, *, other_half: Vector | None = None
) -> EffectiveRate:
    """Decompose one step of the mean model.

    Two identities hold exactly: alpha_e^2 |g|^2 + noise = a^2 |mean G|^2, and
    noise = noise_sampling + noise_diversity_perp + cross.

    With the gradient of a part of the training set, |g|^2 is too large by the variance of the estimate and alpha_e too
    small. Two estimates g1, g2 from disjoint halves have no such bias: g1 . g2 stands for |g|^2, and the mean of
    (v . g1) (u . g2) over both orders for (v . g) (u . g). The first identity then holds in this form too:
    alpha_e^2 |g|^2 is a^2 (mean G . g1) (mean G . g2) / (g1 . g2).

    Args:
        lr: a.
        g: gradient of the overall loss at the mean model [P], of the whole training set; or g1.
        here: G [n, P], or its mean [P].
        at_mean: S of the same mini-batches [n, P], or its mean [P].
        other_half: g2 [P]; None if g is of the whole training set.

    Raises:
        ValueError: g is zero, the halves point away from each other, or the shapes differ.

    Example:
        Two workers whose gradients differ across the slope only:

        >>> one = effective_rate(0.5, np.array([1.0, 0.0]), np.array([[1.0, 3.0], [1.0, 1.0]]), np.ones((2, 2)))
        >>> one.alpha_e, one.noise, one.noise_sampling, one.noise_diversity
        (0.5, 1.0, 0.25, 0.25)
    """
    other = g if other_half is None else other_half
    if here.shape != at_mean.shape or here.shape[-1:] != g.shape or other.shape != g.shape:
        raise ValueError(
            f"shapes must be g [P], here and at_mean [n, P] or [P]: got {g.shape}, {here.shape} and {at_mean.shape}"
        )
    slope = float(g @ other)
    if not slope > 0:
        why = "there is no slope to project on" if other_half is None else "all of it is noise: use more samples"
        raise ValueError(f"the overall gradient must not be zero: |g|^2 = {slope} ({why})")
    mean, control = np.atleast_2d(here).mean(axis=0), np.atleast_2d(at_mean).mean(axis=0)

    def along(v: Vector) -> float:
        return float(v @ g + v @ other) / 2

    def across(u: Vector, v: Vector) -> float:
        """u_perp . v_perp."""
        if other_half is None:  # by components, which cannot come out negative by rounding
            return float((u - (u @ g) / slope * g) @ (v - (v @ g) / slope * g))
        return float(u @ v) - (float(u @ g) * float(v @ other) + float(u @ other) * float(v @ g)) / (2 * slope)

    diversity = mean - control
    return EffectiveRate(
        slope=slope,
        alpha_e=lr * along(mean) / slope,
        alpha_e_control=lr * along(control) / slope,
        noise=lr**2 * across(mean, mean),
        noise_sampling=lr**2 * across(control, control),
        noise_diversity=lr**2 * float(diversity @ diversity),
        noise_diversity_perp=lr**2 * across(diversity, diversity),
        cross=2 * lr**2 * across(control, diversity),
    )
