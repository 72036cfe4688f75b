"""The MPI wire: one process per rank, point-to-point by Isend/Improbe, collectives by (I)allreduce. With
`mpi_world.py` the only mpi4py file.

MPI gives no background progress, so whatever overlaps is driven by `poll`, which the kernel calls between everything.
Nothing here blocks unless the rank is alone with its computation (`alone`): then gradients run in the main thread and
collectives block, so that the synchronous baselines pay nothing for the machinery.

Order. Every rank starts collectives in the same order. Were it otherwise, this would happen:
    1. rank 0 starts A then B, rank 1 starts B then A, on one communicator;
    2. MPI matches rank 0's A with rank 1's B;
    3. if the lengths agree, both get a wrong sum and nobody notices.
So before the result of a collective is waited for, a tiny one compares a digest of (label, number, type) and the
length, and a mismatch is an error that names ranks and labels. The buckets of gradients have one order by construction,
and a communicator of their own, since it is a matter of time when they are ready relative to other collectives.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor

from bench.clock import WallClock
from bench.cluster import HEADER_NBYTES
from bench.kernel import Future, Kernel, Wait
from bench.transports.base import (
    Bucket,
    Computed,
    Envelope,
    Evaluation,
    LabelMismatch,
    OnSent,
    ReadyBuckets,
    Reduced,
    describe,
)
from bench.transports.helper import Evaluator, Helper, Mark
from bench.transports.paths import HOST, PINNED, told_aware
from bench.transports.staging import Buffer, Memory, choose, from_wire, like, to_wire, warm_up

HEADER = struct.Struct("<4sBBHqqd32s")
assert HEADER.size == HEADER_NBYTES
MAGIC = b"PACE"
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
CODE_OF = {dtype: code for code, dtype in enumerate(DTYPES)}
BURST = 64
"""Most messages taken in one turn from whoever MPI offers first; after such a burst every source gets its turn."""


@dataclass(slots=True)
class _Arriving:
    request: MPI.Request
    buffer: Buffer


class _Request(Protocol):
    """The part of MPI.Request that is used; Horovod's handles are wrapped to have it too."""

    def Test(self) -> bool: ...

    def Wait(self) -> Any: ...


@dataclass(slots=True, eq=False)
class Collective:
    """A collective under way: its request, its check, and what to do at the end."""

    data: _Request
    check: Check
    end: Callable[[], None]
    future: Future[Any]
    memory: tuple[Tensor, ...] = ()  # what MPI reads and writes meanwhile


@dataclass(slots=True, eq=False)
class Check:
    """The tiny all-reduce that tells whether all workers joined the same collective; `call` is what this one joined.

    The buckets of a gradient share one, started before the gradient is computed: it costs no waiting.
    """

    number: int
    call: tuple[str, int, torch.dtype]
    comm: MPI.Comm  # for the data
    codes: NDArray[np.int64]
    request: MPI.Request
    parts: int = 0  # started so far
    passed: bool = False
    error: LabelMismatch | None = None

    @property
    def label(self) -> str:
        """What this worker calls the collective."""
        return self.call[0]

    def next_name(self) -> str:
        """A name of its own for each all-reduce, the same on all workers."""
        self.parts += 1
        return f"{self.label}.{self.number}.{self.parts}"


class MPITransport:
    """One MPI rank; see `bench.transports.base.Transport`.

    Args:
        world: the ranks of this run: workers 0..size-1, then the server if any. Duplicated, so that nothing else can
            meet our messages.
        size: number of workers.
        device: where this rank's tensors are.
        memory: how messages are put together; None chooses by the device and by what MPI was found to be able to do.
    """

    may_block = True

    def __init__(
        self,
        world: MPI.Comm,
        size: int,
        kernel: Kernel,
        clock: WallClock,
        *,
        device: torch.device | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.kernel, self.clock = kernel, clock
        self.device = device or torch.device("cpu")
        # One path for all, so that a run's numbers mean one thing: a rank that was told otherwise decides for all.
        aware = world.allreduce(told_aware(os.environ), op=MPI.LAND)
        self._memory = memory or choose(self.device, aware=aware)
        self._evaluator = Evaluator(kernel, self.device)
        self.rank, self.size, self.ranks = world.Get_rank(), size, world.Get_size()
        self.wires = world.Dup()  # messages
        self.control = world.Dup()  # barriers and counts
        workers = world.Split(0 if self.rank < size else MPI.UNDEFINED, self.rank)
        self.workers = workers
        is_worker = workers != MPI.COMM_NULL
        self.gradients = workers.Dup() if is_worker else MPI.COMM_NULL  # buckets
        self.checks = workers.Dup() if is_worker else MPI.COMM_NULL  # digests
        self.agreements = workers.Dup() if is_worker else MPI.COMM_NULL
        self.disputes = workers.Dup() if is_worker else MPI.COMM_NULL  # who joined what, after a mismatch
        self.computing = False  # read by the watchdog
        self._receive: Callable[[Envelope], None]
        self._status = MPI.Status()
        self._sends: list[tuple[MPI.Request, Any, OnSent]] = []
        self._arriving: dict[int, deque[_Arriving]] = {src: deque() for src in range(self.ranks)}
        self._arriving_count = 0
        self._collectives: list[Collective] = []
        self._lost: list[Collective] = []  # mismatched ones: never completed, but their buffers are MPI's for good
        self._collective_count = 0
        self._conditions: list[tuple[Callable[[], bool], Callable[[], None]]] = []  # (is it true now, what to do then)
        self._sent_to = np.zeros(self.ranks, dtype=np.int64)
        self._received_from = np.zeros(self.ranks, dtype=np.int64)
        self._helper: Helper | None = None
        self._undecided: deque[tuple[Callable[[], Tensor], Future[Computed]]] = deque()  # gradients not begun yet
        self.only_computing: Callable[[], bool] = lambda: False
        self._aside = 0  # evaluations in the helper thread's hands
        # Buckets that the helper thread has finished or, on a GPU, enqueued: how to reduce them, which they are, and
        # where the GPU must have got to.
        self._ready: deque[tuple[Callable[[int], None], int, Mark]] = deque()
        kernel.add_poller(self.poll)

    # -- point to point ----------------------------------------------------------------------------------------------

    def attach(self, receive: Callable[[Envelope], None], only_computing: Callable[[], bool]) -> None:
        self._receive, self.only_computing = receive, only_computing

    def post(self, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        data, tag = envelope.data.detach(), envelope.tag.encode()
        header = HEADER.pack(
            MAGIC, envelope.kind, CODE_OF[data.dtype], len(tag), envelope.ident, data.numel(), envelope.sent_s, tag
        )
        buffer = self._memory.message(header, data)
        self._sent_to[dst] += 1
        request = self.wires.Isend([buffer, MPI.BYTE], dest=dst)
        if request.Test():
            on_sent(self.kernel.now())
        else:
            self._sends.append((request, buffer, on_sent))

    def poll(self) -> bool:
        """Drive everything that is under way; whether anything happened."""
        progressed = self._poll_arrivals()
        if self._sends:
            progressed |= self._poll_sends()
        if self._ready and self._may_launch(self._ready[0][2]):
            self._launch_next()
            progressed = True
        if self._collectives:
            progressed |= self._poll_collectives()
        if self._conditions:
            progressed |= self._poll_conditions()
        if self._helper is not None:
            progressed |= self._helper.deliver()
        if self._undecided:
            self._decide()
            progressed = True
        return progressed

    def _poll_arrivals(self) -> bool:
        taken = 0
        while taken < BURST and self._take(MPI.ANY_SOURCE):
            taken += 1
        if taken == BURST:
            # MPI may offer the lowest rank first for ever; so that no source starves, ask each by name.
            for src in range(self.ranks):
                self._take(src)
        if not self._arriving_count:
            return taken > 0
        delivered = False
        for src, arriving in self._arriving.items():
            while arriving and arriving[0].request.Test():
                self._arriving_count -= 1
                self._deliver(src, arriving.popleft().buffer)
                delivered = True
        return delivered or taken > 0

    def _take(self, source: int) -> bool:
        message = self.wires.Improbe(source=source, status=self._status)
        if message is None:
            return False
        buffer = self._memory.room(self._status.Get_count(MPI.BYTE))
        src = self._status.Get_source()
        request = message.Irecv([buffer, MPI.BYTE])
        if not self._arriving[src] and request.Test():
            self._deliver(src, buffer)
        else:  # behind an earlier one of the same source, so that order is kept
            self._arriving[src].append(_Arriving(request, buffer))
            self._arriving_count += 1
        return True

    def _deliver(self, src: int, buffer: Buffer) -> None:
        header, payload = self._memory.open(buffer)
        magic, kind, code, tag_length, ident, numel, sent_s, tag = HEADER.unpack_from(header, 0)
        assert magic == MAGIC, "a message on our own communicator that is not ours"
        dtype = DTYPES[code]
        data = payload.view(dtype) if numel else torch.empty(0, dtype=dtype, device=self.device)
        self._received_from[src] += 1
        self._receive(Envelope(kind, tag[:tag_length].decode(), ident, data, src, sent_s))

    def _poll_sends(self) -> bool:
        left = []
        for entry in self._sends:
            if entry[0].Test():
                entry[2](self.kernel.now())
            else:
                left.append(entry)
        progressed = len(left) < len(self._sends)
        self._sends = left
        return progressed

    def quiet(self) -> bool:
        return not (self.under_way() or self._arriving_count)

    def under_way(self) -> bool:
        """Whether something that this rank has begun to send or reduce has not ended."""
        return bool(self._sends or self._collectives)

    # -- computing ---------------------------------------------------------------------------------------------------

    async def compute(self, evaluate: Evaluation, x: Tensor, *, alone: bool) -> Computed:
        evaluate.allocate(x)  # here, and not in the helper thread, whose memory is its own
        if alone:
            return self._compute_here(lambda: evaluate(x, None))
        copy = x.clone()  # x may change while the gradient is computed
        # Where it is computed is decided at the next turn of the kernel, when the caller has gone on to what it wants
        # to overlap with: if there is nothing, handing it to a thread would only cost time.
        future: Future[Computed] = Future(Wait("gradient"))
        self._undecided.append((lambda: evaluate(copy, None), future))
        return await future

    def _decide(self) -> None:
        evaluate, future = self._undecided.popleft()
        if self.quiet() and not self._conditions and not self._aside and self.only_computing():
            future.set(self._compute_here(evaluate))
        else:
            self._submit(evaluate, future)

    def _back(self) -> None:
        self._aside -= 1
        self.computing = self._aside > 0

    def _submit(self, evaluate: Callable[[], Tensor], future: Future[Computed]) -> None:
        if self._helper is None:
            self._helper = Helper(self._evaluator, self.clock)
        self._aside += 1
        self.computing = True
        future.then(self._back)
        self._helper.submit(evaluate, future)

    def _compute_here(self, evaluate: Callable[[], Tensor]) -> Computed:
        self.computing = True
        computed = self._evaluator.run(evaluate, self._evaluator.mark())
        self.computing = False
        return computed

    def rehearse(self, evaluate: Callable[[], Tensor]) -> None:
        """Evaluate before the clock starts, where gradients will be: caches, threads and memory are then in place.

        On a GPU in the helper thread too, which has the libraries' handles and the memory of its own.
        """
        self._compute_here(evaluate)
        if self.device.type == "cuda":
            future: Future[Computed] = Future(Wait("gradient"))
            self._submit(evaluate, future)
            assert self._helper is not None
            while not self._helper.deliver():
                time.sleep(1e-3)
            future.result()

    async def _compute_aside(self, evaluate: Callable[[], Tensor]) -> Computed:
        future: Future[Computed] = Future(Wait("gradient"))
        self._submit(evaluate, future)
        return await future

    # -- collectives -------------------------------------------------------------------------------------------------

    async def mean_gradient(
        self, evaluate: Evaluation, x: Tensor, buckets: Sequence[Bucket], *, alone: bool
    ) -> tuple[Computed, list[Reduced]]:
        out = evaluate.allocate(x)
        if self.size == 1:
            computed = await self.compute(evaluate, x, alone=alone)
            return computed, [Reduced(computed.t1_s, computed.t1_s, out.numel())]
        reduced: list[Future[Reduced]] = []
        last = len(buckets) - 1
        if last and self.device.type == "cuda":
            # Several buckets overlap with a backward pass that goes on by itself on the GPU. Only the kernel's loop can
            # wait for them without holding up the thread that enqueues the rest.
            alone = False
        check = self._start_check("gradient", out, self.gradients, blocking=alone, parts=len(buckets))

        def launch(b: int) -> None:
            part = out[buckets[b].lo : buckets[b].hi]
            if alone and b == last:  # nothing left to overlap with
                reduced.append(self._allreduce_here(part, check))
            else:
                reduced.append(self.start_allreduce(part, check))
            if alone and b:
                self._poll_collectives()  # nobody else drives the earlier buckets while we compute

        if alone:
            # The blocking all-reduce of the last bucket must not count as computing, so it is launched after the clock
            # is read: the last tensors are ready only when the backward pass is over anyway.
            ready = ReadyBuckets(buckets, lambda b: launch(b) if b < last else None) if last else None
            computed = self._compute_here(lambda: evaluate(x, ready))
            launch(last)
            for entry in list(self._collectives):
                self._finish_here(entry)
        else:
            copy = x.clone()
            ready = ReadyBuckets(buckets, lambda b: self._bucket_ready(launch, b))
            computed = await self._compute_aside(lambda: evaluate(copy, ready))
            while len(reduced) < len(buckets):  # all are ready by now
                self._launch_next()
        return computed, [await future for future in reduced]

    def _bucket_ready(self, launch: Callable[[int], None], b: int) -> None:
        # In the thread that computes, or autograd's; the main thread talks to MPI.
        self._ready.append((launch, b, self._evaluator.mark()))
        self.clock.wake()

    def _may_launch(self, final: Mark) -> bool:
        """Whether a bucket can be reduced now; where that means a copy to the host, the GPU must have got there, or the
        main thread would wait for it."""
        return final is None or bool(final.query())  # type: ignore[no-untyped-call]

    def _launch_next(self) -> None:
        launch, b, final = self._ready.popleft()
        if final is not None:
            torch.cuda.current_stream(self.device).wait_event(final)
        launch(b)

    async def allreduce_mean(self, v: Tensor, label: str, *, alone: bool) -> Reduced:
        if self.size == 1:
            now = self.kernel.now()
            return Reduced(now, now, v.numel())
        check = self._start_check(label, v, self.workers, blocking=alone)
        return await (self._allreduce_here(v, check) if alone else self.start_allreduce(v, check))

    def start_allreduce(self, v: Tensor, check: Check) -> Future[Reduced]:
        """Begin to replace v by its mean; driven by `poll`."""
        t0 = self.kernel.now()
        staged = to_wire(v)
        total = like(staged)
        request = sum_into(check.comm, staged, total)
        future: Future[Reduced] = Future(Wait("allreduce", check.label))

        def end() -> None:
            from_wire(total, v, self.size)
            future.set(Reduced(t0, self.kernel.now(), v.numel()))

        self._collectives.append(Collective(request, check, end, future, (staged, total)))
        return future

    def _allreduce_here(self, v: Tensor, check: Check) -> Future[Reduced]:
        """The same by MPI's blocking all-reduce, which was seen twice as fast as its non-blocking one on one host."""
        t0 = self.kernel.now()
        staged = to_wire(v)
        future: Future[Reduced] = Future(Wait("allreduce", check.label))
        self.blocking = future.wait
        try:
            # The check first: with vectors of different lengths MPI may hang, or stop on some ranks only.
            if not self._passed(check, wait=True):
                future.fail(cast("LabelMismatch", check.error))
                return future
            if check.codes[4]:  # somebody overlaps, and MPI matches a blocking collective with blocking ones only
                total = like(staged)
                sum_into(check.comm, staged, total).Wait()
                staged = total
            else:
                check.comm.Allreduce(MPI.IN_PLACE, as_array(staged))
        finally:
            self.blocking = None
        from_wire(staged, v, self.size)
        future.set(Reduced(t0, self.kernel.now(), v.numel()))
        return future

    blocking: Wait | None = None
    """What the main thread blocks in, for the watchdog's table."""

    def _start_check(self, label: str, v: Tensor, comm: MPI.Comm, *, blocking: bool = False, parts: int = 1) -> Check:
        """Largest and smallest digest and length over the workers, and whether any does not block: one all-reduce of
        maxima."""
        self._collective_count += 1
        number, call = self._collective_count, (label, v.numel(), v.dtype)
        digest = zlib.crc32(f"{label}#{number} {v.dtype} {parts}".encode())
        codes = np.array([digest, -digest, v.numel(), -v.numel(), not blocking], dtype=np.int64)
        return Check(number, call, comm, codes, self.checks.Iallreduce(MPI.IN_PLACE, codes, op=MPI.MAX))

    def _passed(self, check: Check, *, wait: bool = False) -> bool:
        """Whether all workers are known to have joined the same collective; `check.error` if they have not."""
        if check.passed or check.error is not None:
            return check.passed
        if wait:
            check.request.Wait()
        elif not check.request.Test():
            return False
        check.passed = bool(check.codes[0] == -check.codes[1] and check.codes[2] == -check.codes[3])
        if not check.passed:
            # All workers see the same maxima, so all arrive here and can ask each other.
            calls = describe(self.disputes.allgather(check.call))
            check.error = LabelMismatch(f"workers joined different collectives as their number {check.number}: {calls}")
        return check.passed

    def _poll_collectives(self) -> bool:
        before = len(self._collectives)
        for entry in list(self._collectives):
            if self._passed(entry.check):
                if entry.data.Test():
                    self._collectives.remove(entry)
                    entry.end()
            elif entry.check.error is not None:
                self._lose(entry)
        return len(self._collectives) < before

    def _finish_here(self, entry: Collective) -> None:
        self.blocking = entry.future.wait
        if self._passed(entry.check, wait=True):
            entry.data.Wait()
            self._collectives.remove(entry)
            entry.end()
        else:
            self._lose(entry)
        self.blocking = None

    def _lose(self, entry: Collective) -> None:
        """Give up a mismatched collective, whose data may never come."""
        self._collectives.remove(entry)
        self._lost.append(entry)
        entry.future.fail(cast("LabelMismatch", entry.check.error))

    def agree(self, value: float, *, alone: bool) -> Awaitable[float]:
        values = np.array([value])
        return _Agreed(self, self.agreements.Iallreduce(MPI.IN_PLACE, values, op=MPI.MAX), values, alone)

    async def agreed(self, request: MPI.Request, *, alone: bool) -> None:
        """Wait until an agreement has ended."""
        if alone:
            self.blocking = Wait("agree")
            request.Wait()
            self.blocking = None
        elif not request.Test():
            await self._condition(request.Test, "agree")

    # -- the end -----------------------------------------------------------------------------------------------------

    def _poll_conditions(self) -> bool:
        met = [entry for entry in self._conditions if entry[0]()]
        for entry in met:
            self._conditions.remove(entry)
            entry[1]()
        return bool(met)

    def returned(self) -> Future[None]:
        return self._condition(self.control.Ibarrier().Test, "all workers to return")

    def _condition(self, met: Callable[[], bool], what: str) -> Future[None]:
        """A future that is done as soon as `met()` is seen to be true."""
        future: Future[None] = Future(Wait(what))
        self._conditions.append((met, lambda: future.set(None)))
        return future

    async def drain(self) -> None:
        # 1. Tell every rank how many messages were sent to it. 2. Wait for as many as were announced, for our own sends
        # and for collectives. 3. What landed may have been a request, so that its answer is under way now: once more,
        # until nobody has sent anything since the counts.
        expected, sent = np.zeros(self.ranks, dtype=np.int64), self._sent_to.copy()
        more = np.ones(1, dtype=np.int64)
        while more[0]:
            sent[:] = self._sent_to
            await self._condition(self.control.Ialltoall(sent, expected).Test, "message counts")
            await self._condition(
                lambda: not (self.under_way() or (self._received_from < expected).any()),
                "messages under way",
            )
            more[0] = (self._sent_to != sent).any()
            await self._condition(self.control.Iallreduce(MPI.IN_PLACE, more, op=MPI.MAX).Test, "message counts")

    def facts(self) -> dict[str, Any]:
        """What the report should know of this transport."""
        return {"collectives": "mpi", "paths": {"point-to-point": self._memory.path, "collectives": self._staged_path}}

    @property
    def _staged_path(self) -> str:
        """Where MPI reduces."""
        return PINNED if self.device.type == "cuda" else HOST

    def warm_up(self, length: int, dtype: torch.dtype) -> None:
        """Let MPI set up its connections and buffers before the clock starts."""
        warm_up(self.device, length * dtype.itemsize)
        if self.workers != MPI.COMM_NULL and self.size > 1:
            vector = to_wire(torch.zeros(length, dtype=dtype, device=self.device))
            for _ in range(2):
                self.workers.Allreduce(MPI.IN_PLACE, as_array(vector))
                self.gradients.Allreduce(MPI.IN_PLACE, as_array(vector))
                total = like(vector)
                sum_into(self.gradients, vector, total).Wait()
        byte = np.zeros(self.ranks, dtype=np.uint8)
        self.wires.Alltoall(byte.copy(), byte)

    def close(self) -> None:
        """Give the communicators back; collective over the ranks of the run."""
        if self._helper is not None:
            self._helper.stop()
        for comm in (
            self.disputes,
            self.agreements,
            self.checks,
            self.gradients,
            self.workers,
            self.control,
            self.wires,
        ):
            if comm != MPI.COMM_NULL:
                comm.Free()


class _Agreed(Awaitable[float]):
    """What `agree` returns. Until it is awaited it is MPI's alone: nothing polls it, and a rank may block meanwhile."""

    def __init__(self, transport: MPITransport, request: MPI.Request, values: NDArray[np.float64], alone: bool) -> None:
        self._transport, self._request, self._values, self._alone = transport, request, values, alone

    def __await__(self) -> Generator[Any, None, float]:
        yield from self._transport.agreed(self._request, alone=self._alone).__await__()
        return float(self._values[0])


def sum_into(comm: MPI.Comm, v: Tensor, total: Tensor) -> MPI.Request:
    """Begin total <- sum of v over the ranks; both must live until it has ended, for mpi4py does not keep them.

    Not in place: Open MPI then sends the whole vector up and down a tree, else around a ring. Over four hosts the ring
    takes 0.4 of the time.
    """
    return comm.Iallreduce(as_array(v), as_array(total))


def as_array(v: Tensor) -> NDArray[Any]:
    """A CPU tensor as a numpy array without a copy."""
    return v.numpy()
