"""EASGD's theory against exact recursions, printed values, and the registered algorithms as they run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.theory.easgd import (
    largest_moving_rate,
    largest_synchronous_rate,
    round_robin_map,
    synchronous_map,
    synchronous_radius,
)
from analysis.theory.easgd_noise import SynchronousEASGD
from analysis.theory.linear import spectral_radius
from bench.budget import Budget
from tests.algorithms.support import make, quadratic, replicas, simulate

# -- the maps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "period"), [(1, 1), (3, 1), (3, 4), (8, 2)])
def test_round_robin_eigenvalues_solve_the_characteristic_equation(workers: int, period: int) -> None:
    # x_i' = lambda x_i = a x_i + b c with the center before and after each turn in the ratio m = lambda^(1 / p):
    # lambda (lambda - a)^p = ((1 - alpha) (lambda - a) + alpha b)^p.
    eta, alpha, h = 0.3, 0.4, 1.7
    r = (1 - eta * h) ** (period - 1)
    a, b = r * (1 - eta * h - alpha), r * alpha
    eigenvalues = np.linalg.eigvals(round_robin_map(eta=eta, alpha=alpha, workers=workers, curvature=h, period=period))
    left = eigenvalues * (eigenvalues - a) ** workers
    right = ((1 - alpha) * (eigenvalues - a) + alpha * b) ** workers
    assert np.abs(left - right).max() < 1e-12
    assert len(eigenvalues) == workers + 1


def test_maps_do_what_a_plain_loop_does() -> None:
    eta, alpha, h, p, tau = 0.3, 0.2, 1.5, 3, 3
    start = np.array([1.0, -2.0, 0.5, 3.0])
    x, c = start[:p].copy(), start[p]
    for i in range(p):
        before = x[i]
        x[i], c = before - alpha * (before - c) - eta * h * before, c + alpha * (before - c)
        for _ in range(tau - 1):
            x[i] -= eta * h * x[i]
    found = round_robin_map(eta=eta, alpha=alpha, workers=p, curvature=h, period=tau) @ start
    assert found == pytest.approx([*x, c], abs=1e-14)

    x, c = start[:p].copy(), start[p]
    x, c = x - alpha * (x - c) - eta * h * x, c + alpha * (x - c).sum()
    for _ in range(tau - 1):
        x -= eta * h * x
    found = synchronous_map(eta=eta, alpha=alpha, workers=p, curvature=h, period=tau) @ start
    assert found == pytest.approx([*x, c], abs=1e-14)


def test_maps_of_many_settings_at_once_are_those_of_each() -> None:
    eta, alpha = np.array([0.1, 0.9, 1.7]), np.array([0.2, 0.5, 0.05])
    for build in (round_robin_map, synchronous_map):
        many = build(eta=eta, alpha=alpha, workers=3, period=2)
        for k in range(3):
            assert (many[k] == build(eta=eta[k], alpha=alpha[k], workers=3, period=2)).all()


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("period", [1, 3])
def test_the_short_form_of_the_synchronous_radius(workers: int, period: int) -> None:
    for eta, alpha in [(0.1, 0.2), (1.0, 0.3), (1.9, 0.05), (2.2, 0.1), (0.5, 0.9)]:
        settings = {"eta": eta, "alpha": alpha, "workers": workers, "curvature": 1.1, "period": period}
        whole = float(spectral_radius(synchronous_map(**settings)))  # type: ignore[arg-type]
        assert synchronous_radius(**settings) == pytest.approx(whole, abs=1e-12)  # type: ignore[arg-type]


# eta h = .05, p = 4, beta = .9: EASGD is stable at periods at which DOWNPOUR is not.
@pytest.mark.parametrize(("period", "radius"), [(1, 0.9605), (4, 0.8544), (16, 0.5779), (64, 0.3717)])
def test_round_robin_is_stable_at_long_periods(period: int, radius: float) -> None:
    found = float(spectral_radius(round_robin_map(eta=0.05, alpha=0.9 / 4, workers=4, period=period)))
    assert found == pytest.approx(radius, abs=5e-5)


# -- the stable region -------------------------------------------------------------------------------------------------

GRID = np.linspace(0.02, 2.18, 55)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_papers_region_is_where_no_round_grows(workers: int) -> None:
    eta, alpha = np.meshgrid(GRID, np.linspace(0.01, 1.19, 60), indexing="ij")
    radius = spectral_radius(round_robin_map(eta=eta, alpha=alpha, workers=workers))
    limit = np.array([largest_moving_rate(e) if e <= 2 else -1.0 for e in GRID])[:, None]
    inside = alpha <= limit
    assert (radius[inside] <= 1 + 1e-12).all()  # sufficient, whatever the number of workers
    outside = alpha > limit * 1.02 if workers > 1 else ~inside
    assert (radius[outside & (limit > 0)] > 1).all()  # and tight: to 2 % for several workers, exactly for one
    assert inside.sum() > 1000 and (outside & (limit > 0)).sum() > 500


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_the_conditions_of_lemma_7_1_are_where_the_lock_step_shrinks(workers: int) -> None:
    for eta in GRID:
        for alpha in np.linspace(0.013, 1.2, 40):
            noise = SynchronousEASGD(eta=float(eta), beta=workers * float(alpha), workers=workers)
            radius = synchronous_radius(eta=float(eta), alpha=float(alpha), workers=workers)
            assert (noise.instability() == "") == (radius < 1), (eta, alpha)
            if eta < 2:
                assert (alpha < largest_synchronous_rate(float(eta), workers)) == (radius < 1), (eta, alpha)


def test_the_edge_at_one_worker() -> None:
    # Radius 1.0000 at alpha = 2/3, and 1.0018 a thousandth above.
    at, above = (float(spectral_radius(round_robin_map(eta=1, alpha=2 / 3 + more, workers=1))) for more in (0, 0.001))
    assert at == pytest.approx(1, abs=1e-12) and above == pytest.approx(1.0018, abs=5e-5)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_registered_easgd_grows_where_the_formula_says(workers: int) -> None:
    # Curvatures from 0.2 to 1 at eta = 2.05 make a grid of eta h in one run; constant times make it a round robin.
    eta, dimension, early, late = 2.05, 12, 40, 110
    checked = 0
    for alpha in (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.97):
        workload = quadratic(workers, dimension=dimension, noise=0.0, heterogeneity=0.0, condition=5.0)
        h = workload.eigenvalues.numpy()  # type: ignore[attr-defined]
        # The minimum at 0, near which numbers may become as small as they like.
        workload.minimiser.zero_(), workload.shifts.zero_()  # type: ignore[attr-defined]
        away = []
        for rounds in (early, late):
            run = simulate(
                make("easgd", period=1, moving_rate=alpha),
                workload,
                workers=workers,
                budget=Budget(seconds=rounds - 0.5, snapshots=1),
                lr=eta,
                start=[workload.initial(0)] * (workers + 1),
            )
            turns = [row[6] for row in run.server.recorder.rows() if row[0] == "serve"]
            assert sorted(turns[:workers]) == list(range(workers)) and turns == turns[:workers] * rounds
            away.append(torch.cat([replicas(run), run.server.replica().data[None]]).norm(dim=0).numpy())
        growth = (away[1] / away[0]) ** (1 / (late - early))
        radius = spectral_radius(
            round_robin_map(eta=eta, alpha=np.full(dimension, alpha), workers=workers, curvature=h)
        )
        assert growth == pytest.approx(radius, abs=0.012)  # a pair of complex eigenvalues turns while it grows
        for k in range(dimension):
            limit = largest_moving_rate(eta * h[k]) if eta * h[k] <= 2 else -1.0
            if abs(alpha - limit) > 0.02 * abs(limit):
                assert (growth[k] > 1) == (alpha > limit), (alpha, eta * h[k])
                checked += 1
    assert checked > 70


# -- noise -------------------------------------------------------------------------------------------------------------

EXAMPLE = SynchronousEASGD(eta=0.1, beta=0.9, workers=4)  # alpha = .225


def covariances(noise: SynchronousEASGD, steps: int) -> list[float]:
    """Var c by the exact recursion of the covariance matrix of (x_1, ..., x_p, c)."""
    p, alpha = noise.workers, noise.moving_rate
    whole = np.diag([1 - noise.eta * noise.curvature - alpha] * p + [1 - noise.beta])
    whole[:p, p], whole[p, :p] = alpha, noise.beta / p
    entering = np.diag([(noise.eta * noise.noise) ** 2] * p + [0.0])
    covariance, found = np.zeros((p + 1, p + 1)), [0.0]
    for _ in range(steps):
        covariance = whole @ covariance @ whole.T + entering
        found.append(float(covariance[p, p]))
    return found


def test_the_centers_variance_at_the_printed_steps() -> None:
    variance = EXAMPLE.center_variance(200)
    for t, value in {2: 0.002025, 7: 0.00670861, 200: 0.01045584}.items():
        assert variance[t] == pytest.approx(value, abs=5e-9)
    assert variance[0] == variance[1] == 0


CASES = [
    EXAMPLE,
    SynchronousEASGD(eta=0.3, beta=0.5, workers=1, curvature=2.0, noise=0.7),
    SynchronousEASGD(eta=1.2, beta=0.6, workers=16),
    SynchronousEASGD(eta=0.5, beta=0.5, workers=3, alpha=0.0),  # one eigenvalue twice: A is a Jordan block
    SynchronousEASGD(eta=0.3, beta=1.0, workers=1, alpha=-0.5),  # heavy ball: complex eigenvalues
    SynchronousEASGD(eta=2.5, beta=0.9, workers=4),  # unstable: grows, and is right at every step
]


@pytest.mark.parametrize("noise", CASES, ids=str)
def test_variance_at_every_step_is_the_covariance_recursion(noise: SynchronousEASGD) -> None:
    steps = 40 if noise.instability() else 400
    assert noise.center_variance(steps) == pytest.approx(covariances(noise, steps), rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("noise", CASES[:3], ids=str)
def test_variance_and_mean_are_the_lemmas_closed_forms(noise: SynchronousEASGD) -> None:
    p, alpha, eta, h = noise.workers, noise.moving_rate, noise.eta, noise.curvature
    a, c2 = eta * h + (p + 1) * alpha, eta * h * p * alpha
    g, f = (1 - (a + sign * math.sqrt(a * a - 4 * c2)) / 2 for sign in (-1, 1))
    t = np.arange(201)
    sums = [(u**2 - u ** (2 * t)) / (1 - u**2) for u in (g, f)]
    cross = (g * f - (g * f) ** t) / (1 - g * f)
    lemma = (p * alpha * eta / (g - f)) ** 2 * (sums[0] + sums[1] - 2 * cross) * noise.noise**2 / p
    assert noise.center_variance(200)[1:] == pytest.approx(lemma[1:], rel=1e-9, abs=1e-13)

    workers_at, center_at = 1.3, -0.7
    u0 = p * (workers_at - alpha / (1 - p * alpha - f) * center_at)
    lemma = g**t * center_at + (g**t - f**t) / (g - f) * alpha * u0
    assert noise.center_mean(200, workers_at=workers_at, center_at=center_at) == pytest.approx(lemma, abs=1e-12)


@pytest.mark.parametrize("noise", CASES, ids=str)
def test_the_mean_is_a_power_of_the_matrix(noise: SynchronousEASGD) -> None:
    state = np.array([1.3, -0.7])
    expected = [(np.linalg.matrix_power(noise.matrix, t) @ state)[1] for t in range(21)]
    assert noise.center_mean(20, workers_at=1.3, center_at=-0.7) == pytest.approx(expected, rel=1e-12, abs=1e-13)


# p x mean square error in the end for p = 1, 4, 8, 16, 64, 256, its limit, and minibatch SGD; h = sigma = 1, eta = .1.
TABLE = {
    0.9: (0.0326, 0.0418, 0.0461, 0.0487, 0.0508, 0.0514, 0.05158, 0.05263),
    0.5: (0.0245, 0.0378, 0.0416, 0.0438, 0.0456, 0.0461, 0.04625, 0.05263),
    0.1: (0.0173, 0.0233, 0.0248, 0.0255, 0.0262, 0.0263, 0.02639, 0.05263),
}


@pytest.mark.parametrize("beta", TABLE)
def test_mean_square_error_in_the_end(beta: float) -> None:
    *values, limit, plain = TABLE[beta]
    for workers, value in zip((1, 4, 8, 16, 64, 256), values, strict=True):
        noise = SynchronousEASGD(eta=0.1, beta=beta, workers=workers)
        assert noise.workers_times_mse == pytest.approx(value, abs=5.1e-5)
        assert noise.limit == pytest.approx(limit, abs=5.1e-6)
        assert noise.minibatch_sgd == pytest.approx(plain, abs=5.1e-6)


@pytest.mark.parametrize("noise", CASES[:5], ids=str)
def test_the_end_is_the_limit_of_the_steps(noise: SynchronousEASGD) -> None:
    assert noise.workers * noise.center_variance(5000)[-1] == pytest.approx(noise.workers_times_mse, rel=1e-10)
    many = SynchronousEASGD(eta=noise.eta, beta=noise.beta, workers=10**8, curvature=noise.curvature, noise=noise.noise)
    assert many.workers_times_mse == pytest.approx(noise.limit, rel=1e-6)


def test_the_limit_is_the_corollarys() -> None:
    noise = SynchronousEASGD(eta=0.3, beta=0.7, workers=4, curvature=1.5, noise=0.8)
    beta, step = noise.beta, 0.45
    corollary = beta * step / ((2 - beta) * (2 - step)) * (2 - beta - step + beta * step) / (beta + step - beta * step)
    assert noise.limit == pytest.approx(corollary * (noise.noise / noise.curvature) ** 2, rel=1e-13)


def test_an_unstable_center_has_no_end_and_says_why() -> None:
    unstable = SynchronousEASGD(eta=1.0, beta=0.9, workers=1)
    assert math.isnan(unstable.workers_times_mse) and "1.1 against 1.8" in unstable.instability()
    assert not math.isnan(unstable.limit)  # many workers at this beta are stable
    assert math.isnan(SynchronousEASGD(eta=3.0, beta=3.0, workers=4).workers_times_mse)
    assert math.isnan(SynchronousEASGD(eta=0.0, beta=0.9, workers=4).workers_times_mse)


@pytest.mark.parametrize("alpha", [0.02, 0.225, 0.3])
def test_the_double_average_forgets_eta_and_alpha(alpha: float) -> None:
    noise = SynchronousEASGD(eta=0.1, beta=4 * alpha, workers=4, curvature=2.0, noise=3.0)
    steps = 10**5
    assert 4 * steps * noise.double_average_variance(steps)[-1] == pytest.approx(noise.double_average_limit, rel=2e-3)


def test_the_double_average_is_the_covariance_recursion() -> None:
    # (y, c, sum of c_1, ..., c_t)
    whole = np.zeros((3, 3))
    whole[:2, :2], whole[2, :2], whole[2, 2] = EXAMPLE.matrix, EXAMPLE.matrix[1], 1
    covariance, found = np.zeros((3, 3)), EXAMPLE.double_average_variance(60)
    for t in range(1, 61):
        covariance = whole @ covariance @ whole.T + np.diag([EXAMPLE.eta**2 / 4, 0, 0])
        assert found[t - 1] == pytest.approx(covariance[2, 2] / t**2, rel=1e-11, abs=1e-15)


REPLICAS = 100_000


@pytest.mark.thorough
@pytest.mark.parametrize("steps", [2, 7, 200])
def test_the_registered_algorithm_has_the_lemmas_variance(steps: int) -> None:
    # Every coordinate of a quadratic with unit curvature is a replica of its own; x - x* starts at random signs.
    workload = quadratic(4, dimension=REPLICAS, noise=1.0, heterogeneity=0.0, condition=1.0)
    run = simulate(
        make("easgd-sync", period=1, moving_rate=0.225),
        workload,
        workers=4,
        budget=Budget(steps=steps, snapshots=1),
        lr=0.1,
        event_capacity=1 << 12,
    )
    minimiser = workload.minimiser  # type: ignore[attr-defined]
    signs = (workload.initial(0) - minimiser).numpy()
    center = (run.workers[0].state.kept["center-copy"] - minimiser).numpy()
    mean, variance = EXAMPLE.center_mean(steps, workers_at=1.0, center_at=1.0)[-1], EXAMPLE.center_variance(steps)[-1]
    error = math.sqrt(variance / REPLICAS)
    assert float((signs * center).mean()) == pytest.approx(mean, abs=3 * error)
    found = float(np.square(center - mean * signs).mean())
    assert found == pytest.approx(variance, abs=3 * variance * math.sqrt(2 / REPLICAS))
