"""The handle: what an algorithm calls. Every await of an algorithm passes here and becomes a row of the events table.

The same class serves workers and the server, on every transport. State lives here and not in the coroutine's frame, so
that a run may be ended and entered again (`begin_segment`).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from algorithms.interface import SERVER, Algorithm, Layer, Message, Reply, Take
from algorithms.optim import LAYERWISE, Optimizer, OptimizerSettings
from algorithms.replica import Gradient, Replica
from bench.budget import Budget, Plan, Word
from bench.cluster import HEADER_NBYTES, ring_wire_nbytes
from bench.events import Recorder
from bench.kernel import Future, Task, Wait
from bench.layers import layers_of
from bench.mailbox import Mailbox
from bench.transports.base import (
    CONTROL,
    MESSAGE,
    REPLY,
    REQUEST,
    Computed,
    Envelope,
    Evaluation,
    Reduced,
    Transport,
    check_tag,
    make_buckets,
)
from bench.workloads.base import Batches, Workload, digest, seed_sequence

T = TypeVar("T")

SNAPSHOT_TAG, GROUP_TAG, STOP_TAG = "snapshot", "group", "stop"
"""Tags of Paceline's own control messages."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a rank's evaluated parameters [P], empty in a cost-only run, and where the rank stood."""

    number: int
    t_s: float
    step: int
    samples: int
    nbytes: int
    wire_nbytes: int
    copy_s: float
    x: Tensor


@dataclass(slots=True)
class State:
    """Everything of a rank that must survive a restart, apart from the random streams."""

    step: int = 0
    samples: int = 0
    computed: int = 0  # gradients
    computed_s: float = 0.0  # and the time they took
    replica: Replica | None = None
    optimizers: list[Optimizer] = field(default_factory=list)
    saved_optimizers: list[dict[str, Tensor]] = field(default_factory=list)  # of a restart: taken over when asked for
    kept: dict[str, Tensor] = field(default_factory=dict)
    collectives: dict[str, Tensor] = field(default_factory=dict)  # finished after the segment's end, not yet taken
    next_snapshot: int = 0
    meet_at: int = 0  # the step at which workers in lock-step meet next (see `bench.budget.Plan`)


class InitialPoint:
    """Where all ranks start, made once for those of this process, when the first one asks."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload, self._seed = workload, seed

    @cached_property
    def x(self) -> Tensor:
        """The initial parameters [P]; only to be read."""
        return self._workload.initial(self._seed).to(self._workload.device)

    @cached_property
    def hash(self) -> str:
        """Of the parameters; empty if they have no values."""
        return "" if self.x.is_meta else digest(self.x)

    def own(self, rank: int) -> Tensor:
        """A worker's own initial parameters [P], drawn as all others' are, from the study seed and its rank."""
        seed = int(seed_sequence(self._seed, rank, "own start").generate_state(1, np.uint64)[0] >> 1)
        return self._workload.initial(seed).to(self._workload.device)


class RankHandle:
    """One rank's `Worker` or `Server` (see `algorithms.interface`).

    Args:
        algorithm: says which part of the model a server keeps, what is evaluated, and whether exchanges conserve.
        optimizer: settings for algorithms that give none.
        initial: shared by the ranks of a process; None makes it for this rank alone.
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
        algorithm: Algorithm,
        seed: int,
        optimizer: OptimizerSettings,
        initial: InitialPoint | None = None,
        bucket_nbytes: int = 25 << 20,
        spill_to: Path | None = None,
        on_step: Callable[[int, float, Tensor], None] | None = None,
    ) -> None:
        self.rank, self.size, self.seed = transport.rank, transport.size, seed
        self.servers, self.index = transport.ranks - transport.size, transport.rank - transport.size
        self.layers: Sequence[Layer] = layers_of(workload.layers)
        self.rng = np.random.default_rng(seed_sequence(seed, self.rank, "algorithm"))
        self.state = State()
        self.snapshots: list[Snapshot] = []
        self.recorder = recorder
        self.mailbox = Mailbox()
        self.is_server = self.rank >= self.size
        shards = [algorithm.shard(k, self.size, workload.parameters) for k in range(self.index + 1)]
        self.span = shards[-1] if self.is_server else slice(0, workload.parameters)
        # The part of the center that is evaluated here: none where a server before keeps it too.
        self.owns = self.span if all(other.stop <= self.span.start for other in shards[:-1]) else slice(0, 0)
        self.initial_hash = ""
        self.ended_s, self.ended_step = 0.0, -1  # when the budget was spent here
        self.interrupted = False  # whether the segment ended before the budget was spent
        self._transport, self._kernel, self._may_block = transport, transport.kernel, transport.may_block
        self._workload, self._device = workload, workload.device
        self._initial = initial or InitialPoint(workload, seed)
        self._batches: Batches | None = None
        self._default_optimizer = optimizer
        of, _, name = algorithm.evaluated_model.partition(":")
        self._evaluated = name if (of == "center") == self.is_server else ""  # name of a kept state, if any
        self._values = workload.device.type != "meta"  # whether there are any: not in a cost-only run
        self._track_drift = algorithm.conserved() and self._values
        self._buckets = make_buckets(workload.spans, workload.dtype.itemsize, bucket_nbytes)
        self._spill_to, self._on_step = spill_to, on_step
        self._optimizers_taken = 0
        self._started = 0
        self._lockstep = self._point_to_point = False
        self._tags: set[str] = set()  # of messages, that were found to be fit
        self._served: dict[str, Reply] = {}
        self._taken: dict[str, Take] = {}
        self.words: deque[Word] = deque()  # from the leader of our group of steps
        self._word: Future[None] | None = None
        self._unserved: dict[str, list[tuple[Message, int]]] = defaultdict(list)  # requests, with their numbers
        self._requests: dict[int, Future[Tensor]] = {}
        self.request_count = 0  # it numbers them, and so their answers
        self._unserved_count = 0
        self._entered = ""  # label of the collective that was entered last
        # Collectives started and perhaps not awaited yet: label, task, when they were joined.
        self._overlapped: list[tuple[str, Task[Tensor], float]] = []
        self._rejoined: dict[str, Awaitable[Tensor]] = {}  # those that were under way when this rank was saved
        self.boundary: Callable[[RankHandle], None] | None = None  # told when this rank is between two steps
        self._last_loss = torch.tensor(float("nan"))
        self._apply_t0_s = 0.0
        self._plan: Plan | None = None
        self._all_returned: Future[None] | None = None
        transport.attach(self._receive, self._only_computing)

    # -- state -------------------------------------------------------------------------------------------------------

    def replica(self, *, own: bool = False) -> Replica:
        if self.state.replica is None:
            self.initial_hash = self._initial.hash
            x = (self._initial.own(self.rank) if own else self._initial.x)[self.span].clone()
            self.state.replica = Replica(
                x, before=self._before_apply, observe=self._after_apply, track_drift=self._track_drift
            )
        return self.state.replica

    def optimizer(
        self, settings: OptimizerSettings | None = None, *, momentum: float | None = None, size: int | None = None
    ) -> Optimizer:
        n, self._optimizers_taken = self._optimizers_taken, self._optimizers_taken + 1
        if n == len(self.state.optimizers):
            settings = settings or self._default_optimizer
            if momentum is not None:
                assert settings.name == "sgd", "plain_sgd = True has the study refuse other optimisers"
                settings = replace(settings, name="momentum", momentum=momentum)
            if settings.name in LAYERWISE and (size is not None or self.span != slice(0, self._workload.parameters)):
                raise ValueError(
                    f"{settings.name} scales whole layers, so it cannot be given a part of the model: a fragment or a "
                    "server's shard (use one server, or another optimizer)"
                )
            dtype, device = self._workload.dtype, self._workload.device
            span = self.span
            spans = (
                [(lo - span.start, hi - span.start) for lo, hi in self._tensor_spans(span)] if size is None else None
            )
            length = span.stop - span.start if size is None else size
            self.state.optimizers.append(Optimizer(settings, length, dtype, device, spans=spans))
            if n < len(self.state.saved_optimizers):
                self.state.optimizers[n].load_state(self.state.saved_optimizers[n])
        return self.state.optimizers[n]

    def _tensor_spans(self, part: slice) -> list[tuple[int, int]]:
        """The parameter tensors, as far as they lie in a part of the vector."""
        cut = [(max(lo, part.start), min(hi, part.stop)) for lo, hi in self._workload.spans]
        return [(lo, hi) for lo, hi in cut if lo < hi]

    def keep(self, name: str, initial: Tensor) -> Tensor:
        return self.state.kept.setdefault(name, initial.detach().clone())

    def resumed(self, label: str) -> Awaitable[Tensor] | None:
        if label in self.state.collectives:
            there: Future[Tensor] = Future(Wait("allreduce", label))
            there.set(self.state.collectives.pop(label))
            return there
        return self._rejoined.pop(label, None)

    # -- computing ---------------------------------------------------------------------------------------------------

    async def gradient(self, x: Replica, *, at: Tensor | None = None) -> Gradient:
        version, evaluation = x.version, Evaluation(self._workload, self.batches.next())
        alone = self._may_block and self._alone()
        computed = await self._transport.compute(evaluation, x.data if at is None else at, alone=alone)
        return self._gradient_done(evaluation, version, computed)

    async def mean_gradient(self, x: Replica, *, at: Tensor | None = None) -> Gradient:
        version, evaluation = x.version, Evaluation(self._workload, self.batches.next())
        computed, reduced = await self._transport.mean_gradient(
            evaluation, x.data if at is None else at, self._buckets, alone=self._alone()
        )
        gradient = self._gradient_done(evaluation, version, computed)
        for done in reduced:
            self._record_allreduce("gradient", done, gradient.data.element_size())
        self._record_wait(computed.t1_s, Wait("allreduce", "gradient"), reduced[-1].t1_s)
        return gradient

    @property
    def batches(self) -> Batches:
        """This worker's stream of mini-batches."""
        if self._batches is None:
            self._batches = self._workload.batches(self.seed, self.rank, self.size)
        return self._batches

    def _gradient_done(self, evaluation: Evaluation, version: int, computed: Computed) -> Gradient:
        loss, t0_s, t1_s, device_s = computed
        state = self.state
        state.samples += self._workload.batch_size
        state.computed += 1
        state.computed_s += t1_s - t0_s
        value = float(loss)
        if not math.isfinite(value) and self._values and math.isnan(self.recorder.first_bad_loss_s):
            self.recorder.first_bad_loss_s = t1_s
        self._last_loss = loss
        self.recorder.gradient(state.step, t0_s, t1_s, version, value, device_s)
        return Gradient(evaluation.out, version, loss, state.step)

    def steps_per_s(self) -> float:
        return self.state.computed / self.state.computed_s if self.state.computed_s > 0 else float("nan")

    def _before_apply(self) -> None:
        self._apply_t0_s = self._kernel.now()

    def _after_apply(self, gradient: Gradient, version: int) -> None:
        self.recorder.apply(self.state.step, self._apply_t0_s, self._kernel.now(), gradient.version, version)

    def _alone(self) -> bool:
        """Whether nothing can happen on this rank while it computes or waits in a collective, so that it may block."""
        return (
            self._may_block
            and self._kernel.alive(self.rank) == 1
            and not self._is_reachable
            and self._transport.quiet()
        )

    @property
    def _is_reachable(self) -> bool:
        """Whether others can make something happen here at any time."""
        return bool(self._served or self._taken)

    def _only_computing(self) -> bool:
        return not self._is_reachable and self._kernel.waits_for(self.rank) <= {"task", "gradient"}

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
        # What runs beside the main coroutine keeps nobody waiting; whoever awaits it does (`_Started`).
        beside = self._kernel.current is not None and self._kernel.current.beside
        if t1_s > t0_s and not beside:
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
        self.request_count = ident = self.request_count + 1
        answer: Future[Tensor] = Future(Wait("request", tag, self._destination(dst)))
        self._requests[ident] = answer
        self._post(REQUEST, answer.wait.peer, tag, ident, v)
        # As in `_waited`, for which an answer is never there yet.
        t0_s = self._kernel.now()
        value = await answer
        self._record_wait(t0_s, answer.wait, self._kernel.now())
        return value

    def serve(self, tag: str, reply: Reply) -> None:
        check_tag(tag)
        self._served[tag] = reply
        for message, ident in self._unserved.pop(tag, []):
            self._unserved_count -= 1
            self._answer(message, ident)

    def on(self, tag: str, take: Take) -> None:
        check_tag(tag)
        self._taken[tag] = take
        while self.mailbox.holds(tag):
            take(self.mailbox.take(tag, None).result())

    def _destination(self, dst: int) -> int:
        if 0 <= dst < self._transport.ranks:
            return dst
        rank = self.size + SERVER - dst if dst <= SERVER else dst
        if dst <= SERVER and not rank < self._transport.ranks:
            raise ValueError(f"no such server: {dst} would be number {SERVER - dst} (there are {self.servers})")
        if not 0 <= rank < self._transport.ranks:
            raise ValueError(f"no such rank: {dst} (ranks are 0..{self._transport.ranks - 1})")
        return rank

    def _post(self, kind: int, dst: int, tag: str, ident: int, v: Tensor) -> None:
        if tag not in self._tags:
            check_tag(tag)
            self._tags.add(tag)
        # A transport that lacks a need is refused before the run starts, so `needs` must tell the truth.
        assert self._point_to_point, "an algorithm that sends messages must name point-to-point in its needs"
        dst = self._destination(dst)
        t0_s, step, nbytes, recorder = self._kernel.now(), self.state.step, v.nbytes, self.recorder
        recorder.messages += 1

        def on_sent(t1_s: float) -> None:
            recorder.send(step, t0_s, t1_s, nbytes, nbytes + HEADER_NBYTES, dst, tag)

        self._transport.post(dst, Envelope(kind, tag, ident, v, self.rank, t0_s), on_sent)

    def _receive(self, envelope: Envelope) -> None:
        """An envelope arrives; between two awaits of the algorithm, so handlers are atomic (rule 2)."""
        if envelope.kind == CONTROL:
            self._obey(envelope.tag, envelope.ident)
            return
        now_s, kind, tag, src, data = self._kernel.now(), envelope.kind, envelope.tag, envelope.src, envelope.data
        if self._values and data.device != self._device:  # an empty one, or of a transport that was told no device
            data = data.to(self._device)
        if kind == REPLY:
            self._requests.pop(envelope.ident).set(data)
        elif kind == REQUEST:
            if tag in self._served:
                self._answer(Message(data, src, tag), envelope.ident)
            else:
                self._unserved[tag].append((Message(data, src, tag), envelope.ident))
                self._unserved_count += 1
        elif tag in self._taken:
            self._taken[tag](Message(data, src, tag))
        else:
            self.mailbox.put(Message(data, src, tag))
        depth = self.mailbox.depth + self._unserved_count
        self.recorder.recv(self.state.step, min(envelope.sent_s, now_s), now_s, data.nbytes, src, tag, depth)

    def _answer(self, message: Message, ident: int) -> None:
        t0_s = self._kernel.now()
        answer = self._served[message.tag](message)
        self._post(REPLY, message.src, message.tag, ident, answer)
        self.recorder.add("serve", self.state.step, t0_s, self._kernel.now(), peer=message.src, label=message.tag)

    # -- running -----------------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        self._started += 1
        # Runs up to its first wait.
        task = self._kernel.start(work, rank=self.rank, name=f"started {self._started}", beside=True)
        if getattr(work, "cr_code", None) is RankHandle.allreduce_mean.__code__:
            self._overlap(self._entered, cast("Task[Tensor]", task), self._kernel.now())
        return _Started(self, task)

    def _overlap(self, label: str, task: Task[Tensor], joined_s: float) -> None:
        self._overlapped = [entry for entry in self._overlapped if not entry[1].retrieved]
        self._overlapped.append((label, task, joined_s))

    async def until_done(self, task: Task[T]) -> T:
        """The result of a task that runs beside; waiting for it is recorded unless it computes."""
        if task.done() or task.waits_for is None:
            return await task
        t0_s, wait = self._kernel.now(), task.waits_for.wait
        value = await task
        if wait.what != "gradient":
            self._record_wait(t0_s, wait, self._kernel.now())
        return value

    def steps(self, *, group: Sequence[int] | None = None) -> AsyncIterator[int]:
        assert self._plan is not None, "begin_segment() comes first"
        return _Steps(self, sorted(group) if group is not None and len(group) > 1 else [])

    def quiet_step(self) -> int | None:
        """The number of the step that begins, if nothing is due at the boundary: the short way that most steps take."""
        state, plan, log = self.state, self._plan, self.recorder.log
        assert plan is not None
        if (self._kernel.now() if plan.by_time else state.step) >= plan.quiet_until or len(log.rows) > log.spill_at:
            return None
        if self._on_step is not None and state.step:
            self._on_step(state.step, self._kernel.now(), self._last_loss)
        state.step += 1
        return state.step

    async def next_step(self, group: Sequence[int]) -> int | None:
        """Do what is due at the boundary; return the number of the step that begins, or None when the budget is
        spent."""
        assert self._plan is not None
        if self.boundary is not None:
            self.boundary(self)
        if self.recorder.log.nearly_full and self._spill_to is not None:
            t0_s = self._kernel.now()
            self.recorder.log.spill(self._spill_to)
            self._record_wait(t0_s, Wait("records"), self._kernel.now())
        snapshots, word = await self._plan.due(self.state.step, self._kernel.now())
        if group:
            word = await self._leaders_word(group, word)
            snapshots += self._plan.rest() if word is Word.OVER else []
        for number in snapshots:
            self._take_snapshot(number)
            if self.rank == 0:
                for server in range(self.size, self._transport.ranks):
                    self._control(server, SNAPSHOT_TAG, number)
        if self._on_step is not None and self.state.step:
            self._on_step(self.state.step, self._kernel.now(), self._last_loss)
        if word is Word.INTERRUPTED:
            self._stop()
        elif word is Word.OVER and self.state.step > self.ended_step:  # an interrupted run may go on for others only
            self.ended_s, self.ended_step = self._kernel.now(), self.state.step
        if word:
            return None
        self.state.step += 1
        return self.state.step

    async def _leaders_word(self, group: Sequence[int], word: Word) -> Word:
        """Whether the run ends here for this group of workers, as its first member sees it."""
        if self.rank == group[0]:
            for other in group[1:]:
                self._control(other, GROUP_TAG, word)
            return word
        if word is Word.INTERRUPTED:
            self._control(group[0], STOP_TAG, 0)
        if not self.words:
            self._word = Future(Wait("the group's leader", peer=group[0]))
            await self._waited(self._word)
        return self.words.popleft()

    def stop(self) -> None:
        """Have this worker stop at its next boundary."""
        if self._plan is not None:
            self._plan.stop()

    def _stop(self) -> None:
        """The run ends here although its budget is not spent; so it does for all others at their next boundary."""
        assert self._plan is not None
        self.interrupted = True
        servers = range(self.size, self._transport.ranks)
        if self._lockstep:  # the workers have agreed on it
            told = servers if self.rank == 0 else range(0)
        else:
            told = servers if self._plan.told else range(self._transport.ranks)
        for other in told:
            if other != self.rank:
                self._control(other, STOP_TAG, 0)

    def _obey(self, tag: str, value: int) -> None:
        """A control message arrives."""
        if tag == SNAPSHOT_TAG:
            self._take_snapshot(value)
        elif tag == STOP_TAG:
            if self.is_server:
                self.interrupted = True
            else:
                self.stop()
        else:
            self.words.append(Word(value))
            if self._word is not None:
                heard, self._word = self._word, None
                heard.set(None)

    def _control(self, dst: int, tag: str, value: int) -> None:
        envelope = Envelope(CONTROL, tag, value, torch.empty(0), self.rank, self._kernel.now())
        self._transport.post(dst, envelope, lambda _: None)

    async def finished(self) -> None:
        assert self._all_returned is not None
        await self._all_returned

    def begin_segment(
        self,
        algorithm: Algorithm,
        budget: Budget,
        *,
        first_snapshot: int | None = None,
        asked: Callable[[], bool] | None = None,
    ) -> Coroutine[Any, Any, None]:
        """The coroutine of this rank from where it stands to the end of `budget`; run it once with the kernel.

        Args:
            first_snapshot: number of the first planned snapshot to take; None goes on after the last one.
            asked: whether this rank is wished to stop; then all do at a boundary of theirs, and are `interrupted`.
        """
        if first_snapshot is None:
            first_snapshot = self.state.next_snapshot

        def agree(value: float, at_once: bool) -> Awaitable[float]:
            return self._transport.agree(value, alone=at_once and self._alone())

        self._plan = Plan(budget, algorithm.lockstep, agree, first_snapshot, asked)
        self._plan.meet_at, self.state.meet_at = self.state.meet_at, 0
        self.interrupted = False
        self._optimizers_taken = 0
        self._lockstep, self._point_to_point = algorithm.lockstep, "point-to-point" in algorithm.needs
        self._served.clear()
        self._taken.clear()
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
        if self.is_server and not self.interrupted:
            self._take_snapshot(None)
        for label, task, _ in self._overlapped:  # rule 9: completed by drain(), kept for the next segment
            if not task.retrieved:
                self.state.collectives[label] = await task
        self._overlapped.clear()
        self._rejoined.clear()

    # -- for pictures of a simulation (bench.transports.cut) --

    def hold(self, boundary: Callable[[RankHandle], None] | None) -> None:
        """Have `boundary` told when this rank is between two steps."""
        self.boundary = boundary
        if self._plan is not None:
            self._plan.quiet_until = -math.inf

    def overlapped(self) -> dict[str, float] | None:
        """The collectives that overlap, by label, and when they were joined; None if anything else is under way."""
        alive = {label: joined_s for label, task, joined_s in self._overlapped if not task.done()}
        return alive if self._kernel.alive(self.rank) == 1 + len(alive) and not self._requests else None

    def settle(self) -> None:
        """Write to `state` what is known only to coroutines, for `bench.checkpoint.save`."""
        assert self._plan is not None
        self.state.meet_at = self._plan.meet_at
        for label, task, _ in self._overlapped:
            if task.done() and not task.retrieved:
                self.state.collectives[label] = task.result()
                task.retrieved = False

    def rejoin(self, label: str, joined_s: float, end_s: Future[float], v: Tensor) -> None:
        """Wait again for a collective under way, whose result will be in v."""

        async def wait() -> Tensor:
            self._record_allreduce(label, Reduced(joined_s, await end_s, v.numel()), v.element_size())
            return v

        self._started += 1
        task = self._kernel.start(wait(), rank=self.rank, name=f"started {self._started}", beside=True)
        self._overlap(label, task, joined_s)
        self._rejoined[label] = _Started(self, task)

    def evaluated(self) -> Tensor:
        """The parameters [P] that this rank contributes to the evaluated model."""
        if self._evaluated in self.state.kept:
            return self.state.kept[self._evaluated]
        return self.replica().data

    def _take_snapshot(self, number: int | None) -> None:
        """Copy the evaluated parameters. None: the server's last one, in place of the last that worker 0 asked for."""
        if number is None:
            number = self.snapshots.pop().number if self.snapshots else 0
        self.state.next_snapshot = number + 1
        t0_s, t0_ns = self._kernel.now(), time.perf_counter_ns()
        x = self.evaluated().detach().to("cpu", copy=True) if self._values else torch.empty(0)
        copy_s = (time.perf_counter_ns() - t0_ns) * 1e-9
        r = self.recorder
        self.snapshots.append(
            Snapshot(number, t0_s, self.state.step, self.state.samples, r.nbytes, r.wire_nbytes, copy_s, x)
        )


class _Started(Awaitable[T]):
    """What `start` returns."""

    def __init__(self, handle: RankHandle, task: Task[T]) -> None:
        self._handle, self._task = handle, task

    def __await__(self) -> Generator[Any, None, T]:
        return self._handle.until_done(self._task).__await__()


class _Steps:
    """`async for t in w.steps()`."""

    def __init__(self, handle: RankHandle, group: Sequence[int]) -> None:
        self._handle, self._group = handle, group

    def __aiter__(self) -> _Steps:
        return self

    async def __anext__(self) -> int:
        step = None if self._group else self._handle.quiet_step()
        if step is None:
            step = await self._handle.next_step(self._group)
        if step is None:
            raise StopAsyncIteration
        return step
