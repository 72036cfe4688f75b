"""Eigenvalues at an end of the spectrum, with their vectors and residuals, by restarted Lanczos.

For a symmetric matrix an eigenvalue lies within the residual's norm of each value found, and the value's own error is
smaller still: residual squared over the distance to the next eigenvalue.

Source: see `analysis.probes.lanczos`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.probes.lanczos import Array, Lanczos, Ritz, signs
from analysis.probes.products import Operator

Which = Literal["LA", "SA", "LM"]

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}
SMALL = 512  # a matrix of no more rows is searched without restarts: at most its whole space
ENOUGH = 25  # products before a search that began anew may end; a random vector hardly sees one eigenvector at first
OFTEN, EVERY = 50, 10  # the size up to which each new vector has its eigenvalues looked at, and how often after that
SAFETY = 0.9  # of the tolerance, for residuals that are known from the basis only


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues at an end of the spectrum.

    Attributes:
        values: [k], the wanted end first.
        residuals: |A q - value q| [k], by a product with each final q.
        vectors: q [k, P], orthonormal, in the matrix's type and on its device.
        products: spent until they were found, on whatever.
        converged: all residuals are within the tolerance.
    """

    values: Array
    residuals: Array
    vectors: Tensor
    products: int
    converged: bool


def largest_eigenvalues(
    operator: Operator,
    k: int = 5,
    *,
    which: Which = "LA",
    tol: float | None = None,
    max_products: int = 1000,
    basis: int | None = None,
    seed: int = 0,
) -> Eigenpairs:
    """The k eigenvalues at an end of the spectrum, each as often as it occurs.

    A Krylov space contains one vector of each eigenspace, so that an eigenvalue's copies could go unseen (a linear
    classifier at zero has its largest one as often as it has classes, less one). Hence found vectors are kept and the
    search begins anew from a random vector, until it finds nothing that belongs among them.

    Args:
        operator: matrix [P, P].
        k: how many; at most P.
        which: "LA" largest, "SA" smallest, "LM" largest in absolute value.
        tol: a residual must be at most tol |value|, or tol / 1000 of the matrix's norm for values smaller than that.
            Default 1e-6 in float64; 1e-4 in float32, where 1e-6 of the norm is the least that can be reached.
        max_products: give up after about as many.
        basis: number of vectors of P numbers to hold, at least k + 2; default 3 k, at least 30, and P if that is 512 or
            less. Fewer need more products.
        seed: of the start vector.

    Raises:
        ValueError: k is not in [1, P], the basis is too small, or an unknown end.

    Example:
        >>> from analysis.probes.products import Matrix
        >>> diagonal = torch.cat([torch.linspace(-1, 1, 100), torch.tensor([5.0, 9.0, 9.0])]).double()
        >>> found = largest_eigenvalues(Matrix(torch.diag(diagonal)), k=3)
        >>> found.converged, found.values.round(9).tolist()
        (True, [9.0, 9.0, 5.0])
    """
    check_end(operator, k, which)
    usual = operator.parameters if operator.parameters <= SMALL else max(3 * k, 30)
    size = usual if basis is None else basis
    if size < min(k + 2, operator.parameters):
        raise ValueError(f"basis must hold at least k + 2 vectors: got basis={size}, k={k} (leave it out for {usual})")
    before = operator.products
    lanczos = Lanczos(operator, signs(1, operator, seed)[0], size, seed)
    tol = tolerance(operator, tol)
    _, vectors = search(lanczos, k, which, tol, before + max_products)
    return finish(lanczos, vectors, which, tol, before)


def smallest_eigenvalues(
    operator: Operator, k: int = 1, *, tol: float | None = None, max_products: int = 1000, seed: int = 0
) -> Eigenpairs:
    """The k smallest eigenvalues, most negative first: `largest_eigenvalues` at the other end."""
    return largest_eigenvalues(operator, k, which="SA", tol=tol, max_products=max_products, seed=seed)


def tolerance(operator: Operator, tol: float | None) -> float:
    """The tolerance that was asked for, or the type's default."""
    return TOLERANCES.get(operator.dtype, TOLERANCES[torch.float32]) if tol is None else tol


def check_end(operator: Operator, k: int, which: str) -> None:
    """Refuse a k or an end of the spectrum that does not exist."""
    if which not in get_args(Which):
        raise ValueError(f"which must be LA, SA or LM: got {which!r} (largest, smallest, largest in absolute value)")
    if not 1 <= k <= operator.parameters:
        raise ValueError(f"k must be from 1 to the number of parameters: got {k} of {operator.parameters} eigenvalues")


def search(
    lanczos: Lanczos, k: int, which: Which, tol: float, max_products: int, *, copies: bool = True
) -> tuple[Array, Tensor]:
    """Grow and restart a basis until its k Ritz pairs at an end have converged: values [k] and vectors [k, P].

    Args:
        lanczos: a basis, begun or grown.
        k, which, tol: see `largest_eigenvalues`.
        max_products: give up when the operator has computed as many.
        copies: begin anew from random vectors, to find further copies of eigenvalues.
    """
    known: Array | None = None  # what had been found when the search last began anew
    begun = 0  # products when it did
    while True:
        if lanczos.size >= k and (lanczos.size % EVERY == 0 or lanczos.size < OFTEN or lanczos.full):
            ritz = lanczos.ritz()
            end = order(ritz.values, which)
            good = lanczos.within(ritz.values, ritz.residuals, SAFETY * tol)
            found, done = ritz.values[end[:k]], good[end[:k]].all()
            full = lanczos.full
            if lanczos.exhausted or lanczos.products >= max_products or (done and not copies):
                break
            if done and (known is None or lanczos.products - begun >= ENOUGH):
                changed = known is None or np.abs(found - known).max() > tol * np.abs(found).max()
                if not changed and _settled(ritz, good, end, k, which):
                    break
                if changed:
                    lanczos.restart(ritz, end[:k], fresh=True)
                    known, begun, full = found, lanczos.products, False
            if full:
                lanczos.restart(ritz, end[: k + (lanczos.capacity - k) // 2])
        lanczos.grow()
    return found, lanczos.vectors(ritz.y[:, end[:k]])


def finish(lanczos: Lanczos, vectors: Tensor, which: Which, tol: float, before: int) -> Eigenpairs:
    """The pairs within the span of some vectors [k, P], with residuals by one block of products.

    Args:
        lanczos: that found them.
        vectors: linearly independent.
        which, tol: see `largest_eigenvalues`.
        before: the operator's number of products when the search began.
    """
    operator = lanczos.operator
    q = torch.linalg.qr(vectors.T).Q.T.contiguous()
    aq = operator.apply_block(q)
    projection = (q @ aq.T).double().cpu().numpy()
    values, y = np.linalg.eigh((projection + projection.T) / 2)
    best = order(values, which)
    turn = torch.from_numpy(np.ascontiguousarray(y[:, best].T)).to(q.device, q.dtype)
    q, aq = turn @ q, turn @ aq
    values = values[best]
    away = aq - torch.from_numpy(values).to(q.device, q.dtype)[:, None] * q
    residuals: Array = torch.linalg.vector_norm(away, dim=1, dtype=torch.float64).cpu().numpy()
    return Eigenpairs(
        values=values,
        residuals=residuals,
        vectors=q,
        products=operator.products - before,
        converged=bool(lanczos.within(values, residuals, tol).all()),
    )


def order(values: Array, which: Which) -> NDArray[np.intp]:
    """Numbers of the values, the wanted end first."""
    return np.argsort({"LA": -values, "SA": values, "LM": -np.abs(values)}[which], kind="stable")


def _settled(ritz: Ritz, good: NDArray[np.bool_], end: NDArray[np.intp], k: int, which: Which) -> bool:
    """Whether what a random vector led to stays behind the k pairs that were known before.

    It does if the first that is not among them is further away than its residual, or has converged itself.
    """
    rank = np.abs(ritz.values) if which == "LM" else ritz.values
    last, following = end[k - 1], end[k]
    return bool(ritz.residuals[following] < abs(rank[last] - rank[following]) or good[following])
