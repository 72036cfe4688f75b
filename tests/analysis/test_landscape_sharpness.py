"""Sharpness and smoothing against maxima and expectations that are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import t as student
from torch import Tensor

from analysis.probes.sharpness import sharpness
from analysis.probes.smoothing import smoothed_curvature, smoothed_gradient, smoothed_loss, top_curvature
from bench.check import quadratic
from tests.algorithms.support import digits
from tests.analysis.test_landscape import probed, random, rescaled, trained


class Known:
    """A loss that is known as a formula, differentiable by autograd."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self.f, self.facts = f, dict[str, str]()

    def values(self, points: Iterable[Tensor]) -> np.ndarray:
        return np.array([float(self.f(x)) for x in points])

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        at = x.clone().requires_grad_(True)
        loss = self.f(at)
        return float(loss.detach()), torch.autograd.grad(loss, at)[0]


# -- the worst loss in a ball ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.05, 3.0])
def test_at_a_minimum_it_is_the_largest_eigenvalue_times_half_the_square(radius: float) -> None:
    workload = quadratic(4, heterogeneity=0.0)
    want = radius**2 / 2  # the largest eigenvalue is 1
    loss = probed(workload, None)
    quick = sharpness(loss, workload.minimiser, radius=radius).sharpness
    assert 0.9 * want < quick <= want * (1 + 1e-12)
    assert sharpness(loss, workload.minimiser, radius=radius, steps=80).sharpness == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
def test_on_a_slope_it_is_the_exact_maximum_over_the_ball(radius: float) -> None:
    """max of g.u + u^T A u / 2 over |u| = r: u = (m - A)^-1 g with the m > max A at which |u| = r."""
    workload = quadratic(4, heterogeneity=0.0)
    x, a = workload.initial(0), workload.eigenvalues
    g = a * (x - workload.minimiser)
    m = brentq(lambda m: float((g / (m - a)).norm()) - radius, 1 + 1e-9, 1e6)
    u = g / (m - a)
    want = float(g @ u + u @ (a * u) / 2)
    found = sharpness(probed(workload, None), x, radius=radius, starts=2, steps=200)
    assert found.sharpness == pytest.approx(want, rel=1e-6)
    assert found.starts == pytest.approx((found.worst,) * 2, rel=1e-5)


def test_negative_curvature_does_not_throw_it_off_course() -> None:
    """The steepest way down bends as much as the steepest way up: the power method alone would swing for ever."""
    found = sharpness(Known(lambda x: (x[0] ** 2 - x[1] ** 2) / 2), torch.zeros(2).double(), radius=2.0, steps=40)
    assert found.sharpness == pytest.approx(2.0, rel=1e-9)


def test_a_maximum_within_the_ball_is_found_and_kept() -> None:
    """-|x - 0.3| from 0: every step of a radius goes too far."""
    found = sharpness(Known(lambda x: -(x - 0.3).abs().sum()), torch.zeros(1).double(), radius=1.0, steps=40)
    assert found.starts == pytest.approx((0.0, 0.0, 0.0), abs=1e-6) and found.sharpness == pytest.approx(0.3, abs=1e-6)


def test_in_the_ball_of_the_largest_component_it_is_a_corner() -> None:
    """Linear: radius times the sum of |g|. Diagonal parabola, at its minimum: every corner, radius^2 tr(A) / 2."""
    g = random(7)
    linear = sharpness(Known(lambda x: g @ x), random(7, seed=1), radius=0.5, ball="linf")
    assert linear.sharpness == pytest.approx(0.5 * float(g.abs().sum()), rel=1e-12)
    workload = quadratic(4, heterogeneity=0.0)
    found = sharpness(probed(workload, None), workload.minimiser, radius=0.3, ball="linf")
    assert found.sharpness == pytest.approx(0.3**2 / 2 * float(workload.eigenvalues.sum()), rel=1e-9)


def test_adaptive_at_a_minimum_scales_every_eigenvalue_by_its_own_weight() -> None:
    workload = quadratic(4, heterogeneity=0.0)
    x = workload.minimiser
    want = 0.5**2 / 2 * float((workload.eigenvalues * x.square()).max())
    found = sharpness(probed(workload, None), x, radius=0.5, adaptive=True, steps=80)
    assert found.sharpness == pytest.approx(want, rel=1e-6)


def test_adaptive_sharpness_is_that_of_the_function_and_plain_sharpness_is_not() -> None:
    workload = digits()
    loss, x = probed(workload), trained(workload)
    same = rescaled(workload, x)
    assert loss.values([same])[0] == pytest.approx(loss.values([x])[0], rel=1e-12)
    plain, other = (sharpness(loss, v, radius=0.1).sharpness for v in (x, same))
    assert abs(other / plain - 1) > 0.1
    adaptive, again = (sharpness(loss, v, radius=0.5, adaptive=True) for v in (x, same))
    assert again.sharpness == pytest.approx(adaptive.sharpness, rel=1e-6)
    assert again.starts == pytest.approx(adaptive.starts, rel=1e-6)


def test_it_is_a_lower_bound_that_beats_random_points_and_one_step_of_sam() -> None:
    workload = digits()
    loss, x, radius = probed(workload), trained(workload), 0.5
    found = sharpness(loss, x, radius=radius)
    base, g = loss.value_and_gradient(x)
    anywhere = random(50, len(x))
    anywhere *= radius / anywhere.norm(dim=1, keepdim=True)
    rivals = loss.values([x + radius * g / g.norm(), *(x + u for u in anywhere)])
    assert found.loss == base and found.worst > rivals.max()
    assert found.gradients == 1 + 10 + 2 * 11


def test_a_ball_that_reaches_where_there_is_no_loss_is_infinitely_sharp() -> None:
    found = sharpness(Known(lambda x: -(1 - x.sum()).log()), torch.zeros(2).double(), radius=1.0)
    assert found.sharpness == math.inf


# -- the smoothed loss -------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_the_kink_of_the_absolute_value_is_smoothed_to_a_known_curvature(sigma: float) -> None:
    """L~''(0) = sqrt(2 / pi) / sigma, at most the bound 2 G / sigma of a loss of slope G = 1; L~(0) = that times
    sigma^2."""
    want, zero = math.sqrt(2 / math.pi) / sigma, torch.zeros(1).double()
    found = smoothed_curvature(torch.sign, zero, torch.ones(1).double(), sigma=sigma, pairs=20_000)
    assert found.value == pytest.approx(want, rel=0.02)
    assert abs(found.value - want) < 3 * found.standard_error < 3 * found.value
    assert found.value <= 2 / sigma
    height = smoothed_loss(Known(lambda x: x.abs().sum()), zero, sigma=sigma, pairs=20_000)
    assert height.smoothed.value == pytest.approx(want * sigma**2, rel=0.02)


def test_the_expected_sharpness_of_a_parabola_is_half_the_trace_and_its_error_is_honest() -> None:
    """The 95 % interval holds the truth in 183 to 197 of 200 seeds (95 % of a binomial law would be 184 to 196)."""
    workload = quadratic(4, heterogeneity=0.0)
    loss, x, sigma, pairs = probed(workload, None), workload.initial(0), 0.3, 20
    want = sigma**2 / 2 * float(workload.eigenvalues.sum())
    reach = float(student.ppf(0.975, pairs - 1))
    held = 0
    for seed in range(200):
        excess = smoothed_loss(loss, x, sigma=sigma, pairs=pairs, seed=seed).excess
        held += abs(excess.value - want) <= reach * excess.standard_error
    assert 183 <= held <= 197


def test_the_excess_may_be_measured_in_the_models_own_scale() -> None:
    workload = quadratic(4, heterogeneity=0.0)
    x = workload.initial(0)
    want = 0.3**2 / 2 * float(workload.eigenvalues @ x.square())
    excess = smoothed_loss(probed(workload, None), x, sigma=0.3, pairs=500, scale=x.abs()).excess
    assert abs(excess.value - want) < 3 * excess.standard_error < 0.2 * want


def test_the_smoothed_gradient_of_a_cubic_is_known_and_so_is_its_error() -> None:
    """E (x + sigma u)^2 = x^2 + sigma^2 in every coordinate: half that of x^3 / 3 and its error."""
    x, sigma, pairs = random(50), 0.7, 400
    g, error = smoothed_gradient(lambda x: x.square(), x, sigma=sigma, pairs=pairs)
    # A pair's mean is x^2 + sigma^2 u^2, of variance 2 sigma^4.
    assert error == pytest.approx(math.sqrt(50 * 2 * sigma**4 / pairs), rel=0.1)
    assert float((g - x.square() - sigma**2).norm()) == pytest.approx(error, rel=0.3)


def test_smoothing_a_parabola_leaves_its_curvature() -> None:
    workload = quadratic(4, heterogeneity=0.0)
    a, x = workload.eigenvalues, workload.initial(0)

    def gradient(x: Tensor) -> Tensor:
        return a * (x - workload.minimiser)

    assert top_curvature(gradient, x, sigma=0.5, pairs=2, tolerance=1e-8) == pytest.approx(1.0, rel=1e-7)
    v = random(len(x), seed=3)
    found = smoothed_curvature(gradient, x, v, sigma=0.5, pairs=4000)
    assert abs(found.value - float(v @ (a * v) / (v @ v))) < 3 * found.standard_error < 0.1


@pytest.mark.thorough
def test_the_largest_curvature_of_a_loss_of_bounded_slope_falls_as_it_must() -> None:
    """Logistic regression at 0: the smoothed Hessian is the mean of a a^T E s'(sigma |a| z) over z ~ N(0, 1), here by
    quadrature; |a| bounds the slope."""
    a = random(40, 6)
    z = torch.linspace(-8, 8, 4001).double()
    weights = torch.exp(-(z**2) / 2)
    zero, found = torch.zeros(6).double(), []

    def gradient(x: Tensor) -> Tensor:
        return a.T @ (torch.sigmoid(a @ x) - 0.5) / len(a)

    for sigma in (0.1, 1.0, 3.0, 10.0):
        s = torch.sigmoid(sigma * a.norm(dim=1)[:, None] * z)
        mean = (s * (1 - s)) @ weights / weights.sum()
        want = float(torch.linalg.eigvalsh((a * mean[:, None]).T @ a / len(a))[-1])
        found.append(top_curvature(gradient, zero, sigma=sigma, pairs=1000, tolerance=1e-4))
        assert found[-1] == pytest.approx(want, rel=0.02)
        assert found[-1] <= 2 * float(a.norm(dim=1).max()) / sigma
    assert all(wider < narrower for narrower, wider in itertools.pairwise(found))


def test_a_seed_is_a_result() -> None:
    workload = digits()
    loss, x = probed(workload), workload.initial(0)
    one, two, other = (smoothed_loss(loss, x, sigma=0.1, pairs=2, seed=seed) for seed in (0, 0, 1))
    assert one == two and one.smoothed != other.smoothed


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda f, x: sharpness(f, x, ball="l1"), "ball must be one of l2, linf: got 'l1'"),
        (lambda f, x: sharpness(f, x, radius=0), "radius must be positive and finite: got 0"),
        (lambda f, x: sharpness(f, x, starts=0), "starts must be finite and at least 1: got 0"),
        (lambda f, x: sharpness(f, x, steps=0), "steps must be finite and at least 1: got 0"),
        (lambda f, x: smoothed_loss(f, x, sigma=-1), "sigma must be positive and finite: got -1"),
        (lambda f, x: smoothed_loss(f, x, sigma=1, pairs=1), "pairs must be finite and at least 2: got 1"),
        (lambda f, x: smoothed_gradient(f.f, x, sigma=1, pairs=1), "pairs must be"),
        (lambda f, x: smoothed_curvature(f.f, x, 0 * x, sigma=1), "the direction's length must be positive"),
        (lambda f, x: top_curvature(f.f, x, sigma=0), "sigma must be"),
    ],
)
def test_mistakes_are_refused(call: Callable[[Known, Tensor], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        call(Known(lambda x: x.sum()), torch.ones(3).double())
