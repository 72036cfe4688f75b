"""D-PSGD whose workers start from points of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from algorithms.d_psgd import DPSGD
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.check import replicas
from bench.simulate import Simulation
from bench.workloads.quadratic import Quadratic

WORKERS = 4


def simulation(algorithm: DPSGD, *, seed: int = 0, lr: float = 0.1) -> Simulation:
    workload = Quadratic(dimension=40).build(torch.device("cpu"), WORKERS)
    return Simulation(algorithm, workload, workers=WORKERS, seed=seed, optimizer=OptimizerSettings(name="sgd", lr=lr))


def begun(algorithm: DPSGD, *, seed: int = 0) -> Tensor:
    """Where the workers stand before the first step [n, P]."""
    run = simulation(algorithm, seed=seed)
    return torch.stack([handle.replica(own=algorithm.start == "own").data for handle in run.workers])


def test_own_starts_differ_between_workers_and_seeds_and_are_drawn_again_alike() -> None:
    own = begun(DPSGD(start="own"))
    assert all(not torch.equal(own[i], own[j]) for i in range(WORKERS) for j in range(i))
    assert torch.equal(own, begun(DPSGD(start="own")))
    assert not torch.equal(own, begun(DPSGD(start="own"), seed=1))
    equal = begun(DPSGD())
    assert all(torch.equal(x, equal[0]) for x in equal)


@pytest.mark.parametrize("topology", ["ring", "random-pair", "delay-by-one"])
def test_without_a_rate_own_starts_meet_at_their_mean(topology: str) -> None:
    start = begun(DPSGD(start="own"))
    run = simulation(DPSGD(topology=topology, start="own"), lr=0.0).run(Budget(steps=200))  # type: ignore[arg-type]
    torch.testing.assert_close(replicas(run), start.mean(0).expand_as(start), rtol=0, atol=1e-9)


def test_a_restored_run_does_not_start_again() -> None:
    algorithm = DPSGD(start="own")
    whole = simulation(algorithm).run(Budget(steps=6))
    half = simulation(algorithm).run(Budget(steps=3))
    rest = simulation(algorithm).restore(half.save()).run(Budget(steps=6))
    assert torch.equal(replicas(rest), replicas(whole))
    assert not torch.equal(replicas(whole), replicas(simulation(DPSGD()).run(Budget(steps=6))))
