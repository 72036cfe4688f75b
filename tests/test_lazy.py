"""Gradients that the simulator computes together and late: the same runs as one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.simulate import Gradients, Simulation, together
from bench.transports.base import Evaluation
from bench.transports.lazy import LazyGradients
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.quadratic import Quadratic
from tests.algorithms.support import make

CPU = torch.device("cpu")


def digits(**settings: Any) -> Workload:
    return DigitsMlp(**({"batch_size": 16} | settings)).build(CPU, 8)


def run(algorithm: str, workload: Workload, gradients: Gradients, budget: Budget, **settings: Any) -> Simulation:
    compute = Compute(gradient_s=0.01, distribution=settings.pop("distribution", "exponential"))
    made = Simulation(
        make(algorithm), workload, workers=settings.pop("workers", 8), seed=3, compute=compute,
        network=Network(preset="1G"), gradients=gradients, **settings,
    )  # fmt: skip
    return made.run(budget)


def rows(simulation: Simulation) -> list[str]:
    return [repr(row) for row in simulation.log.rows]


def distance(a: Simulation, b: Simulation) -> float:
    """Largest distance of two replicas of a rank, relative to their size."""
    pairs = [(x.replica().data, y.replica().data) for x, y in zip(a.handles, b.handles, strict=True)]
    return max(float((x - y).norm() / y.norm()) for x, y in pairs)


@pytest.mark.parametrize("algorithm", ["ad-psgd", "allreduce-sgd", "easgd", "d-psgd", "diloco", "dsgd-aau"])
def test_same_seed_same_bytes(algorithm: str) -> None:
    first, second = (run(algorithm, digits(), "auto", Budget(seconds=0.3, snapshots=2)) for _ in range(2))
    assert rows(first) == rows(second) and len(rows(first)) > 100
    assert distance(first, second) == 0.0


@pytest.mark.thorough
@pytest.mark.parametrize("algorithm", ["ad-psgd", "allreduce-sgd", "easgd", "diloco"])
def test_together_or_one_by_one_gives_the_same_curve(algorithm: str) -> None:
    budget = Budget(steps=200) if make(algorithm).lockstep else Budget(seconds=2.0, snapshots=1)  # 200 steps, or about
    a, b = (run(algorithm, digits(), gradients, budget) for gradients in ("batched", "single"))
    losses = [[(row[0], row[2], row[12]) for row in s.log.rows if row[1] == "gradient"] for s in (a, b)]
    assert len(losses[0]) > 1400 and [(r, t) for r, t, _ in losses[0]] == [(r, t) for r, t, _ in losses[1]]
    late = [[loss for _, _, loss in part[-200:]] for part in losses]
    assert late[0] == pytest.approx(late[1], rel=1e-3, abs=1e-6)
    assert distance(a, b) < 1e-3


def test_together_or_one_by_one_is_the_same_to_rounding_in_double_precision() -> None:
    a, b = (
        run("ad-psgd", Quadratic(dimension=20).build(CPU, 8), gradients, Budget(seconds=2.0, snapshots=1))
        for gradients in ("batched", "single")
    )
    assert a.handles[0].replica().data.dtype == torch.float64
    assert distance(a, b) < 1e-12


def test_what_others_are_computed_with_it_does_not_change_a_gradient() -> None:
    """Bit for bit, or a run that goes on from a checkpoint would part from one that was not interrupted."""
    workload = digits()
    stream, start = workload.batches(0, 0, 8), workload.initial(0)
    batches = [stream.next() for _ in range(70)]
    xs = start + 0.01 * torch.randn(70, len(start), generator=torch.Generator().manual_seed(0))
    alone = [workload.gradients(x[None], [batch]) for x, batch in zip(xs, batches, strict=True)]
    for count in (2, 3, 5, 13, 70):
        gradients, losses = workload.gradients(xs[:count], batches[:count])
        for k in range(count):
            assert torch.equal(gradients[k], alone[k][0][0]) and losses[k] == alone[k][1][0]


class Counted:
    """A workload that notes how many gradients each call had."""

    def __init__(self, workload: Workload) -> None:
        self._workload, self.calls = workload, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workload, name)

    def gradients(self, xs: Tensor, batches: Any) -> tuple[Tensor, Tensor]:
        self.calls.append(len(xs))
        return self._workload.gradients(xs, batches)

    def gradient(self, *_: Any) -> Tensor:
        raise AssertionError("one by one")


def test_one_call_a_round_for_algorithms_in_rounds() -> None:
    counted: Any = Counted(digits())
    done = run("allreduce-sgd", counted, "auto", Budget(steps=20), distribution="constant")
    assert counted.calls == [8] * 20 == [8] * done.handles[0].state.step


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [32, 128])
def test_the_square_root_of_the_workers_a_call_where_times_are_memoryless(workers: int) -> None:
    """After a call there are n t new requests at time t, each due at rate 1: none is due with exp(-n t^2 / 2)."""
    counted: Any = Counted(digits())
    run("ad-psgd", counted, "auto", Budget(seconds=1.0, snapshots=1), workers=workers)
    assert sum(counted.calls) / len(counted.calls) == pytest.approx(math.sqrt(math.pi * workers / 2), rel=0.1)


def test_most_of_the_workers_a_call_where_times_vary_little() -> None:
    counted: Any = Counted(digits())
    settings = {"workers": 64, "network": Network()}
    compute = Compute(gradient_s=0.01, distribution="lognormal", sigma=0.05)
    made = Simulation(make("ad-psgd"), counted, seed=0, compute=compute, **settings)  # type: ignore[arg-type]
    made.run(Budget(seconds=0.5, snapshots=1))
    assert sum(counted.calls) / len(counted.calls) > 64 / 3


def test_no_call_is_larger_than_the_bound_and_the_model_is_that_of_the_asking() -> None:
    workload = Quadratic(dimension=3).build(CPU, 8)
    counted: Any = Counted(workload)
    lazy, x = LazyGradients(counted, 4), workload.initial(0)
    stream = workload.batches(0, 0, 8)
    asked = [Evaluation(counted, stream.next()) for _ in range(10)]
    wanted = []
    for k, evaluation in enumerate(asked):
        x.fill_(float(k))
        lazy.ask(evaluation, x)
        wanted.append(workload.gradients(x[None].clone(), [evaluation.batch]))
    x.fill_(math.nan)
    assert not any(evaluation.is_done for evaluation in asked)
    lazy.settle()
    assert counted.calls == [4, 4, 2]
    for evaluation, (gradients, losses) in zip(asked, wanted, strict=True):
        assert evaluation.is_done and torch.equal(evaluation.out, gradients[0]) and evaluation.loss == losses[0]
    lazy.settle()
    assert counted.calls == [4, 4, 2]  # nothing is computed twice


def test_how_many_go_together() -> None:
    assert together(digits(), "single") == together(digits(), "none") == 1
    assert together(digits(), "auto") == together(digits(), "batched") > 16
    with pytest.raises(ValueError, match="gradients must be one of auto, batched, single, none: got 'lazy'"):
        together(digits(), "lazy")  # type: ignore[arg-type]
