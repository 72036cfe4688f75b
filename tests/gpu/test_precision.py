"""Precision of computing: what is rounded and what is not, and a loss scale that callers never see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.workloads.precision import (
    FIRST_SCALE,
    GROW_AFTER,
    LARGEST_SCALE,
    SMALLEST_SCALE,
    LossScaler,
    Precision,
    full_or_tf32,
)
from tests.gpu.support import CPU, gpu, needs_gpu


class Net:
    """A small convolutional network on a flat vector x [P], gradients in `out` [P]."""

    def __init__(self, device: torch.device = CPU) -> None:
        generator = torch.Generator().manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10)
        )
        for p in module.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.2
        self.module = module.to(device)
        self.inputs = torch.randn(16, 3, 8, 8, generator=generator).to(device)
        self.targets = torch.randint(10, (16,), generator=generator).to(device)
        self.out = torch.zeros(sum(p.numel() for p in module.parameters()), device=device)
        at = 0
        for p in self.module.parameters():
            p.grad = self.out[at : at + p.numel()].view(p.shape)
            at += p.numel()

    def gradient(self, precision: Precision, factor: float = 1.0) -> Tensor:
        self.out.zero_()

        def loss_of() -> Tensor:
            with precision.forward():
                return functional.cross_entropy(self.module(self.inputs), self.targets) * factor

        self.loss = precision.backward(loss_of, self.out)
        return self.out.clone()


def error(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.mark.parametrize(("name", "rounding"), [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_half_precisions_round_products_and_nothing_else(name: str, rounding: float) -> None:
    net = Net()
    exact = net.gradient(Precision("float32", CPU))
    rounded = net.gradient(Precision(name, CPU))
    assert rounding / 20 < error(rounded, exact) < 20 * rounding
    assert rounded.dtype == net.loss.dtype == torch.float32 and not net.loss.requires_grad
    assert all(p.dtype == torch.float32 for p in net.module.parameters())


@pytest.mark.parametrize("name", ["float32", "tf32"])
def test_on_a_cpu_tf32_is_float32_bit_by_bit(name: str) -> None:
    net = Net()
    net.gradient(Precision(name, CPU))
    plain = Net()
    functional.cross_entropy(plain.module(plain.inputs), plain.targets).backward()
    assert torch.equal(net.out, plain.out)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be float32, tf32, bfloat16 or float16: got 'fp8'"):
        Precision("fp8", CPU)


def test_the_scale_saves_gradients_that_float16_cannot_hold() -> None:
    net = Net()
    exact = net.gradient(Precision("float32", CPU), factor=1e-6)
    unscaled = Precision("float16", CPU)
    unscaled.scaler.scale = 1.0
    assert error(net.gradient(unscaled, factor=1e-6), exact) > 0.3  # much of it is below 2^-24
    assert error(net.gradient(Precision("float16", CPU), factor=1e-6), exact) < 0.02


def test_a_gradient_that_overflows_is_computed_again_with_half_the_scale() -> None:
    net = Net()
    precision = Precision("float16", CPU)
    exact = net.gradient(Precision("float32", CPU), factor=2000.0)
    got = net.gradient(precision, factor=2000.0)
    assert error(got, exact) < 0.02
    assert precision.scaler.scale < FIRST_SCALE and precision.scaler.good == 1
    scale = precision.scaler.scale
    net.gradient(precision, factor=2000.0)
    assert (precision.scaler.scale, precision.scaler.good) == (scale, 2)


class Line:
    """loss(p) = slope * p, evaluated a counted number of times; its gradient overflows beyond `largest`."""

    def __init__(self, slope: float, largest: float = 65504.0) -> None:
        self.p = nn.Parameter(torch.tensor([2.0]))
        self.out = torch.zeros(1)
        self.p.grad = self.out
        self.slope, self.largest, self.calls = slope, largest, 0
        self.p.register_hook(lambda g: torch.where(g.abs() > largest, torch.inf, g))

    def __call__(self) -> Tensor:
        self.calls += 1
        return (self.p * self.slope).sum()

    def gradient(self, scaler: LossScaler) -> float:
        self.out.zero_()
        scaler.backward(self, self.out)
        return float(self.out)


def test_unscaling_is_exact() -> None:
    scaler = LossScaler()
    for slope in (1.0, 3.1e-5, 0.7):
        assert Line(slope).gradient(scaler) == float(torch.tensor(slope))


@pytest.mark.parametrize("halvings", [0, 1, 5, 16])
def test_the_scale_is_halved_as_often_as_needed(halvings: int) -> None:
    scaler, line = LossScaler(), Line(65504.0 / FIRST_SCALE * 2**halvings)
    assert line.gradient(scaler) == line.slope
    assert line.calls == halvings + 1
    assert scaler.scale == FIRST_SCALE / 2**halvings


def test_the_scale_doubles_after_enough_good_gradients_up_to_a_bound() -> None:
    scaler, line = LossScaler(), Line(1e-6)
    for _ in range(GROW_AFTER - 1):
        line.gradient(scaler)
    assert scaler.scale == FIRST_SCALE
    line.gradient(scaler)
    assert (scaler.scale, scaler.good) == (2 * FIRST_SCALE, 0)
    scaler.scale, scaler.good = LARGEST_SCALE, GROW_AFTER - 1
    line.gradient(scaler)
    assert scaler.scale == LARGEST_SCALE


def test_a_loss_that_is_not_finite_costs_one_evaluation_and_leaves_the_scale() -> None:
    scaler, line = LossScaler(), Line(float("inf"))
    assert not torch.isfinite(torch.tensor(line.gradient(scaler)))
    assert (line.calls, scaler.scale, scaler.good) == (1, FIRST_SCALE, 0)


def test_a_gradient_that_no_scale_helps_is_returned_as_it_is() -> None:
    scaler, line = LossScaler(), Line(65505.0)
    assert line.gradient(scaler) == float("inf")
    assert (line.calls, scaler.scale) == (17, SMALLEST_SCALE)
    line.gradient(scaler)
    assert line.calls == 18  # the next one does not pay for the search again


def test_switches_of_float32_products_are_put_back() -> None:
    def switches() -> tuple[str, ...]:
        backends = torch.backends
        return tuple(b.fp32_precision for b in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn))

    before = switches()
    for wanted in ("ieee", "tf32"):
        with pytest.raises(ZeroDivisionError), full_or_tf32(wanted):
            assert switches() == (wanted,) * 3
            raise ZeroDivisionError
        assert switches() == before


@needs_gpu
@pytest.mark.parametrize(("name", "rounding"), [("tf32", 2.0**-11), ("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_on_a_gpu_precisions_round_as_they_say(name: str, rounding: float) -> None:
    exact = Net().gradient(Precision("float32", CPU))
    net = Net(gpu())
    full = net.gradient(Precision("float32", gpu())).cpu()
    assert error(full, exact) < 1e-5
    rounded = net.gradient(Precision(name, gpu())).cpu()
    assert rounding / 50 < error(rounded, full) < 20 * rounding
