"""Eigenvalues, trace and density against dense linear algebra, on models and on matrices made for the purpose."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from analysis.probes.curvature import spectrum
from analysis.probes.density import Quadrature, quadrature
from analysis.probes.eigenvalues import Eigenpairs, Which, largest_eigenvalues, smallest_eigenvalues
from analysis.probes.lanczos import Array, Lanczos, signs
from analysis.probes.probe_set import probe_set
from analysis.probes.products import Curvature, Kind, Matrix
from analysis.probes.trace import Trace, hutch_plus_plus, hutchinson, xtrace
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.quadratic import Quadratic
from tests.support.curvature import CPU, KINDS, SAMPLES, dense, draw, mlp, own, together

ENDS: tuple[Which, ...] = ("LA", "SA", "LM")


@functools.cache
def model(kind: Kind) -> Tensor:
    """The dense matrix of 460 parameters."""
    objective, x = mlp()
    return dense(objective, x, probe_set(objective, samples=SAMPLES, micro_batch=12).batches, kind)


@functools.cache
def with_spectrum(values: tuple[float, ...]) -> Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    q = torch.linalg.qr(draw(0, len(values), len(values))).Q
    return (q * torch.tensor(values, dtype=torch.float64)) @ q.T


BULK = tuple(np.random.default_rng(0).normal(0, 0.3, 300))
SPECTRA: dict[str, tuple[float, ...]] = {
    "outliers": (*BULK, 20, 10, 8, 5, 4, 3.9),
    "copies": (*BULK, 20, 20, 20, 20, 3, 3, 3, -4, -4, -4),
    "both ends": (*BULK, -30, 20, -10, 5, 5),
    "low rank": (*[0.0] * 200, 5, 4, 3, 2, 1, 1, 1),
    "decaying": tuple(np.logspace(-4, 0, 200)),
    "identity": (1.0,) * 50,
    "small": tuple(range(-3, 5)),
}


def wanted(values: Array, which: Which, k: int) -> Array:
    key = {"LA": -values, "SA": values, "LM": -np.abs(values)}[which]
    return values[np.argsort(key, kind="stable")][:k]


# -- eigenvalues -----------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_of_a_model_are_those_of_its_dense_matrix(kind: Kind, which: Which) -> None:
    objective, x = mlp()
    chosen = probe_set(objective, samples=SAMPLES, micro_batch=12)
    with Curvature(objective, x, chosen.batches, samples=SAMPLES, kind=kind) as curvature:
        found = largest_eigenvalues(curvature, 5, which=which)
        assert found.products == curvature.products
    want = wanted(torch.linalg.eigvalsh(model(kind)).numpy(), which, 5)
    scale = 1e-6 * np.maximum(np.abs(want), 1e-3 * float(torch.linalg.matrix_norm(model(kind), 2)))
    assert found.converged
    assert (np.abs(found.values - want) <= scale).all()
    check(found, model(kind))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_come_as_often_as_they_occur(name: str, which: Which, dtype: torch.dtype) -> None:
    matrix = with_spectrum(SPECTRA[name])
    norm = max(map(abs, SPECTRA[name]))
    found = largest_eigenvalues(Matrix(matrix.to(dtype)), 5, which=which)
    want = wanted(np.array(SPECTRA[name], dtype=float), which, 5)
    sizes = np.abs if which == "LM" else np.asarray  # of equal size, either sign may come first
    assert found.converged
    assert np.abs(sizes(found.values) - sizes(want)).max() <= {torch.float64: 1e-9, torch.float32: 3e-6}[dtype] * norm


def check(found: Eigenpairs, matrix: Tensor) -> None:
    """The residuals are what they are said to be, and bound the distance to an eigenvalue."""
    q, k = found.vectors, len(found.values)
    torch.testing.assert_close(q @ q.T, torch.eye(k).double(), rtol=0, atol=1e-12)
    away = (q @ matrix - torch.from_numpy(found.values)[:, None] * q).norm(dim=1).numpy()
    assert found.residuals == pytest.approx(away, abs=1e-12)
    distance = np.abs(found.values[:, None] - torch.linalg.eigvalsh(matrix).numpy()).min(1)
    assert (distance <= found.residuals + 1e-12).all()


@pytest.mark.parametrize("classes", [3, 5])
def test_a_linear_classifier_at_zero_has_each_eigenvalue_classes_less_one_times(classes: int) -> None:
    """All classes are equally likely: H = (1 - 11^T / C) / C (x) the features' second moments."""
    module = nn.Linear(6, classes)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    features = draw(0, SAMPLES, 6)
    objective, x = own(module, features, torch.arange(SAMPLES) % classes)
    a = torch.cat([features, torch.ones(SAMPLES, 1).double()], 1)
    moments = torch.linalg.eigvalsh(a.T @ a / SAMPLES).flip(0).numpy() / classes
    batches = probe_set(objective, samples=None).batches
    for kind in KINDS:
        with Curvature(objective, x, batches, samples=SAMPLES, kind=kind) as curvature:
            found = largest_eigenvalues(curvature, 2 * (classes - 1))
        assert found.values == pytest.approx(np.repeat(moments[:2], classes - 1), rel=1e-9)


def test_quadratic_from_both_ends() -> None:
    workload = Quadratic(dimension=60, condition=50).build(CPU, 1)
    batches = probe_set(workload.objective(), samples=None).batches
    with Curvature(workload.objective(), workload.initial(0), batches, samples=1) as curvature:
        largest, smallest = largest_eigenvalues(curvature, 4), smallest_eigenvalues(curvature, 2)
    values = workload.eigenvalues.numpy()
    assert largest.values == pytest.approx(values[::-1][:4], rel=1e-10)
    assert smallest.values == pytest.approx(values[:2], rel=1e-6)


def test_a_search_that_is_cut_short_says_so_and_its_residuals_are_true() -> None:
    matrix = with_spectrum(SPECTRA["decaying"])
    found = largest_eigenvalues(Matrix(matrix), 5, max_products=12)
    assert not found.converged and found.products <= 12 + 5 + 1
    check(found, matrix)


def test_few_vectors_in_memory_need_more_products() -> None:
    matrix = model("hessian")
    few, many = (largest_eigenvalues(Matrix(matrix), 3, basis=basis) for basis in (6, 40))
    assert few.values == pytest.approx(many.values, rel=1e-10)
    assert few.products > many.products


def test_restarts_keep_what_is_known() -> None:
    """Ritz values, vectors and residuals after any number of restarts are those of the matrix."""
    matrix = with_spectrum(SPECTRA["outliers"])
    lanczos = Lanczos(Matrix(matrix), draw(1, len(matrix)), capacity=14, seed=0)
    for _ in range(4):
        lanczos.grow_to(14)
        ritz = lanczos.ritz()
        q = lanczos.vectors(ritz.y)
        torch.testing.assert_close(q @ q.T, torch.eye(14).double(), rtol=0, atol=1e-12)
        away = (q @ matrix - torch.from_numpy(ritz.values)[:, None] * q).norm(dim=1).numpy()
        assert ritz.residuals == pytest.approx(away, abs=1e-11)
        z = draw(2, len(matrix))
        outside = z - (z @ q.T) @ q
        assert lanczos.held(z) == pytest.approx(float(z @ matrix @ z - outside @ matrix @ outside), rel=1e-9)
        assert lanczos.trace() == pytest.approx(float((q @ matrix @ q.T).trace()), rel=1e-10)
        lanczos.restart(ritz, np.argsort(-ritz.values)[:6])


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_a_long_basis_stays_orthonormal(dtype: torch.dtype, error: float) -> None:
    """Without orthogonalisation it would be lost when the first eigenvalue is found, after some 20 vectors."""
    matrix = with_spectrum(SPECTRA["outliers"]).to(dtype)
    lanczos = Lanczos(Matrix(matrix), draw(1, len(matrix)), capacity=250, seed=0)
    lanczos.grow_to(250)
    q = lanczos.vectors(np.eye(250))
    assert float((q @ q.T - torch.eye(250)).abs().max()) < error


# -- trace -----------------------------------------------------------------------------------------------------------

TRACES: dict[str, Callable[[Matrix, int], Trace]] = {
    "hutchinson": lambda matrix, seed: hutchinson(matrix, 60, seed=seed),
    "hutch++": lambda matrix, seed: hutch_plus_plus(matrix, 60, seed=seed),
    "xtrace": lambda matrix, seed: xtrace(matrix, 40, seed=seed),
    "krylov-aware": lambda matrix, seed: spectrum(matrix, 3, probes=6, steps=10, seed=seed, tol=1.0).trace,
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["hessian", pytest.param("ggn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", TRACES)
def test_the_trace_is_within_its_interval_in_95_of_100_seeds(method: str, kind: Kind) -> None:
    """Of 200 seeds 190 are expected; fewer than 183 come by chance in 1 of 100 cases."""
    matrix = model(kind)
    truth = float(matrix.trace())
    found = [TRACES[method](Matrix(matrix), seed) for seed in range(200)]
    inside = [low <= truth <= high for low, high in (trace.interval() for trace in found)]
    assert {trace.method for trace in found} == {method}
    assert sum(inside) >= 183
    estimates = np.array([trace.estimate for trace in found])
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / 200**0.5  # unbiased
    errors = np.array([trace.standard_error for trace in found])
    widest = 2.5 if method == "xtrace" else 1.15  # the jackknife errs on the safe side
    assert 0.85 < np.sqrt((errors**2).mean()) / estimates.std() < widest


def test_xtrace_is_the_mean_of_its_definition_and_its_error_the_jackknife() -> None:
    """Each estimate with a subspace from a QR decomposition of its own."""
    matrix, m = with_spectrum(SPECTRA["outliers"]), 6
    z = signs(m, Matrix(matrix), seed=3)

    def by_definition(vectors: Tensor) -> float:
        estimates = []
        for i in range(len(vectors)):
            others = torch.cat([vectors[:i], vectors[i + 1 :]])
            q = torch.linalg.qr(matrix @ others.T).Q
            rest = vectors[i] - q @ (q.T @ vectors[i])
            estimates.append(float((q.T @ matrix @ q).trace() + rest @ matrix @ rest))
        return float(np.mean(estimates))

    left_out = [by_definition(torch.cat([z[:j], z[j + 1 :]])) for j in range(m)]
    found = xtrace(Matrix(matrix), 2 * m, seed=3)
    assert found.estimate == pytest.approx(by_definition(z), rel=1e-10)
    assert found.standard_error == pytest.approx(float(np.std(left_out)) * (m - 1) ** 0.5, rel=1e-8)
    assert (found.products, found.degrees) == (2 * m, m - 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_matrix_of_low_rank_is_traced_exactly_by_what_finds_its_range(dtype: torch.dtype) -> None:
    matrix = with_spectrum(SPECTRA["low rank"])
    for estimate in (hutch_plus_plus(Matrix(matrix.to(dtype)), 30), xtrace(Matrix(matrix.to(dtype)), 30)):
        rounding = 17 * 4 * torch.finfo(dtype).eps
        assert abs(estimate.estimate - 17) < 3 * estimate.standard_error + rounding
        assert estimate.standard_error < 2000 * torch.finfo(dtype).eps
    assert hutchinson(Matrix(matrix), 30).standard_error > 0.1


def test_xtrace_may_use_as_many_vectors_as_there_are_dimensions() -> None:
    found = xtrace(Matrix(with_spectrum(SPECTRA["small"])), 16)
    assert found.estimate == pytest.approx(4, abs=1e-9)


def test_large_eigenvalues_cost_hutchinson_most() -> None:
    """Scatter over 50 seeds, 30 products each."""
    matrix = with_spectrum(SPECTRA["outliers"])
    methods = (hutchinson, hutch_plus_plus, xtrace)
    scatter = [np.std([f(Matrix(matrix), 30, seed=s).estimate for s in range(50)]) for f in methods]
    assert scatter[0] > 2 * scatter[1] > 2 * scatter[2]


# -- density ---------------------------------------------------------------------------------------------------------


def test_nodes_and_weights_have_the_moments_of_their_vectors() -> None:
    """m steps: 2 m - 1 of them."""
    matrix = model("hessian") / float(torch.linalg.matrix_norm(model("hessian"), 2))
    found = quadrature(Matrix(matrix), probes=3, steps=5)
    z = signs(3, Matrix(matrix), 0)
    power = z
    for p in range(10):
        want = ((z * power).sum(1) / len(matrix)).mean()
        assert found.moment(p) == pytest.approx(float(want), rel=1e-10)
        power = power @ matrix
    assert found.weights.sum(1) == pytest.approx(np.ones(3), abs=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_is_close_to_the_dense_spectrum(kind: Kind) -> None:
    """In the distance between distributions (Wasserstein 1), over the range of eigenvalues; less with more vectors."""
    values = torch.linalg.eigvalsh(model(kind)).numpy()

    def distance(probes: int) -> float:
        found = quadrature(Matrix(model(kind)), probes=probes, steps=60)
        between = wasserstein_distance(found.nodes.ravel(), values, found.weights.ravel())
        return float(between / np.ptp(values))

    assert distance(40) < distance(10) / 2 < 0.001


@pytest.mark.parametrize("width", [None, 0.3, 1e-3])
def test_the_curve_has_mass_one_and_the_mean_of_the_trace(width: float | None) -> None:
    matrix = model("hessian")
    found = quadrature(Matrix(matrix), probes=4, steps=20, seed=5)
    curve = found.curve(width=width)
    assert curve.mass() == pytest.approx(1, abs=1e-9)
    mean = float(np.trapezoid(curve.grid * curve.values, curve.grid))
    assert mean * len(matrix) == pytest.approx(hutchinson(Matrix(matrix), 4, seed=5).estimate, rel=1e-7)
    assert found.moment() * len(matrix) == pytest.approx(hutchinson(Matrix(matrix), 4, seed=5).estimate, rel=1e-12)


def test_a_krylov_space_that_ends_early_leaves_no_gap() -> None:
    """A projection has two eigenvalues, so that two nodes say all."""
    found = quadrature(Matrix(torch.diag(torch.tensor([1.0] * 3 + [0.0] * 9).double())), probes=2, steps=6)
    assert found.nodes.shape == found.weights.shape == (2, 6)
    assert np.isfinite(found.nodes).all()
    assert [found.moment(p) for p in (0, 1, 2, 3)] == pytest.approx([1, 0.25, 0.25, 0.25])
    assert found.curve(np.array([0.0, 1.0]), width=0.01).values * 0.01 * math.sqrt(2 * math.pi) == pytest.approx(
        [0.75, 0.25]
    )


def test_a_single_node_can_be_drawn() -> None:
    assert Quadrature(np.array([[2.0]]), np.array([[1.0]])).curve().mass() == pytest.approx(1, abs=1e-9)
    assert Quadrature(np.array([[0.0]]), np.array([[1.0]])).curve().mass() == pytest.approx(1, abs=1e-9)


# -- all from one set of products ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [8, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_one_set_of_products_says_what_each_tool_would(kind: Kind, steps: int) -> None:
    """8 steps are too few for eigenvalues: the first run goes on for them alone."""
    matrix = model(kind)
    found = spectrum(Matrix(matrix), 5, probes=6, steps=steps, seed=2)
    alone = quadrature(Matrix(matrix), probes=6, steps=steps, seed=2)
    assert np.array_equal(found.quadrature.nodes, alone.nodes)
    assert np.array_equal(found.quadrature.weights, alone.weights)
    assert found.eigenpairs.converged
    assert found.eigenpairs.values == pytest.approx(wanted(torch.linalg.eigvalsh(matrix).numpy(), "LA", 5), rel=1e-9)
    check(found.eigenpairs, matrix)
    assert abs(found.trace.estimate - float(matrix.trace())) < 4 * found.trace.standard_error
    assert found.trace.standard_error < hutchinson(Matrix(matrix), 6, seed=2).standard_error
    if steps == 60:
        assert found.products == 6 * steps + 5


def test_both_ends_from_one_set_of_products() -> None:
    matrix = model("hessian")
    values = torch.linalg.eigvalsh(matrix).numpy()
    found = spectrum(Matrix(matrix), 5, smallest=2, probes=3, steps=70)
    assert found.smallest is not None and found.smallest.converged
    assert found.smallest.values == pytest.approx(values[:2], rel=1e-9)
    assert found.eigenpairs.values == pytest.approx(values[::-1][:5], rel=1e-9)
    check(found.smallest, matrix)


def test_an_end_that_does_not_converge_is_given_up_and_said_so() -> None:
    """The Gauss-Newton matrix of 460 parameters and 400 logits is singular."""
    matrix = model("ggn")
    found = spectrum(Matrix(matrix), 2, smallest=1, probes=3, steps=40)
    assert found.smallest is not None and not found.smallest.converged and found.eigenpairs.converged
    assert found.products <= 2 * 3 * 40 + 3
    assert 0 <= found.smallest.values[0] < 1e-3 * found.eigenpairs.values[0]
    check(found.smallest, matrix)


@pytest.mark.parametrize("which", ENDS)
def test_the_other_runs_find_an_eigenvalue_s_copies(which: Which) -> None:
    found = spectrum(Matrix(with_spectrum(SPECTRA["copies"])), 5, which=which, probes=6, steps=60)
    want = wanted(np.array(SPECTRA["copies"]), which, 5)
    assert found.eigenpairs.converged
    assert found.eigenpairs.values == pytest.approx(want, rel=1e-9)


def test_a_basis_that_spans_everything_leaves_nothing_to_estimate() -> None:
    found = spectrum(Matrix(with_spectrum(SPECTRA["small"])), 8, probes=3, steps=20)
    assert found.eigenpairs.values == pytest.approx(np.arange(4, -4, -1), abs=1e-12)
    assert found.trace.estimate == pytest.approx(4, abs=1e-10)
    assert found.trace.standard_error < 1e-12


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_find_what_one_finds(ranks: int) -> None:
    def work(rank: int, total: Callable[[Tensor], Tensor], size: int = ranks) -> tuple[Array, Trace, Quadrature]:
        objective, x = mlp()
        chosen = probe_set(objective, samples=SAMPLES + 1, micro_batch=12, rank=rank, size=size)
        with Curvature(objective, x, chosen.batches, samples=chosen.samples, total=total) as curvature:
            found = spectrum(curvature, 3, probes=3, steps=12)
        return found.eigenpairs.values, found.trace, found.quadrature

    want = work(0, lambda v: v, size=1)
    for values, trace, density in together(ranks, work):
        assert values == pytest.approx(want[0], rel=1e-6)
        assert trace.estimate == pytest.approx(want[1].estimate, rel=1e-6)
        assert density.nodes == pytest.approx(want[2].nodes, rel=1e-6, abs=1e-9)


def test_float32_finds_eigenvalues_to_a_millionth_of_the_norm() -> None:
    x = mlp()[1]
    single = DigitsMlp(width=6, depth=1).build(CPU, 1).objective()
    chosen = probe_set(single, samples=SAMPLES, micro_batch=12)
    with Curvature(single, x, chosen.batches, samples=SAMPLES) as curvature:
        found = spectrum(curvature, 5, probes=3, steps=40)
    assert found.eigenpairs.converged and found.eigenpairs.vectors.dtype == torch.float32
    want = wanted(torch.linalg.eigvalsh(model("hessian")).numpy(), "LA", 5)
    assert np.abs(found.eigenpairs.values - want).max() < 2e-6 * want[0]


def test_products_that_are_not_finite_are_refused() -> None:
    matrix = torch.eye(9).double()
    matrix[3, 3] = float("inf")
    with pytest.raises(ValueError, match="products must be finite: got one of norm"):
        largest_eigenvalues(Matrix(matrix), 2)


def test_a_matrix_of_zeros_has_a_spectrum_too() -> None:
    found = spectrum(Matrix(torch.zeros(9, 9).double()), 2, probes=3, steps=4)
    assert found.eigenpairs.converged and (found.eigenpairs.values == 0).all()
    assert (found.trace.estimate, found.trace.standard_error, found.quadrature.moment()) == (0, 0, 0)


def test_what_cannot_be_is_refused() -> None:
    matrix = Matrix(torch.eye(9).double())
    with pytest.raises(ValueError, match="k must be from 1 to the number of parameters: got 10 of 9"):
        largest_eigenvalues(matrix, 10)
    with pytest.raises(ValueError, match="which must be LA, SA or LM: got 'SM'"):
        largest_eigenvalues(matrix, 1, which="SM")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="basis must hold at least k \\+ 2 vectors: got basis=4, k=3"):
        largest_eigenvalues(matrix, 3, basis=4)
    with pytest.raises(ValueError, match="probes must be at least 3"):
        spectrum(matrix, 1, probes=2)
    with pytest.raises(ValueError, match="steps must be at least 1: got 0"):
        quadrature(matrix, steps=0)
    with pytest.raises(ValueError, match="products of hutchinson must be at least 2: got 1"):
        hutchinson(matrix, 1)
    with pytest.raises(ValueError, match=r"products of hutch\+\+ must be at least 4: got 3"):
        hutch_plus_plus(matrix, 3)
    for products in (7, 20):
        with pytest.raises(ValueError, match="even and at most twice the number of parameters"):
            xtrace(matrix, products)
    with pytest.raises(ValueError, match="width must be positive: got 0"):
        quadrature(matrix, probes=1, steps=2).curve(width=0.0)
