"""A model's matrices apart from its vectors, and their products with a few columns: what PowerGossip sends.

Source: Vogels, Karimireddy, Jaggi, Practical Low-Rank Communication Compression in Decentralized Deep Learning,
    NeurIPS 2020, arXiv 2008.01425.
Symbols: X [a, b] = a matrix; P [a, r], Q [b, r] = factors of rank r; odd steps multiply P and give Q, even ones Q and
    give P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from algorithms.interface import Layer


@dataclass(frozen=True)
class Split:
    """A model's parameters: the matrices of which factors travel, and the rest.

    Attributes:
        matrices: (where the matrix begins in the flat vector, rows a, columns b).
        rest: spans of the flat vector that travel whole.
    """

    rank: int
    matrices: Sequence[tuple[int, int, int]]
    rest: Sequence[slice]

    @classmethod
    def of(cls, layers: Sequence[Layer], rank: int) -> Split:
        """By the shapes of the model's tensors; a tensor [a, b, c, ...] is a matrix [a, b c ...]."""
        matrices, rest = [], []
        for layer in layers:
            lo = layer.span.start
            for shape in layer.shapes:
                hi = lo + math.prod(shape)
                a, b = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, hi - lo)
                if rank < min(a, b):
                    matrices.append((lo, a, b))
                else:
                    rest.append(slice(lo, hi))
                lo = hi
        return cls(rank, matrices, rest)

    @cached_property
    def whole(self) -> int:
        """Values that travel whole."""
        return sum(span.stop - span.start for span in self.rest)

    def factors(self, step: int) -> int:
        """Values of the factors that travel in a step: Q in odd ones, P in even ones."""
        return self.rank * sum(b if step % 2 else a for _, a, b in self.matrices)

    def bases(self, factors: Tensor, step: int) -> list[Tensor]:
        """Orthonormal bases of what the last step left, one [a or b, r] for each matrix.

        Args:
            factors: all P of an edge, one after the other, then all its Q.
        """
        sizes = [self.rank * a for _, a, _ in self.matrices] + [self.rank * b for _, _, b in self.matrices]
        parts = torch.split(factors, sizes)
        count = len(self.matrices)
        used = parts[:count] if step % 2 else parts[count:]
        return [torch.linalg.qr(part.view(-1, self.rank))[0] for part in used]

    def keep_(self, factors: Tensor, difference: Tensor, step: int) -> None:
        """Put what a step made, of the difference of what both ends sent, into its place among the edge's factors."""
        lo = self.factors(2) if step % 2 else 0  # all P come first
        factors[lo : lo + self.factors(step)] = difference[: self.factors(step)]

    def sent(self, x: Tensor, bases: Sequence[Tensor], step: int) -> Tensor:
        """What a worker sends of its model x [P]: its matrices times the bases, and the rest whole."""
        parts = []
        for (lo, a, b), basis in zip(self.matrices, bases, strict=True):
            matrix = x[lo : lo + a * b].view(a, b)
            parts.append(((matrix.T if step % 2 else matrix) @ basis).flatten())
        return torch.cat([*parts, *(x[span] for span in self.rest)])

    def add_(self, change: Tensor, difference: Tensor, bases: Sequence[Tensor], step: int, weight: float) -> None:
        """change [P] <- change + weight times what the difference of what both ends sent says of D."""
        at = 0
        for (lo, a, b), basis in zip(self.matrices, bases, strict=True):
            factor = difference[at : at + self.rank * (b if step % 2 else a)].view(-1, self.rank)
            at += factor.numel()
            left, right = (basis, factor) if step % 2 else (factor, basis)
            change[lo : lo + a * b].view(a, b).addmm_(left, right.T, alpha=weight)
        for span in self.rest:
            change[span].add_(difference[at : at + span.stop - span.start], alpha=weight)
            at += span.stop - span.start
