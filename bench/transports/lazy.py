"""Gradients of simulated ranks, computed together and as late as possible.

A gradient is determined when it is asked for, by a model and a mini-batch, and needed only when its virtual compute
time is over. So requests queue up, and the first one that falls due has all outstanding ones computed in one vectorised
call: for algorithms in rounds one call a round. For asynchronous ones n workers make calls of nearly n if compute times
vary little, and of sqrt(pi n / 2) if they are exponential, the worst case. It changes no result beyond rounding.

Symbols: n = workers, P = parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.transports.base import Evaluation
from bench.workloads.base import Workload


class LazyGradients:
    """The queue of requests.

    Args:
        workload: computes them. It may be on a GPU while everything else is on the host: the models and mini-batches of
            a call go there together, and their gradients come back together.
        together: requests that one call may have; 1 computes each at once, without a copy of its model.
    """

    def __init__(self, workload: Workload, together: int) -> None:
        self._workload, self._together = workload, together
        self._queue: list[Evaluation] = []
        self._models: list[Tensor] = []  # [together, P] each: where the queued models were copied to
        self._rows: list[Tensor] = []  # all their rows

    def ask(self, evaluation: Evaluation, x: Tensor) -> None:
        """Have the gradient at x [P], as it is now, by the time that `settle` is called."""
        if self._together == 1:
            evaluation(x, None)
            return
        if len(self._queue) == len(self._rows):
            self._models.append(torch.empty(self._together, x.numel(), dtype=x.dtype, device=x.device))
            self._rows += self._models[-1].unbind()
        self._rows[len(self._queue)].copy_(x)
        self._queue.append(evaluation)

    def settle(self) -> None:
        """Compute all gradients that were asked for."""
        for number, lo in enumerate(range(0, len(self._queue), self._together)):
            asked = self._queue[lo : lo + self._together]
            gradients, losses = self._compute(
                self._models[number][: len(asked)], [evaluation.batch for evaluation in asked]
            )
            for evaluation, out, loss in zip(asked, gradients.unbind(), losses.unbind(), strict=True):
                evaluation.done(out, loss)
        self._queue.clear()

    def _compute(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        there = self._workload.device
        if xs.device == there:
            return self._workload.gradients(xs, batches)
        moved = [torch.stack(tensors).to(there).unbind() for tensors in zip(*batches, strict=True)]
        gradients, losses = self._workload.gradients(xs.to(there), list(zip(*moved, strict=True)))
        return gradients.to(xs.device), losses.to(xs.device)

    def forget(self) -> None:
        """Drop what is queued: nobody will want it."""
        self._queue.clear()
