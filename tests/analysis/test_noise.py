"""The noise probe on replicas: what must come out of cases that are known, and that ranks share the work exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from analysis.probes.loss import mean_loss_and_gradient
from analysis.probes.noise import Noise, noise, overall_halves
from analysis.probes.probe_set import probe_set
from bench.budget import Budget
from bench.check import quadratic, replicas, simulate
from bench.workloads.base import Workload
from tests.algorithms.support import digits, make
from tests.support.curvature import together

WORKERS = 4


def whole_gradient(workload: Workload, x: Tensor) -> Tensor:
    objective = workload.objective()
    chosen = probe_set(objective, samples=None, micro_batch=500)
    return mean_loss_and_gradient(objective, x, chosen.batches, chosen.samples)[1]


def probe(workload: Workload, stands: Tensor, **options: object) -> Noise:
    points = dict(enumerate(stands))
    batches = {j: workload.batches(0, j, len(stands)).next() for j in points}
    mean = stands[0].clone() if (stands == stands[0]).all() else stands.mean(0)
    g = whole_gradient(workload, mean)
    return noise(workload, points, batches, mean, [g], workers=len(stands), lr=0.1, **options)  # type: ignore[arg-type]


def test_synchronous_sgd_has_no_diversity_and_its_control_is_its_rate() -> None:
    workload = digits()
    x = replicas(simulate(make("allreduce-sgd"), workload, workers=WORKERS, budget=Budget(steps=5)))
    found = probe(workload, x)
    assert found.rate.noise_diversity == 0.0 and found.replica_variance == 0.0
    assert found.rate.alpha_e == found.rate.alpha_e_control
    assert found.rate.alpha_e == pytest.approx(0.1, rel=0.5)  # up to sampling noise
    left = found.rate.alpha_e**2 * found.rate.slope + found.rate.noise
    assert left == pytest.approx(0.01 * found.mean_gradient, rel=1e-12)


def test_decentralised_sgd_has_diversity_and_a_lower_rate_than_the_control() -> None:
    workload = digits()
    x = replicas(simulate(make("d-psgd"), workload, workers=WORKERS, budget=Budget(steps=20)))
    found = probe(workload, x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype))
    assert found.rate.noise_diversity > 1e-6 and found.replica_variance > 1.0
    assert found.rate.alpha_e != found.rate.alpha_e_control
    left = found.rate.alpha_e**2 * found.rate.slope + found.rate.noise
    assert left == pytest.approx(0.01 * found.mean_gradient, rel=1e-12)


def test_a_common_hessian_has_no_diversity() -> None:
    workload = quadratic(WORKERS)
    stands = 10 * torch.randn(WORKERS, workload.parameters, generator=torch.Generator().manual_seed(1)).double()
    assert probe(workload, stands).rate.noise_diversity <= 1e-20


def test_the_spread_of_the_gradients_is_the_noise_of_the_quadratic() -> None:
    """tr(Sigma) of a mini-batch of one: P noise^2. Averaged over many draws at one place."""
    workload = quadratic(WORKERS, noise=0.5, heterogeneity=0.0)
    x = workload.initial(0)
    streams = {j: workload.batches(0, j, WORKERS) for j in range(WORKERS)}
    g = whole_gradient(workload, x)
    found = []
    for _ in range(300):
        batches = {j: stream.next() for j, stream in streams.items()}
        found.append(noise(workload, dict.fromkeys(range(WORKERS), x), batches, x, [g], workers=WORKERS, lr=0.1))
    trace = torch.tensor([one.noise_scale for one in found]).mean() * float(g @ g)
    assert float(trace) == pytest.approx(workload.parameters * 0.25, rel=0.05)


def test_the_halves_are_disjoint_and_their_mean_is_the_gradient_in_the_long_run() -> None:
    workload = quadratic(WORKERS, noise=0.5)
    x = workload.initial(0)
    streams = {j: workload.batches(0, j, WORKERS) for j in range(WORKERS)}
    first, second = overall_halves(workload, x, streams, WORKERS, 500)
    assert not torch.equal(first, second)
    truth = workload.eigenvalues * (x - workload.minimiser)
    for half in (first, second):
        assert float((half - truth).norm()) < 4 * 0.5 * (workload.parameters / (WORKERS * 500)) ** 0.5


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_share_the_workers_find_the_same(ranks: int) -> None:
    """Workers and samples dealt to ranks; sums over ranks by hand."""
    alone, x = digits(), digits().initial(0)
    stands = x + 0.1 * torch.randn(WORKERS, len(x), generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    batches = {j: alone.batches(0, j, WORKERS).next() for j in range(WORKERS)}
    want = probe(alone, stands)

    def share(rank: int, total: Callable[[Tensor], Tensor]) -> Noise:
        workload = digits()
        objective, mine = workload.objective(), range(rank, WORKERS, ranks)
        chosen = probe_set(objective, samples=None, micro_batch=200, rank=rank, size=ranks)
        _, g = mean_loss_and_gradient(objective, stands.mean(0), chosen.batches, chosen.samples, total)
        own: Mapping[int, Tensor] = {j: stands[j] for j in mine}
        return noise(
            workload, own, {j: batches[j] for j in mine}, stands.mean(0), [g], workers=WORKERS, lr=0.1, total=total
        )

    for got in together(ranks, share):
        for name, value in vars(want.rate).items():
            assert getattr(got.rate, name) == pytest.approx(value, rel=1e-9, abs=1e-15), name
        for name in ("replica_variance", "mean_gradient", "noise_scale", "diversity"):
            assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-9), name
