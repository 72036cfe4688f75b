"""The objective that probes differentiate is the loss that is trained and evaluated."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.workloads.registry import known, settings_class
from tests.support.datasets import needs_data
from tests.workloads.test_every_workload import SMALL

CPU = torch.device("cpu")
SETTINGS = {**SMALL, "cifar10-vgg13": {**SMALL["cifar10-vgg13"], "norm": "batch"}}


@cache
def build(name: str) -> Any:
    return settings_class(name)(**SETTINGS.get(name, {})).double().build(CPU, 2)  # type: ignore[attr-defined]


@pytest.mark.thorough
@needs_data
@pytest.mark.parametrize("name", known())
def test_the_heldout_loss_is_that_of_the_workload(name: str, data_folder: Path) -> None:
    workload = build(name)
    x, objective = workload.initial(0), workload.objective()
    count = len(objective.heldout)
    total = 0.0
    with torch.no_grad(), objective.at(x):
        for numbers in torch.arange(count).split(100):
            inputs, targets = objective.heldout.take(numbers)
            total += float(objective.loss(objective.logits(x, inputs), targets)) * len(numbers) / count
    assert total == pytest.approx(workload.heldout(x).loss, rel=1e-9)


@pytest.mark.thorough
@needs_data
@pytest.mark.parametrize("name", [n for n in known() if n not in ("quadratic", "cifar10-vgg13", "cifar10-easgd7")])
def test_the_gradient_on_training_samples_is_that_of_the_workload(name: str, data_folder: Path) -> None:
    """Where training is not augmented and has neither dropout nor batch norm."""
    workload = build(name)
    x, objective = workload.initial(0), workload.objective()
    batch = objective.training.take(torch.tensor([0, 3, len(objective.training) - 1]))
    want = torch.empty_like(x)
    workload.gradient(x, batch, want)
    at = x.clone().requires_grad_(True)
    (got,) = torch.autograd.grad(objective.loss(objective.logits(at, batch[0]), batch[1]), at)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@needs_data
@pytest.mark.parametrize("name", known())
def test_it_has_a_second_derivative(name: str, data_folder: Path) -> None:
    """A Hessian-vector product against a difference of gradients; fused kernels would raise."""
    workload = build(name)
    x, objective = workload.initial(0), workload.objective()
    x = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    inputs, targets = objective.training.take(torch.tensor([0, 1]))
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    v /= v.norm()

    def gradient(point: torch.Tensor, keep: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        point = point.clone().requires_grad_(True)
        loss = objective.loss(objective.logits(point, inputs), targets)
        return torch.autograd.grad(loss, point, create_graph=keep)[0], point

    with objective.at(x):
        g, point = gradient(x, keep=True)
        (hv,) = torch.autograd.grad(g, point, v)
        step = 1e-6
        difference = (gradient(x + step * v)[0] - gradient(x - step * v)[0]) / (2 * step)
    # ReLU's kinks that lie within the step are no error of the product.
    assert float((hv - difference).norm()) <= 1e-3 * max(1.0, float(hv.norm()))


def test_text_is_cut_into_windows_that_cover_it() -> None:
    from bench.workloads.objective import WindowExamples

    text = torch.arange(23, dtype=torch.uint8)
    windows = WindowExamples(text, 5, CPU)
    inputs, targets = windows.take(torch.arange(len(windows)))
    assert len(windows) == 4
    assert inputs.flatten().tolist() == list(range(20)) and targets.flatten().tolist() == list(range(1, 21))
