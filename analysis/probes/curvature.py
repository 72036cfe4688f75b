"""Top eigenvalues, trace and spectral density of a curvature matrix, all from one set of products.

Three tools of their own would spend three sets. But a Lanczos run from a random vector z of signs, which the density
needs, has more to tell:

    eigenvalues   the ends of its spectrum converge first; the first run goes on until they have, the others confirm
                  them, and find further copies of an eigenvalue, of which one run sees only one
    trace         its first coefficient is z^T A z / P, Hutchinson's form. The first run's basis V holds most of A, and
                  its products are known: the trace there is exact, and the other runs' forms estimate the trace of
                  what is left, (1 - V^T V) A (1 - V^T V), at no further product. Large eigenvalues, which make
                  Hutchinson's estimate noisy, are not in it

Symbols: A [P, P], z vector of signs, V [steps, P] orthonormal in rows.

Source of the trace: Chen and Hallman, Krylov-Aware Stochastic Trace Estimation, arXiv 2205.01736; here with one
vector's Krylov space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.probes.density import Quadrature, check_rule, gather, rule
from analysis.probes.eigenvalues import Eigenpairs, Which, check_end, finish, order, search, tolerance
from analysis.probes.lanczos import Array, Lanczos, signs
from analysis.probes.products import Operator
from analysis.probes.trace import Trace

NEW = 0.5  # a Ritz vector with more than this outside the eigenvectors known is another one


@dataclass(frozen=True)
class Spectrum:
    """What a set of products says about a matrix.

    Attributes:
        eigenpairs: at the wanted end.
        smallest: the smallest eigenvalues; None if none were asked for.
        trace: its value on the first run's Krylov space, and an estimate of the rest with its standard error.
        quadrature: nodes and weights of the density; P times its mean is Hutchinson's plain estimate of the trace.
        products: in all.
    """

    eigenpairs: Eigenpairs
    smallest: Eigenpairs | None
    trace: Trace
    quadrature: Quadrature
    products: int


def spectrum(
    operator: Operator,
    k: int = 5,
    *,
    which: Which = "LA",
    smallest: int = 0,
    probes: int = 10,
    steps: int = 60,
    tol: float | None = None,
    max_products: int | None = None,
    seed: int = 0,
) -> Spectrum:
    """The k eigenvalues at an end, the trace and the density.

    Args:
        operator: matrix [P, P].
        k, which, tol: see `analysis.probes.eigenvalues.largest_eigenvalues`. An eigenvalue's copies are seen up to the
            number of probes, by those whose run converges within `steps`.
        smallest: how many of the smallest eigenvalues, too. Those of a Gauss-Newton matrix with more parameters than
            logits are zero, and Lanczos gets there slowly: the search ends by `max_products`.
        probes: number of random vectors, at least 3.
        steps: products for each. It takes (steps + 1) P numbers, or those of k + 15 vectors if that is more.
        max_products: for eigenvalues that have not converged in the first run, at each end, on top of probes * steps;
            None: as many as those.
        seed: of the signs.

    Raises:
        ValueError: fewer than 3 probes, no steps, k not in [1, P], or an unknown end.

    Example:
        >>> from analysis.probes.products import Matrix
        >>> diagonal = torch.cat([torch.linspace(-1, 1, 100), torch.tensor([5.0, 9.0])]).double()
        >>> found = spectrum(Matrix(torch.diag(diagonal)), k=2, probes=3, steps=30)
        >>> low, high = found.trace.interval()
        >>> found.eigenpairs.values.round(9).tolist(), low < 14 < high, found.products
        ([9.0, 5.0], True, 92)
    """
    ends: list[tuple[Which, int]] = [(which, k)]
    if smallest:
        ends.append(("SA", smallest))
    for end, count in ends:
        check_end(operator, count, end)
    check_rule(probes, steps)
    if probes < 3:
        raise ValueError(f"probes must be at least 3 for a standard error: got {probes} (10 are usual)")
    tol = tolerance(operator, tol)
    more = probes * steps if max_products is None else max_products
    before = operator.products
    lanczos = Lanczos(operator, signs(1, operator, seed)[0], max(steps, max(k, smallest) + 15), seed)
    rules = [rule(lanczos, steps)]
    inside = lanczos.trace()
    held = [lanczos.held(signs(1, operator, seed, probe)[0]) for probe in range(1, probes)]
    known = [search(lanczos, count, end, tol, operator.products + more, copies=False) for end, count in ends]
    for probe in range(1, probes):
        lanczos.begin(signs(1, operator, seed, probe)[0])
        rules.append(rule(lanczos, steps))
        known = [_confirm(lanczos, *pairs, end, tol) for pairs, (end, _) in zip(known, ends, strict=True)]
    found = [finish(lanczos, q, end, tol, before) for (_, q), (end, _) in zip(known, ends, strict=True)]
    density = gather(rules)
    return Spectrum(
        eigenpairs=found[0],
        smallest=found[1] if smallest else None,
        trace=_trace(operator, density, inside, np.array(held)),
        quadrature=density,
        products=operator.products - before,
    )


def _confirm(lanczos: Lanczos, values: Array, vectors: Tensor, which: Which, tol: float) -> tuple[Array, Tensor]:
    """Eigenvalues [k] and vectors [k, P], with those of another run that belong among them and had been missed."""
    k, ritz = len(values), lanczos.ritz()
    end = order(ritz.values, which)[:k]
    end = end[lanczos.within(ritz.values, ritz.residuals, tol)[end]]
    for value, q in zip(ritz.values[end], lanczos.vectors(ritz.y[:, end]), strict=True):
        worst = values[-1]
        if order(np.array([worst, value]), which)[0] == 0 or abs(value - worst) <= tol * abs(worst):
            continue
        rest = q - (q @ vectors.T) @ vectors
        size = float(torch.linalg.vector_norm(rest))
        if size > NEW:
            values = np.append(values, value)
            best = order(values, which)[:k]
            values, vectors = values[best], torch.cat([vectors, rest[None] / size])[torch.from_numpy(best)]
    return values, vectors


def _trace(operator: Operator, found: Quadrature, inside: float, held: Array) -> Trace:
    """`inside`, and Hutchinson's estimate of what the first run did not hold of the others' forms."""
    forms = operator.parameters * (found.weights * found.nodes).sum(1)[1:] - held
    rounding = operator.parameters * float(np.abs(found.nodes).max()) * torch.finfo(operator.dtype).eps
    error = float(np.hypot(np.std(forms, ddof=1) / len(forms) ** 0.5, rounding))
    return Trace(inside + float(forms.mean()), error, found.nodes.size, len(forms) - 1, "krylov-aware")
