"""The one interface between algorithms and everything else.

An algorithm is a frozen, keyword-only dataclass of settings with a coroutine `worker(w)` and, if it keeps a central
variable, a coroutine `server(s)` that runs on extra ranks. The same object runs on the simulator, on MPI and on
Horovod.

The rules that make it safe:

1. Between two `await`s nothing else runs on that rank: `await` is the only place where a replica may change under you.
2. What `serve` and `on` are given is a plain function, so it is atomic: the "atomic averaging" of the papers.
3. `gradient` reads its point as it is when the call is made; it may change while the gradient is computed.
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

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from numpy.random import Generator
from torch import Tensor

from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.replica import Gradient, Replica

T = TypeVar("T")

SERVER = -1
"""Destination of `send` and `request`: the first server; the k-th is SERVER - k."""

Need = Literal["collectives", "point-to-point", "server"]
"""What an algorithm asks of a transport."""


class Message(NamedTuple):
    """A received vector: `data` [any length], the rank `src` that sent it, and its `tag`."""

    data: Tensor
    src: int
    tag: str


Reply = Callable[[Message], Tensor]
"""Answers a request: a plain function, hence atomic. What it returns is copied before anything else runs."""

Take = Callable[[Message], None]
"""Takes a message as it arrives: a plain function, hence atomic."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Consecutive parameters of the flat vector that belong together; `is_block` tells a repeated block of the model
    (a transformer layer) from its ends (embedding, head); `shapes` are those of its tensors, in order, empty if they
    are not known."""

    name: str
    span: slice
    is_block: bool = True
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        """Number of parameters."""
        return int(self.span.stop - self.span.start)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What the closed form of a run's payload may depend on.

    Attributes:
        steps: steps done by each worker.
        layers: of the model, in order, covering the vector.
        itemsize: of one parameter [byte].
        counters: sums over all ranks of the kept whole numbers (`keep` of a 0-d int64), by name; for what chance
            decides (who took part, how many neighbours had finished).
        seed: the study's seed; what `shared_generator` draws from it can be drawn again here.
    """

    steps: Sequence[int]
    layers: Sequence[Layer]
    itemsize: int
    counters: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    @property
    def size(self) -> int:
        """Number of workers n."""
        return len(self.steps)

    @property
    def parameters(self) -> int:
        """P."""
        return int(self.layers[-1].span.stop)

    @property
    def nbytes(self) -> int:
        """M, the size of one parameter vector [byte]."""
        return self.parameters * self.itemsize


class Handle(Protocol):
    """What worker and server may both do."""

    rank: int  # 0 .. size-1 for workers, from size on for servers
    size: int  # number of workers n, servers not counted
    servers: int  # number of server ranks
    seed: int  # the study's seed, the same on all ranks; see algorithms.shared
    rng: Generator  # this rank's own stream of random numbers; survives a restart
    layers: Sequence[Layer]  # of the model, in order, covering the vector

    def replica(self, *, own: bool = False) -> Replica:
        """The parameters: the initial point, identical on all ranks; after a resume, where they stood.

        On a server: the part of them that it keeps (`Server.span`).

        Args:
            own: start from a point that was drawn for this rank alone, in the same way.
        """
        ...

    def optimizer(
        self,
        settings: OptimizerSettings | None = None,
        *,
        momentum: float | None = None,
        size: int | None = None,
    ) -> Optimizer:
        """An optimiser whose state survives a restart; the n-th call returns the rank's n-th optimiser.

        Args:
            settings: None means the default that the study or the workload gives.
            momentum: for algorithms that bring their own momentum, of any sign: plain "sgd" settings become heavy ball
                with it. Such an algorithm says `plain_sgd = True`.
            size: length of the vectors it will be given; None means the whole replica.
        """
        ...

    def keep(self, name: str, initial: Tensor) -> Tensor:
        """A tensor that survives a restart (DiLoCo's anchor): a copy of `initial` at first, later what it has
        become. Change it in place. Whole numbers (0-d int64) are summed over ranks as `Traffic.counters`."""
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

    def on(self, tag: str, take: Take) -> None:
        """Hand every message with this tag to `take` as it arrives, at any time, even while a gradient is computed;
        `recv` never sees it. `take` may send. Before `steps` begins: a message may arrive early."""
        ...

    def start(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Overlap: `work` runs at once up to its first wait, then beside the caller; await the result later."""
        ...


class Worker(Handle, Protocol):
    """Everything a worker may do."""

    def steps(self, *, group: Sequence[int] | None = None) -> AsyncIterator[int]:
        """1, 2, ... until the budget is spent; after a resume it goes on where it stopped.

        Args:
            group: workers that wait for each other (this one among them): they end at the same step, when the first of
                them says so. Each of them gives the same list. Needs point-to-point.
        """
        ...

    async def gradient(self, x: Replica, *, at: Tensor | None = None) -> Gradient:
        """Stochastic gradient on this worker's next mini-batch at x as it is now, or at another point [P]."""
        ...

    async def mean_gradient(self, x: Replica, *, at: Tensor | None = None) -> Gradient:
        """Mean over all workers of their gradients at x (or at `at` [P], each its own), reduced bucket by bucket while
        the backward pass runs."""
        ...

    def steps_per_s(self) -> float:
        """How fast this worker computes: gradients per second so far, waiting not counted; NaN before the first."""
        ...

    async def allreduce_mean(self, v: Tensor, *, label: str) -> Tensor:
        """Mean of v over all workers, as a new tensor."""
        ...

    def resumed(self, label: str) -> Awaitable[Tensor] | None:
        """What `start` returned of a collective that was under way when the last segment ended, once; None if none
        was."""
        ...


class Server(Handle, Protocol):
    """A rank that keeps a central variable, or a part of it."""

    index: int  # 0 .. servers-1
    span: slice  # the part of the parameter vector that it keeps

    async def finished(self) -> None:
        """Wait until all workers have returned; requests are served meanwhile."""
        ...


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Base of all algorithms: traits as class variables, settings as fields.

    A subclass defines `async def worker(self, w: Worker)`, and `async def server(self, s: Server)` if it needs a
    server.

    `bytes_per_step` and `state` are formulas, shown to users and checked by tests: Python expressions of M (size of
    the parameter vector), n (workers), `opt` (the optimiser's state), `itemsize` (of a parameter), the numeric settings
    by name, what `symbols` and `model_symbols` add, and `ceil log2 min max`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for `paceline algorithms`
    paper: ClassVar[str] = ""  # authors year, arXiv number
    needs: ClassVar[frozenset[Need]] = frozenset()
    lockstep: ClassVar[bool] = False  # whether ranks wait for named peers, so that all do equally many steps
    evaluated_model: ClassVar[str] = "mean"  # "mean" of the replicas | "center" | "mean:NAME", "center:NAME" kept state
    bytes_per_step: ClassVar[str] = ""  # payload of an average worker (with what is answered to it) per step [byte]
    state: ClassVar[str] = ""  # what a worker keeps between steps [byte], the gradient not counted
    plain_sgd: ClassVar[bool] = False  # whether it brings its own momentum, so that the optimiser must be plain "sgd"
    sequential: ClassVar[bool] = True  # whether a single worker does what its optimiser does without any algorithm
    kept_between_steps: ClassVar[bool] = True  # whether a rank may be entered again between any two of its steps;
    # else only when all have returned, since a protocol among them must have come to its end
    by_values: ClassVar[dict[str, str]] = {}  # settings with which values decide about time or bytes -> how, in words

    optimizer: OptimizerSettings | None = None  # None: the study's or the workload's default

    def validate(self, size: int) -> None:
        """Raise ValueError if the settings do not fit `size` workers."""

    def resolved(self) -> dict[str, Any]:
        """Settings as they are used, where leaving them out means something; for the records."""
        return {}

    def check_model(self, layers: Sequence[Layer]) -> None:
        """Raise ValueError if the settings do not fit a model of these layers."""

    def warnings(self, size: int) -> list[str]:
        """What a user should know about these settings with `size` workers, one line each; shown, never fatal."""
        return []

    def server_ranks(self, size: int) -> int:
        """How many servers it takes."""
        return 1 if "server" in self.needs else 0

    def shard(self, server: int, size: int, parameters: int) -> slice:
        """The part of the parameter vector that a server keeps; by default all share it evenly."""
        servers = self.server_ranks(size)
        return slice(parameters * server // servers, parameters * (server + 1) // servers)

    async def worker(self, w: Worker) -> None:
        """The algorithm on one worker."""
        raise TypeError(f"{type(self).__name__} defines no worker()")

    async def server(self, s: Server) -> None:
        """The algorithm on a server rank; only called if "server" is in `needs`."""
        raise TypeError(f"{type(self).__name__} defines no server()")

    def payload_nbytes(self, traffic: Traffic) -> int | None:
        """Closed form of the payload moved by all ranks together [byte], or None if it has none."""
        return None

    def symbols(self, size: int) -> dict[str, float]:
        """What the formulas may name beside the settings, such as the mean degree of a graph."""
        return {}

    def model_symbols(self, layers: Sequence[Layer]) -> dict[str, float]:
        """What the formulas may name that depends on the shapes of the model's tensors."""
        return {}

    def decides_by_values(self) -> str:
        """What these settings decide by the values that vectors hold, in words. A run without gradients has none.

        Empty if they decide nothing: then time and bytes follow from sizes alone.
        """
        return "; ".join(what for setting, what in self.by_values.items() if getattr(self, setting))

    def conserved(self) -> bool:
        """Whether exchanges conserve the sum of all replicas (the servers' included), gradients apart."""
        return False
