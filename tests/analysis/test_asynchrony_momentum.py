"""Implicit momentum measured three ways, on the system of which the theory knows it: 1 - 1/M.

Source of the system and of the numbers B3, B4, B9 in docs/oracles.md: Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774.
M = workers, a = learning rate, T writes, S seeds; the start is w = 1 in every direction.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from algorithms.async_sgd import AsyncSGD
from analysis.asynchrony.ensemble import MomentumFit, fit_momentum
from analysis.asynchrony.law import momentum_of_staleness
from analysis.asynchrony.mean_path import distance, heavy_ball_path, law_by_write, staleness_path
from analysis.asynchrony.measured import measured_momentum
from analysis.asynchrony.sensor import read
from analysis.asynchrony.server import Service, Trajectories, exponential, fixed, normal, quadratic, simulate
from tests.algorithms.support import quadratic as workload
from tests.algorithms.test_async_sgd import trace

WORKERS = (2, 4, 8, 16)
CURVATURES = np.geomspace(0.02, 1, 400)


# -- the system --------------------------------------------------------------------------------------------------------


def last_write_by_the_same(writer: np.ndarray, t: int) -> int:
    """Version that the writer of write t had read."""
    earlier = np.flatnonzero(writer[:t] == writer[t])
    return int(earlier[-1]) + 1 if len(earlier) else 0


@pytest.mark.parametrize("service", [exponential, fixed, normal(0.3)])
def test_every_write_is_a_step_along_the_gradient_its_worker_read(service: Service) -> None:
    """The definition, write by write, with workers of unlike speed and momentum; staleness counted from who wrote."""
    runs = simulate(
        quadratic([0.5, 1.0]), [1.0, -2.0], workers=3, writes=80, lr=0.3, momentum=-0.4, service=service,
        mean_times=[1.0, 2.0, 3.5], replicas=2, seed=4,
    )  # fmt: skip
    for path, staleness, writer in zip(runs.path, runs.staleness, runs.writer, strict=True):
        for t in range(80):
            version = last_write_by_the_same(writer, t)
            assert staleness[t] == t - version
            moved = path[t] - path[max(t - 1, 0)]
            expected = path[t] - 0.3 * path[version] * [0.5, 1.0] - 0.4 * moved
            np.testing.assert_allclose(path[t + 1], expected, rtol=0, atol=1e-14)
    assert (np.diff(runs.time) >= 0).all()
    assert len(np.unique(runs.writer)) == 3


def test_workers_write_as_often_as_their_speeds_let_them() -> None:
    runs = simulate(quadratic([0.0]), [1.0], workers=2, writes=3000, lr=0.0, mean_times=[1.0, 3.0], replicas=10)
    share = (runs.writer == 0).mean()
    assert abs(share - 0.75) < 3 * math.sqrt(0.75 * 0.25 / runs.writer.size)
    assert abs(runs.time[:, -1].mean() / 3000 - 0.75) < 0.03  # 1 + 1/3 writes per unit of time


def test_the_same_seed_gives_the_same_runs() -> None:
    def run(seed: int) -> Trajectories:
        return simulate(quadratic([1.0]), [1.0], workers=3, writes=20, lr=0.1, noise=0.1, replicas=2, seed=seed)

    assert (run(1).path == run(1).path).all()
    assert (run(1).path != run(2).path).any()


def test_noise_is_added_to_every_gradient() -> None:
    runs = simulate(quadratic(np.zeros(50)), np.zeros(50), workers=2, writes=200, lr=0.5, noise=0.3, seed=1)
    assert np.diff(runs.path[0], axis=0).std() == pytest.approx(0.5 * 0.3, rel=0.03)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="workers, writes and replicas must be at least 1: got 0, 5, 1"):
        simulate(quadratic([1.0]), [1.0], workers=0, writes=5, lr=0.1)
    with pytest.raises(ValueError, match="mean_times must be positive"):
        simulate(quadratic([1.0]), [1.0], workers=2, writes=5, lr=0.1, mean_times=[1.0, 0.0])


# -- (i) the sensor ----------------------------------------------------------------------------------------------------


def sensed(
    workers: int, service: Service = exponential, momentum: float = 0.0, noise: float = 0.0
) -> tuple[float, float]:
    """(implicit, total) momentum, mean of the readings of writes 500 to 1200 of one run."""
    runs = simulate(
        quadratic(CURVATURES), np.ones(400), workers=workers, writes=1200, lr=0.05, momentum=momentum,
        noise=noise, service=service, seed=workers,
    )  # fmt: skip
    reading = read(runs.path[0], runs.path[0] * CURVATURES, lr=0.05, momentum=momentum)
    return float(reading.implicit[500:].mean()), float(reading.total_uncorrected[500:].mean())


@pytest.mark.parametrize("workers", WORKERS)
def test_the_sensor_reads_the_implicit_momentum(workers: int) -> None:
    """B9, noiseless: 1 - 1/M within 0.02; the uncorrected one reads .007, .02, .05, .12 there."""
    implicit, total = sensed(workers)
    assert abs(implicit - (1 - 1 / workers)) < 0.02
    assert total == pytest.approx({2: 0.007, 4: 0.02, 8: 0.05, 16: 0.12}[workers], rel=0.1)


@pytest.mark.parametrize("service", [fixed, normal(0.3)])
def test_the_sensor_reads_the_mean_staleness_whatever_its_law(service: Service) -> None:
    assert abs(sensed(8, service)[0] - 0.875) < 0.02


def test_the_sensor_tells_explicit_from_implicit_momentum() -> None:
    assert abs(sensed(4, momentum=0.3)[0] - 0.75) < 0.02
    assert abs(sensed(4, momentum=-0.5)[0] - 0.75) < 0.02


def test_the_sensor_is_useless_with_noise_as_its_docstring_says() -> None:
    """One worker has no implicit momentum; noise makes the sensor see some, and four workers' wrong."""
    assert abs(sensed(1)[0]) < 1e-9
    assert abs(sensed(2, noise=0.05)[0] - 0.5) > 0.1


def test_the_sensor_refuses_what_it_cannot_read() -> None:
    path = np.ones((5, 2))
    with pytest.raises(ValueError, match=r"path must be \[T \+ 1, P\]"):
        read(path, path[:3], lr=0.1)
    with pytest.raises(ValueError, match=r"smoothing must lie in \(0, 1\]: got 0"):
        read(path, path, lr=0.1, smoothing=0.0)
    assert np.isnan(read(path, path, lr=0.1).implicit).sum() == 0  # still, but its gradient is not: it reads something


# -- (ii) the ensemble -------------------------------------------------------------------------------------------------


def ensemble(
    workers: int, *, seeds: int = 300, momentum: float = 0.0, seed: int = 1, noise: float = 0.05
) -> Trajectories:
    curvatures = CURVATURES[::10]
    return simulate(
        quadratic(curvatures), np.ones(40), workers=workers, writes=200, lr=0.05, momentum=momentum,
        noise=noise, replicas=seeds, seed=seed,
    )  # fmt: skip


def fit(runs: Trajectories, **settings: object) -> MomentumFit:
    settings = {"resamples": 499, **settings}
    return fit_momentum(runs.path, runs.path * CURVATURES[::10], lr=0.05, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", WORKERS)
def test_the_ensemble_finds_the_implicit_momentum_through_noise(workers: int) -> None:
    """B9, noise 0.05, 300 seeds: 1 - 1/M and 1/M within 0.03, in their intervals, which are not too wide to say so."""
    found = fit(ensemble(workers))
    for estimate, known in ((found.implicit, 1 - 1 / workers), (found.rate, 1 / workers)):
        assert abs(estimate.value - known) < 0.03
        assert estimate.low < known < estimate.high
        assert estimate.high - estimate.low < 0.06
    assert found.implicit.seeds == 300
    assert found.explicit is None


@pytest.mark.thorough
def test_products_of_means_are_drawn_towards_zero_by_noise() -> None:
    """What the plain fit to the mean trajectory gives: much too little for 2 workers, the less so the fewer the noise
    and the more the workers."""
    two, sixteen = ensemble(2), ensemble(16)
    assert fit(two, moments="of-means").implicit.value < 0.4
    assert 0.92 < fit(sixteen, moments="of-means").implicit.value < fit(sixteen).implicit.value
    quiet = ensemble(2, noise=0.001)
    assert abs(fit(quiet, moments="of-means").implicit.value - 0.5) < 0.03
    assert math.isnan(fit(quiet, moments="of-means").implicit.low)


def test_products_of_different_seeds_have_no_bias_with_few_seeds() -> None:
    """Thirty ensembles of ten seeds: their mean is 0.75 within three standard errors; that of the other is not."""
    ensembles = [ensemble(4, seeds=10, seed=k, noise=0.02) for k in range(30)]
    unbiased = np.array([fit(runs, resamples=2).implicit.value for runs in ensembles])
    biased = np.array([fit(runs, moments="of-means").implicit.value for runs in ensembles])
    assert abs(unbiased.mean() - 0.75) < 3 * unbiased.std(ddof=1) / math.sqrt(30)
    assert biased.mean() < 0.72 - 3 * biased.std(ddof=1) / math.sqrt(30)


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_explicit_momentum_is_known_or_fitted(workers: int) -> None:
    """Theorem 6 with 0.3 on the server: two terms with it known, three terms without."""
    runs = ensemble(workers, momentum=0.3)
    known, fitted = fit(runs, explicit=0.3), fit(runs, explicit=None)
    assert abs(known.implicit.value - (1 - 1 / workers)) < 0.03
    assert abs(fitted.implicit.value - (1 - 1 / workers)) < 0.03
    assert fitted.explicit is not None
    assert abs(fitted.explicit.value - 0.3) < 0.03
    assert fitted.explicit.low < 0.3 < fitted.explicit.high


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_two_terms_do_not_give_the_sum_of_the_momenta(workers: int) -> None:
    """A fit that forgets the server's 0.3 is more than 0.2 below the sum, and not the implicit momentum either."""
    found = fit(ensemble(workers, seeds=100, momentum=0.3, noise=0.0), explicit=0.0, moments="of-means").implicit.value
    assert found < 1 - 1 / workers + 0.3 - 0.2
    assert abs(found - (1 - 1 / workers)) > 0.03


def test_the_fit_is_exact_where_the_model_is() -> None:
    """Heavy ball from a whole gradient, seeds from different starts, explicit momentum known and fitted: 1e-9."""
    curvatures = np.array([0.2, 0.5, 1.0])
    starts = np.random.default_rng(0).normal(size=(4, 3))
    settings = {"writes": 30, "lr": 0.1, "implicit": 0.8, "momentum": -0.3}
    paths = np.stack([heavy_ball_path(lambda w: w * curvatures, start, **settings) for start in starts])  # type: ignore
    for moments in ("across-seeds", "of-means"):
        found = fit_momentum(paths, paths * curvatures, lr=0.1, explicit=None, moments=moments)  # type: ignore[arg-type]
        assert found.explicit is not None
        assert [found.implicit.value, found.rate.value, found.explicit.value] == pytest.approx(
            [0.8, 0.2, -0.3], abs=1e-9
        )
    known = fit_momentum(paths, paths[:, :-1] * curvatures, lr=0.1, explicit=-0.3)
    assert [known.implicit.value, known.implicit.low, known.implicit.high] == pytest.approx([0.8] * 3, abs=1e-9)


def test_the_order_of_the_seeds_does_not_matter_and_the_interval_is_fixed() -> None:
    runs = ensemble(4, seeds=12)
    gradients, order = runs.path * CURVATURES[::10], np.random.default_rng(3).permutation(12)
    found, again = (fit_momentum(runs.path, gradients, lr=0.05) for _ in range(2))
    assert found == again
    permuted = fit_momentum(runs.path[order], gradients[order], lr=0.05)
    assert permuted.implicit.value == pytest.approx(found.implicit.value, abs=1e-9)


def test_the_ensemble_refuses_what_it_cannot_fit() -> None:
    path = np.ones((3, 6, 2))
    with pytest.raises(ValueError, match=r"paths must be \[S, T \+ 1, P\]"):
        fit_momentum(path, path[:, :3], lr=0.1)
    with pytest.raises(ValueError, match=r"got \(6, 2\) and \(6, 2\)"):
        fit_momentum(path[0], path[0], lr=0.1)
    with pytest.raises(ValueError, match="at least 3 seeds and 3 writes are needed: got 2 and 5"):
        fit_momentum(path[:2], path[:2], lr=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "seeds", "noise"), [(2, 100, 0.05), (4, 20, 0.05), (8, 100, 0.01), (4, 8, 0.01)])
def test_the_intervals_hold_what_they_promise(workers: int, seeds: int, noise: float) -> None:
    """200 ensembles: the 95 % interval has 1 - 1/M in it in at least 92 % (200 tries seldom fall below), and is not
    so wide that it says nothing."""
    curvatures, hits, widths, values = np.geomspace(0.05, 1, 10), 0, [], []
    settings = {"workers": workers, "writes": 100, "lr": 0.05, "noise": noise, "replicas": seeds}
    for seed in range(200):
        runs = simulate(quadratic(curvatures), np.ones(10), **settings, seed=seed)  # type: ignore[arg-type]
        found = fit_momentum(runs.path, runs.path * curvatures, lr=0.05, resamples=499).implicit
        hits += found.low <= 1 - 1 / workers <= found.high
        widths.append(found.high - found.low)
        values.append(found.value)
    width = np.mean(widths) / (3.92 * np.std(values))
    print(f"{workers} workers, {seeds} seeds, noise {noise}: coverage {hits / 200:.3f}, width {width:.2f}")
    assert hits >= 0.92 * 200
    if seeds >= 20:  # with fewer the tails are long
        assert np.median(widths) < 1.6 * 3.92 * np.std(values)


# -- (iii) the mean path -----------------------------------------------------------------------------------------------

STEPS = {4: 0.2, 8: 0.15, 16: 0.06}  # a, by workers: a quarter to three quarters of what workers in turn can take


def scalar(
    workers: int, service: Service, *, momentum: float = 0.0, writes: int = 90, replicas: int = 5000
) -> Trajectories:
    return simulate(
        quadratic([1.0]), [1.0], workers=workers, writes=writes, lr=STEPS[workers], momentum=momentum,
        service=service, replicas=1 if service is fixed else replicas, seed=workers,
    )  # fmt: skip


def oracle(workers: int, momentum: float = 0.0, writes: int = 90) -> np.ndarray:
    return heavy_ball_path(
        lambda w: w, [1.0], writes=writes, lr=STEPS[workers], implicit=1 - 1 / workers, momentum=momentum
    )  # fmt: skip


@pytest.mark.parametrize(("workers", "momentum"), [(4, 0.0), (4, 0.3), (8, 0.0), (16, -0.5)])
def test_memoryless_workers_are_heavy_ball_in_the_mean(workers: int, momentum: float) -> None:
    """B3, with the exact start: nothing is left but the error of the mean of the replicas."""
    found = distance(scalar(workers, exponential, momentum=momentum).path, oracle(workers, momentum))
    assert found.largest < 4 * found.standard_error < 0.012


@pytest.mark.slow
@pytest.mark.parametrize("workers", STEPS)
@pytest.mark.parametrize("momentum", [0.0, 0.3, -0.5])
def test_memoryless_workers_are_heavy_ball_to_a_thousandth(workers: int, momentum: float) -> None:
    """B3 with 2e5 replicas: within .0015."""
    runs = scalar(workers, exponential, momentum=momentum, replicas=200_000)
    found = distance(runs.path, oracle(workers, momentum))
    print(f"{workers} workers, momentum {momentum}: {found.largest:.5f} +- {found.standard_error:.5f}")
    assert found.largest < 0.0015


def test_heavy_ball_from_rest_is_not_it() -> None:
    """The whole first gradient matters: without it the path would be off by a tenth of the start and more."""
    runs = scalar(4, exponential)
    w = [np.ones(1), np.ones(1)]
    for _ in range(90):
        w.append(w[-1] + 0.75 * (w[-1] - w[-2]) - 0.2 / 4 * w[-1])
    assert distance(runs.path, np.array(w[1:])).largest > 0.05


@pytest.mark.parametrize(("workers", "spread"), [(4, 0.10), (8, 0.32), (16, 0.21)])
def test_the_heavy_ball_oracle_rejects_other_service_laws(workers: int, spread: float) -> None:
    """Compute times N(1, 0.3): the distances .10, .32, .21; equal ones: .13, .43, .26."""
    runs = scalar(workers, normal(0.3))
    assert distance(runs.path, oracle(workers)).largest == pytest.approx(spread, abs=0.01)
    in_turn = distance(scalar(workers, fixed).path, oracle(workers)).largest
    assert in_turn == pytest.approx({4: 0.13, 8: 0.43, 16: 0.26}[workers], abs=0.01)


@pytest.mark.parametrize("workers", STEPS)
@pytest.mark.parametrize("spread", [0.3, 0.05])
def test_theorem_2_with_the_law_at_each_write_is_the_path_of_any_service(workers: int, spread: float) -> None:
    """B4: within .004, while heavy ball is .1 to .4 off."""
    runs = scalar(workers, normal(spread))
    found = staleness_path(lambda w: w, [1.0], law_by_write(runs.staleness), lr=STEPS[workers], writes=90)
    assert distance(runs.path, found).largest < 0.004
    assert distance(runs.path, oracle(workers)).largest > 0.09


@pytest.mark.parametrize("workers", [4, 8])
def test_theorem_2_with_one_measured_law_is_near_the_path(workers: int) -> None:
    """B4 as it is usually done, N(1, 0.3): within .021, worse than with the law at each write."""
    runs = scalar(workers, normal(0.3))
    found = staleness_path(
        lambda w: w, [1.0], np.bincount(runs.staleness[:, 5 * workers :].ravel()), lr=STEPS[workers], writes=90
    )
    assert 0.004 < distance(runs.path, found).largest < 0.021


@pytest.mark.parametrize("workers", STEPS)
def test_theorem_2_is_exact_for_workers_in_turn(workers: int) -> None:
    runs = scalar(workers, fixed)
    law = np.eye(workers)[-1]
    found = staleness_path(lambda w: w, [1.0], law, lr=STEPS[workers], writes=90)
    np.testing.assert_allclose(found, runs.path[0], rtol=0, atol=1e-13)
    at_each = staleness_path(lambda w: w, [1.0], law_by_write(runs.staleness), lr=STEPS[workers], writes=90)
    np.testing.assert_allclose(at_each, runs.path[0], rtol=0, atol=1e-13)


def test_theorem_2_with_a_geometric_law_is_heavy_ball() -> None:
    """Theorem 3, element by element, with momentum on the server."""
    curvatures = np.array([0.3, 1.0])
    law = 0.2 * 0.8 ** np.arange(400)
    found = staleness_path(lambda w: w * curvatures, [1.0, -2.0], law, lr=0.15, writes=60, momentum=-0.4)
    expected = heavy_ball_path(
        lambda w: w * curvatures, [1.0, -2.0], writes=60, lr=0.15, implicit=0.8, momentum=-0.4
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_distance_knows_its_error() -> None:
    """Standard error at the place of the largest distance, from the seeds themselves."""
    paths = np.random.default_rng(0).normal(size=(400, 3, 2)) * [1.0, 0.1]
    found = distance(paths, np.zeros((3, 2)))
    spread = paths.std(0, ddof=1) / 20
    assert found.standard_error == pytest.approx(spread[found.at_write].max(), rel=1e-12)
    assert found.largest == pytest.approx(np.abs(paths.mean(0)).max(), rel=1e-12)
    assert found.replicas == 400
    assert math.isnan(distance(paths[:1], np.zeros((3, 2))).standard_error)
    with pytest.raises(ValueError, match=r"paths must be \[S, T \+ 1, P\]"):
        distance(paths, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="law must hold counts of staleness"):
        staleness_path(lambda w: w, [1.0], [0.0, 0.0], lr=0.1, writes=3)
    with pytest.raises(ValueError, match="law must hold counts of staleness"):
        staleness_path(lambda w: w, [1.0], np.ones((2, 4)), lr=0.1, writes=3)


# -- all of them -------------------------------------------------------------------------------------------------------


def test_momentum_of_the_mean_staleness() -> None:
    """q_l = (1 - mu) mu^l has the mean mu / (1 - mu)."""
    for mu in (0.0, 0.5, 0.9):
        tau = np.arange(2000)
        assert momentum_of_staleness((1 - mu) * mu**tau @ tau) == pytest.approx(mu, abs=1e-9)


def test_all_ways_side_by_side() -> None:
    """With noise the ensemble is right, the plain fit too small, the sensor wrong; all have what they should."""
    runs = ensemble(4, seeds=60)
    table = measured_momentum(
        runs.path, runs.path * CURVATURES[::10], runs.staleness, lr=0.05, workers=4
    ).set_index("way")  # fmt: skip
    assert (table["expected"] == 0.75).all()
    assert (table["n"] == 60).all()
    for way in ("ensemble", "ensemble, explicit fitted too", "staleness"):
        assert abs(table.loc[way, "implicit"] - 0.75) < 0.03
        assert table.loc[way, "low"] <= table.loc[way, "implicit"] <= table.loc[way, "high"]
    assert table.loc["ensemble, products of means", "implicit"] < 0.7
    assert abs(table.loc["sensor", "implicit"] - 0.75) > 0.05


@pytest.mark.thorough
def test_the_ensemble_of_the_products_simulator() -> None:
    """async-sgd of four memoryless workers on the noisy quadratic, momentum -0.3, every write watched: 40 seeds."""
    paths, staleness, writes = [], [], 100
    for seed in range(40):
        problem = workload(4, dimension=10, noise=0.05, heterogeneity=0.0)
        run = trace(AsyncSGD(momentum=-0.3), problem, 4, 40.0, lr=0.1, seed=seed)
        away = run.path[: writes + 1] - problem.minimiser  # type: ignore[attr-defined]
        paths.append((away * away[0]).numpy())  # seeds start at the minimiser plus signs, which this takes away
        staleness.append(run.staleness[:writes])
    path, curvatures = np.stack(paths), problem.eigenvalues.numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(path[:, 0], 1, atol=1e-12)
    for explicit in (-0.3, None):
        found = fit_momentum(path, path * curvatures, lr=0.1, explicit=explicit, resamples=499)
        assert abs(found.implicit.value - 0.75) < 0.03
        assert found.implicit.low < 0.75 < found.implicit.high
    predicted = heavy_ball_path(
        lambda w: w * curvatures, path[0, 0], writes=writes, lr=0.1, implicit=0.75, momentum=-0.3
    )  # fmt: skip
    found_away = distance(path, predicted)
    assert found_away.largest < 5 * found_away.standard_error  # the largest of a thousand points
    assert momentum_of_staleness(np.array(staleness)[:, 20:].mean()) == pytest.approx(0.75, abs=0.01)
