"""Simulated runs whose gradients are computed on a GPU: the same as on the host, to rounding."""

from __future__ import annotations

import pytest

from bench.budget import Budget
from bench.simulate import Simulation
from bench.workloads.digits_mlp import DigitsMlp
from tests.algorithms.support import make
from tests.gpu.support import CPU, gpu, needs_gpu


@needs_gpu
@pytest.mark.parametrize("algorithm", ["ad-psgd", "allreduce-sgd", "easgd"])
def test_gradients_on_a_gpu_give_the_run_of_the_host(algorithm: str) -> None:
    settings = DigitsMlp(batch_size=16)
    host = settings.build(CPU, 8)
    runs = [
        Simulation(make(algorithm), host, workers=8, seed=0, gradients="batched", accelerated=accelerated).run(
            Budget(seconds=1.0, snapshots=1)
        )
        for accelerated in (None, settings.build(gpu(), 8))
    ]
    for ours, theirs in zip(*(run.handles for run in runs), strict=True):
        assert ours.replica().data.device == CPU
        assert float((ours.replica().data - theirs.replica().data).norm()) < 1e-3 * float(theirs.replica().data.norm())
