"""A rank's whole state as named tensors, and a fresh rank that goes on from it; every algorithm's restart is tested in
tests/algorithms/test_common.py."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.check import quadratic
from bench.cluster import Compute, Network
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.shakespeare_gpt import ShakespeareGpt
from tests.algorithms.support import make

NETWORK = Network(latency_s=2.5, bandwidth_Gbit_per_s=1e-3)  # slow, so that messages are under way at any end
NESTEROV = OptimizerSettings(name="nesterov", lr=0.02)
CPU = torch.device("cpu")


def simulation(workload: Workload, name: str = "overlap-sgp", **settings: object) -> Simulation:
    compute = Compute(gradient_s=1.0, distribution="lognormal", sigma=0.3)
    return Simulation(
        make(name, **(settings or {"delay": 3, "period": 1})),
        workload, workers=4, seed=5, optimizer=NESTEROV, compute=compute, network=NETWORK,
    )  # fmt: skip


@pytest.mark.parametrize(
    "workload",
    [
        quadratic(4),
        DigitsMlp(batch_size=500).build(CPU, 4),  # several passes over the data
        ShakespeareGpt(width=16, depth=1, heads=2, context=8, batch_size=2).build(CPU, 4),
    ],
    ids=lambda workload: workload.name,
)
def test_a_run_through_files_ends_where_the_uninterrupted_run_ends(workload: Workload) -> None:
    whole = simulation(workload).run(Budget(steps=20))
    first = simulation(workload).run(Budget(steps=9))
    files = [safetensors.torch.save(saved) for saved in first.save()]
    second = simulation(workload).restore([safetensors.torch.load(file) for file in files])
    assert [len(handle.mailbox.messages()) for handle in second.handles] == [3] * 4  # sent, and not due yet
    second.run(Budget(steps=20))
    for ours, theirs in zip(second.handles, whole.handles, strict=True):
        assert torch.equal(ours.replica().data, theirs.replica().data)
        assert ours.replica().version == theirs.replica().version
        assert ours.state.samples == theirs.state.samples
        assert ours.recorder.nbytes == theirs.recorder.nbytes
        assert ours.recorder.wire_nbytes == theirs.recorder.wire_nbytes


def test_saving_changes_nothing_and_saves_copies() -> None:
    run = simulation(quadratic(4)).run(Budget(steps=5))
    before = run.handles[0].replica().data.clone()
    saved = run.save()
    run.handles[0].replica().data.add_(1.0)
    assert torch.equal(saved[0]["replica/data"], before)
    assert set(saved[0]) == set(run.save()[0])


def test_snapshots_go_on_counting() -> None:
    workload = quadratic(4)
    first = simulation(workload).run(Budget(steps=10, snapshots=2))
    second = simulation(workload).restore(first.save()).run(Budget(steps=20, snapshots=4))
    assert [s.number for s in first.handles[0].snapshots] == [0, 1, 2]
    assert [s.number for s in second.handles[0].snapshots] == [0, 1, 2, 3, 4]


def test_another_models_checkpoint_is_refused() -> None:
    saved = simulation(quadratic(4)).run(Budget(steps=2)).save()
    with pytest.raises(ValueError, match="another model"):
        simulation(quadratic(4, dimension=13)).restore(saved)


def test_an_overlapped_collective_survives() -> None:
    workload = quadratic(4)
    settings = {"period": 8, "delay": 6, "fragments": 2}
    whole = simulation(workload, "streaming-diloco", **settings).run(Budget(steps=30))
    for half in range(8, 16):
        saved = simulation(workload, "streaming-diloco", **settings).run(Budget(steps=half)).save()
        again = simulation(workload, "streaming-diloco", **settings).restore(saved).run(Budget(steps=30))
        for ours, theirs in zip(again.handles, whole.handles, strict=True):
            assert torch.equal(ours.replica().data, theirs.replica().data), half
            assert torch.equal(ours.state.kept["anchor"], theirs.state.kept["anchor"]), half
