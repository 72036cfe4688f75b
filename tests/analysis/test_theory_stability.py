"""Stability of ADMM, DOWNPOUR and late gradients: printed values, simulations, and the registered algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from analysis.theory.admm import round_map
from analysis.theory.delays import (
    constant_limit,
    mean_inverse_staleness,
    mean_limit,
    memoryless_limit,
    moment_map,
    scaled_limit,
)
from analysis.theory.downpour import largest_period, largest_push
from analysis.theory.linear import spectral_radius
from bench.budget import Budget
from bench.cluster import Compute
from tests.algorithms.support import make, quadratic, replicas, simulate

# -- ADMM --------------------------------------------------------------------------------------------------------------

RHO = (0.1, 0.5, 1, 2, 2.5, 3, 5, 7.5, 10)
ADMM = {  # eta -> largest modulus at each rho, three workers
    1e-4: (1.00014, 1.00036, 1.00051, 1.00071, 1.00078, 1.00084, 1.00102, 1.00117, 1.00127),
    1e-3: (1.00006, 1.00057, 1.00082, 1.00098, 1.00097, 1.00094, 1.00060, 0.99992, 0.99908),
    5e-3: (0.99857, 0.99897, 0.99859, 0.99707, 0.99613, 0.99512, 0.99508, 0.99512, 0.99516),
}


def admm_by_hand(state: NDArray[np.float64], eta: float, rho: float, workers: int, rounds: int) -> NDArray[np.float64]:
    """(lam_1, x_1, ..., c) after some rounds, by the equations."""
    dual, x, center = state[0:-1:2].copy(), state[1:-1:2].copy(), state[-1]
    for turn in range(rounds * workers):
        i = turn % workers
        dual[i] -= x[i] - center
        x[i] = (x[i] - eta * x[i] + eta * rho * (dual[i] + center)) / (1 + eta * rho)
        center = (x - dual).mean()
    return np.append(np.stack([dual, x], 1).ravel(), center)


@pytest.mark.parametrize("eta", ADMM)
def test_admm_table(eta: float) -> None:
    found = spectral_radius(round_map(eta=eta, rho=np.array(RHO), workers=3))
    assert found == pytest.approx(ADMM[eta], abs=5.1e-6)


def test_admm_at_the_papers_example() -> None:
    two, three = (float(spectral_radius(round_map(eta=0.001, rho=2.5, workers=p))) for p in (2, 3))
    assert two == pytest.approx(0.99900, abs=1e-5)
    assert three == pytest.approx(1.00097, abs=1e-5)


def test_admm_over_the_papers_map() -> None:
    # Both depend on how fine the grid is: with four times as many points 1.00138 and 15.1 %.
    eta, rho = np.meshgrid(np.linspace(5e-5, 1e-2, 100), np.linspace(0.05, 10, 100), indexing="ij")
    radius = spectral_radius(round_map(eta=eta, rho=rho, workers=3))
    assert radius.max() == pytest.approx(1.00136, abs=1e-5)
    assert (radius > 1).mean() == pytest.approx(0.153, abs=0.002)
    # At eta = 0.001 unstable from rho = 0.08 to 7.24.
    at = {rho: float(spectral_radius(round_map(eta=1e-3, rho=rho, workers=3))) for rho in (0.07, 0.09, 7.23, 7.25)}
    assert [value > 1 for value in at.values()] == [False, True, True, False]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_admm_map_does_what_the_equations_say(workers: int) -> None:
    state = np.random.default_rng(1).standard_normal(2 * workers + 1)
    whole = round_map(eta=0.2, rho=1.5, workers=workers)
    assert np.linalg.matrix_power(whole, 3) @ state == pytest.approx(
        admm_by_hand(state, 0.2, 1.5, workers, 3), abs=1e-13
    )
    same = round_map(eta=0.1, rho=3.0, workers=workers, curvature=2.0)  # eta h and eta rho are all that matters
    assert same == pytest.approx(whole, abs=1e-15)


@pytest.mark.parametrize(("workers", "grows"), [(2, False), (3, True)])
def test_admm_from_1000_grows_as_its_largest_eigenvalue(workers: int, grows: bool) -> None:
    state = np.array([0.0, 1000.0] * workers + [1000.0])
    early = admm_by_hand(state, 0.001, 2.5, workers, 6000)
    late = admm_by_hand(early, 0.001, 2.5, workers, 4000)
    growth = (np.linalg.norm(late) / np.linalg.norm(early)) ** (1 / 4000)
    radius = float(spectral_radius(round_map(eta=0.001, rho=2.5, workers=workers)))
    assert (growth > 1) == (radius > 1) == grows
    assert growth == pytest.approx(radius, abs=1e-4)  # of a complex pair, which turns while it grows


def test_the_registered_admm_follows_the_map() -> None:
    rounds, workers, eta, rho = 40, 3, 0.05, 2.5
    workload = quadratic(workers, dimension=1, noise=0.0, heterogeneity=0.0, condition=1.0)
    run = simulate(make("admm", rho=rho), workload, workers=workers, budget=Budget(steps=rounds), lr=eta)
    start = float((workload.initial(0) - workload.minimiser)[0])  # type: ignore[attr-defined]
    state = np.linalg.matrix_power(round_map(eta=eta, rho=rho, workers=workers), rounds) @ (
        start * np.array([0.0, 1.0] * workers + [1.0])
    )
    models = torch.cat([replicas(run), run.server.replica().data[None]])
    found = (models - workload.minimiser)[:, 0].numpy()  # type: ignore[attr-defined]
    assert found == pytest.approx([*state[1:-1:2], state[-1]], abs=1e-12)
    assert np.abs(found).max() > 1e-3


# -- DOWNPOUR ----------------------------------------------------------------------------------------------------------


def staggered(push: float, workers: int) -> float:
    """Spectral radius of X_j = X_{j-1} - b X_{j-p}."""
    companion = np.eye(workers, k=-1)
    companion[0, 0] += 1
    companion[0, -1] -= push
    return float(spectral_radius(companion))


@pytest.mark.parametrize("workers", range(1, 17))
def test_staggered_pushes_are_stable_up_to_the_largest_one(workers: int) -> None:
    limit = largest_push(workers)
    assert staggered(limit * (1 - 1e-6), workers) < 1 < staggered(limit * (1 + 1e-6), workers)


def test_downpour_table() -> None:
    limits = {2: 1.0, 3: 0.618, 4: 0.445, 8: 0.209, 16: 0.101}
    assert [largest_push(p) for p in limits] == pytest.approx(list(limits.values()), abs=5.1e-4)
    table = {0.01: (58.6, 23.3, 10.6), 0.05: (11.5, 4.57, 2.08), 0.1: (5.59, 2.23, 1.01)}
    for step, periods in table.items():
        for workers, period in zip((4, 8, 16), periods, strict=True):
            assert largest_period(eta=step / 2, workers=workers, curvature=2.0) == pytest.approx(period, rel=6e-3)
    at_random = [largest_period(eta=0.05, workers=p, arrivals="memoryless") for p in (4, 8, 16)]
    assert at_random == pytest.approx([36.1, 16.3, 9.51], rel=2e-3)


@pytest.mark.parametrize("workers", [1, 2])
def test_one_or_two_workers_may_push_as_rarely_as_they_like(workers: int) -> None:
    assert largest_period(eta=0.3, workers=workers) == math.inf
    assert largest_period(eta=1e-6, workers=workers) == math.inf


@pytest.mark.parametrize("eta", [0.0, 1.0, 1.5, -0.1, math.nan])
def test_downpour_refuses_steps_that_overshoot(eta: float) -> None:
    with pytest.raises(ValueError, match=r"eta x curvature must lie in \(0, 1\)"):
        largest_period(eta=eta, workers=4)


@pytest.mark.parametrize(("period", "grows"), [(11, False), (12, True)])
def test_the_registered_downpour_turns_unstable_between_11_and_12(period: int, grows: bool) -> None:
    # tau* = 11.48 for four workers at eta h = 0.05; each worker starts a quarter of a period after the other.
    workers, eta = 4, 0.05
    workload = quadratic(workers, dimension=1, noise=0.0, heterogeneity=0.0, condition=1.0)
    workload.minimiser.zero_(), workload.shifts.zero_()  # type: ignore[attr-defined]
    pushed = push_after_push(period, workers, eta, workload)
    half = len(pushed) // 2
    amplitude = [np.abs(part).max() for part in (pushed[half - 200 : half], pushed[-200:])]
    assert (amplitude[1] > amplitude[0]) == grows
    predicted = staggered(1 - (1 - eta) ** period, workers) ** (len(pushed) - half)
    assert amplitude[1] / amplitude[0] == pytest.approx(predicted, rel=0.05)


def push_after_push(period: int, workers: int, eta: float, workload: object) -> NDArray[np.float64]:
    """The center after each push of a run of the registered algorithm with staggered workers."""
    from algorithms.optim import OptimizerSettings
    from bench.cluster import Network
    from bench.simulate import Simulation

    class Late:
        """Equal compute times but for the first."""

        def __init__(self, first_s: float) -> None:
            self.first_s = first_s

        def next(self) -> float:
            first_s, self.first_s = self.first_s, 1.0
            return first_s

    simulation = Simulation(
        make("downpour", period=period),
        workload,  # type: ignore[arg-type]
        workers=workers,
        seed=0,
        optimizer=OptimizerSettings(name="sgd", lr=eta),
        compute=Compute(gradient_s=1.0),
        network=Network(latency_s=0.0, bandwidth_Gbit_per_s=math.inf),
    )
    for rank, transport in enumerate(simulation.world.transports[:workers]):
        transport.times = Late(1 + rank * period / workers)  # type: ignore[assignment]
    center, found = simulation.server.replica(), []
    observe = center._observe

    def seen(*what: object) -> None:
        found.append(float(center.data[0]))
        if observe is not None:
            observe(*what)  # type: ignore[arg-type]

    center._observe = seen
    simulation.run(Budget(seconds=200.0 * period, snapshots=1))
    return np.array(found)


# -- late gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("staleness", [0, 1, 2, 3, 7, 15])
def test_constant_staleness(staleness: int) -> None:
    def radius(step: float) -> float:
        companion = np.eye(staleness + 1, k=-1)
        companion[0, 0] += 1
        companion[0, -1] -= step
        return float(spectral_radius(companion))

    limit = constant_limit(staleness)
    assert radius(limit * (1 - 1e-7)) < 1 < radius(limit * (1 + 1e-7))
    assert radius(limit) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("name", "limit"), [("async-sgd", constant_limit), ("sa-asgd", scaled_limit)])
@pytest.mark.parametrize("staleness", [1, 3, 7])
def test_the_registered_servers_turn_unstable_at_the_limit(
    name: str, limit: Callable[[int], float], staleness: int
) -> None:
    # Workers in turn: after their first writes every gradient is M - 1 writes old. Curvatures 2 % off the limit.
    workers, lr, rounds = staleness + 1, 1.02 * limit(staleness), 1500 // (staleness + 1)
    workload = quadratic(workers, dimension=2, noise=0.0, heterogeneity=0.0, condition=1.02 / 0.98)
    workload.minimiser.zero_(), workload.shifts.zero_()  # type: ignore[attr-defined]
    h = workload.eigenvalues.numpy()  # type: ignore[attr-defined]
    budget = Budget(seconds=rounds - 0.5, snapshots=1)
    run = simulate(make(name, momentum=0.0), workload, workers=workers, budget=budget, lr=lr)
    late = [row[10] for row in run.server.recorder.rows() if row[0] == "apply"]
    assert set(late[workers:]) == {staleness}

    w = [workload.initial(0).numpy()]
    for t, tau in enumerate(late):
        scale = max(tau, 1) if name == "sa-asgd" else 1
        w.append(w[-1] - lr / scale * h * w[t - tau])
    found = run.server.replica().data.numpy()
    assert found == pytest.approx(w[-1], rel=1e-9)
    amplitude = [np.abs(w[k : k + 8 * workers]).max(0) for k in (len(w) // 3, len(w) - 8 * workers)]
    assert (amplitude[1] > amplitude[0]).tolist() == [False, True]


def test_printed_limits() -> None:
    assert [constant_limit(d) for d in (0, 1, 3, 7, 15)] == pytest.approx([2, 1, 0.445, 0.209, 0.1013], abs=5.1e-4)
    assert [scaled_limit(d) for d in (0, 1, 3, 7, 15)] == pytest.approx([2, 1, 1.335, 1.463, 1.519], abs=5.1e-4)
    found = [memoryless_limit(m) for m in (1, 2, 4, 8, 16, 32)]
    assert found == pytest.approx([2, 1.281, 0.843, 0.566, 0.386, 0.266], abs=5.1e-4)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 16, 32, 1000])
def test_the_closed_form_is_where_the_moments_stop_shrinking(workers: int) -> None:
    limit = memoryless_limit(workers)
    below, above = (
        float(spectral_radius(moment_map(limit * (1 + more), workers=workers))) - 1 for more in (-1e-6, 1e-6)
    )
    assert below < 0 < above


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
@pytest.mark.parametrize("momentum", [-0.9, -0.3, 0.0, 0.4, 0.9])
def test_there_is_one_limit_and_all_steps_below_it_are_stable(workers: int, momentum: float) -> None:
    steps = np.linspace(1e-3, 4.2, 300)
    radius = np.array([spectral_radius(moment_map(a, workers=workers, momentum=momentum)) for a in steps])
    assert ((radius < 1) == (steps < memoryless_limit(workers, momentum))).all()


@pytest.mark.parametrize("momentum", [-0.999, -0.5, 0.5, 0.999])
def test_one_worker_with_momentum_is_heavy_ball(momentum: float) -> None:
    assert memoryless_limit(1, momentum) == pytest.approx(2 * (1 + momentum), rel=1e-9)


@pytest.mark.parametrize(("workers", "momentum"), [(1, 0.0), (2, 0.0), (5, 0.0), (3, 0.4), (4, -0.6)])
def test_the_moment_map_is_the_mean_over_all_orders_of_writers(workers: int, momentum: float) -> None:
    # The second moments of (w, v, r_1, ..., r_M) themselves, averaged over who writes: a matrix that is told nothing of
    # symmetry.
    step = 0.35
    writes = []
    for k in range(workers):
        write = np.eye(workers + 2)
        write[1] = 0
        write[1, 1], write[1, 2 + k] = momentum, -step
        write[0] = write[1]
        write[0, 0] += 1
        write[2 + k] = write[0]
        writes.append(write)
    state = np.ones(workers + 2)  # all read w; w_0 - w_{-1} = 1
    second = np.outer(state, state)
    moments = np.ones(7)
    kept = [k for k in range(7) if (k != 3 or workers > 1) and (k < 4 or momentum)]
    moments, whole = moments[kept], moment_map(step, workers=workers, momentum=momentum)
    for _ in range(25):
        second = sum(write @ second @ write.T for write in writes) / workers
        moments = whole @ moments
    expected = [second[0, 0], second[0, 2], second[2, 2], second[2, -1], second[1, 1], second[0, 1], second[1, 2]]
    if workers > 1 and not momentum:
        expected[4:] = []
    assert moments == pytest.approx([expected[k] for k in kept], rel=1e-12)


def test_simulated_memoryless_workers_turn_unstable_at_the_limit() -> None:
    # log E w^2 per write over many replicas has the sign of log radius; 10 % off the limit.
    workers, replicas_, writes = 4, 20_000, 60
    for factor, stable in ((0.9, True), (1.1, False)):
        rng, step = np.random.default_rng(3), factor * memoryless_limit(workers)
        w, r = np.ones(replicas_), np.ones((workers, replicas_))
        square = []
        for _ in range(writes):
            writer = rng.integers(workers, size=replicas_)
            w = w - step * r[writer, np.arange(replicas_)]
            r[writer, np.arange(replicas_)] = w
            square.append(float(np.square(w).mean()))
        moments, expected = np.ones(4), []
        for _ in range(writes):
            moments = moment_map(step, workers=workers) @ moments
            expected.append(moments[0])
        assert square[:12] == pytest.approx(expected[:12], rel=0.1)
        growth = float(spectral_radius(moment_map(step, workers=workers)))
        assert (growth < 1) == stable and (square[-1] < square[19]) == stable


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
def test_means_of_inverse_staleness_are_the_sums_over_the_geometric_law(workers: int) -> None:
    tau = np.arange(5000)
    law = (1 - 1 / workers) ** tau / workers
    assert mean_inverse_staleness(workers) == pytest.approx((law / np.maximum(tau, 1)).sum(), rel=1e-12)
    assert mean_inverse_staleness(workers, plus_one=True) == pytest.approx((law / (tau + 1)).sum(), rel=1e-12)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_mean_alone_is_stable_far_beyond(workers: int) -> None:
    # u_{t+1} = mu u_t + (1 - mu) w_{t+1}, w_{t+1} = w_t - a u_t, with mu = 1 - 1/M.
    mu = 1 - 1 / workers

    def radius(step: float) -> float:
        return float(spectral_radius(np.array([[1, -step], [1 - mu, mu - (1 - mu) * step]])))

    limit = mean_limit(workers)
    assert radius(limit * (1 - 1e-6)) < 1 < radius(limit * (1 + 1e-6))
    assert limit >= memoryless_limit(workers)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    for call, words in (
        (lambda: constant_limit(-1), "staleness must be at least 0"),
        (lambda: memoryless_limit(0), "workers must be at least 1: got 0"),
        (lambda: memoryless_limit(4, 1.0), r"momentum must lie in \(-1, 1\): got 1"),
        (lambda: round_map(eta=0.1, rho=0.0, workers=3), "rho must be above 0: got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
