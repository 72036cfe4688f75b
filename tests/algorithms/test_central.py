"""Algorithms with a central variable: EASGD and its kin, DOWNPOUR and its kin, ADMM.

Ids such as T4 or A15 are those of docs/oracles.md: T, a property that follows from the update; A, a claim of arXiv
1412.6651.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.interface import Algorithm, Traffic
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.registry import algorithm_class
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.simulate import Simulation
from bench.worker import RankHandle
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import Row, make, quadratic, replicas, sequential, simulate

ROWS: list[Row] = [
    Row("easgd", {"period": 1}),
    Row("easgd", {"period": 3, "servers": 3}, workers=5),
    Row("easgd", {"period": 10, "moving_rate": 0.5}, seconds=2000),
    Row("easgd-sync", {"period": 1}),
    Row("easgd-sync", {"period": 4, "moving_rate": 0.1}, workers=5, seconds=1500),
    Row("easgd-sync", {"period": 2, "moving_rate": -0.1, "beta": 1.0}, workers=3),
    Row("eamsgd", {"period": 2, "momentum": 0.5}, lr=0.05, spied=False),
    Row("eamsgd", {"period": 5, "momentum": 0.9, "servers": 2}, lr=0.02, workers=5, seconds=2000, spied=False),
    Row("easgd-tree", {"period": 2}),
    Row("easgd-tree", {"degree": 2, "period": 2, "upper_period": 2}, workers=5, seconds=1500),
    Row("easgd-tree", {"degree": 3, "period": 1, "upper_period": 3}, seconds=1500),
    Row("downpour"),
    Row("downpour", {"period": 4, "servers": 3}, lr=0.05, workers=3),
    Row("mdownpour", {"momentum": 0.5}, lr=0.05, seconds=1000),
    Row("mdownpour", {"momentum": 0.9, "servers": 2}, lr=0.01, workers=3, seconds=1000),
    Row("adownpour", bound=0.2, lr=0.05),  # a mean over all times forgets the start as 1 / t
    Row("adownpour", {"period": 3, "servers": 2}, bound=0.2, workers=3, lr=0.05, seconds=2000),
    Row("mvadownpour", seconds=8000),
    Row("mvadownpour", {"average_rate": 0.01, "servers": 2}, seconds=1000),
    Row("admm"),
    Row("admm", {"rho": 0.5}, workers=2),
]

CLIENTS = 3  # workers of the replayed runs
RANDOM = Compute(gradient_s=1.0, distribution="exponential")


def digits(workers: int = 1) -> Workload:
    """A network in float64: on a quadratic, linear as it is, many a wrong point makes no difference."""
    return DigitsMlp(dtype="float64", width=16).build(torch.device("cpu"), workers)


def gradients_of(workload: Workload, rank: int, workers: int) -> Callable[[Tensor], Tensor]:
    """One worker's gradients at the points given, each call on its next mini-batch."""
    batches = workload.batches(0, rank, workers)

    def gradient(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        workload.gradient(x.clone(), batches.next(), out)
        return out

    return gradient


def served(server: RankHandle) -> list[int]:
    """Who was answered, in order."""
    return [row[6] for row in server.recorder.rows() if row[0] == "serve"]


def center(simulation: Simulation) -> Tensor:
    """The central variable [P], put together from its shards."""
    return torch.cat([server.replica().data for server in simulation.servers])


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Equal to the stated tolerance, relative where numbers are large."""
    assert not torch.equal(expected, torch.zeros_like(expected)), "nothing was compared"
    difference = float((got - expected).abs().max() / max(1.0, float(expected.abs().max())))
    assert difference < tolerance, difference


class Late:
    """Compute times that are all alike but the first, so that workers stay staggered."""

    def __init__(self, first_s: float) -> None:
        self.first_s = first_s

    def next(self) -> float:
        first_s, self.first_s = self.first_s, 1.0
        return first_s


def prepared(algorithm: Algorithm, workload: Workload, *, workers: int, lr: float, **settings: Any) -> Simulation:
    """A run that has not begun, so that something may be put into it."""
    return Simulation(
        algorithm,
        workload,
        workers=workers,
        seed=0,
        optimizer=OptimizerSettings(name="sgd", lr=lr),
        compute=settings.pop("compute", Compute(gradient_s=1.0)),
        network=settings.pop("network", Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"))),
        **settings,
    )


def staggered(
    algorithm: Algorithm, workload: Workload, *, workers: int, lr: float, period: int, rounds: int
) -> Simulation:
    """Workers that come in turn, evenly spaced over a period: round robin."""
    simulation = prepared(algorithm, workload, workers=workers, lr=lr)
    for rank, transport in enumerate(simulation.world.transports[:workers]):
        transport.times = Late(1 + (rank + 0.5) * period / workers)  # type: ignore[assignment]
    return simulation.run(Budget(seconds=rounds * period + period - 0.01, snapshots=1))


# -- EASGD -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("servers", [1, 2])
def test_t4_easgd_is_the_linear_map_of_the_paper_in_the_order_of_the_servers(servers: int) -> None:
    easgd_is_a_linear_map(algorithm_class("easgd"), servers)


def oracle_easgd_is_a_linear_map(cls: type[Algorithm]) -> None:
    """T4, for several workers in the order in which they came."""
    easgd_is_a_linear_map(cls, servers=1)


def easgd_is_a_linear_map(cls: type[Algorithm], servers: int) -> None:
    alpha, eta = 0.3, 0.2
    workload = quadratic(CLIENTS, noise=0.0)
    start = list(torch.randn(CLIENTS + servers, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    simulation = simulate(
        cls(period=1, moving_rate=alpha, servers=servers),  # type: ignore[call-arg]
        workload,
        workers=CLIENTS,
        budget=Budget(seconds=12.5),
        lr=eta,
        compute=RANDOM,
        start=start,
    )
    h, shifts = workload.eigenvalues, workload.shifts  # type: ignore[attr-defined]
    for server in simulation.servers:
        part = server.span
        middle, x = start[server.rank][part], [v[part] for v in start]
        order = served(server)
        assert len(order) == sum(handle.state.step for handle in simulation.workers) > 20
        for i in order:
            drift = -eta * h[part] * (x[i] - shifts[i][part])
            x[i], middle = x[i] + drift - alpha * (x[i] - middle), middle + alpha * (x[i] - middle)
        close(server.replica().data, middle)
        for i in range(CLIENTS):
            close(simulation.handles[i].replica().data[part], x[i])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("eta", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("inside", [True, False])
def test_a1_round_robin_easgd_is_stable_in_the_papers_region(workers: int, eta: float, inside: bool) -> None:
    # h = 1. Off a band of 2 % around alpha = (4 - 2 eta) / (4 - eta).
    alpha = (4 - 2 * eta) / (4 - eta) * (0.97 if inside else 1.03)
    workload = quadratic(workers, dimension=4, noise=0.0, condition=1.0)

    def away(rounds: int) -> float:
        run = staggered(
            make("easgd", period=1, moving_rate=alpha), workload, workers=workers, lr=eta, period=1, rounds=rounds
        )
        assert served(run.server)[-2 * workers :] == 2 * list(range(workers))
        fixed = workload.shifts - workload.minimiser  # type: ignore[attr-defined]
        return float((replicas(run) - workload.minimiser - fixed).norm())  # type: ignore[attr-defined]

    early, late = away(100), away(240)
    assert (late < 10) if inside else (late > 3 * early)


@pytest.mark.parametrize("name", ["easgd", "eamsgd", "easgd-tree"])
def test_t5_without_gradients_all_settle_at_the_mean_of_the_initial_points(name: str) -> None:
    settings = {"degree": 2, "upper_period": 1} if name == "easgd-tree" else {}
    algorithm = make(name, period=1, moving_rate=0.3, **settings)
    ranks = 5 + algorithm.server_ranks(5)
    start = torch.randn(ranks, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    simulation = simulate(
        algorithm,
        quadratic(5),
        workers=5,
        budget=Budget(seconds=800 if name == "easgd-tree" else 400, snapshots=1),
        lr=1e-300,
        start=list(start),
        network=Network(latency_s=0.1, bandwidth_Gbit_per_s=1.0),
    )
    for handle in simulation.handles:
        close(handle.replica().data, start.mean(0))


# -- EASGD in lock-step ------------------------------------------------------------------------------------------------


def oracle_easgd_sync_is_equations_3_to_6(cls: type[Algorithm]) -> None:
    """The paper's Jacobi form with a master, on a network; T1 holds with the copies of the center."""
    workers, eta, alpha, period, steps = 4, 0.1, 0.15, 3, 14
    workload = digits(workers)
    simulation = simulate(
        cls(moving_rate=alpha, period=period),  # type: ignore[call-arg]
        workload,
        workers=workers,
        budget=Budget(steps=steps),
        lr=eta,
    )
    gradient = [gradients_of(workload, rank, workers) for rank in range(workers)]
    x, middle = workload.initial(0).repeat(workers, 1), workload.initial(0)
    pushed = torch.zeros_like(middle)
    total = x.sum(0) + middle
    for t in range(steps):
        g = torch.stack([gradient[i](x[i]) for i in range(workers)])
        pushed = pushed - eta * g.sum(0)
        away = x - middle
        x = x - eta * g
        if t % period == 0:
            x, middle = x - alpha * away, middle + alpha * away.sum(0)
    close(replicas(simulation), x)
    close(x.sum(0) + middle, total + pushed)
    for handle in simulation.workers:
        assert torch.equal(handle.evaluated(), simulation.workers[0].evaluated())
        close(handle.evaluated(), middle)


def oracle_negative_moving_rate_is_heavy_ball(cls: type[Algorithm]) -> None:
    """T6, A14: alpha = -delta, beta = 1, one worker."""
    workload, delta, steps = digits(), 0.7, 40
    simulation = simulate(
        cls(moving_rate=-delta, beta=1.0, period=1),  # type: ignore[call-arg]
        workload,
        workers=1,
        budget=Budget(steps=steps),
        lr=0.05,
    )
    heavy_ball = OptimizerSettings(name="momentum", lr=0.05, momentum=delta)
    close(replicas(simulation)[0], sequential(workload, 0, 1, heavy_ball, steps))
    close(simulation.workers[0].evaluated(), sequential(workload, 0, 1, heavy_ball, steps - 1))


@pytest.mark.parametrize("delta", [0.3, 0.8])
def test_t6_on_a_quadratic_nesterov_has_the_eigenvalues_of_easgd_with_one_worker(delta: float) -> None:
    # Both are two-term recursions; the same trace and determinant are the same eigenvalues.
    eta, workload = 0.2, quadratic(1, noise=0.0)
    algorithm = make("easgd-sync", period=1, moving_rate=-(delta**2) / (1 + delta), beta=1 / (1 + delta))
    simulation = prepared(algorithm, workload, workers=1, lr=(1 + delta) * eta)
    away = []
    for steps in range(1, 8):
        simulation.run(Budget(steps=steps, snapshots=1))
        away.append(simulation.workers[0].evaluated() - workload.minimiser)  # type: ignore[attr-defined]
    shrink = 1 - eta * workload.eigenvalues  # type: ignore[attr-defined]
    for old, now, new in zip(away, away[1:], away[2:], strict=False):
        torch.testing.assert_close(new, (1 + delta) * shrink * now - delta * shrink * old, rtol=0, atol=1e-12)


def lemma_7_1(t: int, p: int, eta: float, alpha: float) -> tuple[float, float]:
    """(mean of x~_t - x*, variance) for h = sigma = 1, all starting at distance 1."""
    a, cc = eta + (p + 1) * alpha, eta * p * alpha
    root = math.sqrt(a * a - 4 * cc)
    g, f = 1 - (a - root) / 2, 1 - (a + root) / 2
    u0 = p * (1 - alpha / (1 - p * alpha - f))
    mean = g**t + (g**t - f**t) / (g - f) * alpha * u0
    sums = (g**2 - g ** (2 * t)) / (1 - g**2) + (f**2 - f ** (2 * t)) / (1 - f**2)
    sums -= 2 * (g * f - (g * f) ** t) / (1 - g * f)
    return mean, p**2 * alpha**2 * eta**2 / (g - f) ** 2 * sums / p


def oracle_lemma_7_1(cls: type[Algorithm]) -> None:
    """T8, A3: mean and variance of the center under noise; every coordinate is an independent repetition."""
    p, eta, repetitions = 4, 0.1, 20_000
    workload = quadratic(p, dimension=repetitions, condition=1.0, noise=1.0, heterogeneity=0.0)
    signs = workload.initial(0) - workload.minimiser  # type: ignore[attr-defined]
    simulation = prepared(cls(period=1), workload, workers=p, lr=eta)  # type: ignore[call-arg]
    for t, spot in ((2, 0.002025), (7, 0.00670861), (200, 0.01045584)):
        simulation.run(Budget(steps=t, snapshots=1))
        mean, variance = lemma_7_1(t, p, eta, alpha=0.9 / p)
        assert variance == pytest.approx(spot, abs=5e-9)
        away = (simulation.workers[0].evaluated() - workload.minimiser) * signs  # type: ignore[attr-defined]
        assert abs(float(away.mean()) - mean) < 3 * math.sqrt(variance / repetitions)
        assert abs(float(away.var()) - variance) < 3 * variance * math.sqrt(2 / repetitions)


@pytest.mark.parametrize("alpha", [0.1, 0.225, 0.3])
def test_a5_the_time_average_of_the_center_is_optimal_for_any_moving_rate(alpha: float) -> None:
    # p t Var(mean of x~ over t steps) -> sigma^2 / h^2.
    p, steps, repetitions = 2, 800, 5000
    workload = quadratic(p, dimension=repetitions, condition=1.0, noise=1.0, heterogeneity=0.0)
    simulation = prepared(make("easgd-sync", period=1, moving_rate=alpha), workload, workers=p, lr=0.5)
    simulation.run(Budget(steps=50, snapshots=1))  # forget the start
    total = torch.zeros(repetitions, dtype=torch.float64)

    def add(step: int, t_s: float, loss: Tensor) -> None:
        if step > 50:
            total.add_(simulation.workers[0].evaluated())

    simulation.workers[0]._on_step = add
    simulation.run(Budget(steps=50 + steps, snapshots=1))
    away = total / steps - workload.minimiser  # type: ignore[attr-defined]
    assert p * steps * float(away.square().mean()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("workers", "alpha", "grows"), [(1, 0.66, False), (1, 0.68, True), (4, 0.33, False), (4, 0.34, True)]
)
def test_t9_synchronous_easgd_is_stable_up_to_its_edge(workers: int, alpha: float, grows: bool) -> None:
    # eta = h = 1: (2 - eta h) (2 - p alpha) > 2 alpha is alpha < 2 / (p + 2).
    workload = quadratic(workers, dimension=4, noise=0.0, heterogeneity=0.0, condition=1.0)
    algorithm = make("easgd-sync", period=1, moving_rate=alpha)
    simulation = simulate(algorithm, workload, workers=workers, budget=Budget(steps=400, snapshots=1), lr=1.0)
    away = simulation.workers[0].evaluated() - workload.minimiser  # type: ignore[attr-defined]
    assert bool(away.norm() > 1.0) is grows
    assert bool(algorithm.warnings(workers)) is grows


# -- EAMSGD ------------------------------------------------------------------------------------------------------------


def oracle_eamsgd_is_algorithm_2(cls: type[Algorithm]) -> None:
    """Algorithm 2 with one worker on a network; with alpha = 0 it is MSGD (T3)."""
    for alpha in (0.0, 0.4):
        eta, delta, period, steps = 0.05, 0.8, 3, 23
        workload = digits()
        simulation = simulate(
            cls(moving_rate=alpha, momentum=delta, period=period),  # type: ignore[call-arg]
            workload,
            workers=1,
            budget=Budget(seconds=steps - 0.5),
            lr=eta,
        )
        assert simulation.workers[0].state.step == steps
        gradient = gradients_of(workload, 0, 1)
        x = middle = workload.initial(0)
        v = torch.zeros_like(x)
        for t in range(steps):
            before = x
            if t % period == 0:
                d = alpha * (x - middle)
                x, middle = x - d, middle + d
            v = delta * v - eta * gradient(before + delta * v)
            x = x + v
        close(replicas(simulation)[0], x)
        close(center(simulation), middle)


def oracle_eamsgd_without_momentum_is_easgd(cls: type[Algorithm]) -> None:
    """T3, bit for bit."""
    ends = []
    for algorithm in (cls(momentum=0.0, period=2), make("easgd", period=2)):  # type: ignore[call-arg]
        simulation = simulate(algorithm, digits(3), workers=3, budget=Budget(seconds=9.5), compute=RANDOM)
        ends.append([*replicas(simulation), center(simulation)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*ends, strict=True))


# -- EASGD tree --------------------------------------------------------------------------------------------------------


def test_the_tree_spreads_children_evenly() -> None:
    from algorithms.easgd_tree import parents, widths

    assert widths(256, 16) == [256, 16, 1]
    assert widths(9, 4) == [9, 3, 1]
    assert widths(1, 2) == [1, 1]
    assert parents(4, 2) == [1, 1, 2, 2, -1, 0, 0]  # the root is server 0
    assert parents(4, 4) == [0, 0, 0, 0, -1]
    for size in range(1, 40):
        for degree in (2, 3, 5):
            above = parents(size, degree)
            assert len(above) == size + make("easgd-tree", degree=degree).server_ranks(size)
            assert max(above.count(node) for node in above if node >= 0) <= degree
            assert all(parent < k for k, parent in enumerate(above[size:]))  # towards the root


def oracle_tree_of_depth_one_is_easgd(cls: type[Algorithm]) -> None:
    """A15, bit for bit."""
    ends = []
    for algorithm in (cls(moving_rate=0.2, period=2), make("easgd", moving_rate=0.2, period=2)):  # type: ignore[call-arg]
        simulation = simulate(algorithm, digits(4), workers=4, budget=Budget(seconds=9.5), compute=RANDOM)
        ends.append([*replicas(simulation), center(simulation)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*ends, strict=True))


def oracle_tree_conserves_and_loses_nothing(cls: type[Algorithm]) -> None:
    """Section 5.1: the sum over all nodes is constant at eta = 0, in any order, and models are pulled together."""
    for workers, degree, shuffle in ((4, 2, 1), (5, 2, 2), (7, 3, 3)):
        algorithm = cls(degree=degree, period=1, upper_period=2, moving_rate=0.25)  # type: ignore[call-arg]
        start = torch.randn(
            workers + algorithm.server_ranks(workers), 12,
            generator=torch.Generator().manual_seed(shuffle), dtype=torch.float64,
        )  # fmt: skip
        ends = [
            torch.stack([handle.replica().data for handle in simulation.handles])
            for seconds in (6.5, 100.5)
            for simulation in [
                simulate(
                    algorithm,
                    quadratic(workers),
                    workers=workers,
                    budget=Budget(seconds=seconds, snapshots=1),
                    lr=1e-300,
                    start=list(start),
                    shuffle=shuffle,
                    network=Network(latency_s=0.4, bandwidth_Gbit_per_s=1.0),
                )
            ]
        ]
        for end in ends:
            close(end.sum(0), start.sum(0))
        assert float((ends[1] - start.mean(0)).norm()) < 0.05 * float((start - start.mean(0)).norm())


def test_a15_a_deeper_tree_cuts_the_bytes_at_the_root_by_the_degree() -> None:
    def root_nbytes(degree: int) -> int:
        algorithm = make("easgd-tree", degree=degree, period=1, upper_period=4)
        simulation = simulate(algorithm, quadratic(16), workers=16, budget=Budget(seconds=39.5, snapshots=1))
        assert {handle.state.step for handle in simulation.workers} == {40}
        rows = simulation.server.recorder.rows()
        return sum(row[4] for row in rows if row[0] in ("send", "recv"))

    assert root_nbytes(16) == 2 * 16 * 40 * 12 * 8
    assert root_nbytes(4) == root_nbytes(16) // 4


# -- DOWNPOUR ----------------------------------------------------------------------------------------------------------


class SpyUpdates(Optimizer):
    """Plain SGD that adds up the changes that it gave out."""

    def __init__(self, lr: float, x: Tensor) -> None:
        super().__init__(OptimizerSettings(name="sgd", lr=lr), x.numel(), x.dtype)
        self.total = torch.zeros_like(x)

    def update(self, gradient: Tensor, x: Tensor) -> Tensor:
        self.total -= self.settings.lr * gradient
        return super().update(gradient, x)


def oracle_downpour_conserves_updates(cls: type[Algorithm]) -> None:
    """T1: x~ + sum_i v_i = x_0 - eta sum of all gradients; T7: what is pending is the way since the pull."""
    for period, servers in ((1, 1), (3, 1), (4, 2)):
        workload = quadratic(CLIENTS)
        simulation = prepared(
            cls(period=period, servers=servers),  # type: ignore[call-arg]
            workload,
            workers=CLIENTS,
            lr=0.1,
            compute=RANDOM,
            network=Network(latency_s=0.3, bandwidth_Gbit_per_s=1.0),
            shuffle=period,
        )
        spies = [SpyUpdates(0.1, workload.initial(0)) for _ in range(CLIENTS)]
        for handle, spy in zip(simulation.workers, spies, strict=True):
            handle.state.optimizers.append(spy)
        simulation.run(Budget(seconds=30.5))
        pending = sum(handle.state.kept["pending"] for handle in simulation.workers)
        close(center(simulation) + pending, workload.initial(0) + sum(spy.total for spy in spies))


def oracle_downpour_with_one_worker_is_sgd(cls: type[Algorithm]) -> None:
    """T3, for any period, on a network."""
    for period, settings in ((1, OptimizerSettings(name="sgd", lr=0.1)), (4, OptimizerSettings(name="adamw", lr=0.01))):
        workload, steps = digits(), 18
        simulation = simulate(
            cls(period=period),  # type: ignore[call-arg]
            workload,
            workers=1,
            budget=Budget(seconds=steps - 0.5),
            optimizer=settings,
        )
        close(replicas(simulation)[0], sequential(workload, 0, 1, settings, steps))
        last_push = (steps - 1) // period * period  # steps that had been pushed
        close(center(simulation), sequential(workload, 0, 1, settings, last_push))


def downpour_history(simulation: Simulation, eta: float, period: int) -> list[Tensor]:
    """x~ before each push and after the last, for workers served in the recorded order, on a noiseless quadratic."""
    workload: Any = simulation.workers[0]._workload
    history, pending = [workload.initial(0)], [torch.zeros(12, dtype=torch.float64)] * CLIENTS
    for i in served(simulation.server):
        history.append(history[-1] + pending[i])
        x = history[-1]
        for _ in range(period):
            x = x - eta * workload.eigenvalues * (x - workload.shifts[i])
        pending[i] = x - history[-1]
    return history


def downpour_run(cls: type[Algorithm], eta: float, **settings: Any) -> Simulation:
    """Three unlike workers that come in random order."""
    workload = quadratic(CLIENTS, noise=0.0)
    return simulate(cls(**settings), workload, workers=CLIENTS, budget=Budget(seconds=40.5), lr=eta, compute=RANDOM)


def test_t7_a_downpour_worker_pushes_how_far_it_has_moved_since_it_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    """T7: v_i = x_i - x~_pulled at every push, so that DOWNPOUR is x~ += x_i - x~_pulled; x_i <- x~."""
    from algorithms import downpour

    workload = quadratic(3)
    pulled: dict[int, Tensor] = {}
    real, pushes = downpour.ask, 0

    async def watched(w: Any, shards: Any, tag: str, v: Tensor) -> Tensor:
        nonlocal pushes
        pushes += 1
        moved = w.replica().data - pulled.get(w.rank, workload.initial(0))
        torch.testing.assert_close(v, moved, rtol=0, atol=1e-12)
        pulled[w.rank] = await real(w, shards, tag, v)
        return pulled[w.rank]

    monkeypatch.setattr(downpour, "ask", watched)
    uneven = Compute(gradient_s=1.0, distribution="lognormal", sigma=0.5)
    momentum = OptimizerSettings(name="momentum", lr=0.02)
    simulate(
        algorithm_class("downpour")(period=3), workload, workers=3, budget=Budget(seconds=40), optimizer=momentum,
        compute=uneven,
    )  # fmt: skip
    assert pushes > 20


def oracle_downpour_is_replayed_from_the_order_of_pushes(cls: type[Algorithm]) -> None:
    """Section 2.3's pseudocode, push by push."""
    for period in (1, 3):
        simulation = downpour_run(cls, 0.1, period=period)
        history = downpour_history(simulation, 0.1, period)
        assert len(history) > 40
        close(center(simulation), history[-1])


@pytest.mark.parametrize(("period", "stable"), [(11, True), (12, False)])
def test_a7_downpour_is_stable_up_to_the_analytic_period(period: int, stable: bool) -> None:
    # 4 staggered workers, eta h = 0.05: tau* = 11.5. Each push is X_j = X_{j-1} - c X_{j-p}, c = 1 - (1 - eta h)^tau.
    eta, p, rounds = 0.05, 4, 120
    workload = quadratic(p, dimension=2, noise=0.0, heterogeneity=0.0, condition=1.0)
    simulation = staggered(make("downpour", period=period), workload, workers=p, lr=eta, period=period, rounds=rounds)
    first, pulls = workload.initial(0) - workload.minimiser, 1 - (1 - eta) ** period  # type: ignore[attr-defined]
    x = [first] * (p + 1)
    while len(x) - 1 < len(served(simulation.server)):
        x.append(x[-1] - pulls * x[-p])
    assert served(simulation.server)[-8:] == [0, 1, 2, 3] * 2
    close(center(simulation) - workload.minimiser, x[-1], 1e-10)  # type: ignore[attr-defined]
    size = torch.stack(x).norm(dim=1)
    assert (float(size[-100:].max()) < float(size[100:200].max())) is stable
    crit = 2 * math.sin(math.pi / (4 * p - 2))
    assert math.log(1 - crit) / math.log(1 - eta) == pytest.approx(11.5, abs=0.05)


@pytest.mark.parametrize(("name", "settings"), [("downpour", {"period": 3}), ("mdownpour", {}), ("adownpour", {})])
def test_staleness_of_staggered_pushes_is_the_number_of_other_workers(name: str, settings: dict[str, Any]) -> None:
    period = settings.get("period", 1)
    simulation = staggered(make(name, **settings), quadratic(4), workers=4, lr=0.001, period=period, rounds=10)
    stale = [row[10] for row in simulation.server.recorder.rows() if row[0] == "apply"]
    assert set(stale[8:]) == {3}
    assert all(row[0] != "apply" for handle in simulation.workers for row in handle.recorder.rows())


def oracle_mdownpour_with_one_worker_is_nesterov(cls: type[Algorithm]) -> None:
    """T3, on a network."""
    workload, eta, delta, steps = digits(), 0.02, 0.9, 25
    simulation = simulate(
        cls(momentum=delta),  # type: ignore[call-arg]
        workload,
        workers=1,
        budget=Budget(seconds=steps - 0.5),
        lr=eta,
    )
    gradient, x = gradients_of(workload, 0, 1), workload.initial(0)
    v = torch.zeros_like(x)
    for _ in range(steps):
        v = delta * v - eta * gradient(x + delta * v)
        x = x + v
    close(center(simulation), x)
    close(replicas(simulation)[0], x + delta * v)


def oracle_mdownpour_is_replayed_from_the_order_of_gradients(cls: type[Algorithm]) -> None:
    """Section 2.4's form with Y and v on the server, workers served in the recorded order; with its staleness."""
    eta, delta = 0.02, 0.8
    simulation = downpour_run(cls, eta, momentum=delta)
    workload: Any = simulation.workers[0]._workload
    x = [workload.initial(0)] * CLIENTS
    y, v, read = x[0], torch.zeros(12, dtype=torch.float64), [0] * CLIENTS
    stale = []
    for k, i in enumerate(served(simulation.server)):
        g = workload.eigenvalues * (x[i] - workload.shifts[i])
        v = delta * v - eta * g
        y = y + delta * v - eta * g
        x[i] = y
        stale.append(k - read[i])
        read[i] = k + 1
    close(center(simulation), y - delta * v)
    close(replicas(simulation), torch.stack(x))
    assert [row[10] for row in simulation.server.recorder.rows() if row[0] == "apply"] == stale
    assert len(set(stale)) > 3


def oracle_adownpour_is_the_mean_of_the_centers_history(cls: type[Algorithm]) -> None:
    """T11: z_t is the mean of x~_0 .. x~_{t-1}."""
    for period in (1, 2):
        simulation = downpour_run(cls, 0.1, period=period)
        history = torch.stack(downpour_history(simulation, 0.1, period))
        close(center(simulation), history[-1])
        close(simulation.server.evaluated(), history[:-1].mean(0), 1e-6)


def oracle_mvadownpour_is_the_moving_average_of_the_centers_history(cls: type[Algorithm]) -> None:
    """T11 with a constant weight."""
    simulation = downpour_run(cls, 0.1, average_rate=0.02)
    history = downpour_history(simulation, 0.1, period=1)
    z = history[0]
    for x in history[:-1]:
        z = 0.98 * z + 0.02 * x
    close(simulation.server.evaluated(), z)


# -- ADMM --------------------------------------------------------------------------------------------------------------


def admm_round(p: int, eta: float, rho: float) -> Tensor:
    """F = F3^p F2^p F1^p .. F3^1 F2^1 F1^1 of the paper on F(x) = x^2 / 2, for (lam_1, x_1, .. lam_p, x_p, x~)."""
    size, pull = 2 * p + 1, eta * rho
    total = torch.eye(size, dtype=torch.float64)
    for i in range(p):
        lam, x = 2 * i, 2 * i + 1
        f1, f2, f3 = (torch.eye(size, dtype=torch.float64) for _ in range(3))
        f1[lam, x], f1[lam, -1] = -1, 1
        f2[x] = 0
        f2[x, lam], f2[x, x], f2[x, -1] = pull / (1 + pull), (1 - eta) / (1 + pull), pull / (1 + pull)
        f3[-1] = 0
        f3[-1, :-1:2], f3[-1, 1::2] = -1 / p, 1 / p
        total = f3 @ f2 @ f1 @ total
    return total


def admm_state(simulation: Simulation) -> Tensor:
    """(lam_1, x_1, .. lam_p, x_p, x~) [2 p + 1, P] about the minimiser."""
    minimiser = simulation.workers[0]._workload.minimiser  # type: ignore[attr-defined]
    rows = [v for w in simulation.workers for v in (w.state.kept["dual"], w.replica().data - minimiser)]
    return torch.stack([*rows, center(simulation) - minimiser])


def oracle_admm_is_the_papers_matrix(cls: type[Algorithm]) -> None:
    """Section 4.1, round by round, from x_i = x~ = 1000 and lam = 0."""
    for p, eta, rho in ((1, 0.1, 2.5), (2, 0.001, 2.5), (3, 0.1, 2.5), (8, 0.05, 0.7)):
        workload = quadratic(p, dimension=2, noise=0.0, heterogeneity=0.0, condition=1.0)
        simulation = prepared(cls(rho=rho), workload, workers=p, lr=eta)  # type: ignore[call-arg]
        start = torch.tensor([1000.0, -300.0], dtype=torch.float64)
        for handle in simulation.handles:
            handle.replica().data.copy_(workload.minimiser + start)  # type: ignore[attr-defined]
        state = torch.zeros(2 * p + 1, 2, dtype=torch.float64)
        state[1::2], state[-1] = start, start
        for rounds in (1, 2, 25):
            simulation.run(Budget(steps=rounds, snapshots=1))
            expected = torch.linalg.matrix_power(admm_round(p, eta, rho), rounds) @ state
            close(admm_state(simulation), expected)


@pytest.mark.parametrize(("p", "radius", "within"), [(2, 0.99900, 5e-6), (3, 1.00097, 1e-5)])
def test_a2_round_robin_admm_grows_where_the_paper_says(p: int, radius: float, within: float) -> None:
    # A run that starts in the leading eigenvector grows by the spectral radius from the first round on. Its real and
    # imaginary parts are two coordinates of the model.
    eta, rho, rounds = 0.001, 2.5, 60
    values, vectors = torch.linalg.eig(admm_round(p, eta, rho))
    lead = int(values.abs().argmax())
    assert float(values.abs()[lead]) == pytest.approx(radius, abs=within)
    workload = quadratic(p, dimension=2, noise=0.0, heterogeneity=0.0, condition=1.0)
    state = 1000 * torch.stack([vectors[:, lead].real, vectors[:, lead].imag], 1)
    shifted = state + workload.minimiser  # type: ignore[attr-defined]
    saved = prepared(make("admm"), workload, workers=p, lr=eta).run(Budget(steps=1, snapshots=1)).save()
    for i in range(p):
        saved[i]["kept/dual"], saved[i]["replica/data"] = state[2 * i], shifted[2 * i + 1]
    saved[p]["kept/parts"] = shifted[1::2] - state[:-1:2]
    saved[p]["replica/data"] = shifted[-1]
    turn = [name for name in saved[0] if name.startswith("mail/")]
    assert len(turn) == 1  # the turn that worker 0 has not taken yet
    saved[0][turn[0]] = shifted[-1]
    simulation = prepared(make("admm"), workload, workers=p, lr=eta).restore(saved)
    simulation.run(Budget(steps=1 + rounds, snapshots=1))
    growth = float(admm_state(simulation).norm() / state.norm()) ** (1 / rounds)
    assert growth == pytest.approx(radius, abs=within)


# -- All ---------------------------------------------------------------------------------------------------------------

ORACLES: list[tuple[str, Oracle]] = [
    ("easgd", oracle_easgd_is_a_linear_map),
    ("easgd-sync", oracle_easgd_sync_is_equations_3_to_6),
    ("easgd-sync", oracle_negative_moving_rate_is_heavy_ball),
    ("easgd-sync", oracle_lemma_7_1),
    ("eamsgd", oracle_eamsgd_is_algorithm_2),
    ("eamsgd", oracle_eamsgd_without_momentum_is_easgd),
    ("easgd-tree", oracle_tree_of_depth_one_is_easgd),
    ("easgd-tree", oracle_tree_conserves_and_loses_nothing),
    ("downpour", oracle_downpour_conserves_updates),
    ("downpour", oracle_downpour_with_one_worker_is_sgd),
    ("downpour", oracle_downpour_is_replayed_from_the_order_of_pushes),
    ("mdownpour", oracle_mdownpour_with_one_worker_is_nesterov),
    ("mdownpour", oracle_mdownpour_is_replayed_from_the_order_of_gradients),
    ("adownpour", oracle_adownpour_is_the_mean_of_the_centers_history),
    ("adownpour", oracle_downpour_conserves_updates),
    ("mvadownpour", oracle_mvadownpour_is_the_moving_average_of_the_centers_history),
    ("admm", oracle_admm_is_the_papers_matrix),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(algorithm_class(name))


MUTATIONS: list[Mutation] = [
    Mutation(
        "easgd",
        "the worker moves to the new center",
        "    return d\n",
        "    return alpha * (message.data - center.data)\n",
        oracle_easgd_is_a_linear_map,
    ),
    Mutation(
        "easgd",
        "the gradient is taken after the elastic step",
        """            g = w.start(w.gradient(x))
            if (t - 1) % self.period == 0:
                x.add_(-(await ask(w, shards, ELASTIC, x.data)))  # the same vector moves worker and center
            x.apply_(await g, opt)""",
        """            if (t - 1) % self.period == 0:
                x.add_(-(await ask(w, shards, ELASTIC, x.data)))  # the same vector moves worker and center
            x.apply_(await w.gradient(x), opt)""",
        oracle_easgd_is_a_linear_map,
    ),
    Mutation(
        "easgd-sync",
        "the center meets the workers after their elastic step",
        """                mean = await w.allreduce_mean(away, label="elastic")
                x.add_(-alpha * away)
""",
        """                x.add_(-alpha * away)
                mean = await w.allreduce_mean(x.data - center, label="elastic")
""",
        oracle_easgd_sync_is_equations_3_to_6,
    ),
    Mutation(
        "easgd-sync",
        "the gradient is taken after the elastic step",
        "x.apply_(await g, opt)",
        "await g; x.apply_(await w.gradient(x), opt)",
        oracle_easgd_sync_is_equations_3_to_6,
    ),
    Mutation(
        "easgd-sync",
        "the center moves by the mean instead of the sum",
        "center.add_(mean, alpha=beta)",
        "center.add_(mean, alpha=alpha)",
        oracle_lemma_7_1,
    ),
    Mutation(
        "eamsgd",
        "the look-ahead starts from the point after the elastic step",
        """            g = w.start(w.gradient(x, at=opt.lookahead(x.data)))  # x + delta v_i, x before the exchange
            if (t - 1) % self.period == 0:
                x.add_(-(await ask(w, shards, ELASTIC, x.data)))
            x.apply_(await g, opt)""",
        """            if (t - 1) % self.period == 0:
                x.add_(-(await ask(w, shards, ELASTIC, x.data)))
            x.apply_(await w.gradient(x, at=opt.lookahead(x.data)), opt)""",
        oracle_eamsgd_is_algorithm_2,
    ),
    Mutation(
        "eamsgd",
        "heavy ball: no look-ahead",
        "at=opt.lookahead(x.data)",
        "at=x.data",
        oracle_eamsgd_is_algorithm_2,
    ),
    Mutation(
        "eamsgd",
        "the look-ahead goes backwards",
        "at=opt.lookahead(x.data)",
        "at=2 * x.data - opt.lookahead(x.data)",
        oracle_eamsgd_is_algorithm_2,
    ),
    Mutation(
        "easgd-tree",
        "a node does not go back the way its parent went",
        "center.add_(-(await s.request(SERVER - parent, ELASTIC, center.data)))",
        "await s.request(SERVER - parent, ELASTIC, center.data)",
        oracle_tree_conserves_and_loses_nothing,
    ),
    Mutation(
        "easgd-tree",
        "nodes never climb",
        "met >= self.upper_period",
        "met > 10**9",
        oracle_tree_conserves_and_loses_nothing,
    ),
    Mutation(
        "easgd-tree",
        "a leaf takes what it gets for the new model",
        "x.add_(-(await w.request(SERVER - parent, ELASTIC, x.data)))",
        "x.assign_(await w.request(SERVER - parent, ELASTIC, x.data))",
        oracle_tree_of_depth_one_is_easgd,
    ),
    Mutation(
        "downpour",
        "updates are pushed twice",
        "                pending.zero_()\n",
        "",
        oracle_downpour_conserves_updates,
    ),
    Mutation(
        "downpour",
        "the worker pulls the center as it was before its push",
        """            apply_push_(center, message, read, Added())
            return center.data""",
        """            before = center.data.clone()
            apply_push_(center, message, read, Added())
            return before""",
        oracle_downpour_with_one_worker_is_sgd,
    ),
    Mutation(
        "downpour",
        "the worker does not move between two pulls",
        "            x.move_(update)\n",
        "",
        oracle_downpour_is_replayed_from_the_order_of_pushes,
    ),
    Mutation(
        "mdownpour",
        "workers get the center instead of the look-ahead point",
        "return opt.lookahead(center.data)",
        "return center.data",
        oracle_mdownpour_with_one_worker_is_nesterov,
    ),
    Mutation(
        "mdownpour",
        "staleness is counted from the start",
        "    read[message.src] = center.version\n",
        "",
        oracle_mdownpour_is_replayed_from_the_order_of_gradients,
        module="algorithms.downpour",
    ),
    Mutation(
        "adownpour",
        "the average is that of the centers after the pushes",
        """            z.lerp_(center.data, self.weight(int(t)))
            apply_push_(center, message, read, Added())
""",
        """            apply_push_(center, message, read, Added())
            z.lerp_(center.data, self.weight(int(t)))
""",
        oracle_adownpour_is_the_mean_of_the_centers_history,
    ),
    Mutation(
        "adownpour",
        "the weight is late by one",
        "return 1 / t",
        "return 1 / (t + 1)",
        oracle_adownpour_is_the_mean_of_the_centers_history,
    ),
    Mutation(
        "mvadownpour",
        "old and new change places",
        "return self.average_rate",
        "return 1 - self.average_rate",
        oracle_mvadownpour_is_the_moving_average_of_the_centers_history,
    ),
    Mutation(
        "admm",
        "the dual step has the wrong sign",
        "dual.add_(center - x.data)",
        "dual.add_(x.data - center)",
        oracle_admm_is_the_papers_matrix,
    ),
    Mutation(
        "admm",
        "the dual step comes after the model's",
        """            dual.add_(center - x.data)
            x.apply_(await g, opt)
""",
        """            x.apply_(await g, opt)
            dual.add_(center - x.data)
""",
        oracle_admm_is_the_papers_matrix,
    ),
    Mutation(
        "admm",
        "the pull is not divided by 1 + eta rho",
        "weight=pull / (1 + pull)",
        "weight=pull",
        oracle_admm_is_the_papers_matrix,
    ),
    Mutation(
        "admm",
        "worker 0 starts every segment without its turn",
        "w.rank == 0 and t == 1",
        "w.rank == 0 and t <= 3",
        oracle_admm_is_the_papers_matrix,
    ),
]


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_bug_is_noticed(mutation: Mutation) -> None:
    notices(mutation)


@pytest.mark.parametrize("name", ["easgd", "eamsgd", "easgd-tree", "downpour", "adownpour", "easgd-sync"])
def test_t10_bytes_are_two_vectors_per_period_from_the_first_step_on(name: str) -> None:
    algorithm = make(name, period=4)
    simulation = simulate(algorithm, quadratic(4), workers=4, budget=Budget(seconds=29.5), compute=RANDOM, shuffle=2)
    vectors = 1 if name == "easgd-sync" else 2  # an all-reduce is counted by what is handed to it
    for handle in simulation.workers:
        rows = [row for row in handle.recorder.rows() if row[0] in ("send", "recv", "allreduce")]
        assert sum(row[4] for row in rows) == vectors * 12 * 8 * -(-handle.state.step // 4)


@pytest.mark.parametrize("name", ["easgd", "eamsgd", "easgd-tree", "downpour", "mdownpour", "mvadownpour"])
def test_t12_a_slow_worker_does_not_slow_the_others(name: str) -> None:
    def steps(factor: float) -> list[int]:
        simulation = simulate(
            make(name),
            quadratic(4),
            workers=4,
            budget=Budget(seconds=50.5),
            lr=1e-4,
            compute=Compute(gradient_s=1.0, slow={"3": factor}),
        )
        return [handle.state.step for handle in simulation.workers]

    assert steps(10.0)[:3] == steps(1.0)[:3]


@pytest.mark.parametrize("name", ["easgd-sync", "admm"])
def test_t12_a_slow_worker_slows_all_in_lock_step(name: str) -> None:
    compute = Compute(gradient_s=1.0, slow={"3": 10.0})
    simulation = simulate(make(name), quadratic(4), workers=4, budget=Budget(seconds=100.5), compute=compute)
    assert max(handle.state.step for handle in simulation.workers) <= 11


def test_a_restarted_tree_goes_on_counting() -> None:
    # With a latency, exchanges of nodes are under way at any time; none may be lost or begun twice at the end.
    algorithm = make("easgd-tree", degree=2, period=1, upper_period=3)
    network = Network(latency_s=0.7, bandwidth_Gbit_per_s=1e-3)
    simulation = prepared(algorithm, quadratic(7), workers=7, lr=0.1, compute=RANDOM, network=network)
    for seconds in range(3, 40, 2):
        simulation.run(Budget(seconds=seconds + 0.3, snapshots=1))
        assert abs(sum(handle.replica().drift or 0.0 for handle in simulation.handles)) < 1e-10
        climbs = sum(int(server.state.kept["climbs"]) for server in simulation.servers)
        traffic = Traffic(
            steps=[handle.state.step for handle in simulation.workers],
            layers=simulation.handles[0].layers,
            itemsize=8,
            counters={"climbs": climbs},
        )
        assert sum(handle.recorder.nbytes for handle in simulation.handles) == algorithm.payload_nbytes(traffic)
    assert climbs > 10


def test_warnings_name_the_limit() -> None:
    assert make("easgd").warnings(4) == []
    assert "eta h <= 0.364" in make("easgd").warnings(1)[0]  # alpha = 0.9
    assert "eta h <= 0.667" in make("easgd", moving_rate=0.8).warnings(4)[0]
    assert "without momentum" in make("eamsgd").warnings(1)[0]
    assert make("easgd-sync").warnings(4) == []
    assert "eta h < 0.364" in make("easgd-sync").warnings(1)[0]
    assert "unstable" in make("easgd-sync", moving_rate=0.5).warnings(4)[0]  # fine without a barrier, not with one
    assert make("easgd", moving_rate=0.5).warnings(4) == []
    assert make("downpour").warnings(4) == []
    assert make("downpour").warnings(1) == []
    assert "0.036" in make("downpour", period=16).warnings(4)[0]
    assert make("admm").warnings(2) == []
    assert "unstable" in make("admm").warnings(3)[0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("easgd", {"period": 0}, "period must be at least 1 step: got 0"),
        ("easgd", {"servers": 0}, "servers must be at least 1: got 0"),
        ("easgd", {"beta": 0.9, "moving_rate": 0.1}, "got both, 0.9 and 0.1"),
        ("easgd", {"moving_rate": -0.1}, "moving_rate .alpha. must lie in .0, 1.: got -0.1"),
        ("easgd", {"beta": math.nan}, "beta .* must not be negative: got nan"),
        ("eamsgd", {"momentum": 1.0}, "momentum .delta. must lie in .0, 1.: got 1.0"),
        ("eamsgd", {"period": -1}, "period must be at least 1 step: got -1"),
        ("easgd-sync", {"period": 0}, "period must be at least 1 step: got 0"),
        ("easgd-sync", {"moving_rate": -0.1}, "must lie in .0, 1.: got -0.1 .* needs a beta"),
        ("easgd-sync", {"moving_rate": -1.1, "beta": 1.0}, "must lie in .-1, 1.: got -1.1"),
        ("easgd-sync", {"beta": -1.0}, "beta .* must not be negative: got -1.0"),
        ("easgd-tree", {"degree": 1}, "degree must be at least 2: got 1"),
        ("easgd-tree", {"upper_period": 0}, "upper_period must be at least 1: got 0"),
        ("easgd-tree", {"moving_rate": 2.0}, "moving_rate .alpha. must lie in .0, 1.: got 2.0"),
        ("downpour", {"period": 0}, "period must be at least 1 step: got 0"),
        ("downpour", {"servers": 0}, "servers must be at least 1: got 0"),
        ("mdownpour", {"momentum": -0.1}, "momentum .delta. must lie in .0, 1.: got -0.1"),
        ("mdownpour", {"servers": 0}, "servers must be at least 1: got 0"),
        ("mvadownpour", {"average_rate": 0.0}, "average_rate .a. must lie in .0, 1.: got 0.0"),
        ("admm", {"rho": 0.0}, "rho must be > 0 and finite: got 0.0"),
        ("admm", {"rho": math.inf}, "rho must be > 0 and finite: got inf"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make(name, **settings)
    assert "\n" not in str(error.value)
