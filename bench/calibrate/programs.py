"""What is measured, written as algorithms, so that real and simulated ranks run the very same programs.

Nothing here looks at a clock: a run's event rows say how long things took.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from algorithms.ad_psgd import average_
from algorithms.gossip import average
from algorithms.interface import Algorithm, Message, Need, Worker
from algorithms.topology import Topology

TAG, RING = "calibrate", Topology("ring")


@dataclass(frozen=True, kw_only=True)
class Steps(Algorithm):
    """The first `ranks` workers take plain steps; the others do nothing.

    Attributes:
        beside: others might ask at any time, so gradients are computed beside the thread that handles messages.
    """

    name: ClassVar[str] = "calibrate-steps"
    summary: ClassVar[str] = "steps without any exchange"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})

    ranks: int
    beside: bool = False

    async def worker(self, w: Worker) -> None:
        """One worker."""
        if w.rank >= self.ranks:
            return
        x, opt = w.replica(), w.optimizer(self.optimizer)
        if self.beside:
            w.serve(TAG, lambda message: message.data)
        async for _ in w.steps():
            x.apply_(await w.gradient(x), opt)


@dataclass(frozen=True, kw_only=True)
class Reductions(Algorithm):
    """Steps that each end with an all-reduce of `length` numbers; 0: of the gradient itself."""

    name: ClassVar[str] = "calibrate-reductions"
    summary: ClassVar[str] = "an all-reduce after each gradient"
    needs: ClassVar[frozenset[Need]] = frozenset({"collectives"})
    lockstep: ClassVar[bool] = True

    length: int = 0

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        vector = torch.zeros(self.length, device=x.data.device)
        async for _ in w.steps():
            if self.length:
                x.apply_(await w.gradient(x), opt)
                await w.allreduce_mean(vector, label=TAG)
            else:
                x.apply_(await w.mean_gradient(x), opt)


@dataclass(frozen=True, kw_only=True)
class Requests(Algorithm):
    """Worker 0 asks worker `peer`, `at_once` times, waits for all answers, and asks again.

    What is asked is a vector of `length` numbers, and the answer is as long: the elastic difference to a vector that
    the asked one keeps, which is what answering costs in an algorithm.
    """

    name: ClassVar[str] = "calibrate-requests"
    summary: ClassVar[str] = "requests and their answers"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})

    peer: int
    length: int
    at_once: int = 1

    async def worker(self, w: Worker) -> None:
        """One worker."""
        if w.rank == self.peer:
            kept = torch.zeros(self.length, device=w.replica().data.device)

            def answer(message: Message) -> Tensor:
                difference = 0.5 * (message.data - kept)
                kept.add_(difference)
                return difference

            w.serve(TAG, answer)
        if w.rank == 0:
            asked = torch.ones(self.length, device=w.replica().data.device)
            async for _ in w.steps():
                answers = [w.start(w.request(self.peer, TAG, asked)) for _ in range(self.at_once)]
                for answered in answers:
                    asked.copy_(await answered)


@dataclass(frozen=True, kw_only=True)
class Asking(Algorithm):
    """Worker 0 takes steps and every `period` of them asks worker 1, after its gradient, for its model.

    Attributes:
        busy: worker 1 takes steps too, so that it answers while it computes.
    """

    name: ClassVar[str] = "calibrate-asking"
    summary: ClassVar[str] = "steps, and requests between them"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})

    period: int = 1
    busy: bool = False

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        if w.rank == 1:
            w.serve(TAG, partial(average_, x))
        if w.rank == 0 or (w.rank == 1 and self.busy):
            async for t in w.steps():
                g = await w.gradient(x)
                if w.rank == 0 and t % self.period == 0:
                    x.mix_(await w.request(1, TAG, x.data), weight=0.5)
                x.apply_(g, opt)


@dataclass(frozen=True, kw_only=True)
class Waiting(Algorithm):
    """Rounds in which worker 0 computes a few gradients and sleeps until worker 1 has computed many; others only sleep,
    since they would take the cores that the two need.

    Attributes:
        few, many: gradients of a round.
    """

    name: ClassVar[str] = "calibrate-waiting"
    summary: ClassVar[str] = "gradients, and long waits between them"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    lockstep: ClassVar[bool] = True

    few: int
    many: int

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for t in w.steps():
            for _ in range((self.few, self.many)[w.rank] if w.rank < 2 else 0):
                x.apply_(await w.gradient(x), opt)
            x.assign_(await average(w, RING, t, x.data))


@dataclass(frozen=True, kw_only=True)
class Neighbours(Algorithm):
    """Every worker averages its model with those of the two beside it: all links are busy in both directions.

    Attributes:
        computing: a gradient is computed meanwhile.
    """

    name: ClassVar[str] = "calibrate-neighbours"
    summary: ClassVar[str] = "all links at once, both ways"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    lockstep: ClassVar[bool] = True

    computing: bool = False

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for t in w.steps():
            pending = w.start(w.gradient(x)) if self.computing else None
            x.assign_(await average(w, RING, t, x.data))
            if pending is not None:
                x.apply_(await pending, opt)
