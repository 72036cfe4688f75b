"""What a transport is: one rank's access to a wire, a clock and a processor.

The worker handle (bench/worker.py) is the same on all transports; whatever differs between simulator, MPI and Horovod
is behind these calls. One conformance suite (tests/conformance) runs against every transport.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bench.kernel import Future, Kernel
from bench.workloads.base import Workload

MESSAGE, REQUEST, REPLY, CONTROL, COLLECTIVE = range(5)
"""Kinds of envelope. CONTROL is Paceline's own and never counted; COLLECTIVE is a piece of an all-reduce, which is
counted as a whole."""

TAG_LIMIT = 32
"""Longest tag [byte], because it travels in the header."""


@dataclass(slots=True)
class Envelope:
    """A point-to-point message with its header: `ident` joins a request to its reply, `sent_s` is the sender's
    clock. It belongs to the transport from `post` on, and to the receiver from its delivery on."""

    kind: int
    tag: str
    ident: int
    data: Tensor
    src: int
    sent_s: float


class Computed(NamedTuple):
    """A gradient evaluation: its loss, when it ran, and how long a GPU was at it (NaN on a CPU)."""

    loss: Tensor
    t0_s: float
    t1_s: float
    device_s: float = math.nan


class Reduced(NamedTuple):
    """A finished collective: when this rank joined it and when it ended here."""

    t0_s: float
    t1_s: float
    length: int


class LabelMismatch(Exception):
    """Workers joined different collectives (rule 5)."""


OnReady = Callable[[int], None]
OnSent = Callable[[float], None]
"""Told when a message has left [s]."""


class Evaluation:
    """A gradient that an algorithm has asked for, on one mini-batch.

    Attributes:
        out: the gradient [P], once it is known.
        loss: of the mini-batch [nat], 0-d, once it is known.
        is_done: whether both are known.
    """

    __slots__ = ("_out", "batch", "is_done", "loss", "workload")

    loss: Tensor

    def __init__(self, workload: Workload, batch: tuple[Tensor, ...]) -> None:
        self.workload, self.batch, self.is_done = workload, batch, False
        self._out: Tensor | None = None

    @property
    def out(self) -> Tensor:
        assert self._out is not None, "asked for after its evaluation"
        return self._out

    def allocate(self, x: Tensor) -> Tensor:
        """Room for the gradient at x [P], to be written while it is computed; made once."""
        if self._out is None:
            self._out = torch.empty_like(x)
        return self._out

    def __call__(self, x: Tensor, on_ready: OnReady | None) -> Tensor:
        """Compute it now, at x; `on_ready` as in `Workload.gradient`. Returns the loss."""
        out = self.allocate(x)
        self.done(out, self.workload.gradient(x, self.batch, out, on_ready))
        return self.loss

    def done(self, out: Tensor, loss: Tensor) -> None:
        """Gradient and loss are known."""
        self._out, self.loss, self.is_done = out, loss, True


class Transport(Protocol):
    """One rank's end of the wire."""

    rank: int  # worker 0..size-1, or `size` for the server
    size: int  # workers
    ranks: int  # workers + servers
    kernel: Kernel
    may_block: bool  # whether a rank that has nothing else to do may block; else `alone` is always False

    def attach(self, receive: Callable[[Envelope], None], only_computing: Callable[[], bool]) -> None:
        """From now on hand arriving envelopes to `receive`. `only_computing` tells whether the rank's tasks wait for
        nothing but gradients, and nobody can ask it anything."""
        ...

    def post(self, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        """Copy the data and send; never blocks. `on_sent` is called once the time at which the copy leaves is known."""
        ...

    def quiet(self) -> bool:
        """Whether nothing is under way here, so that this rank may block."""
        ...

    def compute(self, evaluate: Evaluation, x: Tensor, *, alone: bool) -> Awaitable[Computed]:
        """Evaluate a gradient at x as it is now. `alone`: nothing else can happen on this rank meanwhile."""
        ...

    async def mean_gradient(
        self, evaluate: Evaluation, x: Tensor, buckets: Sequence[Bucket], *, alone: bool
    ) -> tuple[Computed, list[Reduced]]:
        """Evaluate a gradient and reduce it to its mean over the workers, bucket by bucket as it gets ready."""
        ...

    async def allreduce_mean(self, v: Tensor, label: str, *, alone: bool) -> Reduced:
        """Replace v by its mean over the workers; whole numbers are rounded down.

        Raises:
            LabelMismatch: the workers joined with different labels, lengths or types.
        """
        ...

    def agree(self, value: float, *, alone: bool) -> Awaitable[float]:
        """Largest value over the workers. Not counted as traffic.

        It begins with this call and not with the await, and is in nobody's way meanwhile; all must begin theirs in the
        same order. `alone`: its result is awaited at once, by a rank that may block.
        """
        ...

    def returned(self) -> Future[None]:
        """Tell that this rank's coroutine has returned; done when all workers have. A server calls it at its start."""
        ...

    async def drain(self) -> None:
        """After `returned`: wait until every message that was sent has been delivered and every collective has
        ended."""
        ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch [lo, hi) of the flat gradient, ready when the parameter tensors `tensors` all are."""

    lo: int
    hi: int
    tensors: frozenset[int]


def make_buckets(spans: Sequence[tuple[int, int]], itemsize: int, bucket_nbytes: int) -> list[Bucket]:
    """Cut the flat gradient into buckets of at least `bucket_nbytes`, last tensors first: the backward pass ends with
    the first ones. `bucket_nbytes` = 0 means one bucket for everything."""
    if bucket_nbytes <= 0:
        return [Bucket(spans[0][0], spans[-1][1], frozenset(range(len(spans))))]
    buckets: list[Bucket] = []
    tensors: list[int] = []
    for k in range(len(spans) - 1, -1, -1):
        tensors.append(k)
        lo, hi = spans[k][0], spans[tensors[0]][1]
        if (hi - lo) * itemsize >= bucket_nbytes or k == 0:
            buckets.append(Bucket(lo, hi, frozenset(tensors)))
            tensors = []
    return buckets


class ReadyBuckets:
    """Turns "tensor k is final" into "bucket b is final", in bucket order on all ranks so that collectives match.

    Args:
        launch: called once per bucket index, in order 0, 1, 2, ...
    """

    def __init__(self, buckets: Sequence[Bucket], launch: Callable[[int], None]) -> None:
        self._missing = [len(bucket.tensors) for bucket in buckets]
        self._bucket_of = {k: b for b, bucket in enumerate(buckets) for k in bucket.tensors}
        self._launch = launch
        self._next = 0

    def __call__(self, k: int) -> None:
        self._missing[self._bucket_of[k]] -= 1
        while self._next < len(self._missing) and self._missing[self._next] == 0:
            self._launch(self._next)
            self._next += 1


def check_tag(tag: str) -> None:
    """Raise ValueError if a tag does not fit the header."""
    if not 0 < len(tag.encode()) <= TAG_LIMIT:
        raise ValueError(f"tag must have 1 to {TAG_LIMIT} bytes: got {tag!r} ({len(tag.encode())})")


def describe(calls: Sequence[tuple[str, int, torch.dtype | None]]) -> str:
    """What each worker joined, (label, length, type) by rank, for the message of a `LabelMismatch`.

    A type of None is an agreement, which has no vector.
    """
    return ", ".join(
        f"rank {rank} {label!r}{'' if dtype is None else f' [{length}] {dtype}'}"
        for rank, (label, length, dtype) in enumerate(calls)
    )


def divide_(total: Tensor, size: int) -> None:
    """total <- total / size, rounded down if whole numbers."""
    total.div_(size, rounding_mode=None if total.is_floating_point() else "floor")


def wire_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which a sum over ranks is formed: half precisions are summed in float32, since MPI knows no bfloat16
    and returns wrong numbers for it without a word."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
