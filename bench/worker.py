"""The handle: what an algorithm calls. Every await of an algorithm passes here and becomes a row of the events table.

The same class serves workers and the server, on every transport. State lives here and not in the coroutine's frame, so
that a run may be ended and entered again (`begin_segment`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from algorithms.interface import SERVER, Algorithm, Message, Reply
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.replica import Gradient, Replica
from bench.budget import Budget, Plan
from bench.cluster import HEADER_NBYTES, ring_wire_nbytes
from bench.events import Recorder
from bench.kernel import Future, Task, Wait
from bench.mailbox import Mailbox
from bench.transports.base import (
    CONTROL,
    MESSAGE,
    REPLY,
    REQUEST,
    Envelope,
    OnReady,
    Reduced,
    Transport,
    check_tag,
    make_buckets,
)
from bench.workloads.base import Batches, Workload, digest, seed_sequence

T = TypeVar("T")

SNAPSHOT_TAG = "snapshot"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a rank's evaluated parameters [P], and where the rank stood."""

    number: int
    t_s: float
    step: int
    samples: int
    nbytes: int
    wire_nbytes: int
    copy_s: float
    x: Tensor


@dataclass
class State:
    """Everything of a rank that must survive a restart, apart from the random streams."""

    step: int = 0
    samples: int = 0
    replica: Replica | None = None
    optimizers: list[Optimizer] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    collectives: dict[str, Tensor] = field(default_factory=dict)  # finished after the segment's end, not yet taken


class RankHandle:
    """One rank's `Worker` or `Server` (see `algorithms.interface`).

    Args:
        optimizer: settings for algorithms that give none.
        track_drift: see `Replica`.
        bucket_nbytes: size of the pieces in which `mean_gradient` reduces; 0 reduces everything at once, at the end.
        spill_to: folder for event rows when their buffer fills up; None keeps to the buffer.
        on_step: told the step and the time after each step (progress).
    """

    def __init__(
        self,
        transport: Transport,
        workload: Workload,
        recorder: Recorder,
        *,
        seed: int,
        optimizer: OptimizerSettings,
        evaluated_model: str = "mean",
        track_drift: bool = False,
        bucket_nbytes: int = 25 << 20,
        spill_to: Path | None = None,
        on_step: Callable[[int, float, Tensor], None] | None = None,
    ) -> None:
        self.rank, self.size = transport.rank, transport.size
        self.rng = np.random.default_rng(seed_sequence(seed, self.rank, "algorithm"))
        self.state = State()
        self.snapshots: list[Snapshot] = []
        self.recorder = recorder
        self.mailbox = Mailbox()
        self.is_server = self.rank >= self.size
        self.initial_hash = ""
        self.ended_s = 0.0  # when the budget was spent here
        self._transport, self._kernel = transport, transport.kernel
        self._workload, self._seed = workload, seed
        self._batches: Batches | None = None
        self._default_optimizer = optimizer
        self._evaluated, self._track_drift = evaluated_model, track_drift
        self._buckets = make_buckets(workload.spans, workload.dtype.itemsize, bucket_nbytes)
        self._spill_to, self._on_step = spill_to, on_step
        self._optimizers_taken = 0
        self._started = 0
        self._point_to_point = False
        self._served: dict[str, Reply] = {}
        self._unserved: dict[str, list[Envelope]] = defaultdict(list)
        self._requests: dict[int, Future[Tensor]] = {}
        self._request_count = 0
        self._entered = ""  # label of the collective that was entered last
        self._overlapped: list[tuple[str, Task[Tensor]]] = []  # collectives started and perhaps not awaited yet
        self._last_loss = torch.tensor(float("nan"))
        self._apply_t0_s = 0.0
        self._plan: Plan | None = None
        self._over = False
        self._all_returned: Future[None] | None = None
        transport.attach(self._receive, self._only_computing)

    # -- state -------------------------------------------------------------------------------------------------------

    def replica(self) -> Replica:
        if self.state.replica is None:
            x = self._workload.initial(self._seed).to(self._workload.device).clone()
            self.initial_hash = digest(x)
            self.state.replica = Replica(
                x, before=self._before_apply, observe=self._after_apply, track_drift=self._track_drift
            )
        return self.state.replica

    def optimizer(self, settings: OptimizerSettings | None = None) -> Optimizer:
        n, self._optimizers_taken = self._optimizers_taken, self._optimizers_taken + 1
        if n == len(self.state.optimizers):
            w = self._workload
            self.state.optimizers.append(
                Optimizer(settings or self._default_optimizer, w.parameters, w.dtype, w.device)
            )
        return self.state.optimizers[n]

    def keep(self, name: str, initial: Tensor) -> Tensor:
        return self.state.kept.setdefault(name, initial.detach().clone())

    def resumed(self, label: str) -> Tensor | None:
        return self.state.collectives.pop(label, None)

    # -- computing ---------------------------------------------------------------------------------------------------

    async def gradient(self, x: Replica) -> Gradient:
        version, out, evaluate = self._evaluation(x)
        computed = await self._transport.compute(evaluate, x.data, alone=self._alone())
        return self._gradient_done(out, version, computed.loss, computed.t0_s, computed.t1_s)

    async def mean_gradient(self, x: Replica) -> Gradient:
        version, out, evaluate = self._evaluation(x)
        computed, reduced = await self._transport.mean_gradient(
            evaluate, x.data, out, self._buckets, alone=self._alone()
        )
        gradient = self._gradient_done(out, version, computed.loss, computed.t0_s, computed.t1_s)
        for done in reduced:
            self._record_allreduce("gradient", done, out.element_size())
        self._record_wait(computed.t1_s, Wait("allreduce", "gradient"), reduced[-1].t1_s)
        return gradient

    def _evaluation(self, x: Replica) -> tuple[int, Tensor, Callable[[Tensor, OnReady | None], Tensor]]:
        if self._batches is None:
            self._batches = self._workload.batches(self._seed, self.rank, self.size)
        batch, out = self._batches.next(), torch.empty_like(x.data)

        def evaluate(at: Tensor, on_ready: OnReady | None) -> Tensor:
            return self._workload.gradient(at, batch, out, on_ready)

        return x.version, out, evaluate

    def _gradient_done(self, out: Tensor, version: int, loss: Tensor, t0_s: float, t1_s: float) -> Gradient:
        self.state.samples += self._workload.batch_size
        value = float(loss)
        if not np.isfinite(value) and np.isnan(self.recorder.first_bad_loss_s):
            self.recorder.first_bad_loss_s = t1_s
        self._last_loss = loss
        self.recorder.add("gradient", self.state.step, t0_s, t1_s, version_read=version, loss=value)
        return Gradient(out, version, loss, self.state.step)

    def _before_apply(self) -> None:
        self._apply_t0_s = self._kernel.now()

    def _after_apply(self, gradient: Gradient, version: int) -> None:
        self.recorder.add(
            "apply", self.state.step, self._apply_t0_s, self._kernel.now(),
            version_read=gradient.version, version_applied=version, staleness=version - gradient.version,
        )  # fmt: skip

    def _alone(self) -> bool:
        """Whether nothing can happen on this rank while it computes or waits in a collective, so that it may block."""
        return self._kernel.alive(self.rank) == 1 and not self._served and self._transport.quiet()

    def _only_computing(self) -> bool:
        return not self._served and self._kernel.waits_for(self.rank) <= {"task", "gradient"}

    # -- collectives -------------------------------------------------------------------------------------------------

    async def allreduce_mean(self, v: Tensor, *, label: str) -> Tensor:
        check_tag(label)
        mean = v.detach().clone()
        self._entered = label
        t0_s = self._kernel.now()
        reduced = await self._transport.allreduce_mean(mean, label, alone=self._alone())
        self._record_allreduce(label, reduced, v.element_size())
        self._record_wait(t0_s, Wait("allreduce", label), self._kernel.now())
        return mean

    def _record_allreduce(self, label: str, reduced: Reduced, itemsize: int) -> None:
        self.recorder.add(
            "allreduce", self.state.step, reduced.t0_s, reduced.t1_s, label=label,
            nbytes=reduced.length * itemsize,
            wire_nbytes=ring_wire_nbytes(reduced.length, itemsize, self.rank, self.size),
        )  # fmt: skip

    def _record_wait(self, t0_s: float, wait: Wait, t1_s: float) -> None:
        if t1_s > t0_s:
            self.recorder.add("wait", self.state.step, t0_s, t1_s, peer=wait.peer, label=wait.label or wait.what)

    async def _waited(self, future: Future[T]) -> T:
        if future.done():
            return future.result()
        t0_s = self._kernel.now()
        value = await future
        self._record_wait(t0_s, future.wait, self._kernel.now())
        return value

    # -- messages ----------------------------------------------------------------------------------------------------

    def send(self, dst: int, tag: str, v: Tensor) -> None:
        self._post(MESSAGE, dst, tag, 0, v)

    async def recv(self, tag: str, *, src: int | None = None) -> Message:
        check_tag(tag)
        return await self._waited(self.mailbox.take(tag, src))

    async def request(self, dst: int, tag: str, v: Tensor) -> Tensor:
        dst = self._destination(dst)
        self._request_count += 1
        ident = self._request_count
        answer: Future[Tensor] = Future(Wait("request", tag, dst))
        self._requests[ident] = answer
        self._post(REQUEST, dst, tag, ident, v)
        return await self._waited(answer)

    def serve(self, tag: str, reply: Reply) -> None:
        check_tag(tag)
        self._served[tag] = reply
        for envelope in self._unserved.pop(tag, []):
            self._answer(envelope)

    def _destination(self, dst: int) -> int:
        dst = self.size if dst == SERVER else dst
        if not 0 <= dst < self._transport.ranks:
            raise ValueError(f"no such rank: {dst} (ranks are 0..{self._transport.ranks - 1})")
        return dst

    def _post(self, kind: int, dst: int, tag: str, ident: int, v: Tensor) -> None:
        check_tag(tag)
        # A transport that lacks a need is refused before the run starts, so `needs` must tell the truth.
        assert self._point_to_point, "an algorithm that sends messages must name point-to-point in its needs"
        dst = self._destination(dst)
        t0_s, step, nbytes = self._kernel.now(), self.state.step, v.nbytes
        self.recorder.messages += 1
        self._transport.post(
            dst,
            Envelope(kind, tag, ident, v.detach(), self.rank, t0_s),
            lambda: self.recorder.add(
                "send",
                step,
                t0_s,
                self._kernel.now(),
                nbytes=nbytes,
                wire_nbytes=nbytes + HEADER_NBYTES,
                peer=dst,
                label=tag,
            ),
        )

    def _receive(self, envelope: Envelope) -> None:
        """An envelope arrives; between two awaits of the algorithm, so handlers are atomic (rule 2)."""
        if envelope.kind == CONTROL:
            if envelope.tag == SNAPSHOT_TAG and self.is_server:
                self._take_snapshot(envelope.ident)
            return
        now_s = self._kernel.now()
        if envelope.kind == REPLY:
            self._requests.pop(envelope.ident).set(envelope.data)
        elif envelope.kind == REQUEST:
            if envelope.tag in self._served:
                self._answer(envelope)
            else:
                self._unserved[envelope.tag].append(envelope)
        else:
            self.mailbox.put(Message(envelope.data, envelope.src, envelope.tag))
        depth = self.mailbox.depth + sum(map(len, self._unserved.values()))
        self.recorder.mailbox_depth_max = max(self.recorder.mailbox_depth_max, depth)
        self.recorder.add(
            "recv", self.state.step, min(envelope.sent_s, now_s), now_s,
            nbytes=envelope.data.nbytes, peer=envelope.src, label=envelope.tag, mailbox_depth=depth,
        )  # fmt: skip

    def _answer(self, envelope: Envelope) -> None:
        t0_s = self._kernel.now()
        answer = self._served[envelope.tag](Message(envelope.data, envelope.src, envelope.tag))
        self._post(REPLY, envelope.src, envelope.tag, envelope.ident, answer)
        self.recorder.add("serve", self.state.step, t0_s, self._kernel.now(), peer=envelope.src, label=envelope.tag)

    # -- running -----------------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        self._started += 1
        task = self._kernel.start(work, rank=self.rank, name=f"started {self._started}")  # runs up to its first wait
        if getattr(work, "cr_code", None) is RankHandle.allreduce_mean.__code__:
            self._overlapped = [(label, other) for label, other in self._overlapped if not other.retrieved]
            self._overlapped.append((self._entered, cast("Task[Tensor]", task)))
        return task

    def steps(self) -> AsyncIterator[int]:
        assert self._plan is not None, "begin_segment() comes first"
        return _Steps(self)

    async def next_step(self) -> int | None:
        """Do what is due at the boundary; return the number of the step that begins, or None when the budget is
        spent."""
        assert self._plan is not None
        if self.recorder.nearly_full and self._spill_to is not None:
            t0_s = self._kernel.now()
            self.recorder.spill(self._spill_to)
            self._record_wait(t0_s, Wait("records"), self._kernel.now())
        snapshots, self._over = await self._plan.due(self.state.step, self._kernel.now())
        for number in snapshots:
            self._take_snapshot(number)
            if self.rank == 0 and self._transport.ranks > self.size:
                empty = torch.empty(0)
                control = Envelope(CONTROL, SNAPSHOT_TAG, number, empty, self.rank, self._kernel.now())
                for server in range(self.size, self._transport.ranks):
                    self._transport.post(server, control, lambda: None)
        if self._on_step is not None and self.state.step:
            self._on_step(self.state.step, self._kernel.now(), self._last_loss)
        if self._over:
            self.ended_s = self._kernel.now()
            return None
        self.state.step += 1
        return self.state.step

    async def finished(self) -> None:
        assert self._all_returned is not None
        await self._all_returned

    def begin_segment(
        self, algorithm: Algorithm, budget: Budget, *, first_snapshot: int | None = None
    ) -> Coroutine[Any, Any, None]:
        """The coroutine of this rank from where it stands to the end of `budget`; run it once with the kernel.

        Args:
            first_snapshot: number of the first planned snapshot to take; None goes on after the last one.
        """
        if first_snapshot is None:
            first_snapshot = self.snapshots[-1].number + 1 if self.snapshots else 0

        def agree(value: float) -> Awaitable[float]:
            return self._transport.agree(value, alone=self._alone())

        self._plan = Plan(budget, algorithm.lockstep, agree, first_snapshot)
        self._optimizers_taken = 0
        self._point_to_point = "point-to-point" in algorithm.needs
        self._served.clear()
        return self._segment(algorithm)

    async def _segment(self, algorithm: Algorithm) -> None:
        if self.is_server:
            self._all_returned = self._transport.returned()
            await algorithm.server(self)
            await self._all_returned
        else:
            await algorithm.worker(self)
            await self._transport.returned()  # rule 6: keep serving until all have returned
        await self._transport.drain()
        if self.is_server:
            self._take_snapshot(None)
        for label, task in self._overlapped:  # rule 9: completed by drain(), kept for the next segment
            if not task.retrieved:
                self.state.collectives[label] = await task
        self._overlapped.clear()

    def evaluated(self) -> Tensor:
        """The parameters [P] that this rank contributes to the evaluated model."""
        if self._evaluated in self.state.kept:
            return self.state.kept[self._evaluated]
        return self.replica().data

    def _take_snapshot(self, number: int | None) -> None:
        """Copy the evaluated parameters. None: the server's last one, in place of the last that worker 0 asked for."""
        if number is None:
            number = self.snapshots.pop().number if self.snapshots else 0
        t0_s, t0_ns = self._kernel.now(), time.perf_counter_ns()
        x = self.evaluated().detach().to("cpu", copy=True)
        copy_s = (time.perf_counter_ns() - t0_ns) * 1e-9
        r = self.recorder
        self.snapshots.append(
            Snapshot(number, t0_s, self.state.step, self.state.samples, r.nbytes, r.wire_nbytes, copy_s, x)
        )


class _Steps:
    """`async for t in w.steps()`."""

    def __init__(self, handle: RankHandle) -> None:
        self._handle = handle

    def __aiter__(self) -> _Steps:
        return self

    async def __anext__(self) -> int:
        step = await self._handle.next_step()
        if step is None:
            raise StopAsyncIteration
        return step
