"""A rank's parameters as one flat vector, and gradients that remember which version of it they were read at.

Symbols: x = `Replica.data` [P]; P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor


class FlatOptimizer(Protocol):
    """The part of `algorithms.optim.Optimizer` that a replica uses."""

    def step_(self, x: Tensor, gradient: Tensor) -> None: ...


class Gradient(NamedTuple):
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

    def with_data(self, data: Tensor) -> Gradient:
        """The same gradient, replaced by a vector [P] that was made of it: what is to be applied in its place."""
        return self._replace(data=data)


# Told after each apply_: the gradient, and the version of the replica just before it was applied.
ApplyObserver = Callable[[Gradient, int], None]


class Replica:
    """Flat parameters x [P] and a count of the writes they have had.

    Every change goes through a method, so that `version` counts the writes and staleness can be measured as the number
    of writes between the reading of a gradient and its application.
    """

    __slots__ = ("_before", "_observe", "data", "drift", "exchanges", "version")

    def __init__(
        self,
        data: Tensor,
        *,
        before: Callable[[], None] | None = None,
        observe: ApplyObserver | None = None,
        track_drift: bool = False,
    ) -> None:
        """Args:
        data: parameters [P]; owned by the replica from now on.
        before: called just before a gradient is applied (the recorder reads the clock there).
        observe: called just after a gradient was applied.
        track_drift: sum up in `drift` how much exchanges (everything but gradients) change the sum of all elements.
        Over
            all ranks these add up to zero where exchanges conserve the mean model, whatever the optimiser does.
        """
        self.data = data
        self.version = 0
        self.exchanges = 0
        self.drift: float | None = 0.0 if track_drift else None
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
        before = self._total()
        self.data.lerp_(other, weight)
        self._written(before)

    def add_(self, change: Tensor) -> None:
        """x <- x + change; change [P]."""
        before = self._total()
        self.data.add_(change)
        self._written(before)

    def move_(self, change: Tensor) -> None:
        """x <- x + change [P] as a part of this rank's own step: no exchange, so `drift` does not count it."""
        self.data.add_(change)
        self.version += 1

    def assign_(self, value: Tensor, span: slice = slice(None)) -> None:
        """x[span] <- value."""
        before = self._total()
        self.data[span] = value
        self._written(before)

    def _total(self) -> float:
        return 0.0 if self.drift is None else float(self.data.sum())

    def _written(self, before: float) -> None:
        self.version += 1
        self.exchanges += 1
        if self.drift is not None:
            self.drift += self._total() - before

    def __getitem__(self, span: slice) -> Tensor:
        """View of x[span]; read it, but change the replica through its methods only."""
        return self.data[span]
