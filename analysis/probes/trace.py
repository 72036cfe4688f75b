"""The trace of a symmetric matrix from products with random signs, with a standard error.

    hutchinson   mean of z^T A z. The standard error falls with 1 / sqrt(products)
    hutch++      a third of the products finds a subspace Q that holds most of A, a third takes A's trace there exactly,
                 and the rest estimates what is left
    xtrace       every z serves both ends: it is tested against the subspace of all others, and the estimates are
                 averaged. The most accurate where the spectrum falls off

All are unbiased. The first should not be trusted with few products and few large eigenvalues: z^T A z is then far from
normal, its interval too narrow, and the other two are made for that.

Symbols: A [P, P], z vectors of signs, Q orthonormal columns.

Source: Girard 1989 and Hutchinson 1990. Meyer, Musco, Musco and Woodruff, Hutch++: Optimal Stochastic Trace Estimation,
arXiv 2010.09649. Epperly, Tropp and Webber, XTrace: Making the Most of Every Sample in Stochastic Trace Estimation,
arXiv 2301.07825.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from analysis.probes.lanczos import Array, signs
from analysis.probes.products import Operator

Method = Literal["hutchinson", "hutch++", "xtrace", "krylov-aware"]

BLOCK = 8  # products at a time


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        estimate: of the trace.
        standard_error: standard deviation of the estimate over seeds, estimated, and no less than rounding. XTrace's
            errs on the safe side, by a third if the spectrum is flat and by a factor of 2 or more if it falls off.
        products: spent on it.
        degrees: degrees of freedom of the standard error.
        method: by which.
    """

    estimate: float
    standard_error: float
    products: int
    degrees: int
    method: Method

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Lower and upper end of the interval that holds the trace with this probability, by Student's t."""
        half = float(stats.t.ppf((1 + level) / 2, self.degrees)) * self.standard_error
        return self.estimate - half, self.estimate + half


def hutchinson(operator: Operator, products: int = 30, *, seed: int = 0) -> Trace:
    """The trace by Hutchinson's estimator.

    Args:
        operator: A.
        products: number of random vectors, at least 2.
        seed: of the signs.

    Raises:
        ValueError: too few products.

    Example:
        Signs give the trace of a diagonal matrix exactly, whatever the seed:

        >>> from analysis.probes.products import Matrix
        >>> found = hutchinson(Matrix(torch.diag(torch.tensor([1.0, 2.0, 4.0]).double())), 2)
        >>> round(found.estimate, 12), found.standard_error < 1e-14, found.products
        (7.0, True, 2)
    """
    _enough(products, 2, "hutchinson")
    forms, rounding = [], 0.0
    for z in _blocks(operator, 0, products, seed):
        az = operator.apply_block(z)
        forms += _rowwise(z, az).tolist()
        rounding = max(rounding, _rounding(z, az))
    return _mean(np.array(forms), 0.0, rounding, products, "hutchinson")


def hutch_plus_plus(operator: Operator, products: int = 30, *, seed: int = 0) -> Trace:
    """The trace by Hutch++.

    Args:
        operator: A.
        products: in all; a third of them, rounded down, is the dimension of the subspace. At least 4. It takes two
            blocks of a third times P numbers.
        seed: of the signs.

    Raises:
        ValueError: too few products.

    Example:
        A matrix of rank 3, which the subspace holds:

        >>> from analysis.probes.products import Matrix
        >>> three = torch.eye(3, 50).double() + 1
        >>> found = hutch_plus_plus(Matrix(three.T @ three), 12)
        >>> abs(found.estimate - 159) < 1e-9, found.standard_error < 1e-9, found.products
        (True, True, 12)
    """
    _enough(products, 4, "hutch++")
    dimension = min(products // 3, operator.parameters)
    q = _range(operator.apply_block(signs(dimension, operator, seed)))
    aq = operator.apply_block(q)
    inside = float(_rowwise(q, aq).sum())
    forms, rounding = [], 0.0
    for z in _blocks(operator, dimension, products - 2 * dimension, seed):
        outside = z - (z @ q.T) @ q
        az = operator.apply_block(outside)
        forms += _rowwise(outside, az).tolist()
        rounding = max(rounding, _rounding(z, az))
    return _mean(np.array(forms), inside, rounding + _rounding(q, aq), products, "hutch++")


def xtrace(operator: Operator, products: int = 30, *, seed: int = 0) -> Trace:
    """The trace by XTrace.

    Args:
        operator: A.
        products: in all, even, at least 4, at most 2 P; half of them is the number of random vectors. It takes four
            blocks of as many times P numbers.
        seed: of the signs.

    Raises:
        ValueError: too few products, too many, or an odd number.

    Example:
        A matrix of rank 3, which the subspace holds:

        >>> from analysis.probes.products import Matrix
        >>> three = torch.eye(3, 50).double() + 1
        >>> found = xtrace(Matrix(three.T @ three), 12)
        >>> abs(found.estimate - 159) < 1e-9, found.standard_error < 1e-9, found.products
        (True, True, 12)
    """
    _enough(products, 4, "xtrace")
    if products % 2 or products > 2 * operator.parameters:
        raise ValueError(
            f"products of xtrace must be even and at most twice the number of parameters: got {products} for "
            f"{operator.parameters} (try {2 * min(products // 2, operator.parameters)})"
        )
    m = products // 2
    z = signs(m, operator, seed)
    az = operator.apply_block(z)
    q_columns, r = torch.linalg.qr(az.T)
    q = q_columns.T.contiguous()
    aq = operator.apply_block(q)

    # From here on in the coordinates of Q: numbers [m, m], float64. Leaving z_i out of the subspace takes the direction
    # s_i from it: the column of R^-T, to unit length. Where A has no more to give, R is singular and the direction is
    # one on which A vanishes, so that any rounding of it will do.
    small = _host(r)
    diagonal = np.abs(small.diagonal())
    tiny = np.finfo(np.float64).tiny + torch.finfo(operator.dtype).eps * diagonal.max()
    small = small + np.diag(np.where(diagonal < tiny, tiny, 0.0))
    s = np.linalg.inv(small)
    s /= np.linalg.norm(s, axis=1, keepdims=True)  # s_i in row i
    parts = _Parts(h=_host(q @ aq.T), w=_host(z @ q.T), t=_host(az @ q.T), forms=_host((z * az).sum(1)))
    estimates = parts.without(s[:, None, :])

    # The estimates share their vectors, so that their scatter is too small for the error of their mean. The jackknife's
    # is not (Efron and Stein 1981): XTrace of all vectors but j, for every j.
    jackknife = np.empty(m)
    for j in range(m):
        others = np.delete(np.arange(m), j)
        pairs = np.stack([s[others], np.broadcast_to(s[j], (m - 1, m))], axis=1)
        jackknife[j] = parts.without(pairs, others).mean()
    error = float(np.std(jackknife)) * (m - 1) ** 0.5
    return Trace(float(estimates.mean()), float(np.hypot(error, _rounding(z, az))), products, m - 1, "xtrace")


@dataclass(frozen=True)
class _Parts:
    """What XTrace knows of A and its m vectors z, in the coordinates of Q.

    Attributes:
        h: Q^T A Q [m, m].
        w, t: Q^T z and Q^T A z of each vector, in rows [m, m].
        forms: z^T A z [m].
    """

    h: Array
    w: Array
    t: Array
    forms: Array

    def without(self, directions: Array, vectors: NDArray[np.intp] | slice = slice(None)) -> Array:
        """Estimates of the trace, each by one vector and the subspace without some directions.

        Args:
            directions: to take from Q [n, d, m], d for each estimate; unit vectors.
            vectors: numbers [n] of the vectors.
        """
        gram = directions @ directions.transpose(0, 2, 1)
        dual = np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ directions  # projector: directions^T dual
        inside = self.h.trace() - np.einsum("ndi,ij,ndj->n", dual, self.h, directions)
        w, t = self.w[vectors], self.t[vectors]
        kept = w - np.einsum("ndi,nd->ni", directions, np.einsum("ndi,ni->nd", dual, w))
        # z^T (1 - Q' Q'^T) A (1 - Q' Q'^T) z, multiplied out.
        outside = self.forms[vectors] - 2 * (kept * t).sum(1) + np.einsum("ni,ij,nj->n", kept, self.h, kept)
        found: Array = inside + outside
        return found


METHODS: Mapping[Method, Callable[..., Trace]] = {
    "hutchinson": hutchinson,
    "hutch++": hutch_plus_plus,
    "xtrace": xtrace,
}
"""Method -> its function of (operator, products, seed=...)."""


def _mean(forms: Array, exact: float, rounding: float, products: int, method: Method) -> Trace:
    error = float(np.std(forms, ddof=1)) / len(forms) ** 0.5
    return Trace(exact + float(np.mean(forms)), float(np.hypot(error, rounding)), products, len(forms) - 1, method)


def _blocks(operator: Operator, skip: int, count: int, seed: int) -> Iterator[Tensor]:
    for first in range(skip, skip + count, BLOCK):
        yield signs(min(BLOCK, skip + count - first), operator, seed, first)


def _range(vectors: Tensor) -> Tensor:
    """An orthonormal basis, in rows, of the span of some rows [m, P]."""
    basis: Tensor = torch.linalg.qr(vectors.T).Q.T.contiguous()
    return basis


def _rowwise(a: Tensor, b: Tensor) -> Array:
    return _host((a * b).sum(1))


def _rounding(v: Tensor, av: Tensor) -> float:
    """What v^T A v may be off by, by rounding of the product in its own type."""
    sizes = [torch.linalg.vector_norm(t, dim=1, dtype=torch.float64) for t in (v, av)]
    return float((sizes[0] * sizes[1]).max()) * torch.finfo(av.dtype).eps


def _host(t: Tensor) -> Array:
    values: Array = t.double().cpu().numpy()
    return values


def _enough(products: int, least: int, method: str) -> None:
    if products < least:
        raise ValueError(f"products of {method} must be at least {least}: got {products} (30 are usual)")
