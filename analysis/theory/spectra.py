"""How fast averaging with a mixing matrix spreads what one worker knows: its spectrum.

Source: Boyd, Diaconis, Xiao, Fastest mixing Markov chain on a graph, SIAM Review 2004; exponential graphs: Ying et al.,
    Exponential Graph is Provably Efficient for Decentralized Deep Training, NeurIPS 2021, arXiv 2110.13363.
Symbols: n = workers, W [n, n] = mixing matrix, rows and columns of sum 1, J = 11'/n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.theory.linear import Array


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues that tell how fast W averages; no unit.

    Attributes:
        second: the second largest eigenvalue; where W is not symmetric, the second largest modulus.
        smallest: the smallest eigenvalue; where W is not symmetric, the smallest real part.
        gap: 1 - the second largest modulus. In the end the consensus distance shrinks by 1 - gap per application.
        contraction: ||W - J||, the largest factor on the consensus distance in one application; 1 - gap where W is
            normal, as all circulant and symmetric matrices are.
        symmetric: whether W is.
    """

    second: float
    smallest: float
    gap: float
    contraction: float
    symmetric: bool


def spectrum(mixing: Array) -> Spectrum:
    """The spectrum of a doubly stochastic matrix W [n, n], n >= 2; no unit.

    Raises:
        ValueError: W is not square, or its rows or columns do not sum to 1.

    Source: Boyd, Diaconis, Xiao 2004.

    Example:
        >>> found = spectrum(np.array([[0.75, 0.25], [0.25, 0.75]]))
        >>> round(found.second, 12), round(found.smallest, 12), round(found.gap, 12)
        (0.5, 0.5, 0.5)
    """
    n = len(mixing)
    if mixing.shape != (n, n) or n < 2:
        raise ValueError(f"mixing matrix must be square, for at least 2 workers: got shape {mixing.shape}")
    worst = max(np.abs(mixing.sum(axis) - 1).max() for axis in (0, 1))
    if not worst < 1e-9:
        raise ValueError(f"rows and columns of a mixing matrix must sum to 1: a sum is off by {worst:.3g}")
    symmetric = bool(np.allclose(mixing, mixing.T, rtol=0, atol=1e-12))
    contraction = _clean(float(np.linalg.norm(mixing - 1 / n, ord=2)), n)
    if symmetric:
        eigenvalues = np.linalg.eigvalsh(mixing)
        second, smallest = _clean(eigenvalues[-2], n), _clean(eigenvalues[0], n)
        return Spectrum(second, smallest, 1 - max(abs(second), abs(smallest)), contraction, True)
    found = np.linalg.eigvals(mixing)
    others = np.delete(found, np.abs(found - 1).argmin())
    second = _clean(np.abs(others).max(), n)
    return Spectrum(second, _clean(others.real.min(), n), 1 - second, contraction, False)


def _clean(value: float, n: int) -> float:
    """Rounding errors of what is zero are zero: roots are taken of it, as of a graph that averages exactly."""
    return 0.0 if abs(value) < 8 * n * np.finfo(np.float64).eps else float(value)


def product(rounds: Sequence[Array]) -> Array:
    """W(T) ... W(1) [n, n], what a period of T rounds does; rounds in their order in time.

    Args:
        rounds: matrices [n, n], at least one.

    Source: Ying et al. 2021, where it is J for one-peer exponential graphs of 2^k workers.

    Example:
        >>> pair = np.full((2, 2), 0.5)
        >>> product([np.eye(2), pair]).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    whole = np.eye(len(rounds[0]))
    for mixing in rounds:
        whole = mixing @ whole
    return whole
