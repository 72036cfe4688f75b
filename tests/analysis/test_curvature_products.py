"""Products of the Hessian and of the Gauss-Newton matrix, against dense matrices, closed forms and differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from analysis.probes.probe_set import alone, probe_set
from analysis.probes.products import Curvature, Kind
from bench.workloads.a9a_logistic import LogisticRegression, logistic_loss
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.norm import BatchNorm
from bench.workloads.objective import Objective
from bench.workloads.quadratic import Quadratic
from bench.workloads.shakespeare_gpt import ShakespeareGpt
from tests.support.curvature import CPU, KINDS, SAMPLES, dense, draw, mlp, own, together


def with_batch_norm() -> tuple[Objective, Tensor]:
    torch.manual_seed(0)
    images = draw(0, SAMPLES, 1, 5, 5)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), BatchNorm(2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3))
    objective, x = own(module, images, torch.arange(SAMPLES) % 3, calibration=images[:16] * 2 + 1)
    return objective, x + 0.1 * draw(1, len(x))


def logistic() -> tuple[Objective, Tensor]:
    features = (draw(0, SAMPLES, 7) > 0).to(torch.uint8)
    targets = torch.arange(SAMPLES) % 2
    objective, x = own(LogisticRegression(7), features, targets, loss=logistic_loss)
    return objective, x + draw(1, len(x))


def gpt() -> tuple[Objective, Tensor]:
    workload = ShakespeareGpt(width=8, depth=2, heads=2, context=8, dtype="float64").build(CPU, 1)
    x = workload.initial(0)
    return workload.objective(), x + 0.1 * draw(1, len(x))


MODELS: dict[str, Callable[[], tuple[Objective, Tensor]]] = {
    "mlp": mlp,
    "batch norm": with_batch_norm,
    "logistic": logistic,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_products_are_those_of_the_dense_matrix(model: str, kind: Kind) -> None:
    """Micro-batches of unequal size, of which the graphs are kept, or some, or none."""
    objective, x = MODELS[model]()
    chosen = probe_set(objective, samples=SAMPLES, micro_batch=12)
    want, block = dense(objective, x, chosen.batches, kind), draw(2, 3, len(x))
    kept = set()
    for nbytes in (0, *(1 << k for k in range(9, 19)), 1 << 30):
        with Curvature(objective, x, chosen.batches, samples=SAMPLES, kind=kind, keep_graph_nbytes=nbytes) as curvature:
            torch.testing.assert_close(curvature.apply_block(block), block @ want, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(curvature.apply(block[0]), block[0] @ want, rtol=1e-10, atol=1e-12)
            assert curvature.products == 4
            kept.add(curvature.kept)
    assert {0, len(chosen.batches)} < kept, "no bound kept some and not all"


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_come_with_it(kind: Kind) -> None:
    objective, x = mlp()
    chosen = probe_set(objective, samples=SAMPLES, micro_batch=12)
    inputs, targets = (torch.cat(parts) for parts in zip(*chosen.batches, strict=True))
    with Curvature(objective, x, chosen.batches, samples=SAMPLES, kind=kind, keep_graph_nbytes=0) as curvature:
        g, loss = torch.func.grad_and_value(lambda y: objective.loss(objective.logits(y, inputs), targets))(x)
        assert curvature.loss == pytest.approx(float(loss), rel=1e-12)
        torch.testing.assert_close(curvature.gradient, g, rtol=1e-10, atol=1e-12)


def test_logistic_regression_has_its_closed_form() -> None:
    """H = mean of p (1 - p) a a^T; the logits are linear, so that it is the Gauss-Newton matrix too."""
    objective, x = logistic()
    chosen = probe_set(objective, samples=SAMPLES, micro_batch=12)
    features = torch.cat([inputs for inputs, _ in chosen.batches]).double()
    a = torch.cat([features, torch.ones(SAMPLES, 1).double()], 1)
    p = torch.sigmoid(a @ x)
    want = (a.T * (p * (1 - p))) @ a / SAMPLES
    for kind in KINDS:
        with Curvature(objective, x, chosen.batches, samples=SAMPLES, kind=kind) as curvature:
            torch.testing.assert_close(curvature.apply_block(torch.eye(8).double()), want, rtol=1e-10, atol=1e-14)


def test_gauss_newton_is_positive_where_the_hessian_is_not() -> None:
    objective, x = mlp()
    chosen = probe_set(objective, samples=SAMPLES)
    lowest = {}
    for kind in KINDS:
        with Curvature(objective, x, chosen.batches, samples=SAMPLES, kind=kind) as curvature:
            matrix = curvature.apply_block(torch.eye(len(x)).double())
        torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-12)
        values = torch.linalg.eigvalsh(matrix)
        lowest[kind] = float(values[0] / values[-1])
    assert lowest["ggn"] > -1e-12 and lowest["hessian"] < -1e-3


def test_attention_against_a_difference_of_gradients() -> None:
    objective, x = gpt()
    chosen = probe_set(objective, samples=6, micro_batch=4)
    v, step = draw(2, len(x)), 1e-5

    def gradient(at: Tensor) -> Tensor:
        with Curvature(objective, at, chosen.batches, samples=6, keep_graph_nbytes=0) as curvature:
            return curvature.gradient

    with Curvature(objective, x, chosen.batches, samples=6) as curvature:
        product = curvature.apply(v)
    difference = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-5, atol=1e-6 * float(product.abs().max()))


def test_attention_has_the_gauss_newton_products_of_its_jacobian() -> None:
    objective, x = gpt()
    chosen = probe_set(objective, samples=3)
    (inputs, targets), v = chosen.batches[0], draw(2, len(x))
    z, pushed = torch.func.jvp(lambda y: objective.logits(y, inputs), (x,), (v,))
    slope = torch.func.grad(lambda logits: objective.loss(logits, targets))
    _, curved = torch.func.jvp(slope, (z,), (pushed,))
    (want,) = torch.func.vjp(lambda y: objective.logits(y, inputs), x)[1](curved)
    with Curvature(objective, x, chosen.batches, samples=3, kind="ggn") as curvature:
        torch.testing.assert_close(curvature.apply(v), want, rtol=1e-9, atol=1e-12)


def test_batch_norm_keeps_the_statistics_of_the_point_whatever_graphs_are_kept() -> None:
    objective, x = with_batch_norm()
    chosen = probe_set(objective, samples=SAMPLES, micro_batch=12)
    v, products = draw(2, len(x)), []
    for nbytes in (0, 1 << 30):
        with Curvature(objective, x, chosen.batches, samples=SAMPLES, keep_graph_nbytes=nbytes) as curvature:
            products.append(curvature.apply(v))
    assert torch.equal(products[0], products[1])
    with pytest.raises(AssertionError, match="calibration"):
        objective.logits(x, chosen.batches[0][0])  # nothing is left of them


def test_what_does_not_curve_has_products_of_zero() -> None:
    objective, x = own(nn.Linear(3, 2), draw(0, 4, 3), draw(1, 4, 2), loss=lambda z, targets: (z * targets).mean())
    for kind in KINDS:
        batches = [objective.training.take(torch.arange(4))]
        with Curvature(objective, x, batches, samples=4, kind=kind) as curvature:
            assert torch.equal(curvature.apply(draw(2, len(x))), torch.zeros(len(x)).double())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_samples_with_one_sum_a_block(ranks: int, kind: Kind) -> None:
    whole, x = mlp()
    block, sums = draw(2, 3, len(x)), []

    def work(rank: int, total: Callable[[Tensor], Tensor]) -> tuple[Tensor, float]:
        def counted(v: Tensor) -> Tensor:
            sums.append(v.shape)
            return total(v)

        objective = mlp()[0]
        chosen = probe_set(objective, samples=SAMPLES + 1, micro_batch=7, rank=rank, size=ranks)
        with Curvature(objective, x, chosen.batches, samples=chosen.samples, kind=kind, total=counted) as curvature:
            return curvature.apply_block(block), curvature.loss

    found = together(ranks, work)
    chosen = probe_set(whole, samples=SAMPLES + 1)
    with Curvature(whole, x, chosen.batches, samples=chosen.samples, kind=kind, total=alone) as curvature:
        want, loss = curvature.apply_block(block), curvature.loss
    for product, at in found:
        torch.testing.assert_close(product, want, rtol=1e-9, atol=1e-12)
        assert at == pytest.approx(loss, rel=1e-12)
    assert len(sums) == 2 * ranks  # loss and gradient, and the block


@pytest.mark.thorough
@pytest.mark.parametrize("nbytes", [0, 1 << 30])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vector_gives_the_same_bits_and_no_more_memory(kind: Kind, nbytes: int) -> None:
    """A graph that stayed behind would take 4 MiB each time."""
    workload = DigitsMlp(width=200).build(CPU, 1)
    objective, x = workload.objective(), workload.initial(0)
    chosen = probe_set(objective, samples=1000, micro_batch=500)
    curvature = Curvature(objective, x, chosen.batches, samples=1000, kind=kind, keep_graph_nbytes=nbytes)
    v, resident = draw(2, len(x)).float(), []
    for _ in range(25):
        with curvature:
            first, second = curvature.apply(v), curvature.apply(v)
            assert torch.equal(first, second)
            resident.append(resident_nbytes())
    assert resident[-1] - resident[4] < 16 << 20
    with curvature:
        for _ in range(25):
            assert torch.equal(first, curvature.apply(v))
    assert resident_nbytes() - resident[4] < 16 << 20


def resident_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_float32_products_are_good_to_its_precision() -> None:
    objective, x = mlp()
    chosen = probe_set(objective, samples=SAMPLES)
    single = DigitsMlp(width=6, depth=1).build(CPU, 1).objective()
    v = draw(2, len(x))
    with Curvature(objective, x, chosen.batches, samples=SAMPLES) as curvature:
        want = curvature.apply(v)
    few = probe_set(single, samples=SAMPLES)
    with Curvature(single, x, few.batches, samples=SAMPLES) as curvature:
        got = curvature.apply(v)
    assert got.dtype == torch.float64
    assert 0 < float((got - want).norm() / want.norm()) < 1e-6


def test_a_quadratic_has_the_hessian_it_was_made_with() -> None:
    workload = Quadratic(dimension=20, condition=1e4, heterogeneity=1.0).build(CPU, 3)
    chosen = probe_set(workload.objective(), samples=None, micro_batch=2)
    for kind in KINDS:
        with Curvature(workload.objective(), workload.initial(1), chosen.batches, samples=3, kind=kind) as curvature:
            matrix = curvature.apply_block(torch.eye(20).double())
        torch.testing.assert_close(matrix, torch.diag(workload.eigenvalues), rtol=1e-12, atol=1e-15)


def test_a_model_that_has_diverged_is_refused() -> None:
    objective, x = mlp()
    x[7] = float("nan")
    chosen = probe_set(objective, samples=SAMPLES)
    curvature = Curvature(objective, x, chosen.batches, samples=SAMPLES)
    with pytest.raises(ValueError, match="must be finite: got a loss of nan"), curvature:
        pass
    with pytest.raises(ValueError, match="within its `with` block"):
        curvature.apply(x)


def test_what_cannot_be_is_refused() -> None:
    objective, x = mlp()
    batches = probe_set(objective, samples=SAMPLES).batches
    with pytest.raises(ValueError, match="kind must be hessian or ggn: got 'fisher'"):
        Curvature(objective, x, batches, samples=SAMPLES, kind="fisher")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"460 parameters: got shape \(459,\)"):
        Curvature(objective, x[1:], batches, samples=SAMPLES)
    with pytest.raises(ValueError, match="samples must count those of all ranks: got 39"):
        Curvature(objective, x, batches, samples=SAMPLES - 1)
    curvature = Curvature(objective, x, batches, samples=SAMPLES)
    with pytest.raises(ValueError, match="within its `with` block"):
        curvature.apply(x)
    with curvature, pytest.raises(ValueError, match=r"got shape \(460, 1\)"):
        curvature.apply_block(x[:, None])
