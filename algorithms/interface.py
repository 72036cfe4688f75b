"""The one interface between algorithms and everything else.

An algorithm is a frozen, keyword-only dataclass of settings with a coroutine `worker(w)` and, if it keeps a central
variable, a coroutine `server(s)` that runs on one extra rank. The same object runs on the simulator, on MPI and on
Horovod.

The rules that make it safe:

1. Between two `await`s nothing else runs on that rank: `await` is the only place where a replica may change under you.
2. A `serve` handler is a plain function, so it is atomic: the "atomic averaging" of the papers.
3. `gradient(x)` reads x as it is when the call is made; x may change while the gradient is computed.
4. `send` copies its vector and never blocks.
5. Collectives are started in the same order, with the same labels, on all workers; a mismatch is an error.
6. When a worker returns, its rank keeps serving until all have returned; then what is still running is cancelled.
7. A run is deterministic where time is: same seed, same events.
8. Budgets are seconds; only lock-step algorithms accept a budget in steps.
9. State lives with the handle (`replica`, `optimizer`, `keep`), not in the coroutine's frame: a run may be ended and
   entered again, and then these calls return the state as it stood.
10. Never `await` inside a torch context manager or on the right of `+=`.
11. A rank that raises, or waits longer than the run's time-out, ends the run on all ranks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from numpy.random import Generator
from torch import Tensor

from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.replica import Gradient, Replica

T = TypeVar("T")

SERVER = -1
"""Destination of `send` and `request`: the rank that runs `server`."""

Need = Literal["collectives", "point-to-point", "server"]
"""What an algorithm asks of a transport."""


@dataclass(frozen=True, slots=True)
class Message:
    """A received vector: `data` [any length], the rank `src` that sent it, and its `tag`."""

    data: Tensor
    src: int
    tag: str


Reply = Callable[[Message], Tensor]
"""Answers a request: a plain function, hence atomic. What it returns is copied before anything else runs."""


class Handle(Protocol):
    """What worker and server may both do."""

    rank: int  # 0 .. size-1 for workers, size for the server
    size: int  # number of workers n, the server not counted
    rng: Generator  # this rank's own stream of random numbers

    def replica(self) -> Replica:
        """The parameters: the initial point, identical on all ranks; after a resume, where they stood."""
        ...

    def optimizer(self, settings: OptimizerSettings | None = None) -> Optimizer:
        """An optimiser whose state survives a restart; the n-th call returns the rank's n-th optimiser.

        Args:
            settings: None means the default that the study or the workload gives.
        """
        ...

    def keep(self, name: str, initial: Tensor) -> Tensor:
        """A tensor that survives a restart (DiLoCo's anchor): a copy of `initial` at first, later what it has
        become."""
        ...

    def send(self, dst: int, tag: str, v: Tensor) -> None:
        """Copy v and send it; never blocks. Messages from one rank with one tag arrive in order."""
        ...

    async def recv(self, tag: str, *, src: int | None = None) -> Message:
        """The next message with this tag, from `src` or, fairly, from anyone."""
        ...

    async def request(self, dst: int, tag: str, v: Tensor) -> Tensor:
        """Send v to a rank that serves `tag` and return its answer."""
        ...

    def serve(self, tag: str, reply: Reply) -> None:
        """Answer every request with this tag at any time, even while a gradient is computed."""
        ...

    def start(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Overlap: `work` runs at once up to its first wait, then beside the caller; await the result later."""
        ...


class Worker(Handle, Protocol):
    """Everything a worker may do."""

    def steps(self) -> AsyncIterator[int]:
        """1, 2, ... until the budget is spent; after a resume it goes on where it stopped."""
        ...

    async def gradient(self, x: Replica) -> Gradient:
        """Stochastic gradient on this worker's next mini-batch at x as it is now."""
        ...

    async def mean_gradient(self, x: Replica) -> Gradient:
        """Mean over all workers of their gradients at x, reduced bucket by bucket while the backward pass runs."""
        ...

    async def allreduce_mean(self, v: Tensor, *, label: str) -> Tensor:
        """Mean of v over all workers, as a new tensor."""
        ...

    def resumed(self, label: str) -> Tensor | None:
        """Result of a collective that was under way when the last segment ended, once; None if there was none."""
        ...


class Server(Handle, Protocol):
    """The rank that keeps a central variable."""

    async def finished(self) -> None:
        """Wait until all workers have returned; requests are served meanwhile."""
        ...


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Base of all algorithms: traits as class variables, settings as fields.

    A subclass defines `async def worker(self, w: Worker)`, and `async def server(self, s: Server)` if it needs a
    server.
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for `paceline algorithms`
    needs: ClassVar[frozenset[Need]] = frozenset()
    lockstep: ClassVar[bool] = False  # whether ranks wait for named peers, so that all do equally many steps
    evaluated_model: ClassVar[str] = "mean"  # "mean" of the replicas | "center" | name of a kept state

    optimizer: OptimizerSettings | None = None  # None: the study's or the workload's default

    def validate(self, size: int) -> None:
        """Raise ValueError if the settings do not fit `size` workers."""

    async def worker(self, w: Worker) -> None:
        """The algorithm on one worker."""
        raise TypeError(f"{type(self).__name__} defines no worker()")

    async def server(self, s: Server) -> None:
        """The algorithm on the server rank; only called if "server" is in `needs`."""
        raise TypeError(f"{type(self).__name__} defines no server()")

    def payload_nbytes(self, steps: Sequence[int], nbytes: int) -> int | None:
        """Closed form of the payload moved by all ranks together, or None if it has none.

        Args:
            steps: steps done by each worker.
            nbytes: size of one parameter vector [byte].
        """
        return None

    def conserved(self) -> bool:
        """Whether exchanges conserve the sum of all replicas (the server's included), gradients apart."""
        return False
