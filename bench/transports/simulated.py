"""The simulated wire: all ranks are coroutines in one process, time is virtual, the network is a model.

Gradients are real; what they cost is charged by the compute model. See `bench.cluster` for the models.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from bench.cluster import HEADER_NBYTES, Compute, Fabric, Network, Outages
from bench.cluster.fabric import Route
from bench.kernel import Future, Kernel, Wait
from bench.transports.base import (
    CONTROL,
    Bucket,
    Computed,
    Envelope,
    Evaluation,
    LabelMismatch,
    OnSent,
    Reduced,
    describe,
    divide_,
    wire_dtype,
)
from bench.transports.lazy import LazyGradients

FORWARD_SHARE = 1 / 3
"""Share of a gradient's time that is the forward pass: a backward pass costs about twice as much."""


COMPUTING = Wait("gradient")


@dataclass(slots=True)
class _Link:
    """Messages of one directed link; queues keep them in order even when ties are shuffled."""

    src: int
    dst: int
    route: Route
    # On the way: message, seconds on the NIC, when it left.
    heads: deque[tuple[Envelope, float, float]] = field(default_factory=deque)
    tails: deque[Envelope] = field(default_factory=deque)  # entering the receiver's NIC


@dataclass
class _Collective:
    """A collective that some workers have joined: rank -> (label, vector or None, future)."""

    joined: dict[int, tuple[str, Tensor | None, Future[float]]] = field(default_factory=dict)


class SimulatedWorld:
    """What the ranks share: kernel, network, queues, collectives and the computing of gradients."""

    def __init__(
        self,
        kernel: Kernel,
        gradients: LazyGradients,
        *,
        size: int,
        ranks: int,
        network: Network,
        compute: Compute,
        seed: int,
    ) -> None:
        network.check(ranks)
        compute.check(size)
        self.kernel, self.gradients, self.size = kernel, gradients, size
        self.fabric = Fabric(network, workers=size, ranks=ranks)
        self.in_flight = 0  # messages, and ranks' shares in collectives
        self._drained: list[Future[None]] = []
        self.collectives: dict[tuple[int, int], _Collective] = defaultdict(_Collective)  # (number, bucket)
        self.agreements: dict[int, list[float]] = defaultdict(list)  # collective number -> the values that were brought
        self._out_free_s = [0.0] * self.fabric.queues
        self._in_free_s = [0.0] * self.fabric.queues
        self._collective_free_s = 0.0  # collectives go one after the other
        self._links: list[dict[int, _Link]] = [{} for _ in range(ranks)]  # by sender and receiver
        absences = {rank: compute.absences(rank) for rank in compute.named_workers}
        self._absences = {rank: outages for rank, outages in absences.items() if outages is not None}
        # For an all-reduce it does not matter who is absent: nothing is lost, and nothing moves.
        dead = [(from_s, to_s, False) for o in self._absences.values() for from_s, to_s, _ in o.windows]
        self._standstills = Outages(dead) if dead else None
        self._unreturned = size
        self._all_returned: list[Future[None]] = []
        self.transports = [SimulatedTransport(self, rank, ranks, compute, seed) for rank in range(ranks)]

    def post(self, src: int, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        """Queue on the sender's NIC; then latency; then the receiver's NIC."""
        now = self.kernel.now()
        link = self._links[src].get(dst) or self._connect(src, dst)
        self.in_flight += 1
        if src == dst or envelope.kind == CONTROL:
            link.tails.append(envelope)
            self.kernel.call_at(now, self._deliver, link)
            on_sent(now)
            return
        route = link.route
        busy_s = (envelope.data.nbytes + HEADER_NBYTES) / route.bandwidth_Bps
        start_s = max(now, self._out_free_s[route.out])
        left_s = start_s + busy_s if route.schedule is None else route.schedule.finish(start_s, busy_s)
        self._out_free_s[route.out] = left_s
        link.heads.append((envelope, busy_s, left_s))
        on_sent(left_s)
        self.kernel.call_at(start_s + route.latency_s, self._arrive, link)

    def _connect(self, src: int, dst: int) -> _Link:
        link = self._links[src][dst] = _Link(src, dst, self.fabric.route(src, dst))
        return link

    def _arrive(self, link: _Link) -> None:
        route = link.route
        envelope, busy_s, left_s = link.heads.popleft()
        start_s = max(self.kernel.now(), self._in_free_s[route.into])
        if route.schedule is None:
            end_s = start_s + busy_s
        else:  # a receiver that became faster still waits for what the sender sent slowly
            end_s = max(route.schedule.finish(start_s, busy_s), left_s + route.latency_s)
        self._in_free_s[route.into] = end_s
        link.tails.append(envelope)
        self.kernel.call_at(end_s, self._deliver, link)

    def _deliver(self, link: _Link) -> None:
        if self._absences and link.dst in self._absences:
            now = self.kernel.now()
            back_s = self._absences[link.dst].back_s(now)
            if back_s > now:
                self.kernel.call_at(back_s, self._deliver, link)
                return
        self.transports[link.dst].receive(link.tails.popleft())  # which may post an answer
        self._landed(1)

    def _landed(self, things: int) -> None:
        self.in_flight -= things
        if self.in_flight == 0:
            waiting, self._drained = self._drained, []
            for future in waiting:
                future.set(None)

    def drained(self) -> Future[None]:
        """A future that is done when no message and no collective is under way."""
        future: Future[None] = Future(Wait("messages under way"))
        if self.in_flight:
            self._drained.append(future)
        else:
            future.set(None)
        return future

    def join(self, index: tuple[int, int], rank: int, label: str, vector: Tensor | None) -> Future[float]:
        """Join a collective, named by its number and the bucket; the future holds the time at which it ended.

        A vector of None is an agreement: a rendezvous that costs nothing.
        """
        future: Future[float] = Future(Wait("allreduce", label))
        self.in_flight += 1
        collective = self.collectives[index]
        collective.joined[rank] = (label, vector, future)
        if len(collective.joined) == self.size:
            del self.collectives[index]
            self._run(index[0], collective)
        return future

    def _run(self, number: int, collective: _Collective) -> None:
        members = [collective.joined[rank] for rank in range(self.size)]
        kinds = {(label, None if v is None else (v.numel(), v.dtype)) for label, v, _ in members}
        if len(kinds) > 1:
            calls = describe([(label, *((0, None) if v is None else (v.numel(), v.dtype))) for label, v, _ in members])
            error = LabelMismatch(f"workers joined different collectives as their number {number}: {calls}")
            for _, _, future in members:
                future.fail(error)
            self._landed(len(members))
            return
        vectors = [v for _, v, _ in members if v is not None]
        end_s = self._occupy(vectors[0].nbytes) if vectors else self.kernel.now()
        self.kernel.call_at(end_s, self._end, members, end_s)

    def _end(self, members: Sequence[tuple[str, Tensor | None, Future[float]]], end_s: float) -> None:
        vectors = [v for _, v, _ in members if v is not None]
        if vectors:
            mean_(vectors)
        for _, _, future in members:
            future.set(end_s)
        self._landed(len(members))

    def _occupy(self, nbytes: int) -> float:
        """Queue an all-reduce of `nbytes`, behind what its queues have to do and the all-reduce before; when it ends.

        It keeps each queue for the bytes that pass there. Its latencies are idle time, in which messages may go.
        """
        fabric, out_free_s, in_free_s = self.fabric, self._out_free_s, self._in_free_s
        start_s = max(
            self.kernel.now(),
            self._collective_free_s,
            *(out_free_s[queue] for queue in fabric.out),
            *(in_free_s[queue] for queue in fabric.into),
        )
        end_s = fabric.allreduce_end_s(start_s, nbytes)
        for free_s, shares in ((out_free_s, fabric.out), (in_free_s, fabric.into)):
            for queue, byte_s in shares.items():
                free_s[queue] = fabric.queue_free_s(queue, start_s, nbytes * byte_s)
        if self._standstills is not None:
            end_s = self._standstills.finish(start_s, end_s - start_s)
        self._collective_free_s = end_s
        return end_s

    def returned(self) -> Future[None]:
        """A future that is done when all workers have returned."""
        future: Future[None] = Future(Wait("all workers to return"))
        self._all_returned.append(future)
        return future

    def worker_returned(self) -> None:
        """Count a returned worker."""
        self._unreturned -= 1
        if self._unreturned == 0:
            for future in self._all_returned:
                future.set(None)

    @property
    def any_returned(self) -> bool:
        """Whether a worker has returned."""
        return self._unreturned < self.size

    def next_segment(self) -> None:
        """Make ready for the coroutines to be entered again (rule 9)."""
        assert not self.in_flight and not self.collectives
        self._unreturned, self._all_returned = self.size, []
        self.gradients.forget()


def mean_(vectors: Sequence[Tensor]) -> None:
    """Replace each of n equal-shaped vectors by their mean, summed in rank order."""
    total = vectors[0].to(wire_dtype(vectors[0].dtype), copy=True)
    for v in vectors[1:]:
        total += v
    divide_(total, len(vectors))
    for v in vectors:
        v.copy_(total)


async def _largest(values: Sequence[float], all_there: Future[float]) -> float:
    """The largest of the values that all have brought."""
    await all_there
    return max(values)


class SimulatedTransport:
    """One simulated rank; see `bench.transports.base.Transport`."""

    __slots__ = (
        "_collectives",
        "_computes_until_s",
        "_outages",
        "kernel",
        "rank",
        "ranks",
        "receive",
        "size",
        "times",
        "world",
    )

    may_block = False
    receive: Callable[[Envelope], None]

    def __init__(self, world: SimulatedWorld, rank: int, ranks: int, compute: Compute, seed: int) -> None:
        self.world, self.kernel = world, world.kernel
        self.rank, self.size, self.ranks = rank, world.size, ranks
        self.times = compute.times(seed, rank)
        self._outages = compute.outages(rank)
        self._collectives = 0  # how many this rank has joined
        self._computes_until_s = 0.0  # a rank has one processor: gradients wait for each other

    def attach(self, receive: Callable[[Envelope], None], only_computing: Callable[[], bool]) -> None:
        self.receive = receive

    def post(self, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        envelope.data = envelope.data.clone()
        self.world.post(self.rank, dst, envelope, on_sent)

    def quiet(self) -> bool:
        return False

    def compute(self, evaluate: Evaluation, x: Tensor, *, alone: bool) -> Future[Computed]:
        # The result is fixed by x and the batch as they are now; only its time lies in the future.
        self.world.gradients.ask(evaluate, x)
        future: Future[Computed] = Future(COMPUTING)
        t0, _ = self._occupy()
        self.kernel.call_at(self._computes_until_s, self._computed, evaluate, t0, future)
        return future

    def _computed(self, evaluate: Evaluation, t0: float, future: Future[Computed]) -> None:
        if not evaluate.is_done:
            self.world.gradients.settle()
        future.set(Computed(evaluate.loss, t0, self.kernel.now()))

    def _occupy(self) -> tuple[float, float]:
        """When the processor can begin with the next gradient, and how long it will take."""
        t0, compute_s = max(self.kernel.now(), self._computes_until_s), self.times.next()
        self._computes_until_s = self._done_s(t0, compute_s)
        return t0, compute_s

    def _done_s(self, t0: float, compute_s: float) -> float:
        """When computing that begins at t0 and takes `compute_s` is done."""
        return t0 + compute_s if self._outages is None else self._outages.finish(t0, compute_s)

    async def mean_gradient(
        self, evaluate: Evaluation, x: Tensor, buckets: Sequence[Bucket], *, alone: bool
    ) -> tuple[Computed, list[Reduced]]:
        self.world.gradients.ask(evaluate, x)
        t0, compute_s = self._occupy()
        # Numbered now, since it is a matter of time when the buckets are ready relative to other collectives.
        number = self._next_number()
        joined = []
        done = 0
        for b, bucket in enumerate(buckets):
            done += bucket.hi - bucket.lo
            ready_s = self._done_s(t0, compute_s * (FORWARD_SHARE + (1 - FORWARD_SHARE) * done / x.numel()))
            await self.kernel.sleep(ready_s - self.kernel.now(), COMPUTING)
            if not evaluate.is_done:
                self.world.gradients.settle()
            future = self.world.join((number, b), self.rank, "gradient", evaluate.out[bucket.lo : bucket.hi])
            joined.append((self.kernel.now(), future, bucket))
        t1 = self.kernel.now()
        reduced = [Reduced(start_s, await future, bucket.hi - bucket.lo) for start_s, future, bucket in joined]
        return Computed(evaluate.loss, t0, t1), reduced

    async def allreduce_mean(self, v: Tensor, label: str, *, alone: bool) -> Reduced:
        t0 = self.kernel.now()
        return Reduced(t0, await self.world.join((self._next_number(), 0), self.rank, label, v), v.numel())

    def agree(self, value: float, *, alone: bool) -> Awaitable[float]:
        number = self._next_number()
        values = self.world.agreements[number]
        values.append(value)
        return _largest(values, self.world.join((number, 0), self.rank, "agree", None))

    def _next_number(self) -> int:
        self._collectives += 1
        return self._collectives

    def returned(self) -> Future[None]:
        future = self.world.returned()
        if self.rank < self.size:
            self.world.worker_returned()
        return future

    async def drain(self) -> None:
        await self.world.drained()
