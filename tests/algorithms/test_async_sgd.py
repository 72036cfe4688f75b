"""Asynchronous SGD with a parameter server: async-sgd, sa-asgd, dc-asgd, gap-aware and closed-loop-async-sgd.

Ids such as B1 and C2 are those of docs/oracles.md; M = workers (or groups), D = a constant staleness,
a = learning rate, h = curvature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms.async_sgd import AsyncSGD
from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings, Schedule
from algorithms.replica import Gradient
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import Row, evaluated, make, quadratic, replicas, sequential, simulate

ROWS: list[Row] = [
    Row("async-sgd"),
    Row("async-sgd", {"momentum": -0.4, "servers": 3}),
    Row("async-sgd", {"momentum": 0.3, "group_size": 2}),
    Row("async-sgd", {"group_size": 3, "servers": 2}, workers=6),
    Row("async-sgd", {"group_size": 4}),
    Row("sa-asgd"),
    Row("sa-asgd", {"softsync": 2, "momentum": 0.3}, workers=5),
    Row("sa-asgd", {"servers": 2, "group_size": 2}, seconds=900.0),
    Row("dc-asgd"),
    Row("dc-asgd", {"variant": "constant", "compensation": 0.04, "servers": 2}),
    Row("dc-asgd", {"momentum": 0.3, "group_size": 2}),
    Row("gap-aware", seconds=900.0),
    Row("gap-aware", {"momentum": 0.3, "servers": 2}, seconds=900.0),
    Row("gap-aware", {"group_size": 2}, seconds=900.0),
    Row("closed-loop-async-sgd"),
    Row("closed-loop-async-sgd", {"target": 0.5, "group_size": 2, "gain": 0.05}),
]
MEMORYLESS = Compute(gradient_s=1.0, distribution="exponential")
IN_TURN = Compute(gradient_s=1.0)  # all equally fast: they write in turn, and the staleness is M - 1
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Trace:
    """What a server did: the center after each write, from the initial point on, and the staleness of each write."""

    path: Tensor  # [T + 1, P]
    staleness: list[int]  # T
    simulation: Simulation


def trace(
    algorithm: Algorithm,
    workload: Workload,
    workers: int,
    seconds: float,
    *,
    lr: float = 0.1,
    optimizer: OptimizerSettings | None = None,
    compute: Compute = MEMORYLESS,
    seed: int = 0,
) -> Trace:
    """Run with a free network and watch the (only) server."""
    simulation = Simulation(
        algorithm,
        workload,
        workers=workers,
        seed=seed,
        optimizer=optimizer or OptimizerSettings(name="sgd", lr=lr),
        compute=compute,
        network=Network(latency_s=0.0, bandwidth_Gbit_per_s=math.inf),
    )
    center = simulation.server.replica()
    path, staleness, observe = [center.data.clone()], [], center._observe
    assert observe is not None

    def watch(gradient: Gradient, version: int) -> None:
        path.append(center.data.clone())
        staleness.append(version - gradient.version)
        observe(gradient, version)

    center._observe = watch
    simulation.run(Budget(seconds=seconds, snapshots=1))
    return Trace(torch.stack(path), staleness, simulation)


Rule = Callable[[Tensor, Tensor, Tensor, int], Tensor | None]
"""What a server does with a gradient: (w, g, r, tau) -> the new w, or None for no write; all [P]."""


def reference(workload: Workload, workers: int, rule: Rule, seconds: float, compute: Compute = MEMORYLESS) -> Tensor:
    """The system of the paper as one serial loop (sheet 6.3): the center after each write up to then [T + 1, P]."""
    w, version = workload.initial(0), 0
    path, read, versions = [w], [w] * workers, [0] * workers
    batches = [workload.batches(0, k, workers) for k in range(workers)]
    times = [compute.times(0, k) for k in range(workers)]
    clocks = [time.next() for time in times]
    while min(clocks) <= seconds:  # after the budget's end, each worker only finishes its step
        k = int(np.argmin(clocks))
        g = torch.empty_like(w)
        workload.gradient(read[k].clone(), batches[k].next(), g)
        new = rule(w, g, read[k], version - versions[k])
        if new is not None:
            w, version = new, version + 1
            path.append(w)
        read[k], versions[k] = w, version
        clocks[k] += times[k].next()
    return torch.stack(path)


class Step:
    """Heavy ball as the papers write it, with weight decay: w - a (g + decay w) / divisor + mu (w - w_prev)."""

    def __init__(self, lr: float, momentum: float = 0.0, decay: float = 0.0) -> None:
        self.lr, self.momentum, self.decay, self.before = lr, momentum, decay, None

    def __call__(self, w: Tensor, g: Tensor, divisor: Any = 1.0) -> Tensor:
        before = w if self.before is None else self.before
        self.before = w
        return w - self.lr * (g + self.decay * w) / divisor + self.momentum * (w - before)


def digits(workers: int = 4) -> Workload:
    """A network in float64: on a quadratic with one Hessian many bugs cancel in the mean."""
    return DigitsMlp(dtype="float64").build(torch.device("cpu"), workers)


def agrees(algorithm: Algorithm, rule: Rule, *, lr: float = 0.1, decay: float = 0.0, workers: int = 4) -> None:
    """The simulated system's center is the serial loop's, write by write, on a network and memoryless workers."""
    workload, settings = digits(workers), OptimizerSettings(name="sgd", lr=lr, weight_decay=decay)
    ours = trace(algorithm, workload, workers, 48 / workers, optimizer=settings)
    same(ours, reference(workload, workers, rule, 48 / workers), at_least=30)


def same(ours: Trace, theirs: Tensor, at_least: int, tolerance: float = TOLERANCE) -> None:
    """The same center after each write."""
    assert at_least < len(theirs) <= len(ours.path)
    torch.testing.assert_close(ours.path[: len(theirs)], theirs, rtol=tolerance, atol=tolerance)


# -- every algorithm ---------------------------------------------------------------------------------------------------


def oracle_one_worker_is_momentum_sgd(cls: type[Algorithm]) -> None:
    """M = 1 is heavy ball (section 7: "M=1 == SGD (+momentum)"), with weight decay, clipping and a schedule."""
    for momentum in (0.0, 0.6, -0.4):
        common: dict[str, Any] = {
            "lr": 0.1, "weight_decay": 0.01, "clip_norm": 0.8, "schedule": Schedule(name="inverse-sqrt", warmup_steps=3)
        }  # fmt: skip
        run = simulate(
            cls(momentum=momentum), digits(1), workers=1, budget=Budget(seconds=29.5),
            optimizer=OptimizerSettings(name="sgd", **common),
        )  # fmt: skip
        expected = sequential(digits(1), 0, 1, OptimizerSettings(name="momentum", momentum=momentum, **common), 30)
        torch.testing.assert_close(evaluated(run), expected, rtol=TOLERANCE, atol=TOLERANCE)


def oracle_shards_do_not_matter(cls: type[Algorithm]) -> None:
    """With a free network all shards see the same writes: three servers are one, bit for bit."""

    def center(servers: int) -> Tensor:
        run = simulate(
            cls(servers=servers, momentum=0.3), quadratic(4), workers=4, budget=Budget(seconds=20), compute=MEMORYLESS
        )  # fmt: skip
        return evaluated(run)

    assert torch.equal(center(1), center(3))


def oracle_staleness_in_turn(cls: type[Algorithm]) -> None:
    """Equally fast workers: the first round has staleness 0, 1, .. M - 1, then all have M - 1 (constant service)."""
    for workers in (1, 4, 5):
        found = trace(cls(), quadratic(workers), workers, 5.5, compute=IN_TURN).staleness
        assert found == [*range(workers), *[workers - 1] * (5 * workers)]


def oracle_one_group_of_all_is_synchronous(cls: type[Algorithm]) -> None:
    """group_size = n: after T steps the center is what T steps of all-reduce SGD give, and so is every worker."""
    ours = simulate(cls(group_size=4), digits(), workers=4, budget=Budget(seconds=19.5))
    theirs = simulate(make("allreduce-sgd"), digits(), workers=4, budget=Budget(steps=20))
    assert ours.workers[0].state.step == 20
    for x in (evaluated(ours), *replicas(ours)):
        torch.testing.assert_close(x, replicas(theirs)[0], rtol=TOLERANCE, atol=TOLERANCE)


def oracle_groups_are_workers_with_larger_batches(cls: type[Algorithm]) -> None:
    """Two groups of two in turn: w_{t+1} = w_t - a (mean of the group's gradients at w_{t-1}) (6.2, compute groups)."""
    ours = trace(cls(group_size=2), quadratic(4), 4, 20.5, compute=IN_TURN)
    assert ours.staleness == [0] + [1] * 41

    def expected(order: Sequence[Sequence[int]]) -> Tensor:
        workload = quadratic(4)
        batches = [workload.batches(0, k, 4) for k in range(4)]
        path = [workload.initial(0)]
        for t in range(42):
            at, gradients = path[max(t - 1, 0)], []
            for k in order[t % 2]:
                gradients.append(torch.empty_like(at))
                workload.gradient(at.clone(), batches[k].next(), gradients[-1])
            path.append(path[-1] - 0.1 * torch.stack(gradients).mean(0))
        return torch.stack(path)

    # Which group is first is the simulator's choice.
    errors = [(ours.path - expected(order)).abs().max() for order in (((0, 1), (2, 3)), ((2, 3), (0, 1)))]
    assert min(errors) < TOLERANCE


# -- async-sgd ---------------------------------------------------------------------------------------------------------


def oracle_heavy_ball(cls: type[Algorithm]) -> None:
    """The paper's pseudocode (6.3), with momentum of both signs."""
    for momentum in (0.0, 0.5, -0.5):
        step = Step(0.1, momentum)
        agrees(cls(momentum=momentum), lambda w, g, r, tau, step=step: step(w, g))  # type: ignore[misc]


def oracle_constant_staleness(cls: type[Algorithm]) -> None:
    """Theorem 2 for one staleness is exact: w_{t+1} = w_t - a A (w_{t-D} - x*) + mu (w_t - w_{t-1}) (1e-12)."""
    for workers, momentum in ((1, 0.3), (4, 0.0), (8, -0.5)):
        workload = quadratic(workers, noise=0.0, heterogeneity=0.0)
        ours = trace(cls(momentum=momentum), workload, workers, 20.5, compute=IN_TURN)
        eigenvalues, x = workload.eigenvalues, [workload.initial(0) - workload.minimiser]  # type: ignore[attr-defined]
        for t in range(len(ours.staleness)):
            moved = x[t] - x[max(t - 1, 0)]
            x.append(x[t] - 0.1 * eigenvalues * x[max(t - workers + 1, 0)] + momentum * moved)
        expected = torch.stack(x) + workload.minimiser  # type: ignore[attr-defined]
        torch.testing.assert_close(ours.path, expected, rtol=TOLERANCE, atol=TOLERANCE)


def growth(algorithm: Algorithm, workers: int, edge: float, band: float) -> list[float]:
    """How the error grows between two late periods of the oscillation, at a h = (1 - band) edge and (1 + band) edge."""
    workload = quadratic(
        workers, dimension=2, noise=0.0, heterogeneity=0.0, condition=(1 + band) / (1 - band)
    )  # the two elements have the two a h
    period, rounds = 2 * (2 * workers - 1), 60
    run = trace(algorithm, workload, workers, rounds + 0.5, lr=edge * (1 + band), compute=IN_TURN)
    error = (run.path - workload.minimiser).abs()  # type: ignore[attr-defined]
    early, late = error[20 * workers :][:period].amax(0), error[-period:].amax(0)
    return (late / early).tolist()


def oracle_stability_edge(cls: type[Algorithm]) -> None:
    """B10, constant staleness D: stable iff a h < 2 sin(pi / (2 (2 D + 1))), +- 1 %."""
    for delay, known in ((0, 2.0), (1, 1.0), (3, 0.445), (7, 0.209)):
        edge = 2 * math.sin(math.pi / (2 * (2 * delay + 1)))
        assert abs(edge - known) < 1e-3
        assert abs(cls().largest_step(delay + 1) - edge) < TOLERANCE  # type: ignore[attr-defined]
        below, above = growth(cls(), delay + 1, edge, 0.01)
        assert below < 1 < above, delay


def staleness_is_geometric(cls: type[Algorithm], workers: int, seconds: float) -> None:
    """B1 with a run's own standard errors: memoryless workers make all writers independent and uniform."""
    found = np.array(trace(cls(), quadratic(workers, dimension=1), workers, seconds, lr=0.01).staleness)[5 * workers :]
    n, p = len(found), 1 / workers
    assert abs(found.mean() / (workers - 1) - 1) < 0.01  # the sum telescopes: only the ends fluctuate
    assert abs((found == 0).mean() - p) < 3 * math.sqrt(p * (1 - p) / n)
    variance = workers * (workers - 1)
    fourth = variance * (9 * variance + 1)  # central moment of the geometric law
    assert abs(found.var() - variance) < 3 * math.sqrt((fourth - variance**2) / n)
    # 6.4: the mean rates of SA-ASGD, (1 + ln M) / M, and of the quotient by tau + 1, ln M / (M - 1).
    for rate, mean in (
        (1 / np.maximum(found, 1), (1 + math.log(workers)) / workers),
        (1 / (found + 1), math.log(workers) / (workers - 1)),
    ):
        assert abs(rate.mean() - mean) < 3 * rate.std() / math.sqrt(n)
    last = 3 * workers
    expected = n * np.array([*(p * (1 - p) ** np.arange(last)), (1 - p) ** last])
    observed = np.bincount(np.minimum(found, last), minlength=last + 1)
    chi2 = float(((observed - expected) ** 2 / expected).sum())
    assert chi2 < last + 2.33 * math.sqrt(2 * last) + 2  # 1 % of the chi-square law with `last` degrees of freedom


def oracle_staleness_is_geometric(cls: type[Algorithm]) -> None:
    """B1: memoryless workers have P(tau) = (1/M) (1 - 1/M)^tau, mean M - 1 and variance M (M - 1)."""
    staleness_is_geometric(cls, 4, 1500)


def mean_path_is_heavy_ball(cls: type[Algorithm], runs: int, momentum: float, workers: int = 4) -> None:
    """B3, Theorems 3, 5 and 6: u_{t+1} = mu_S u_t + (1 - mu_S) grad f(w_{t+1}) from u_0 = grad f(w_0), all read w_0.

    The elements of one run share its staleness, so each run is one replica of each element.
    """
    steps, lr, implicit = 12, 0.4, 1 - 1 / workers
    workload = quadratic(workers, dimension=2, noise=0.0, heterogeneity=0.0, condition=2.0)
    h = workload.eigenvalues  # type: ignore[attr-defined]
    paths = []
    for seed in range(runs):
        start = workload.initial(seed) - workload.minimiser  # type: ignore[attr-defined]
        run = trace(cls(momentum=momentum), workload, workers, steps / workers + 6, lr=lr, seed=seed)
        if len(run.path) <= steps:  # one in 1e4 or less: 9 s bring 36 +- 6 writes
            continue
        paths.append((run.path[: steps + 1] - workload.minimiser) / start)  # type: ignore[attr-defined]
    found = torch.stack(paths)
    w = [torch.ones(2, dtype=torch.float64)] * 2
    u = h * w[0]
    expected = [w[0]]
    for _ in range(steps):
        w = [w[1], w[1] - lr * u + momentum * (w[1] - w[0])]
        u = implicit * u + (1 - implicit) * h * w[1]
        expected.append(w[1])
    error = (found.mean(0) - torch.stack(expected)).abs()
    band = 3 * found.std(0).amax(0) / math.sqrt(len(found))  # 3 spreads / sqrt(R) along the whole path
    assert len(found) > 0.98 * runs
    assert bool((error <= band).all()), (error / band).max()


def oracle_mean_path_is_heavy_ball(cls: type[Algorithm]) -> None:
    """B3 with few runs."""
    mean_path_is_heavy_ball(cls, 100, -0.5)


# -- staleness-aware ---------------------------------------------------------------------------------------------------


def oracle_rate_over_staleness(cls: type[Algorithm]) -> None:
    """a / tau for tau > 0, a for tau = 0, weight decay too."""
    step = Step(0.2, 0.3, decay=0.05)
    rule: Rule = lambda w, g, r, tau: step(w, g, tau if tau > 0 else 1)  # noqa: E731
    agrees(cls(momentum=0.3), rule, lr=0.2, decay=0.05)


def oracle_softsync_averages(cls: type[Algorithm]) -> None:
    """n-softsync: a write has the mean of c gradients, each over its own staleness."""
    for c in (2, 3):
        step, waiting = Step(0.2), []

        def rule(
            w: Tensor, g: Tensor, r: Tensor, tau: int, c: int = c, step: Any = step, waiting: Any = waiting
        ) -> Any:
            waiting.append(g / max(tau, 1))
            if len(waiting) < c:
                return None
            mean = torch.stack(waiting).mean(0)
            waiting.clear()
            return step(w, mean)

        workload = digits()
        same(trace(cls(softsync=c), workload, 4, 20, lr=0.2), reference(workload, 4, rule, 20), at_least=60 // c)


def oracle_staleness_aware_stability(cls: type[Algorithm]) -> None:
    """C1: the largest stable a_0 h at a constant staleness is 1.0, 1.335, 1.463, 1.519 at D = 1, 3, 7, 15, +- 2 %."""
    for delay, known in ((1, 1.0), (3, 1.335), (7, 1.463), (15, 1.519)):
        edge = delay * 2 * math.sin(math.pi / (2 * (2 * delay + 1)))
        assert abs(edge - known) < 1e-3
        assert abs(cls().largest_step(delay + 1) - edge) < TOLERANCE  # type: ignore[attr-defined]
        below, above = growth(cls(), delay + 1, known, 0.02)
        assert below < 1 < above, delay


# -- dc-asgd -----------------------------------------------------------------------------------------------------------


def oracle_delay_compensation(cls: type[Algorithm]) -> None:
    """Both variants, with the w that each worker itself had read."""
    step = Step(0.1, 0.3)
    agrees(
        cls(variant="constant", compensation=0.7, momentum=0.3), lambda w, g, r, tau: step(w, g + 0.7 * g * g * (w - r))
    )
    adaptive, mean_square = Step(0.1), torch.zeros(1, dtype=torch.float64)

    def rule(w: Tensor, g: Tensor, r: Tensor, tau: int) -> Tensor:
        nonlocal mean_square
        mean_square = 0.95 * mean_square + 0.05 * g**2
        return adaptive(w, g + 2.0 / torch.sqrt(mean_square + 1e-7) * g * g * (w - r))

    agrees(cls(), rule)


def oracle_exact_hessian_is_serial(cls: type[Algorithm]) -> None:
    """C2: with the exact diagonal Hessian in place of lambda g g, any delay gives serial SGD (1e-10)."""
    workload = quadratic(8, noise=0.0, heterogeneity=0.0)
    h = workload.eigenvalues  # type: ignore[attr-defined]

    @dataclass(frozen=True, kw_only=True)
    class Exact(cls):  # type: ignore[valid-type,misc]
        def curvature(self, g: Tensor, mean_square: Tensor) -> Tensor:
            return h

    run = trace(Exact(), workload, 8, 20, lr=0.9)
    powers = torch.arange(len(run.path), dtype=torch.float64)[:, None]
    expected = workload.minimiser + (1 - 0.9 * h) ** powers * (run.path[0] - workload.minimiser)  # type: ignore[attr-defined]
    assert max(run.staleness) > 7
    torch.testing.assert_close(run.path, expected, rtol=0, atol=1e-10)


def oracle_no_compensation_is_async_sgd(cls: type[Algorithm]) -> None:
    """lambda_0 = 0 is async-sgd, bit for bit."""
    for variant in ("adaptive", "constant"):
        ours = trace(cls(compensation=0.0, variant=variant, momentum=0.4), digits(), 4, 12)
        theirs = trace(AsyncSGD(momentum=0.4), digits(), 4, 12)
        assert torch.equal(ours.path, theirs.path)


def oracle_compensation_is_not_zero(cls: type[Algorithm]) -> None:
    """The known bug of two published codes: w_bak kept by reference, or pulled just before the push."""
    ours, theirs = trace(cls(), digits(), 4, 8), trace(AsyncSGD(), digits(), 4, 8)
    assert not torch.equal(ours.path[8:], theirs.path[8:])


# -- gap-aware ---------------------------------------------------------------------------------------------------------


def oracle_gap_penalty(cls: type[Algorithm]) -> None:
    """g / (1 + |w - r| / (a sqrt(mean of v v))) by element, v = the step over a; weight decay too; gap 0 changes
    nothing."""
    for decay, momentum in ((0.0, 0.0), (0.05, 0.4)):
        step, t, mean_square = Step(0.1, momentum, decay), 0, torch.zeros(1, dtype=torch.float64)

        def rule(w: Tensor, g: Tensor, r: Tensor, tau: int, step: Any = step) -> Tensor:
            nonlocal t, mean_square
            usual = 0.1 * torch.sqrt(mean_square / (1 - 0.999 ** max(t, 1))) + 1e-8
            penalty = torch.ones_like(g) if tau == 0 else 1 + (w - r).abs() / usual
            new: Tensor = step(w, g, penalty)
            t, mean_square = t + 1, 0.999 * mean_square + 0.001 * ((new - w) / 0.1) ** 2
            return new

        agrees(cls(momentum=momentum), rule, decay=decay)


# -- closed loop -------------------------------------------------------------------------------------------------------


def oracle_closed_loop_alone(cls: type[Algorithm]) -> None:
    """One worker has no implicit momentum, noise or not: mu goes from 0 to the target by kappa of what is left."""
    workload, mu = digits(1), 0.0
    batches, x = workload.batches(0, 0, 1), [workload.initial(0)] * 2
    for t in range(30):
        g = torch.empty_like(x[1])
        workload.gradient(x[1].clone(), batches.next(), g)
        mu += 0.1 * (0.8 - mu) if t > 0 else 0.0  # version 0 has no writer: nothing to measure yet
        x = [x[1], x[1] - 0.05 * g + mu * (x[1] - x[0])]
    run = simulate(cls(target=0.8, gain=0.1), digits(1), workers=1, budget=Budget(seconds=29.5), lr=0.05)
    assert float(run.server.state.kept["implicit-momentum"]) == 0.0
    assert abs(float(run.server.state.kept["momentum"]) - mu) < TOLERANCE
    torch.testing.assert_close(evaluated(run), x[1], rtol=TOLERANCE, atol=TOLERANCE)


def oracle_closed_loop_is_theorem_6(cls: type[Algorithm]) -> None:
    """The sensor and the loop of YellowFin's early code, from the whole history: median of
    (D_{v+1} - mu_v D_v + a g) / (D_v - mu_{v-1} D_{v-1} + a g), with exponential means above and below."""
    lr, mu, w_of, used, means = 0.1, 0.0, [digits().initial(0)], [0.0], [torch.zeros(1, dtype=torch.float64)] * 2

    def rule(w: Tensor, g: Tensor, r: Tensor, tau: int) -> Tensor:
        nonlocal mu, means
        t = len(w_of) - 1  # writes so far
        v = t - tau
        if v > 0:

            def change(s: int) -> Tensor:  # u_s
                if s == t + 1:
                    return -lr * g
                before = w_of[s - 1] - w_of[s - 2] if s > 1 else torch.zeros_like(g)
                return w_of[s] - w_of[s - 1] - used[s] * before

            means = [m + 0.02 * (change(v + 1 - i) + lr * g - m) for i, m in enumerate(means)]
        implicit = float((means[0] / means[1]).nanmedian().clamp(0, 1))
        if not math.isnan(implicit):
            mu = min(max(mu + 0.05 * (0.9 - mu - implicit), -0.99), 0.99)
        before = w_of[t] - w_of[t - 1] if t else torch.zeros_like(g)
        w_of.append(w - lr * g + mu * before)
        used.append(mu)
        return w_of[-1]

    workload = quadratic(4, dimension=40, noise=0.1)
    w_of[0] = workload.initial(0)
    # u by differences of w loses some digits
    same(trace(cls(gain=0.05), workload, 4, 15, lr=lr), reference(workload, 4, rule, 15), at_least=40, tolerance=1e-9)


def measured_momentum(cls: type[Algorithm], workers: int, seeds: int) -> tuple[float, float]:
    """(implicit, explicit) momentum on a quadratic: means over writes 500 to 1200 and over runs.

    Later the fast elements are down to rounding errors, which have no momentum.
    """
    workload = quadratic(workers, dimension=400, noise=0.0, heterogeneity=0.0, condition=50.0)
    found = []
    for seed in range(seeds):
        simulation = Simulation(
            cls(), workload, workers=workers, seed=seed, optimizer=OptimizerSettings(name="sgd", lr=0.05),
            compute=MEMORYLESS, network=Network(latency_s=0.0, bandwidth_Gbit_per_s=math.inf),
        )  # fmt: skip
        for t in np.linspace(500, 1200, 36) / workers:
            simulation.run(Budget(seconds=float(t), snapshots=1))
            kept = simulation.server.state.kept
            found.append((float(kept["implicit-momentum"]), float(kept["momentum"])))
    implicit, explicit = np.mean(found, axis=0)
    return implicit, explicit


def oracle_implicit_momentum_is_measured(cls: type[Algorithm]) -> None:
    """B9, noiseless: the sensor reads 1 - 1/M within 0.02 and the explicit momentum becomes the rest to the target."""
    for workers in (2, 8):
        implicit, explicit = measured_momentum(cls, workers, 1)
        assert abs(implicit - (1 - 1 / workers)) < 0.02, workers
        assert abs(implicit + explicit - 0.9) < 0.02, workers


ORACLES: list[tuple[str, Oracle]] = [
    *((name, oracle_one_worker_is_momentum_sgd) for name in ("async-sgd", "sa-asgd", "dc-asgd", "gap-aware")),
    *((name, oracle_shards_do_not_matter) for name in ("async-sgd", "sa-asgd", "dc-asgd", "gap-aware")),
    *(
        (name, oracle_staleness_in_turn)
        for name in ("async-sgd", "sa-asgd", "dc-asgd", "gap-aware", "closed-loop-async-sgd")
    ),
    *((name, oracle_one_group_of_all_is_synchronous) for name in ("async-sgd", "sa-asgd", "dc-asgd", "gap-aware")),
    ("async-sgd", oracle_groups_are_workers_with_larger_batches),
    ("sa-asgd", oracle_groups_are_workers_with_larger_batches),  # a staleness of 1 divides by 1
    ("async-sgd", oracle_heavy_ball),
    ("async-sgd", oracle_constant_staleness),
    ("async-sgd", oracle_stability_edge),
    ("async-sgd", oracle_staleness_is_geometric),
    ("async-sgd", oracle_mean_path_is_heavy_ball),
    ("sa-asgd", oracle_rate_over_staleness),
    ("sa-asgd", oracle_softsync_averages),
    ("sa-asgd", oracle_staleness_aware_stability),
    ("dc-asgd", oracle_delay_compensation),
    ("dc-asgd", oracle_exact_hessian_is_serial),
    ("dc-asgd", oracle_no_compensation_is_async_sgd),
    ("dc-asgd", oracle_compensation_is_not_zero),
    ("gap-aware", oracle_gap_penalty),
    ("closed-loop-async-sgd", oracle_closed_loop_alone),
    ("closed-loop-async-sgd", oracle_closed_loop_is_theorem_6),
    ("closed-loop-async-sgd", oracle_implicit_momentum_is_measured),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(type(make(name)))


def test_the_workload_of_the_groups_can_tell() -> None:
    """The pairs of workers differ, so that a group that forgot a member would be seen."""
    shifts = quadratic(4).shifts  # type: ignore[attr-defined]
    assert float((shifts[0] - shifts[1]).abs().max()) > 0.5


MUTATIONS: list[Mutation] = [
    Mutation(
        "async-sgd",
        "momentum with the wrong sign",
        "momentum=self.momentum)",
        "momentum=-self.momentum)",
        oracle_heavy_ball,
    ),
    Mutation(
        "async-sgd",
        "momentum forgotten",
        ", momentum=self.momentum)",
        ")",
        oracle_constant_staleness,
    ),
    Mutation(
        "async-sgd",
        "gradient applied twice",
        "            write_(center, message.data,",
        "            write_(center, 2 * message.data,",
        oracle_stability_edge,
    ),
    Mutation(
        "async-sgd",
        "what was read is not remembered",
        "            read[message.src] = center.version  # which",
        "            # which",
        oracle_staleness_in_turn,
    ),
    Mutation(
        "async-sgd",
        "the version before the write is taken for the one that was read",
        "write_(center, message.data, int(read[message.src]), opt)",
        "write_(center, message.data, center.version, opt)",
        oracle_staleness_in_turn,
    ),
    Mutation(
        "async-sgd",
        "workers stay at the initial point",
        "            x.assign_(await broadcast(w, members, center, CENTER))",
        "            await broadcast(w, members, center, CENTER)",
        oracle_constant_staleness,
    ),
    Mutation(
        "async-sgd",
        "the answer is the center before the write",
        "            write_(center, message.data, int(read[message.src]), opt)\n",
        "            old = center.data.clone()\n"
        "            write_(center, message.data, int(read[message.src]), opt)\n            return old\n",
        oracle_constant_staleness,
    ),
    Mutation(
        "async-sgd",
        "the group's mean is forgotten",
        "                g = await ring_mean(w, members, g, MEAN)",
        "                await ring_mean(w, members, g, MEAN)",
        oracle_groups_are_workers_with_larger_batches,
    ),
    Mutation(
        "async-sgd",
        "the answer reaches the group's first member only",
        "            x.assign_(await broadcast(w, members, center, CENTER))",
        "            x.assign_(center)",
        oracle_one_group_of_all_is_synchronous,
    ),
    Mutation(
        "async-sgd",
        "all shards get the first one's gradient",
        "ask(w, shards, PUSH, g)",
        "ask(w, [slice(0, shards[0].stop) for _ in shards], PUSH, g)",
        oracle_shards_do_not_matter,
    ),
    Mutation(
        "sa-asgd", "multiplied by the staleness", "max(tau, 1), opt", "1 / max(tau, 1), opt", oracle_rate_over_staleness
    ),
    Mutation("sa-asgd", "divided by tau + 1", "max(tau, 1), opt", "tau + 1, opt", oracle_staleness_aware_stability),
    Mutation(
        "sa-asgd",
        "weight decay is not divided",
        "divided(message.data, max(tau, 1), opt, center.data)",
        "message.data / max(tau, 1)",
        oracle_rate_over_staleness,
    ),
    Mutation("sa-asgd", "softsync adds up", "alpha=1 / self.softsync", "alpha=1.0", oracle_softsync_averages),
    Mutation("sa-asgd", "the sum is not emptied", "                mean.zero_()\n", "", oracle_softsync_averages),
    Mutation(
        "sa-asgd",
        "staleness since the sender's last but one reading",
        "waiting.zero_()\n            read[message.src] = center.version\n",
        "waiting.zero_()\n            read[message.src] = center.version - 1\n",
        oracle_staleness_in_turn,
    ),
    Mutation(
        "dc-asgd",
        "the compensation's sign",
        "* (center.data - r)",
        "* (r - center.data)",
        oracle_exact_hessian_is_serial,
    ),
    Mutation(
        "dc-asgd",
        "compensated from the center itself (kept by reference)",
        "r = message.data, backups[message.src // self.group_size]",
        "r = message.data, center.data",
        oracle_compensation_is_not_zero,
    ),
    Mutation(
        "dc-asgd",
        "one backup for all workers",
        "backups[message.src // self.group_size]",
        "backups[0]",
        oracle_exact_hessian_is_serial,
    ),
    Mutation(
        "dc-asgd",
        "the backup is never renewed",
        "return r.copy_(center.data)",
        "return center.data",
        oracle_exact_hessian_is_serial,
    ),
    Mutation(
        "dc-asgd",
        "g instead of g g",
        "return self.compensation * g * g\n",
        "return self.compensation * g\n",
        oracle_delay_compensation,
    ),
    Mutation(
        "dc-asgd",
        "mean and newest swapped",
        "g * g, 1 - self.memory)",
        "g * g, self.memory)",
        oracle_delay_compensation,
    ),
    Mutation(
        "dc-asgd",
        "lambda_0 = 0 still compensates",
        "self.compensation * g * g / ",
        "(self.compensation + 0.1) * g * g / ",
        oracle_no_compensation_is_async_sgd,
    ),
    Mutation(
        "gap-aware",
        "multiplied by the penalty",
        "1 + (before - r).abs() / step, opt",
        "1 / (1 + (before - r).abs() / step), opt",
        oracle_gap_penalty,
    ),
    Mutation(
        "gap-aware",
        "the gap from one backup for all",
        "backups[message.src // self.group_size]",
        "backups[0]",
        oracle_gap_penalty,
    ),
    Mutation(
        "gap-aware",
        "the 1 forgotten",
        "1 + (before - r).abs()",
        "(before - r).abs()",
        oracle_one_worker_is_momentum_sgd,
    ),
    Mutation(
        "gap-aware",
        "the step's size, not the velocity's",
        "(center.data - before) / lr",
        "(center.data - before)",
        oracle_gap_penalty,
    ),
    Mutation(
        "closed-loop-async-sgd",
        "positive feedback",
        "(self.target - mu - implicit)",
        "(self.target - mu + implicit)",
        oracle_implicit_momentum_is_measured,
    ),
    Mutation(
        "closed-loop-async-sgd",
        "the explicit momentum alone is driven to the target",
        "(self.target - mu - implicit)",
        "(self.target - mu)",
        oracle_implicit_momentum_is_measured,
    ),
    Mutation(
        "closed-loop-async-sgd",
        "the next write is not waited for",
        "self.following[int(self.last)] = u",
        "self.following[group] = u",
        oracle_implicit_momentum_is_measured,
    ),
    Mutation(
        "closed-loop-async-sgd",
        "the gradient forgotten in the sensor",
        "self.z.lerp_(self.own[group] - u,",
        "self.z.lerp_(self.own[group],",
        oracle_closed_loop_is_theorem_6,
    ),
    Mutation(
        "closed-loop-async-sgd",
        "momentum stepped twice",
        "x.add_(self.d.mul_(self.momentum)",
        "x.add_(self.d.mul_(self.momentum).mul_(self.momentum)",
        oracle_closed_loop_alone,
    ),
]


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_bug_is_noticed(mutation: Mutation) -> None:
    notices(mutation)


# -- the rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [4, 8])
def test_staleness_is_geometric_over_1e5_writes(workers: int) -> None:
    staleness_is_geometric(AsyncSGD, workers, 1e5 / workers)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.3, -0.5])
def test_the_mean_path_is_heavy_ball_over_many_runs(momentum: float) -> None:
    mean_path_is_heavy_ball(AsyncSGD, 2000, momentum)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4, 8, 16])
def test_the_implicit_momentum_is_measured_over_many_runs(workers: int) -> None:
    implicit, explicit = measured_momentum(type(make("closed-loop-async-sgd")), workers, 8)
    assert abs(implicit - (1 - 1 / workers)) < 0.02
    assert abs(implicit + explicit - 0.9) < 0.02


@pytest.mark.parametrize("name", ["async-sgd", "sa-asgd", "dc-asgd", "gap-aware", "closed-loop-async-sgd"])
def test_groups_of_unequal_speed_end_together(name: str) -> None:
    for seconds in (0.1, 0.5, 3.0, 7.7):
        run = simulate(
            make(name, group_size=2), quadratic(6), workers=6, budget=Budget(seconds=seconds), shuffle=3,
            compute=Compute(gradient_s=1.0, distribution="lognormal", sigma=0.5, slow={"0": 0.3, "5": 3.0}),
            network=Network(latency_s=0.2, bandwidth_Gbit_per_s=1e-5),
        )  # fmt: skip
        steps = [handle.state.step for handle in run.workers]
        assert steps[0::2] == steps[1::2]
        assert run.server.replica().version == sum(steps[0::2])


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("async-sgd", {"momentum": 1.0}, r"momentum must lie in \(-1, 1\): got 1.0"),
        ("async-sgd", {"momentum": math.nan}, "momentum must lie"),
        ("async-sgd", {"servers": 0}, "servers must be at least 1: got 0"),
        ("async-sgd", {"group_size": 0}, "group_size must be at least 1 worker: got 0"),
        ("sa-asgd", {"softsync": 0}, "softsync must be at least 1 gradient: got 0"),
        ("dc-asgd", {"variant": "none"}, "variant must be 'adaptive' or 'constant': got 'none'"),
        ("dc-asgd", {"compensation": -1.0}, "must not be negative: got -1.0"),
        ("dc-asgd", {"memory": 1.0}, r"memory \(m\) must lie in \[0, 1\): got 1.0"),
        ("gap-aware", {"decay": 1.0}, r"decay \(gamma\) must lie in \[0, 1\): got 1.0"),
        ("closed-loop-async-sgd", {"servers": 2}, "servers must be 1 to measure one momentum: got 2"),
        ("closed-loop-async-sgd", {"target": 1.0}, "must lie in"),
        ("closed-loop-async-sgd", {"gain": 0.0}, r"gain must lie in \(0, 1\]: got 0.0"),
        ("closed-loop-async-sgd", {"smoothing": 2.0}, r"smoothing must lie in \(0, 1\]: got 2.0"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(name: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        make(name, **settings)
    assert "\n" not in str(caught.value)


def test_settings_that_do_not_fit_the_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="group_size must divide the number of workers: got 4 for 6"):
        make("async-sgd", group_size=4).validate(6)
    with pytest.raises(
        ValueError, match="softsync must not exceed the number of groups: got 3 gradients from 2 groups"
    ):
        make("sa-asgd", softsync=3, group_size=2).validate(4)


def test_warnings_tell_of_too_much_momentum_and_of_the_stability_limit() -> None:
    assert make("async-sgd").warnings(4) == []
    assert "adds to the 0.75" in make("async-sgd", momentum=0.5).warnings(4)[0]
    assert make("async-sgd", momentum=0.9).warnings(1) == []
    assert "< 0.1:" in make("async-sgd").warnings(16)[0]
    assert make("async-sgd", group_size=8).warnings(16) == []
    assert make("sa-asgd").warnings(16) == []
