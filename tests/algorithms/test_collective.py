"""Oracles of the sequential baselines and of the algorithms that only use collectives.

The ids in the docstrings (T1, I8, ...) are those of docs/oracles.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings, Schedule
from bench.budget import Budget
from bench.cluster import Compute
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import Row, applied, evaluated, make, quadratic, replicas, simulate

# The mean of the models x_0 .. x_599 is still sum_k 1 / (lr h_k 600) away per coordinate: 0.06 in norm.
ROWS: list[Row] = [
    Row("sgd", {}, workers=1, lr=0.5),
    Row("msgd", {"momentum": 0.9}, workers=1),
    Row("msgd", {"momentum": 0.0}, workers=1, lr=0.5),
    Row("asgd", {}, workers=1, lr=0.5, bound=0.1),
    Row("mvasgd", {"weight": 0.05}, workers=1, lr=0.5, seconds=600),
    Row("mvasgd", {"weight": 1.0}, workers=1, lr=0.5),
    Row("allreduce-sgd", {}, lr=0.5),
    Row("allreduce-sgd", {}, workers=5, lr=0.5),
    Row("noisy-allreduce-sgd", {}, lr=0.5, bound=0.02),  # the noise's own floor: 0.006
    Row("noisy-allreduce-sgd", {"sigma": 0.0}, workers=3, lr=0.5),
    Row("local-sgd", {"period": 1}, lr=0.5),
    Row("local-sgd", {"period": 5}, workers=3, lr=0.5),
    Row("post-local-sgd", {"start": 0, "period": 4}, lr=0.5),
    Row("post-local-sgd", {"start": 3, "period": 4}, workers=5, lr=0.5),
    Row("slowmo", {"period": 8}, lr=0.5, seconds=700),
    Row("slowmo", {"period": 1, "slow_momentum": 0.7, "slow_lr": 0.5}, workers=3, lr=0.5),
]

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
STEPS = 14
MOMENTUM = OptimizerSettings(name="momentum", lr=0.05, weight_decay=0.01)
DECAY = Schedule(name="step", milestones=(4, 9), factor=0.5, warmup_steps=3)
SCHEDULED = OptimizerSettings(name="momentum", lr=0.05, schedule=DECAY)
Gradients = Callable[[Sequence[Tensor]], list[Tensor]]


def digits() -> Workload:
    """A network in float64: on a quadratic with one Hessian the mean model forgets where gradients were taken."""
    return DigitsMlp(dtype="float64", width=16).build(torch.device("cpu"), 4)


def gradients(workload: Workload, workers: int) -> Gradients:
    """The workers' gradients at the points given, each call on their next mini-batches."""
    batches = [workload.batches(0, rank, workers) for rank in range(workers)]

    def at(points: Sequence[Tensor]) -> list[Tensor]:
        outs = [torch.empty_like(x) for x in points]
        for x, stream, out in zip(points, batches, outs, strict=True):
            workload.gradient(x.clone(), stream.next(), out)
        return outs

    return at


def mean(vectors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(vectors)).mean(0)


def run(
    algorithm: Algorithm,
    workload: Workload,
    workers: int,
    settings: OptimizerSettings,
    steps: int = STEPS,
    **more: Any,
) -> Simulation:
    return simulate(algorithm, workload, workers=workers, budget=Budget(steps=steps), optimizer=settings, **more)


def sgd(lr: float = 0.1) -> OptimizerSettings:
    return OptimizerSettings(name="sgd", lr=lr)


class HeavyBall:
    """m <- mu m + g + decay x; x <- x - lr m, written out so that the optimiser is not its own oracle."""

    def __init__(self, settings: OptimizerSettings, x: Tensor) -> None:
        self.settings, self.m, self.t = settings, torch.zeros_like(x), 0

    def lr(self) -> float:
        return self.settings.lr * self.settings.schedule.multiplier(self.t + 1)

    def __call__(self, x: Tensor, g: Tensor) -> Tensor:
        lr, self.t = self.lr(), self.t + 1
        self.m = self.settings.resolved_momentum * self.m + g + self.settings.weight_decay * x
        return x - lr * self.m


# -- one worker --------------------------------------------------------------------------------------------------------


def plain_path(workload: Workload, steps: int, lr: float) -> list[Tensor]:
    """x_0 .. x_steps of SGD."""
    at, path = gradients(workload, 1), [workload.initial(0)]
    for _ in range(steps):
        path.append(path[-1] - lr * at([path[-1]])[0])
    return path


def oracle_sgd_is_the_textbook(cls: type[Algorithm]) -> None:
    """I14: x <- x - lr g."""
    simulation = run(cls(), digits(), 1, sgd())
    torch.testing.assert_close(evaluated(simulation), plain_path(digits(), STEPS, 0.1)[-1], **EXACT)


def oracle_msgd_is_the_papers_nesterov(cls: type[Algorithm]) -> None:
    """Section 2.5: v' = delta v - eta g(x + delta v); x' = x + v'. With delta = 0: SGD, bit for bit (T3)."""
    workload, lr, delta = digits(), 0.05, 0.9
    at, x = gradients(workload, 1), workload.initial(0)
    v = torch.zeros_like(x)
    for _ in range(STEPS):
        v = delta * v - lr * at([x + delta * v])[0]
        x = x + v
    simulation = run(cls(momentum=delta), workload, 1, sgd(lr))  # type: ignore[call-arg]
    torch.testing.assert_close(evaluated(simulation), x, **EXACT)
    still = run(cls(momentum=0.0), workload, 1, sgd(lr))  # type: ignore[call-arg]
    assert torch.equal(evaluated(still), evaluated(run(make("sgd"), workload, 1, sgd(lr))))


def oracle_asgd_is_the_mean_of_all_models(cls: type[Algorithm]) -> None:
    """T11: z_T is the arithmetic mean of x_0 .. x_{T-1}, and the models are those of SGD."""
    path = plain_path(digits(), STEPS, 0.1)
    for steps in (1, 2, STEPS):
        simulation = run(cls(), digits(), 1, sgd(), steps)
        torch.testing.assert_close(evaluated(simulation), mean(path[:steps]), **EXACT)
        torch.testing.assert_close(replicas(simulation)[0], path[steps], **EXACT)


def oracle_mvasgd_is_the_geometric_mean_of_all_models(cls: type[Algorithm]) -> None:
    """T11 with constant a: z_T = (1-a)^T x_0 + sum_k a (1-a)^(T-1-k) x_k; a = 1 is the last model but one."""
    path = plain_path(digits(), STEPS, 0.1)
    for a in (0.2, 1.0):
        weights = [a * (1 - a) ** (STEPS - 1 - k) for k in range(STEPS)]
        weights[0] += (1 - a) ** STEPS
        expected = torch.stack([c * x for c, x in zip(weights, path, strict=False)]).sum(0)
        simulation = run(cls(weight=a), digits(), 1, sgd())  # type: ignore[call-arg]
        torch.testing.assert_close(evaluated(simulation), expected, **EXACT)


# -- all-reduce --------------------------------------------------------------------------------------------------------


def oracle_allreduce_is_one_worker_with_the_whole_batch(cls: type[Algorithm]) -> None:
    """5.2 T: all ranks bit-identical; equal to a single worker on the union of the mini-batches, 1e-12 relative."""
    for workers in (2, 5):
        workload = digits()
        x = workload.initial(0)
        streams = [workload.batches(0, rank, workers) for rank in range(workers)]
        for _ in range(STEPS):
            g = torch.empty_like(x)
            parts = zip(*(stream.next() for stream in streams), strict=True)
            workload.gradient(x.clone(), tuple(torch.cat(part) for part in parts), g)
            x = x - 0.1 * g
        simulation = run(cls(), workload, workers, sgd())
        assert all(torch.equal(row, replicas(simulation)[0]) for row in replicas(simulation))
        assert float((replicas(simulation)[0] - x).norm() / x.norm()) < 1e-12


def adam_direction(g: Tensor, m: Tensor, v: Tensor, t: int, eps: float) -> Tensor:
    """Kingma, Ba 2015: moments in place, then m_hat / (sqrt(v_hat) + eps)."""
    m.copy_(0.9 * m + 0.1 * g)
    v.copy_(0.999 * v + 0.001 * g**2)
    return (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + eps)


def oracle_allreduce_with_lamb_is_layerwise_lamb_on_the_mean_gradient(cls: type[Algorithm]) -> None:
    """2.9: per tensor x -= lr (phi(|x|) / |r|) r, r = m_hat / (sqrt(v_hat) + eps) + lambda x; phi clips at 10."""
    lr, decay, workers = 0.02, 0.01, 3
    workload = digits()
    at, x = gradients(workload, workers), workload.initial(0)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, STEPS + 1):
        r = adam_direction(mean(at([x] * workers)), m, v, t, 1e-6) + decay * x
        new = x.clone()
        for lo, hi in workload.spans:
            size, length = float(x[lo:hi].norm()), float(r[lo:hi].norm())
            ratio = min(size, 10.0) / length if size and length else 1.0  # biases begin at zero
            new[lo:hi] -= lr * ratio * r[lo:hi]
        x = new
    simulation = run(cls(), workload, workers, OptimizerSettings(name="lamb", lr=lr, weight_decay=decay))
    torch.testing.assert_close(replicas(simulation), x.repeat(workers, 1), **EXACT)


def oracle_allreduce_with_lars_is_layerwise_lars_on_the_mean_gradient(cls: type[Algorithm]) -> None:
    """2.9: per tensor the local rate eta |x| / (|g| + wd |x|), momentum 0.9."""
    lr, decay, trust, workers = 2.0, 0.01, 1e-3, 3
    workload = digits()
    at, x = gradients(workload, workers), workload.initial(0)
    m = torch.zeros_like(x)
    for _ in range(STEPS):
        g = mean(at([x] * workers))
        new = x.clone()
        for lo, hi in workload.spans:
            w, d = x[lo:hi], g[lo:hi]
            rate = trust * w.norm() / (d.norm() + decay * w.norm()) if w.norm() > 0 and d.norm() > 0 else 1.0
            m[lo:hi] = 0.9 * m[lo:hi] + lr * rate * (d + decay * w)
            new[lo:hi] -= m[lo:hi]
        x = new
    simulation = run(cls(), workload, workers, OptimizerSettings(name="lars", lr=lr, weight_decay=decay))
    torch.testing.assert_close(replicas(simulation), x.repeat(workers, 1), **EXACT)


def oracle_allreduce_with_adamw_is_adamw_on_the_mean_gradient(cls: type[Algorithm]) -> None:
    """2.9: x -= lr (m_hat / (sqrt(v_hat) + 1e-8) + lambda x)."""
    lr, decay, workers = 0.01, 0.1, 3
    workload = digits()
    at, x = gradients(workload, workers), workload.initial(0)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, STEPS + 1):
        x = x - lr * (adam_direction(mean(at([x] * workers)), m, v, t, 1e-8) + decay * x)
    simulation = run(cls(), workload, workers, OptimizerSettings(name="adamw", lr=lr, weight_decay=decay))
    torch.testing.assert_close(replicas(simulation), x.repeat(workers, 1), **EXACT)


# -- all-reduce with displaced gradients -------------------------------------------------------------------------------


class Watched:
    """A workload that notes where, by whom and on what each gradient is taken."""

    together = 1  # it watches `gradient`

    def __init__(self, workload: Workload) -> None:
        self.of = workload
        self.points: dict[int, list[Tensor]] = {}
        self.taken: dict[int, list[Tensor]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def batches(self, seed: int, rank: int, size: int) -> Any:
        stream = self.of.batches(seed, rank, size)

        class Marked:
            def next(self) -> tuple[Any, ...]:
                return rank, *stream.next()

        return Marked()

    def gradient(self, x: Tensor, batch: tuple[Any, ...], out: Tensor, on_ready: Any = None) -> Tensor:
        # Noted beside `out`: that buffer is reduced in place while the backward pass runs.
        alone = torch.empty_like(out)
        self.of.gradient(x, batch[1:], alone)
        self.points.setdefault(batch[0], []).append(x.clone())
        self.taken.setdefault(batch[0], []).append(alone)
        return self.of.gradient(x, batch[1:], out, on_ready)


def oracle_noise_has_the_stated_variance_and_is_everyones_own(cls: type[Algorithm]) -> None:
    """2.9: the gradient is taken at x + N(0, sigma^2 I). With rate 0 x stays where it is, to the bit."""
    workers, steps, sigma = 4, 50, 0.3
    workload = Watched(quadratic(workers, dimension=400))
    simulation = run(cls(sigma=sigma), workload, workers, sgd(0.0), steps)  # type: ignore[call-arg]
    x = workload.initial(0)
    assert all(torch.equal(row, x) for row in replicas(simulation))
    noise = torch.stack([torch.stack(workload.points[rank]) - x for rank in range(workers)])  # [workers, steps, P]
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 * sigma / count**0.5
    assert abs(float(noise.square().mean()) / sigma**2 - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((noise**4).mean()) / sigma**4 - 3) < 5 * (96 / count) ** 0.5  # Gaussian, not uniform
    draws = noise.reshape(workers * steps, -1)  # each worker's noise of each step is a draw of its own
    covariance = draws @ draws.T / draws.shape[1] / sigma**2
    covariance.fill_diagonal_(0.0)
    assert float(covariance.abs().max()) < 6 / draws.shape[1] ** 0.5


def oracle_only_the_mean_gradient_at_the_displaced_points_moves_x(cls: type[Algorithm]) -> None:
    """2.9: x <- x - lr mean_i g_i(x + d_i), identical on all ranks; the noise never enters x."""
    workers, sigma, lr = 3, 0.05, 0.1
    workload = Watched(digits())
    simulation = run(cls(sigma=sigma), workload, workers, sgd(lr))  # type: ignore[call-arg]
    x = workload.initial(0)
    for t in range(STEPS):
        for rank in range(workers):
            d = workload.points[rank][t] - x
            assert abs(float(d.square().mean().sqrt()) / sigma - 1) < 6 / (2 * d.numel()) ** 0.5
        x = x - lr * mean([workload.taken[rank][t] for rank in range(workers)])
    assert all(torch.equal(row, replicas(simulation)[0]) for row in replicas(simulation))
    torch.testing.assert_close(replicas(simulation)[0], x, **EXACT)


def oracle_without_noise_it_is_allreduce_sgd(cls: type[Algorithm]) -> None:
    """sigma = 0 is all-reduce SGD, bit for bit."""
    plain = run(make("allreduce-sgd"), digits(), 4, MOMENTUM)
    assert torch.equal(replicas(run(cls(sigma=0.0), digits(), 4, MOMENTUM)), replicas(plain))  # type: ignore[call-arg]


# -- local SGD ---------------------------------------------------------------------------------------------------------


def by_hand(workload: Workload, workers: int, settings: OptimizerSettings, start: int, period: int) -> Tensor:
    """Post-local SGD written out, with one heavy ball per worker [n, P]."""
    at, x = gradients(workload, workers), [workload.initial(0)] * workers
    balls = [HeavyBall(settings, x[0]) for _ in range(workers)]
    for t in range(1, STEPS + 1):
        g = at(x)
        if t <= start:
            g = [mean(g)] * workers
        x = [ball(row, d) for ball, row, d in zip(balls, x, g, strict=True)]
        if t > start and (t - start) % period == 0:
            x = [mean(x)] * workers
    return torch.stack(x)


def oracle_local_sgd_averages_models_and_leaves_momentum_alone(cls: type[Algorithm]) -> None:
    """5.20, with a period that does not divide the number of steps, and momentum that stays local."""
    simulation = run(cls(period=4), digits(), 3, MOMENTUM)  # type: ignore[call-arg]
    torch.testing.assert_close(replicas(simulation), by_hand(digits(), 3, MOMENTUM, 0, 4), **EXACT)


def oracle_post_local_sgd_changes_over_after_start(cls: type[Algorithm]) -> None:
    """5.20: all-reduced gradients until t_0, then local SGD with the period counted from t_0."""
    simulation = run(cls(start=5, period=4), digits(), 3, MOMENTUM)  # type: ignore[call-arg]
    torch.testing.assert_close(replicas(simulation), by_hand(digits(), 3, MOMENTUM, 5, 4), **EXACT)


def oracle_post_local_sgd_has_its_two_ends(cls: type[Algorithm]) -> None:
    """t_0 beyond the end is all-reduce SGD, t_0 = 0 is local SGD: bit for bit. I9: H = 1 is SSGD whatever t_0."""
    reduced = replicas(run(make("allreduce-sgd"), digits(), 4, MOMENTUM))
    for start in (STEPS, STEPS + 1):
        late = run(cls(start=start, period=3), digits(), 4, MOMENTUM)  # type: ignore[call-arg]
        assert torch.equal(replicas(late), reduced)
    early = run(cls(start=0, period=3), digits(), 4, MOMENTUM)  # type: ignore[call-arg]
    assert torch.equal(replicas(early), replicas(run(make("local-sgd", period=3), digits(), 4, MOMENTUM)))
    assert not torch.allclose(replicas(early), reduced)
    every = run(cls(start=6, period=1), digits(), 4, sgd())  # type: ignore[call-arg]
    expected = replicas(run(make("allreduce-sgd"), digits(), 4, sgd()))
    torch.testing.assert_close(replicas(every), expected, rtol=1e-10, atol=1e-10)


# -- slow momentum -----------------------------------------------------------------------------------------------------


def oracle_slowmo_without_momentum_is_local_sgd(cls: type[Algorithm]) -> None:
    """5.19 T1: beta = 0, a = 1."""
    slow = run(cls(period=4, slow_momentum=0.0, slow_lr=1.0), digits(), 3, SCHEDULED)  # type: ignore[call-arg]
    local = run(make("local-sgd", period=4), digits(), 3, SCHEDULED)
    torch.testing.assert_close(replicas(slow), replicas(local), **EXACT)


def oracle_slowmo_of_every_step_is_heavy_ball(cls: type[Algorithm]) -> None:
    """5.19 T2: tau = 1 and plain SGD is heavy ball with momentum beta and rate a lr on the mean gradient."""
    for slow_lr in (1.0, 0.5):
        algorithm = cls(period=1, slow_momentum=0.6, slow_lr=slow_lr)  # type: ignore[call-arg]
        slow = run(algorithm, digits(), 4, sgd(0.1))
        ball = OptimizerSettings(name="momentum", momentum=0.6, lr=0.1 * slow_lr)
        torch.testing.assert_close(replicas(slow), replicas(run(make("allreduce-sgd"), digits(), 4, ball)), **EXACT)


def oracle_slowmo_is_the_papers_recursion(cls: type[Algorithm]) -> None:
    """5.19 written out, with a base that has momentum, a rate that changes within rounds, and an unfinished round."""
    workload, workers, tau, beta, a = digits(), 3, 4, 0.5, 0.7
    for settings in (MOMENTUM, SCHEDULED):
        at, x = gradients(workload, workers), [workload.initial(0)] * workers
        anchor, u, rates = x[0], torch.zeros_like(x[0]), []
        balls = [HeavyBall(settings, x[0]) for _ in range(workers)]
        for t in range(1, STEPS + 1):
            rates.append(balls[0].lr())
            x = [ball(row, g) for ball, row, g in zip(balls, x, at(x), strict=True)]
            if t % tau == 0:
                lr = float(np.mean(rates[-tau:]))
                u = beta * u + (anchor - mean(x)) / lr
                anchor = anchor - a * lr * u
                x = [anchor] * workers
        algorithm = cls(period=tau, slow_momentum=beta, slow_lr=a)  # type: ignore[call-arg]
        torch.testing.assert_close(replicas(run(algorithm, workload, workers, settings)), torch.stack(x), **EXACT)


def oracle_slowmo_diverges_beyond_the_limit_it_warns_of(cls: type[Algorithm]) -> None:
    """With lr h = 1 a round ends at the minimiser, so the rounds are heavy ball with rate a: stable iff
    a < 2 (1 + beta)."""
    workload = quadratic(2, noise=0.0, heterogeneity=0.0, condition=1.0)
    for slow_lr, grows in ((2.9, False), (3.1, True)):
        algorithm = cls(period=2, slow_momentum=0.5, slow_lr=slow_lr)  # type: ignore[call-arg]
        assert bool(algorithm.warnings(2)) is grows
        x = evaluated(run(algorithm, workload, 2, sgd(1.0), 600))
        assert (workload.heldout(x).metric > 100) is grows


def oracle_slowmo_with_rate_zero_stands_still(cls: type[Algorithm]) -> None:
    """(x_0 - mean) / lr is then 0 / 0."""
    simulation = run(cls(period=2), digits(), 2, sgd(0.0))  # type: ignore[call-arg]
    assert all(torch.equal(row, digits().initial(0)) for row in replicas(simulation))


# -- laws --------------------------------------------------------------------------------------------------------------


def oracle_the_mean_model_moves_by_gradients_only(cls: type[Algorithm]) -> None:
    """I8, each coordinate: x_bar(T) - x_bar(0) = -lr mean of the gradients used, from unequal starts."""
    for workers in (4, 5):
        workload = quadratic(workers)
        start = torch.randn(workers, workload.parameters, generator=torch.Generator().manual_seed(3)).double()
        for steps in (1, 7, 12):
            simulation = run(cls(), workload, workers, sgd(), steps, start=list(start), spy=True)
            moved = replicas(simulation).mean(0) - start.mean(0)
            torch.testing.assert_close(moved, applied(simulation) / workers, rtol=1e-10, atol=1e-10)


class Unanimous:
    """A workload that gives all workers the first one's mini-batches."""

    def __init__(self, workload: Workload) -> None:
        self.of = workload

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def batches(self, seed: int, rank: int, size: int) -> Any:
        return self.of.batches(seed, 0, size)


def oracle_equal_samples_keep_workers_equal(cls: type[Algorithm]) -> None:
    """I10: with the same mini-batches on all workers there is no consensus distance; and n workers are then one."""
    settings: dict[str, Any] = {"period": 5} if cls.name in ("local-sgd", "post-local-sgd", "slowmo") else {}
    x = replicas(run(cls(**settings), Unanimous(digits()), 4, MOMENTUM))
    assert float((x - x.mean(0)).norm()) < 1e-10
    alone = replicas(run(cls(**settings), digits(), 1, MOMENTUM))
    torch.testing.assert_close(x, alone.repeat(4, 1), rtol=1e-10, atol=1e-10)


def oracle_time_and_order_change_nothing(cls: type[Algorithm]) -> None:
    """Lock-step: the models do not depend on who is slow, nor on the order of simultaneous events."""
    settings: dict[str, Any] = {"period": 3} if cls.name in ("local-sgd", "post-local-sgd", "slowmo") else {}
    workload = quadratic(5)
    expected = replicas(run(cls(**settings), workload, 5, MOMENTUM))
    slow = Compute(gradient_s=1.0, slow={"2": 3.0}, distribution="lognormal", sigma=0.5)
    for shuffle in range(20):
        compute = slow if shuffle % 2 else None
        again = run(cls(**settings), workload, 5, MOMENTUM, shuffle=shuffle, compute=compute)
        assert torch.equal(replicas(again), expected)


ORACLES: list[tuple[str, Oracle]] = [
    ("sgd", oracle_sgd_is_the_textbook),
    ("msgd", oracle_msgd_is_the_papers_nesterov),
    ("asgd", oracle_asgd_is_the_mean_of_all_models),
    ("mvasgd", oracle_mvasgd_is_the_geometric_mean_of_all_models),
    ("allreduce-sgd", oracle_allreduce_is_one_worker_with_the_whole_batch),
    ("allreduce-sgd", oracle_allreduce_with_lamb_is_layerwise_lamb_on_the_mean_gradient),
    ("allreduce-sgd", oracle_allreduce_with_lars_is_layerwise_lars_on_the_mean_gradient),
    ("allreduce-sgd", oracle_allreduce_with_adamw_is_adamw_on_the_mean_gradient),
    ("noisy-allreduce-sgd", oracle_noise_has_the_stated_variance_and_is_everyones_own),
    ("noisy-allreduce-sgd", oracle_only_the_mean_gradient_at_the_displaced_points_moves_x),
    ("noisy-allreduce-sgd", oracle_without_noise_it_is_allreduce_sgd),
    ("local-sgd", oracle_local_sgd_averages_models_and_leaves_momentum_alone),
    ("post-local-sgd", oracle_post_local_sgd_changes_over_after_start),
    ("post-local-sgd", oracle_post_local_sgd_has_its_two_ends),
    ("slowmo", oracle_slowmo_without_momentum_is_local_sgd),
    ("slowmo", oracle_slowmo_of_every_step_is_heavy_ball),
    ("slowmo", oracle_slowmo_is_the_papers_recursion),
    ("slowmo", oracle_slowmo_diverges_beyond_the_limit_it_warns_of),
    ("slowmo", oracle_slowmo_with_rate_zero_stands_still),
    *(
        (name, oracle_the_mean_model_moves_by_gradients_only)
        for name in ("allreduce-sgd", "noisy-allreduce-sgd", "local-sgd", "post-local-sgd")
    ),
    *(
        (name, oracle_equal_samples_keep_workers_equal)
        for name in ("allreduce-sgd", "local-sgd", "post-local-sgd", "slowmo")
    ),
    *(
        (name, oracle_time_and_order_change_nothing)
        for name in ("allreduce-sgd", "noisy-allreduce-sgd", "local-sgd", "post-local-sgd", "slowmo")
    ),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda v: v if isinstance(v, str) else v.__name__[7:])
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(type(make(name)))


# -- deliberate bugs ---------------------------------------------------------------------------------------------------

AVERAGE = 'x.assign_(await w.allreduce_mean(x.data, label="model"))'
LOCAL = "x.apply_(await w.gradient(x), opt)"

MUTATIONS: list[Mutation] = [
    Mutation(
        "sgd", "the gradient is applied twice",
        "async for _ in w.steps():\n            " + LOCAL,
        "async for _ in w.steps():\n            x.apply_(g := await w.gradient(x), opt)\n            x.apply_(g, opt)",
        oracle_sgd_is_the_textbook,
    ),
    Mutation(
        "msgd", "the gradient is taken at x: heavy ball",
        "w.gradient(x, at=opt.lookahead(x.data))", "w.gradient(x)",
        oracle_msgd_is_the_papers_nesterov,
    ),
    Mutation(
        "msgd", "momentum forgotten", "momentum=self.momentum", "momentum=0.0",
        oracle_msgd_is_the_papers_nesterov,
    ),
    Mutation(
        "asgd", "x_0 counts twice", "return 1 / t", "return 1 / (t + 1)",
        oracle_asgd_is_the_mean_of_all_models,
    ),
    Mutation(
        "asgd", "x_T is averaged and x_0 is not",
        "average.lerp_(x.data, self.weight_of(t))\n            " + LOCAL,
        LOCAL + "\n            average.lerp_(x.data, self.weight_of(t))",
        oracle_asgd_is_the_mean_of_all_models,
    ),
    Mutation(
        "asgd", "the last model is evaluated", '"mean:average"', '"mean"',
        oracle_asgd_is_the_mean_of_all_models,
    ),
    Mutation(
        "mvasgd", "a and 1 - a exchanged", "return self.weight", "return 1 - self.weight",
        oracle_mvasgd_is_the_geometric_mean_of_all_models,
    ),
    Mutation(
        "allreduce-sgd", "no reduction", "w.mean_gradient(x)", "w.gradient(x)",
        oracle_allreduce_is_one_worker_with_the_whole_batch,
    ),
    Mutation(
        "allreduce-sgd", "models are averaged after local steps, which only a non-linear optimiser notices",
        "x.apply_(await w.mean_gradient(x), opt)", LOCAL + "\n            " + AVERAGE,
        oracle_allreduce_with_lamb_is_layerwise_lamb_on_the_mean_gradient,
    ),
    Mutation(
        "noisy-allreduce-sgd", "the noise stays in x",
        "await w.mean_gradient(x, at=x.data + self.sigma * noise)",
        "(x.add_(self.sigma * noise), await w.mean_gradient(x))[1]",
        oracle_only_the_mean_gradient_at_the_displaced_points_moves_x,
    ),
    Mutation(
        "noisy-allreduce-sgd", "the gradient is taken at x", ", at=x.data + self.sigma * noise", "",
        oracle_noise_has_the_stated_variance_and_is_everyones_own,
    ),
    Mutation(
        "noisy-allreduce-sgd", "sigma taken for the variance", "self.sigma * noise", "self.sigma**0.5 * noise",
        oracle_noise_has_the_stated_variance_and_is_everyones_own,
    ),
    Mutation(
        "noisy-allreduce-sgd", "the same noise everywhere",
        "w.rng.standard_normal", "__import__('numpy').random.default_rng(x.version).standard_normal",
        oracle_noise_has_the_stated_variance_and_is_everyones_own,
    ),
    Mutation(
        "noisy-allreduce-sgd", "each worker keeps its own gradient", "w.mean_gradient(x, at", "w.gradient(x, at",
        oracle_without_noise_it_is_allreduce_sgd,
    ),
    Mutation(
        "local-sgd", "averages one step late", "if t % self.period == 0:", "if t % self.period == 1:",
        oracle_local_sgd_averages_models_and_leaves_momentum_alone,
    ),
    Mutation(
        "local-sgd", "momentum starts anew at every averaging",
        "if t % self.period == 0:\n                " + AVERAGE,
        "if t % self.period == 0:\n                opt._buffers['momentum'].zero_()\n                " + AVERAGE,
        oracle_local_sgd_averages_models_and_leaves_momentum_alone,
    ),
    Mutation(
        "local-sgd", "models are summed",
        "if t % self.period == 0:\n                " + AVERAGE,
        "if t % self.period == 0:\n                " + AVERAGE.replace("await", "w.size * await"),
        oracle_the_mean_model_moves_by_gradients_only,
    ),
    Mutation(
        "post-local-sgd", "changes over one step early", "if t <= self.start:", "if t < self.start:",
        oracle_post_local_sgd_has_its_two_ends,
    ),
    Mutation(
        "post-local-sgd", "the period is counted from step 0", "(t - self.start) % self.period", "t % self.period",
        oracle_post_local_sgd_changes_over_after_start,
    ),
    Mutation(
        "post-local-sgd", "gradients are not reduced before the change-over", "w.mean_gradient(x)", "w.gradient(x)",
        oracle_post_local_sgd_changes_over_after_start,
    ),
    Mutation(
        "slowmo", "u points the wrong way", "anchor - await", "-anchor + await",
        oracle_slowmo_without_momentum_is_local_sgd,
    ),
    Mutation(
        "slowmo", "no averaging", 'await w.allreduce_mean(x.data, label="model")', "x.data",
        oracle_slowmo_without_momentum_is_local_sgd,
    ),
    Mutation(
        "slowmo", "the anchor stays at x_0", "anchor.add_(slow, alpha=-self.slow_lr * lr)\n                "
        "x.assign_(anchor)", "x.assign_(anchor - self.slow_lr * lr * slow)",
        oracle_slowmo_of_every_step_is_heavy_ball,
    ),
    Mutation(
        "slowmo", "u is not in units of gradients", "alpha=1 / lr if lr > 0 else 0.0", "alpha=1.0",
        oracle_slowmo_of_every_step_is_heavy_ball,
    ),
    Mutation(
        "slowmo", "beta dampens the new direction too",
        ".mul_(self.slow_momentum).add_(moved, alpha=1 / lr if lr > 0 else 0.0)",
        ".add_(moved, alpha=1 / lr if lr > 0 else 0.0).mul_(self.slow_momentum)",
        oracle_slowmo_is_the_papers_recursion,
    ),
    Mutation(
        "slowmo", "the rates of earlier rounds count again", "rates.zero_()", "pass",
        oracle_slowmo_is_the_papers_recursion,
    ),
    Mutation(
        "slowmo", "the rate of the next step", "rates.div_(self.period)", "opt.lr",
        oracle_slowmo_is_the_papers_recursion,
    ),
    Mutation(
        "slowmo", "0 / 0 with rate zero", "1 / lr if lr > 0 else 0.0", "1 / lr",
        oracle_slowmo_with_rate_zero_stands_still,
    ),
    Mutation(
        "slowmo", "the warning's limit", "2 * (1 + self.slow_momentum)", "1 + self.slow_momentum",
        oracle_slowmo_diverges_beyond_the_limit_it_warns_of,
    ),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_deliberate_bug_is_noticed(mutation: Mutation) -> None:
    notices(mutation)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("msgd", {"momentum": 1.0}, r"momentum must lie in \[0, 1\): got 1\.0 \(the paper uses 0\.99\)"),
        ("msgd", {"momentum": math.nan}, r"momentum must lie in \[0, 1\): got nan"),
        ("mvasgd", {"weight": 0.0}, r"weight must lie in \(0, 1\]: got 0\.0 \(the paper uses 0\.001\)"),
        ("mvasgd", {"weight": 1.1}, r"weight must lie in \(0, 1\]: got 1\.1"),
        ("noisy-allreduce-sgd", {"sigma": -0.1}, r"sigma must be finite and at least 0: got -0\.1"),
        ("noisy-allreduce-sgd", {"sigma": math.inf}, r"sigma must be finite and at least 0: got inf"),
        ("local-sgd", {"period": 0}, r"period must be at least 1 step: got 0 \(1 averages after every step\)"),
        ("post-local-sgd", {"period": 0}, r"period must be at least 1 step: got 0"),
        ("post-local-sgd", {"start": -1}, r"start must be at least 0 steps: got -1 \(0 is local SGD\)"),
        ("slowmo", {"period": 0}, r"period must be at least 1 step: got 0"),
        ("slowmo", {"slow_lr": 0.0}, r"slow_lr must be above 0 and finite: got 0\.0 \(the paper uses 1\)"),
        ("slowmo", {"slow_momentum": 1.0}, r"slow_momentum must lie in \[0, 1\): got 1\.0 \(default 0\.5\)"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(name: str, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}") as refused:
        make(name, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "parallel"),
    [("sgd", "allreduce-sgd"), ("msgd", "mdownpour"), ("asgd", "adownpour"), ("mvasgd", "mvadownpour")],
)
def test_a_sequential_baseline_names_its_parallel_counterpart(name: str, parallel: str) -> None:
    make(name).validate(1)
    with pytest.raises(
        ValueError, match=rf"^{name} runs on 1 worker: got 4 \(with several workers use '{parallel}'\)$"
    ):
        make(name).validate(4)


def test_slowmo_warns_in_one_line() -> None:
    assert make("slowmo").warnings(8) == []
    (line,) = make("slowmo", slow_lr=3.0).warnings(8)
    assert line.startswith("slow_lr 3 is not below 2 (1 + slow_momentum) = 3") and "\n" not in line
