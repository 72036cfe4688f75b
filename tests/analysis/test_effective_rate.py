"""The decomposition of a step of the mean model: its identities, and what it must say of cases that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.effective_rate import effective_rate
from bench.budget import Budget
from bench.check import quadratic, replicas, simulate
from bench.workloads.base import Workload
from tests.algorithms.support import digits, make


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0.01, 2.0))
def test_pythagoras_and_the_parts_of_the_noise(workers: int, parameters: int, seed: int, lr: float) -> None:
    """I16: alpha_e^2 |g|^2 + Delta = a^2 |mean G|^2; and the exact form of the decomposition."""
    rng = np.random.default_rng(seed)
    g, here, at_mean = rng.normal(size=parameters), *rng.normal(size=(2, workers, parameters))
    found = effective_rate(lr, g, here, at_mean)
    whole = lr**2 * float(here.mean(0) @ here.mean(0))
    assert found.alpha_e**2 * float(g @ g) + found.noise == pytest.approx(whole, rel=1e-9, abs=1e-14)
    parts = found.noise_sampling + found.noise_diversity_perp + found.cross
    assert found.noise == pytest.approx(parts, rel=1e-9, abs=1e-14)
    along = lr * here.mean(0) - found.alpha_e * g  # eta, up to its sign
    assert abs(float(along @ g)) <= 1e-9 * max(1.0, float(g @ g))


def probe(workload: Workload, points: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(g, G, S) with one mini-batch per worker, workers at `points` [n, P]; g from their batches at the mean."""
    mean = points.mean(0)
    here, at_mean = torch.empty_like(points), torch.empty_like(points)
    for rank, x in enumerate(points):
        batch = workload.batches(0, rank, len(points)).next()
        workload.gradient(x.clone(), batch, here[rank])
        workload.gradient(mean.clone(), batch, at_mean[rank])
    return at_mean.mean(0).numpy(), here.numpy(), at_mean.numpy()


def test_synchronous_sgd_has_no_diversity() -> None:
    """I17: all stand at the mean, so Delta^(2) = 0 and alpha_e is the control's, exactly."""
    workload = digits()
    x = replicas(simulate(make("allreduce-sgd"), workload, workers=4, budget=Budget(steps=5)))
    assert torch.equal(x[0], x[3])
    g, here, at_mean = probe(workload, x[:1].repeat(4, 1))
    found = effective_rate(0.1, g, here, at_mean)
    assert found.noise_diversity == 0.0
    assert found.alpha_e == found.alpha_e_control


def test_a_common_hessian_has_no_diversity_wherever_the_workers_stand() -> None:
    """I18: sum_j H (w_j - w_a) = 0."""
    workload = quadratic(5)
    points = torch.randn(5, workload.parameters, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = effective_rate(0.1, *probe(workload, 10 * points))
    assert found.noise_diversity <= 1e-10 * found.noise_sampling + 1e-25


def test_unlike_points_of_a_network_have_diversity() -> None:
    """The counterpart, so that the two above cannot pass by looking away."""
    workload = digits()
    x = workload.initial(0)
    points = x + 0.3 * torch.randn(4, len(x), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert effective_rate(0.1, *probe(workload, points)).noise_diversity > 1e-6


@given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_two_halves_that_are_equal_are_the_whole(workers: int, parameters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g, here, at_mean = rng.normal(size=parameters), *rng.normal(size=(2, workers, parameters))
    whole, halves = effective_rate(0.3, g, here, at_mean), effective_rate(0.3, g, here, at_mean, other_half=g.copy())
    for name, value in vars(whole).items():
        assert getattr(halves, name) == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_two_halves_have_no_bias_where_one_noisy_gradient_has() -> None:
    """|g|^2 = 36; each half errs with variance 1/4 in 50 coordinates, so that their mean's square is 6.25 too large."""
    rng = np.random.default_rng(0)
    truth, control = np.zeros(50), np.zeros((1, 50))
    truth[0] = control[0, 0] = 6.0
    unbiased, biased = [], []
    for first, second in truth + rng.normal(scale=0.5, size=(3000, 2, 50)):
        unbiased.append(effective_rate(1.0, first, control, control, other_half=second).slope)
        biased.append(effective_rate(1.0, (first + second) / 2, control, control).slope)
    error = np.std(unbiased) / 3000**0.5
    assert abs(np.mean(unbiased) - 36.0) < 3 * error < 0.3
    assert np.mean(biased) == pytest.approx(36.0 + 50 / 8, abs=0.3)


@pytest.mark.parametrize("bad", [np.zeros(3), np.ones(4)])
def test_what_cannot_be_decomposed_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must"):
        effective_rate(0.1, bad, np.ones((2, 3)), np.ones((2, 3)))
