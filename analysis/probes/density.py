"""The spectral density of a symmetric matrix by stochastic Lanczos quadrature: how many eigenvalues lie where.

From a random start vector, m steps of Lanczos give a quadrature rule (m nodes, m weights) with the first 2 m moments of
the spectrum as the vector sees it; the mean over random vectors is the density

    p(t) = 1/P sum_i delta(t - lambda_i)

Nodes and weights are the result. A curve of them depends on the width that each node is drawn with.

Source: Golub and Welsch, Math. Comp. 23 (1969). Lin, Saad and Yang, Approximating Spectral Densities of Large Matrices,
arXiv 1308.5467. Ghorbani, Krishnan and Xiao, An Investigation into Neural Net Optimization via Hessian Eigenvalue
Density, arXiv 1901.10159.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.probes.lanczos import Array, Lanczos, signs
from analysis.probes.products import Operator

REACH = 7.0  # widths that the grid goes beyond the outermost nodes; 3e-12 of a node's mass lies further out
POINTS = 1024


@dataclass(frozen=True)
class Quadrature:
    """Nodes and weights as they were found.

    The mean of the density is that of the forms z^T A z / P: P times it is Hutchinson's estimate of the trace from the
    same vectors, exactly.

    Attributes:
        nodes: Ritz values [probes, steps] of each start vector, ascending. Where the vector's Krylov space ended
            earlier, the last one is repeated with weight 0.
        weights: [probes, steps]; of each vector they add up to 1.
    """

    nodes: Array
    weights: Array

    def moment(self, power: int = 1) -> float:
        """The mean of t^power under the density: tr(A^power) / P."""
        return float((self.weights * self.nodes**power).sum(1).mean())

    def curve(self, grid: Array | None = None, *, width: float | None = None) -> Density:
        """The density with each node as a Gaussian.

        Args:
            grid: where to evaluate it, ascending; None: from 7 widths below the lowest node to 7 widths above the
                highest, at 1024 points or as many as are half a width apart, so that its mass is 1.
            width: standard deviation of the Gaussian; None: a hundredth of the nodes' range.

        Raises:
            ValueError: a width that is not positive.

        Example:
            >>> two = Quadrature(np.array([[0.0, 1.0]]), np.array([[0.75, 0.25]]))
            >>> curve = two.curve()
            >>> round(curve.mass(), 9), round(float(np.trapezoid(curve.grid * curve.values, curve.grid)), 9)
            (1.0, 0.25)
        """
        span = float(self.nodes.max() - self.nodes.min())
        if width is None:
            width = (span or abs(float(self.nodes.max())) or 1.0) / 100
        if not width > 0:
            raise ValueError(f"width must be positive: got {width} (leave it out for a hundredth of the range)")
        if grid is None:
            reach = REACH * width
            points = max(POINTS, int(2 * (span + 2 * reach) / width) + 1)
            grid = np.linspace(self.nodes.min() - reach, self.nodes.max() + reach, points)
        nodes, weights = self.nodes.ravel(), self.weights.ravel() / len(self.nodes)
        values = np.zeros(len(grid))
        for node, weight in zip(nodes, weights, strict=True):
            values += weight * np.exp(-0.5 * ((grid - node) / width) ** 2)
        return Density(grid, values / (width * np.sqrt(2 * np.pi)), width)


@dataclass(frozen=True)
class Density:
    """A curve of the density.

    Attributes:
        grid: eigenvalues t [points].
        values: p(t) [points].
        width: standard deviation of each node's Gaussian.
    """

    grid: Array
    values: Array
    width: float

    def mass(self) -> float:
        """The integral over the grid; 1 if the grid is wide enough, and finer than the width."""
        return float(np.trapezoid(self.values, self.grid))


def quadrature(operator: Operator, *, probes: int = 10, steps: int = 60, seed: int = 0) -> Quadrature:
    """Nodes and weights of the spectral density.

    Args:
        operator: matrix [P, P].
        probes: number of random vectors of signs.
        steps: products for each. It takes (steps + 1) P numbers.
        seed: of the signs.

    Raises:
        ValueError: no probe or no step.

    Example:
        With as many steps as eigenvalues the nodes are the eigenvalues, and with signs each has the same weight:

        >>> import torch
        >>> from analysis.probes.products import Matrix
        >>> found = quadrature(Matrix(torch.diag(torch.tensor([1.0, 2.0, 4.0]).double())), probes=1, steps=3)
        >>> found.nodes.round(9).tolist(), found.weights.round(9).tolist()
        ([[1.0, 2.0, 4.0]], [[0.333333333, 0.333333333, 0.333333333]])
    """
    check_rule(probes, steps)
    first = signs(1, operator, seed)[0]
    lanczos = Lanczos(operator, first, steps, seed)
    rules = [rule(lanczos, steps)]
    for probe in range(1, probes):
        lanczos.begin(signs(1, operator, seed, probe)[0])
        rules.append(rule(lanczos, steps))
    return gather(rules)


def check_rule(probes: int, steps: int) -> None:
    """Refuse a quadrature without probes or steps."""
    for name, value in (("probes", probes), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1: got {value} (10 probes of 60 steps are usual)")


def rule(lanczos: Lanczos, steps: int) -> tuple[Array, Array]:
    """Nodes and weights [steps] of a basis that has begun at its start vector; it is grown to `steps`."""
    lanczos.grow_to(steps)
    ritz = lanczos.ritz()
    short = (0, steps - len(ritz.values))
    return np.pad(ritz.values, short, mode="edge"), np.pad(ritz.weights, short)


def gather(rules: list[tuple[Array, Array]]) -> Quadrature:
    """The quadrature of all start vectors."""
    nodes, weights = zip(*rules, strict=True)
    return Quadrature(np.stack(nodes), np.stack(weights))
