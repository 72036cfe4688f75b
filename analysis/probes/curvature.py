"""Top eigenvalues, trace and spectral density of a curvature matrix, all from one set of products.

Three tools of their own would spend three sets. But a Lanczos run from a random vector z of signs, which the density
needs, has more to tell:

    eigenvalues   the ends of its spectrum converge first; the first run goes on until they have, the others confirm
                  them, and find further copies of an eigenvalue, of which one run sees only one
    trace         its first coefficient is z^T A z / P, Hutchinson's form. With the eigenvectors Q known, the part of
                  the variance that their eigenvalues Lambda cause goes: the mean of z^T A z - |Lambda^1/2 Q^T z|^2
                  estimates the trace of what is left, tr Lambda is exact

Symbols: A [P, P], z vector of signs, Q [k, P] eigenvectors in rows, Lambda their eigenvalues.
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
        trace: estimate and standard error, from `probes` vectors without the eigenpairs' part.
        quadrature: nodes and weights of the density; P times its mean is Hutchinson's plain estimate of the trace.
        products: in all.
    """

    eigenpairs: Eigenpairs
    trace: Trace
    quadrature: Quadrature
    products: int


def spectrum(
    operator: Operator,
    k: int = 5,
    *,
    which: Which = "LA",
    probes: int = 10,
    steps: int = 60,
    tol: float | None = None,
    max_products: int = 1000,
    seed: int = 0,
) -> Spectrum:
    """The k eigenvalues at an end, the trace and the density.

    Args:
        operator: matrix [P, P].
        k, which, tol: see `analysis.probes.eigenvalues.largest_eigenvalues`. An eigenvalue's copies are seen up to the
            number of probes, by those whose run converges within `steps`.
        probes: number of random vectors, at least 2.
        steps: products for each. It takes (steps + 1) P numbers, or those of k + 15 vectors if that is more.
        max_products: for eigenvalues that have not converged in the first run; on top of probes * steps.
        seed: of the signs.

    Raises:
        ValueError: fewer than 2 probes, no steps, k not in [1, P], or an unknown end.

    Example:
        >>> from analysis.probes.products import Matrix
        >>> diagonal = torch.cat([torch.linspace(-1, 1, 100), torch.tensor([5.0, 9.0])]).double()
        >>> found = spectrum(Matrix(torch.diag(diagonal)), k=2, probes=2, steps=30)
        >>> found.eigenpairs.values.round(9).tolist(), round(found.trace.estimate, 9), found.products
        ([9.0, 5.0], 14.0, 62)
    """
    check_end(operator, k, which)
    check_rule(probes, steps)
    if probes < 2:
        raise ValueError(f"probes must be at least 2 for a standard error: got {probes} (10 are usual)")
    tol = tolerance(operator, tol)
    before = operator.products
    lanczos = Lanczos(operator, signs(1, operator, seed)[0], max(steps, k + 15), seed)
    rules = [rule(lanczos, steps)]
    values, vectors = search(lanczos, k, which, tol, operator.products + max_products, copies=False)
    for probe in range(1, probes):
        lanczos.begin(signs(1, operator, seed, probe)[0])
        rules.append(rule(lanczos, steps))
        values, vectors = _confirm(lanczos, values, vectors, which, tol)
    pairs = finish(lanczos, vectors, which, tol, before)
    found = gather(rules)
    return Spectrum(pairs, _trace(operator, pairs, found, seed), found, operator.products - before)


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


def _trace(operator: Operator, pairs: Eigenpairs, found: Quadrature, seed: int) -> Trace:
    """Hutchinson's estimate of the trace of A - Q^T Lambda Q from the runs' start vectors, and the trace of Lambda."""
    forms = operator.parameters * (found.weights * found.nodes).sum(1)
    for probe in range(len(forms)):
        overlap = pairs.vectors @ signs(1, operator, seed, probe)[0]
        forms[probe] += pairs.values @ (1 - overlap.double().cpu().numpy() ** 2)
    rounding = operator.parameters * float(np.abs(found.nodes).max()) * torch.finfo(operator.dtype).eps
    error = float(np.hypot(np.std(forms, ddof=1) / len(forms) ** 0.5, rounding))
    return Trace(float(forms.mean()), error, len(forms), len(forms) - 1, "hutchinson, deflated")
