"""Landscapes, directions and lines between models against closed forms, and against what may not change them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from analysis.probes.directions import Directions, coordinates, principal_directions, random_directions
from analysis.probes.interpolation import barrier, barrier_matrix, barriers, interpolation, workers_against_mean
from analysis.probes.landscape import landscape_1d, landscape_2d
from analysis.probes.loss import ESTIMATED_ANEW, Facts, ProbedLoss, mean_loss, mean_loss_and_gradient, mean_losses
from analysis.probes.probe_set import probe_set
from bench.check import quadratic
from bench.workloads.base import Workload
from bench.workloads.define import workload as define
from bench.workloads.norm import BatchNorm
from bench.workloads.problem import Problem, Samples
from tests.algorithms.support import digits


class Known:
    """A loss that is known as a formula."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self.f, self.facts = f, dict[str, str]()

    def values(self, points: Iterable[Tensor]) -> np.ndarray:
        return np.array([float(self.f(x)) for x in points])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probed(workload: Workload, samples: int | None = 200) -> ProbedLoss:
    objective = workload.objective()
    return ProbedLoss(objective, probe_set(objective, samples=samples, micro_batch=64))


def rescaled(workload: Workload, x: Tensor, factor: float = 3.0) -> Tensor:
    """The same network: the first layer times a factor, the second's weights divided by it."""
    factors = {"0.weight": factor, "0.bias": factor, "2.weight": 1 / factor}
    objective, y = workload.objective(), x.clone()
    for name, (lo, hi) in zip(objective.names, objective.spans, strict=True):
        y[lo:hi] *= factors.get(name, 1.0)
    return y


def trained(workload: Workload, *, seed: int = 0, steps: int = 60, lr: float = 0.1) -> Tensor:
    x, stream = workload.initial(seed), workload.batches(seed, 0, 1)
    g = torch.empty_like(x)
    for _ in range(steps):
        workload.gradient(x, stream.next(), g)
        x -= lr * g
    return x


# -- the mean loss -----------------------------------------------------------------------------------------------------


def test_the_middle_of_a_landscape_is_the_evaluated_loss_bit_for_bit() -> None:
    workload = digits()
    x, objective = workload.initial(0), workload.objective()
    loss = ProbedLoss(objective, probe_set(objective, of="heldout", samples=None, micro_batch=1000))
    axes = random_directions(x, objective.spans, objective.shapes)
    line = landscape_1d(loss, x, axes, points=3)
    plane = landscape_2d(loss, x, axes, points=3)
    want = workload.heldout(x).loss
    assert line[line["alpha"] == 0]["loss"].tolist() == [want]
    assert plane[(plane["alpha"] == 0) & (plane["beta"] == 0)]["loss"].tolist() == [want]


def test_micro_batches_and_ranks_change_nothing_but_rounding() -> None:
    workload = digits()
    objective, x = workload.objective(), workload.initial(0)
    whole = probe_set(objective, samples=100, micro_batch=100)
    want, slope = mean_loss_and_gradient(objective, x, whole.batches, whole.samples)
    assert mean_loss(objective, x, whole.batches, whole.samples) == want
    for ranks, micro_batch in ((1, 7), (2, 16), (3, 100)):
        parts = [probe_set(objective, samples=100, micro_batch=micro_batch, rank=r, size=ranks) for r in range(ranks)]
        mine = [mean_loss_and_gradient(objective, x, part.batches, part.samples) for part in parts]
        assert sum(loss for loss, _ in mine) == pytest.approx(want, rel=1e-12)
        torch.testing.assert_close(torch.stack([g for _, g in mine]).sum(0), slope, rtol=1e-10, atol=1e-14)


def test_many_points_are_one_all_reduce() -> None:
    workload = digits()
    objective, points = workload.objective(), [workload.initial(seed) for seed in range(5)]
    halves = [probe_set(objective, samples=60, rank=rank, size=2) for rank in range(2)]
    other = mean_losses(objective, points, halves[1].batches, 60)
    calls = []

    def total(v: Tensor) -> Tensor:
        calls.append(len(v))
        return v + torch.from_numpy(other)

    got = ProbedLoss(objective, halves[0], total).values(iter(points))
    whole = probe_set(objective, samples=60)
    assert got == pytest.approx(mean_losses(objective, points, whole.batches, 60), rel=1e-12)
    assert calls == [5]


# -- directions --------------------------------------------------------------------------------------------------------

SPANS, SHAPES = [(0, 24), (24, 28), (28, 34), (34, 37)], [(4, 3, 1, 2), (4,), (2, 3), (3, 1)]


def rows_of(v: Tensor) -> list[Tensor]:
    """The filters of those tensors that have more than one axis."""
    return [*v[0:24].view(4, 6), *v[28:34].view(2, 3), *v[34:37].view(3, 1)]


def test_filters_are_as_long_as_the_models_and_biases_stay() -> None:
    x = random(37)
    first, second = random_directions(x, SPANS, SHAPES, seed=3).vectors
    assert not first[24:28].any() and not second[24:28].any()
    for own, d, e in zip(rows_of(x), rows_of(first), rows_of(second), strict=True):
        assert float(d.norm()) == pytest.approx(float(own.norm()), rel=1e-12)
        if len(own) > 1:
            assert float(e.norm()) == pytest.approx(float(own.norm()), rel=1e-12)
            assert abs(float(d @ e)) <= 1e-12 * float(own @ own)
        else:
            assert not e.any()  # one entry has no room for two directions


def test_layers_are_as_long_as_the_models() -> None:
    x = random(37)
    first, second = random_directions(x, SPANS, SHAPES, normalisation="layer").vectors
    for (lo, hi), shape in zip(SPANS, SHAPES, strict=True):
        for d in (first[lo:hi], second[lo:hi]):
            want = float(x[lo:hi].norm()) if len(shape) > 1 else 0.0
            assert float(d.norm()) == pytest.approx(want, rel=1e-12)
    assert abs(float(first @ second)) <= 1e-12 * float(x @ x)


def test_a_seed_is_a_direction_whatever_else_is_asked_for() -> None:
    x = random(37)
    one, two = (random_directions(x, SPANS, SHAPES, seed=5, count=count) for count in (1, 2))
    assert torch.equal(one.vectors[0], two.vectors[0])
    other = random_directions(x, SPANS, SHAPES, seed=6, count=1)
    assert not torch.equal(one.vectors[0], other.vectors[0])
    assert two.facts == {
        "directions": "random", "direction_seed": 5, "normalisation": "filter", "orthogonal": True,
    }  # fmt: skip
    assert random_directions(x.float(), SPANS, SHAPES).vectors.dtype == torch.float32


def test_a_filter_of_zeros_stays_and_a_plain_direction_moves_everything() -> None:
    x = random(37)
    x[0:6] = 0
    assert not random_directions(x, SPANS, SHAPES).vectors[:, 0:6].any()
    plain = random_directions(x, SPANS, SHAPES, normalisation="none").vectors
    assert bool((plain != 0).all()) and abs(float(plain[0] @ plain[1])) < 1e-12
    assert float(plain[0].norm()) == pytest.approx(37**0.5, rel=0.5)


@pytest.mark.parametrize("normalisation", ["filter", "layer"])
def test_a_rescaled_relu_network_has_the_same_landscape(normalisation: str) -> None:
    workload = digits()
    objective, loss, x = workload.objective(), probed(workload), trained(digits())
    planes = []
    for model in (x, rescaled(workload, x)):
        axes = random_directions(model, objective.spans, objective.shapes, normalisation=normalisation)  # type: ignore[arg-type]
        planes.append(landscape_2d(loss, model, axes, points=5)["loss"].to_numpy())
    assert planes[1] == pytest.approx(planes[0], rel=1e-10)
    assert planes[0].max() > 2 * planes[0][12]  # there is something to see


def test_without_normalisation_it_has_another_one() -> None:
    workload = digits()
    objective, loss, x = workload.objective(), probed(workload), trained(digits())
    lines = []
    for model in (x, rescaled(workload, x)):
        axes = random_directions(model, objective.spans, objective.shapes, normalisation="none", count=1)
        lines.append(landscape_1d(loss, model, axes, span=0.1, points=5)["loss"].to_numpy())
    assert abs(lines[1] / lines[0] - 1).max() > 0.05


def test_the_plane_of_a_trajectory_holds_it() -> None:
    """Models that lie in a plane are found there; coordinates are right on axes that are not orthogonal."""
    corner, u, v = random(30, seed=1), random(30, seed=2), random(30, seed=3)
    places = [(0.0, 0.0), (2.0, 1.0), (-1.0, 0.5), (0.5, -2.0)]
    models = torch.stack([corner + a * u + b * v for a, b in places])
    found = coordinates(models, corner, Directions(torch.stack([u, v])))
    assert found[["alpha", "beta"]].to_numpy() == pytest.approx(np.array(places), abs=1e-12)
    assert found["distance"].to_numpy() == pytest.approx(0, abs=1e-10)
    axes = principal_directions(models, models[-1])
    torch.testing.assert_close(axes.vectors @ axes.vectors.T, torch.eye(2).double(), rtol=0, atol=1e-12)
    assert coordinates(models, models[-1], axes)["distance"].to_numpy() == pytest.approx(0, abs=1e-10)
    shares = float(axes.facts["share_1"]), float(axes.facts["share_2"])
    assert sum(shares) == pytest.approx(1) and shares[0] > shares[1]
    with pytest.raises(ValueError, match="at most the directions that the models span: got 3"):
        principal_directions(models, models[-1], count=3)


# -- lines and planes --------------------------------------------------------------------------------------------------


def test_a_parabola_looks_as_it_should() -> None:
    """L at x* + alpha d1 + beta d2 is known at every point; the two axes are not mixed up."""
    workload = quadratic(4, heterogeneity=0.0)
    axes = Directions(random(2, workload.parameters, seed=4))
    plane = landscape_2d(probed(workload, None), workload.minimiser, axes, span=2.0, points=5)
    away = plane[["alpha", "beta"]].to_numpy() @ axes.vectors.numpy()
    want = 0.5 * (away**2) @ workload.eigenvalues.numpy()
    assert plane["loss"].to_numpy() == pytest.approx(want, rel=1e-12)
    assert sorted(plane["alpha"].unique()) == [-2, -1, 0, 1, 2]
    line = landscape_1d(probed(workload, None), workload.minimiser, axes, span=2.0, points=5)
    assert line["loss"].tolist() == plane[plane["beta"] == 0]["loss"].tolist()


def test_a_table_says_where_it_is_from() -> None:
    workload = digits()
    objective = workload.objective()
    axes = random_directions(workload.initial(0), objective.spans, objective.shapes, seed=9)
    attrs = landscape_1d(probed(workload), workload.initial(0), axes, points=3).attrs
    assert attrs["probe_set"] == probe_set(objective, samples=200).digest
    assert (attrs["direction_seed"], attrs["normalisation"], attrs["samples"]) == (9, "filter", 200)
    assert attrs["batch_norm"] == "none"


# -- between models ----------------------------------------------------------------------------------------------------


def wells(x: Tensor) -> Tensor:
    """Two minima at -1 and 1 of different depth: (x^2 - 1)^2 + x / 4, and a parabola across."""
    return (x[0] ** 2 - 1) ** 2 + x[0] / 4 + x[1:].square().sum()


def test_the_barrier_between_two_minima_is_the_hill_above_the_straight_line() -> None:
    """On the line the tilt is the straight line itself, so that the rise is (x^2 - 1)^2, 1 at the middle."""
    x, y = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double()
    line = interpolation(Known(wells), x, y, points=21)
    assert line["rise"].to_numpy() == pytest.approx(((2 * line["alpha"] - 1) ** 2 - 1) ** 2, abs=1e-14)
    found = barrier(line)
    assert (found.height, found.alpha) == (pytest.approx(1.0, abs=1e-14), 0.5)


def test_a_line_goes_on_behind_its_ends_and_meets_both_models() -> None:
    workload = digits()
    loss, x, y = probed(workload), workload.initial(0), workload.initial(1)
    line = interpolation(loss, x, y, points=5, beyond=0.5)
    assert line["alpha"].tolist() == [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    ends = line[line["alpha"].isin([0, 1])]
    assert ends["loss"].tolist() == loss.values([x, y]).tolist() and ends["rise"].tolist() == [0, 0]
    beyond = loss.values([x - 0.5 * (y - x)])
    assert line["loss"].iloc[0] == pytest.approx(beyond[0], rel=1e-12)
    inner = interpolation(loss, x, y, points=5)
    assert barrier(line) == barrier(inner)


def test_both_ends_are_met_to_the_last_bit_however_far_apart_they_are() -> None:
    x, y = torch.tensor([[1e17], [1.2345]], dtype=torch.float64)
    assert float(x + (y - x)) != float(y)
    line = interpolation(Known(torch.sum), x, y, points=3)
    assert line["loss"].tolist()[::2] == [1e17, 1.2345]
    assert line["rise"].tolist()[::2] == [0.0, 0.0]
    turned = interpolation(Known(torch.sum), y, x, points=3)
    assert turned["loss"].tolist() == line["loss"].tolist()[::-1]


def test_there_is_no_barrier_to_oneself() -> None:
    workload = digits()
    x = workload.initial(0)
    line = interpolation(probed(workload), x, x.clone(), points=9)
    assert line["rise"].tolist() == [0.0] * 9
    assert barrier(line).height == 0.0


def test_the_matrix_has_every_pair_once_and_is_symmetric() -> None:
    workload = digits()
    loss = probed(workload)
    models = torch.stack([trained(workload, seed=seed) for seed in range(4)])
    pairs = barriers(loss, models, points=7)
    assert len(pairs) == 6 and (pairs["barrier"] > 0.05).all()  # networks that started apart
    matrix = barrier_matrix(pairs)
    assert (matrix.to_numpy() == matrix.to_numpy().T).all() and not np.diag(matrix).any()
    for row in pairs.itertuples():
        found = barrier(interpolation(loss, models[row.first], models[row.second], points=7))
        assert row.barrier == pytest.approx(found.height, rel=1e-12) and row.alpha == pytest.approx(found.alpha)
        assert matrix.loc[row.first, row.second] == row.barrier
        assert row.distance == pytest.approx(float((models[row.first] - models[row.second]).norm()))
    assert matrix.attrs == pairs.attrs == loss.facts


def test_workers_against_their_mean_are_lines_to_it() -> None:
    workload = digits()
    loss = probed(workload)
    models = torch.stack([trained(workload, seed=seed, steps=20) for seed in range(3)])
    mean = models.mean(0)
    table = workers_against_mean(loss, models, points=7)
    for row in table.itertuples():
        found = barrier(interpolation(loss, models[row.worker], mean, points=7))
        assert (row.barrier, row.alpha) == (pytest.approx(found.height, rel=1e-9), pytest.approx(found.alpha))
        assert row.gap == row.loss - row.mean_loss
        assert row.distance == pytest.approx(float((models[row.worker] - mean).norm()))
    assert table["loss"].tolist() == pytest.approx(loss.values(models).tolist())
    assert table["mean_loss"].tolist() == pytest.approx([loss.values([mean])[0]] * 3)


def test_on_a_parabola_averaging_gains_half_the_spread_and_there_is_no_barrier() -> None:
    """mean_i L(x_i) - L(mean) = mean of 1/2 (x_i - mean)^T A (x_i - mean)."""
    workload = quadratic(4)
    models = random(5, workload.parameters)
    away = models - models.mean(0)
    table = workers_against_mean(probed(workload, None), models)
    want = float((0.5 * away.square() @ workload.eigenvalues).mean())
    assert table["gap"].mean() == pytest.approx(want, rel=1e-12)
    assert (table["barrier"] == 0).all()


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_equal_workers_differ_from_their_mean_in_nothing(workers: int) -> None:
    workload = digits()
    models = workload.initial(0).repeat(workers, 1)
    table = workers_against_mean(probed(workload), models, points=3)
    assert not table[["gap", "distance", "barrier", "alpha"]].to_numpy().any()


def test_a_loss_that_is_no_number_is_not_hidden() -> None:
    line = interpolation(Known(lambda x: x.sum().log()), torch.tensor([-1.0]), torch.tensor([1.0]), points=3)
    assert np.isnan(barrier(line).height)


# -- batch norm --------------------------------------------------------------------------------------------------------


@define("toy-batch-norm", optimizer={"name": "sgd", "lr": 0.1})
def toy_batch_norm(*, batch_size: int = 8) -> Problem:
    """A convolution with batch norm on noise that is not centred."""
    inputs, targets = 2 * random(64, 1, 3, 3).float() + 1, torch.arange(64) % 3

    def initialise(module: torch.nn.Module, generator: torch.Generator) -> None:
        for p in module.parameters():
            torch.nn.init.normal_(p, std=0.5, generator=generator)

    return Problem(
        module=torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), BatchNorm(3), torch.nn.Flatten()),
        initialise=initialise,
        train=Samples(inputs=inputs, targets=targets),
        heldout=(inputs, targets),
        calibration=inputs,
    )


def test_batch_norm_is_estimated_anew_at_every_point() -> None:
    """Every loss on the line is the one that the workload evaluates there, with statistics of that very model."""
    workload = toy_batch_norm(dtype="float64").build(torch.device("cpu"), 1)
    objective, x, y = workload.objective(), workload.initial(0), workload.initial(1)
    loss = ProbedLoss(objective, probe_set(objective, of="heldout", samples=None))
    line = interpolation(loss, x, y, points=5)
    want = [workload.heldout(torch.lerp(x, y, alpha)).loss for alpha in (0, 0.25, 0.5, 0.75, 1)]
    assert line["loss"].tolist() == pytest.approx(want, rel=1e-12)
    assert line.attrs["batch_norm"] == ESTIMATED_ANEW
    with torch.no_grad(), objective.at(x):  # what statistics of the first model would have said
        stale = float(objective.loss(objective.logits(y, objective.heldout.take(torch.arange(64))[0]),
                                     objective.heldout.take(torch.arange(64))[1]))  # fmt: skip
    assert abs(stale / want[-1] - 1) > 0.01


# -- mistakes ----------------------------------------------------------------------------------------------------------

X = torch.ones(37).double()
FLAT = Known(lambda x: x.sum())
TWO = Directions(torch.eye(2, 37).double())


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: landscape_1d(FLAT, X, TWO, points=4), "points must be odd and at least 3.*got 4"),
        (lambda: landscape_1d(FLAT, X, TWO, points=1), "points must be odd"),
        (lambda: landscape_1d(FLAT, X, TWO, span=0), "span must be positive and finite: got 0"),
        (lambda: landscape_2d(FLAT, X, Directions(TWO.vectors[:1])), "a plane needs two directions: got 1"),
        (lambda: random_directions(X, SPANS, SHAPES, normalisation="row"), "must be one of filter, layer, none"),  # type: ignore[arg-type]
        (lambda: random_directions(X, SPANS, SHAPES, count=0), "count must be finite and at least 1: got 0"),
        (lambda: random_directions(X, [(0, 37)], [(37,)]), "use normalisation='none'"),
        (lambda: interpolation(FLAT, X, X, points=2), "points must be finite and at least 3: got 2"),
        (lambda: interpolation(FLAT, X, X, beyond=-1), "beyond must be finite and at least 0: got -1"),
        (lambda: barriers(FLAT, X[None]), "a barrier needs two models: got 1"),
        (lambda: workers_against_mean(FLAT, X[:0].view(0, 0)), "models must be finite and at least 1: got 0"),
    ],
)
def test_mistakes_are_refused(call: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        call()


def test_facts_are_fit_for_a_file() -> None:
    facts: Facts = probed(digits()).facts
    assert pd.Series(facts).map(type).isin([str, int, float, bool]).all()
