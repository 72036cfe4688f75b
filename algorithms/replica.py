"""A rank's parameters as one flat vector, and gradients that remember which version of it they were read at.

Symbols: x = `Replica.data` [P]; P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class FlatOptimizer(Protocol):
    """The part of `algorithms.optim.Optimizer` that a replica uses."""

    def step_(self, x: Tensor, gradient: Tensor) -> None: ...


@dataclass(frozen=True, slots=True)
class Gradient:
    """A stochastic gradient.

    Attributes:
        data: the gradient [P]; it belongs to the holder and is never written again by Paceline.
        version: `Replica.version` at the moment when the parameters were read.
        loss: mean loss of the mini-batch [nat], 0-d.
        step: the rank's step in which it was asked for.
    """

    data: Tensor
    version: int
    loss: Tensor
    step: int


# Told after each apply_: the gradient, and the version of the replica just before it was applied.
ApplyObserver = Callable[[Gradient, int], None]


class Replica:
    """Flat parameters x [P] and a count of the writes they have had.

    Every change goes through a method, so that `version` counts the writes and staleness can be measured as the number of
    writes between the reading of a gradient and its application.
    """

    __slots__ = ("_before", "_observe", "data", "version")

    def __init__(
        self,
        data: Tensor,
        *,
        before: Callable[[], None] | None = None,
        observe: ApplyObserver | None = None,
    ) -> None:
        """Args:
        data: parameters [P]; owned by the replica from now on.
        before: called just before a gradient is applied (the recorder reads the clock there).
        observe: called just after a gradient was applied.
        """
        self.data = data
        self.version = 0
        self._before = before
        self._observe = observe

    def apply_(self, gradient: Gradient, optimizer: FlatOptimizer) -> None:
        """One optimiser step with a gradient that may be stale; records staleness = version now - version read."""
        if self._before is not None:
            self._before()
        version = self.version
        optimizer.step_(self.data, gradient.data)
        self.version = version + 1
        if self._observe is not None:
            self._observe(gradient, version)

    def mix_(self, other: Tensor, weight: float) -> None:
        """x <- (1 - weight) x + weight other; other [P]."""
        self.data.lerp_(other, weight)
        self.version += 1

    def add_(self, change: Tensor) -> None:
        """x <- x + change; change [P]."""
        self.data.add_(change)
        self.version += 1

    def assign_(self, value: Tensor, span: slice = slice(None)) -> None:
        """x[span] <- value."""
        self.data[span] = value
        self.version += 1

    def __getitem__(self, span: slice) -> Tensor:
        """View of x[span]; read it, but change the replica through its methods only."""
        return self.data[span]
