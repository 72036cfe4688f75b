"""A Krylov basis of a symmetric matrix: it grows by one product a vector, and shrinks to its best Ritz vectors.

    A V^T = V^T T + residual e_m^T        rows of V orthonormal, T = V A V^T

Every new vector is made orthogonal to the whole basis, not to the last two only: rounding would otherwise let found
eigenvalues appear again as ghosts. Basis and products are of the matrix's own type: in float32 a product, and with it
an eigenvalue, is good to about 1e-6 of the norm of A, and vectors of float64 would not make it better. Small matrices
are float64.

Symbols: A [P, P], V basis [m, P], T its projection [m, m], theta Ritz values, y eigenvectors of T.

Source: Lanczos 1950. Restarts: Wu and Simon, Thick-Restart Lanczos Method for Large Symmetric Eigenvalue Problems, SIAM
J. Matrix Anal. Appl. 22 (2000). When to orthogonalise again: Daniel, Gragg, Kaufman and Stewart, Math. Comp. 30 (1976).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.probes.products import Operator
from bench.workloads.base import seed_sequence

Array = NDArray[np.float64]

LEAST = 1e-3  # of A's norm: a smaller eigenvalue is found to the accuracy of one of this size
AGAIN = 0.7  # a vector that loses more of its length than this to the basis is made orthogonal once more


def signs(count: int, operator: Operator, seed: int, skip: int = 0) -> Tensor:
    """Random signs [count, P]: rows `skip`, `skip` + 1, ... of an endless table that the seed alone decides."""
    rows = []
    for row in range(skip, skip + count):
        rng = np.random.default_rng(seed_sequence(seed, row, "probe vector"))
        bits = torch.from_numpy(rng.integers(0, 2, operator.parameters, dtype=np.int8))
        rows.append((2 * bits - 1).to(operator.device, operator.dtype))
    return torch.stack(rows)


@dataclass(frozen=True)
class Ritz:
    """What a basis says about the spectrum.

    Attributes:
        values: Ritz values [m], ascending.
        residuals: norm of A q - theta q of each Ritz vector q, up to rounding, without a product.
        weights: squared first components of the y [m]: those of a quadrature by the start vector, before any restart.
        y: eigenvectors of T in columns [m, m]; q = V^T y.
    """

    values: Array
    residuals: Array
    weights: Array
    y: Array


class Lanczos:
    """The basis that starts at one vector.

    Args:
        operator: A; also an attribute.
        start: first vector [P], of any length but zero.
        capacity: largest m; the basis takes (capacity + 1) P numbers.
        seed: of the vector that goes on where the Krylov space ends.

    Attributes:
        size: m.
        exhausted: the basis spans the whole space.

    Example:
        >>> from analysis.probes.products import Matrix
        >>> diagonal = Matrix(torch.diag(torch.tensor([1.0, 2.0, 4.0]).double()))
        >>> basis = Lanczos(diagonal, torch.ones(3), capacity=9, seed=0)
        >>> basis.grow_to(9)
        >>> basis.size, basis.ritz().values.round(12).tolist(), diagonal.products
        (3, [1.0, 2.0, 4.0], 3)
    """

    def __init__(self, operator: Operator, start: Tensor, capacity: int, seed: int) -> None:
        self.operator = operator
        self.capacity = min(capacity, operator.parameters)
        self._basis = torch.empty(self.capacity + 1, operator.parameters, dtype=operator.dtype, device=operator.device)
        self._projection: Array = np.zeros((self.capacity + 1, self.capacity + 1))
        self._norm = 0.0  # largest norm of a product with a vector of the basis, at most A's own
        self._rng = np.random.default_rng(seed_sequence(seed, -1, "Krylov space"))
        self.begin(start)

    def begin(self, start: Tensor) -> None:
        """Start again at another vector [P], in the same memory."""
        self._basis[0] = start
        self._basis[0] /= torch.linalg.vector_norm(self._basis[0])
        self._projection[:] = 0.0
        self.size = 0
        self._arrow = 0  # the vector that is coupled to all before it: the first one after a restart
        self._coupling = 1.0  # norm of what lies outside: of A's product with the last vector

    @property
    def products(self) -> int:
        """Products that the operator has computed, for this basis and others."""
        return self.operator.products

    @property
    def exhausted(self) -> bool:
        return self.size == self.operator.parameters

    @property
    def full(self) -> bool:
        return self.size == self.capacity

    def grow_to(self, size: int) -> None:
        """Add vectors until there are `size` of them, or as many as fit, or P."""
        while self.size < min(size, self.capacity):
            self.grow()

    def grow(self) -> None:
        """Add one vector; one product.

        Raises:
            ValueError: the product is not finite.
        """
        j, t, basis = self.size, self._projection, self._basis
        w = self.operator.apply(basis[j])
        norm = _norm(w)
        if not math.isfinite(norm):
            raise ValueError(f"products must be finite: got one of norm {norm} (try float64, or another snapshot)")
        self._norm = max(self._norm, norm)
        # What T says the product contains goes first, by few vectors; what rounding left of the others is then small.
        if j and j == self._arrow:
            w -= basis[:j].T @ self._tensor(t[:j, j])
        elif j:
            w.sub_(basis[j - 1], alpha=float(t[j - 1, j]))
        t[j, j] = float(torch.dot(w, basis[j]))
        w.sub_(basis[j], alpha=float(t[j, j]))
        t[j, j] += self._orthogonalise(w, j + 1)[j]
        self.size = j + 1
        self._coupling = _norm(w)
        if self.exhausted or self._coupling <= 4 * torch.finfo(w.dtype).eps * self._norm:
            self._coupling = 0.0  # an invariant subspace: T is exact
            if self.exhausted:
                return
            w = self._random(self.size)
        t[j, j + 1] = t[j + 1, j] = self._coupling
        basis[j + 1] = w / _norm(w)

    def ritz(self) -> Ritz:
        """Ritz values, residuals and weights of the basis as it is; no product."""
        values, y = np.linalg.eigh(self._projection[: self.size, : self.size])
        return Ritz(values, self._coupling * np.abs(y[-1]), y[0] ** 2, y)

    def within(self, values: Array, residuals: Array, tol: float) -> NDArray[np.bool_]:
        """Which residuals are at most tol |value|, or tol / 1000 of A's norm where the value is smaller than that.

        None need be smaller than rounding makes them.
        """
        least = max(tol * LEAST, 10 * torch.finfo(self.operator.dtype).eps) * self._norm
        good: NDArray[np.bool_] = residuals <= np.maximum(tol * np.abs(values), least)
        return good

    def vectors(self, y: Array) -> Tensor:
        """Ritz vectors [k, P] for columns y [m, k] of `Ritz.y`."""
        return self._tensor(y.T) @ self._basis[: self.size]

    def held(self, z: Tensor) -> float:
        """What the basis accounts for in z^T A z [P]: the rest is z^T (1 - V^T V) A (1 - V^T V) z; no product."""
        overlaps = self._basis[: self.size + 1] @ z.to(self.operator.device, self.operator.dtype)
        c = overlaps.double().cpu().numpy()
        t = self._projection[: self.size, : self.size]
        outside = 0.0 if self.exhausted else 2 * self._coupling * c[-2] * c[-1]
        return float(c[:-1] @ t @ c[:-1] + outside)

    def trace(self) -> float:
        """The trace of T: A's own within the span of the basis."""
        return float(self._projection[: self.size, : self.size].trace())

    def restart(self, ritz: Ritz, kept: NDArray[np.intp], *, fresh: bool = False) -> None:
        """Shrink to some Ritz vectors and the vector that comes next, which keeps what the products have found.

        Args:
            ritz: of the basis as it is.
            kept: numbers of the Ritz vectors to keep, fewer than `capacity`.
            fresh: go on with a random vector instead: it finds further copies of an eigenvalue that has several, of
                which a Krylov space contains only one. The kept vectors should have converged: their residuals are
                forgotten.
        """
        k, t, basis = len(kept), self._projection, self._basis
        basis[:k] = self.vectors(ritz.y[:, kept])
        arrow = np.zeros(k) if fresh else self._coupling * ritz.y[-1, kept]
        if fresh:
            basis[k] = self._random(k)
        elif self.size > k:
            basis[k] = basis[self.size]
        t[:] = 0.0
        t[range(k), range(k)] = ritz.values[kept]
        t[:k, k] = t[k, :k] = arrow
        self.size = self._arrow = k
        self._coupling = float(np.linalg.norm(arrow))

    def _random(self, size: int) -> Tensor:
        """A random unit vector orthogonal to the first `size` of the basis."""
        draws = torch.from_numpy(self._rng.standard_normal(self.operator.parameters))
        w = draws.to(self.operator.device, self.operator.dtype)
        self._orthogonalise(w, size)
        return w / _norm(w)

    def _orthogonalise(self, w: Tensor, size: int) -> Array:
        """Take from w [P] its part in the first `size` vectors, in place; returns the coefficients [size] taken."""
        basis, taken = self._basis[:size], np.zeros(size)
        before = _norm(w)
        for _ in range(4):  # twice is enough but for vectors that lie in the basis to rounding
            part = basis @ w
            w -= basis.T @ part
            taken += part.double().cpu().numpy()
            after = _norm(w)
            if after >= AGAIN * before:
                break
            before = after
        return taken

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.operator.device, self.operator.dtype)


def _norm(v: Tensor) -> float:
    return float(torch.linalg.vector_norm(v, dtype=torch.float64))
