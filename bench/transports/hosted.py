"""The simulated wire with its hosts: ranks that share cores, spend time of their own on steps and messages, look for
messages now and then, and send through a token bucket.

Each rank has two threads, as under MPI: one that runs the algorithm and takes messages, and one beside it that computes
gradients while something else may happen on the rank. Where nothing can, the first computes them itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from torch import Tensor

from bench.cluster import HEADER_NBYTES, Compute, Handling, Network
from bench.cluster.compute import COSTS_S
from bench.cluster.processors import Processors
from bench.kernel import Future, Kernel
from bench.transports.base import CONTROL, Bucket, Computed, Envelope, Evaluation, OnSent, Reduced
from bench.transports.lazy import LazyGradients
from bench.transports.simulated import COMPUTING, FORWARD_SHARE, SimulatedTransport, SimulatedWorld


def world_of(network: Network, compute: Compute) -> type[SimulatedWorld]:
    """The simplest world that has all that these settings speak of."""
    costs = compute.cores_per_node or any(getattr(compute, name) for name in COSTS_S)
    return HostedWorld if costs or network.limit or network.handling != Handling() else SimulatedWorld


class HostedWorld(SimulatedWorld):
    """What the ranks share, their hosts' cores included."""

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
        self.network = network
        self.processors: Processors | None = None
        if compute.cores_per_node:
            machines = [rank // (network.ranks_per_node * compute.nodes_per_machine) for rank in range(ranks)]
            held_to = {rank: 1 / factor for rank in range(ranks) if (factor := compute.slow.get(str(rank), 1.0)) > 1}
            both = held_to | {ranks + rank: share for rank, share in held_to.items()}  # a rank's two threads
            self.processors = Processors(kernel, machines * 2, compute.cores_per_node, compute.sharing, both)
        self._passed_s = [-math.inf] * ranks  # when a rank's token bucket has passed all that was posted
        super().__init__(kernel, gradients, size=size, ranks=ranks, network=network, compute=compute, seed=seed)
        self.transports = [HostedTransport(self, rank, ranks, compute, seed) for rank in range(ranks)]

    def post(self, src: int, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        """Through the token bucket, if there is one; then the network."""
        limit = self.network.limit
        if limit is not None and src != dst and envelope.kind != CONTROL:
            now, nbytes = self.kernel.now(), envelope.data.nbytes + HEADER_NBYTES
            self._passed_s[src] = leaves_s = limit.leaves_s(self._passed_s[src], now, nbytes)
            if leaves_s > now:
                self.in_flight += 1
                self.kernel.call_at(leaves_s, self._release, src, dst, envelope, on_sent)
                return
        super().post(src, dst, envelope, on_sent)

    def _release(self, src: int, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        super().post(src, dst, envelope, on_sent)
        self.in_flight -= 1

    def _occupy(self, nbytes: int) -> float:
        """When an all-reduce ends; behind token buckets it is a ring of messages through them."""
        limit, handling = self.network.limit, self.network.handling
        if limit is None or self.size == 1:
            return super()._occupy(nbytes)
        start_s = max(self.kernel.now(), self._collective_free_s)
        # First all must know that all have joined.
        start_s = handling.seen_s(start_s, start_s + self.fabric.wire(0, 1)[0])
        part = nbytes / self.size
        wires = [self.fabric.wire(rank, (rank + 1) % self.size) for rank in range(self.size)]
        at_s = [start_s] * self.size
        for _ in range(2 * (self.size - 1)):
            arrives_s = []
            for rank, (latency_s, bandwidth_Bps) in enumerate(wires):
                passed_s = limit.leaves_s(self._passed_s[rank], at_s[rank], math.ceil(part) + HEADER_NBYTES)
                self._passed_s[rank] = passed_s
                at_s[rank] = max(at_s[rank], passed_s)  # letting it go is something to do
                arrives_s.append(at_s[rank] + latency_s + (part + HEADER_NBYTES) / bandwidth_Bps)
            at_s = [
                handling.seen_s(at_s[rank], max(at_s[rank], arrives_s[rank - 1])) + handling.taking_s(part)
                for rank in range(self.size)
            ]
        self._collective_free_s = max(at_s)
        return self._collective_free_s


class HostedTransport(SimulatedTransport):
    """One simulated rank and its two threads."""

    may_block = True

    def __init__(self, world: HostedWorld, rank: int, ranks: int, compute: Compute, seed: int) -> None:
        super().__init__(world, rank, ranks, compute, seed)
        self._costs, self._handling, self._processors = compute, world.network.handling, world.processors
        self._limit = world.network.limit
        self._ranks = ranks
        # On shared cores a slow worker has as much to do as the others, and less of a core to do it with.
        self._share = 1.0 if self._processors is None else min(1.0, 1 / compute.slow.get(str(rank), 1.0))
        self._free_s = {False: 0.0, True: 0.0}  # when each thread has done its work: the one beside, the first
        self._unsent, self._sent_s = 0, 0.0  # messages in the token bucket; when the NIC has passed the others
        self._idle_s = 0.0  # since when this rank has had nothing to do
        self._computed_s = 0.0  # when its last gradient ended
        self._computing = {False: 0, True: 0}  # gradients under way in the thread beside, and in the first
        self._owed_s = 0.0  # work for messages sent since the last gradient
        self._cold_s = 0.0  # by which the next gradient takes longer
        self._inbox: deque[Envelope] = deque()

    def attach(self, receive: Callable[[Envelope], None], only_computing: Callable[[], bool]) -> None:
        self.receive = self._arrived
        self._take, self._only_computing = receive, only_computing

    # -- messages ----------------------------------------------------------------------------------------------------

    def post(self, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        self._unsent += 1
        if envelope.kind != CONTROL:
            self._owed_s += self._costs.exchange_s
        self._idle_s = self.kernel.now()

        def sent(at_s: float) -> None:
            self._unsent -= 1
            self._sent_s = max(self._sent_s, at_s)
            on_sent(at_s)

        super().post(dst, envelope, sent)

    def quiet(self) -> bool:
        return not self._unsent and self._sent_s <= self.kernel.now() and not self._inbox

    def _arrived(self, envelope: Envelope) -> None:
        if envelope.kind == CONTROL:
            self._take(envelope)
            return
        self.world.in_flight += 1
        self._inbox.append(envelope)
        now = self.kernel.now()
        # A rank that computes in its first thread has nothing to say meanwhile, so it does not matter when it looks.
        seen_s = now if self._computing[True] else self._handling.noticed_s(self._idle_s, now)
        self.kernel.call_at(seen_s, self._seen, self._handling.taking_s(envelope.data.nbytes), seen_s > now)

    def _seen(self, taking_s: float, napped: bool) -> None:
        """A message is noticed; it waits until this rank has woken up, or its other thread gives way."""
        now = self._idle_s = self.kernel.now()
        if self._computing[False]:
            later_s = self._costs.busy_s
        else:
            later_s = self._handling.wake_s if napped and not self._computing[True] else 0.0
        self.kernel.call_at(now + later_s, self._take_up, taking_s)

    def _take_up(self, taking_s: float) -> None:
        self._work(taking_s, first=True).then(self._handle)

    def _handle(self) -> None:
        self._idle_s = self.kernel.now()
        if self._computing[False]:
            self._owed_s += self._costs.taken_s
        elif not self._computing[True]:
            self._cool(self._costs.cold_after_s(self._idle_s - self._computed_s))
        self._take(self._inbox.popleft())
        self.world._landed(1)

    # -- computing ---------------------------------------------------------------------------------------------------

    def _work(self, seconds: float, *, first: bool) -> Future[None]:
        """Work of the first thread, or of the one beside it, after what it has to do."""
        if self._processors is not None:
            return self._processors.work(self.rank + first * self._ranks, seconds)
        begin_s = max(self.kernel.now(), self._free_s[first])
        self._free_s[first] = self._done_s(begin_s, seconds)
        return self.kernel.sleep(self._free_s[first] - self.kernel.now(), COMPUTING)

    def compute(self, evaluate: Evaluation, x: Tensor, *, alone: bool) -> Future[Computed]:
        self.world.gradients.ask(evaluate, x)
        future: Future[Computed] = Future(COMPUTING)
        # Where it is computed is decided when its asker has gone on to what it wants to overlap with.
        self.kernel.call_at(self.kernel.now(), self._begin, evaluate, alone, self._before_s(), future)
        return future

    def _begin(self, evaluate: Evaluation, alone: bool, before_s: float, future: Future[Computed]) -> None:
        first = alone or (self.quiet() and self._only_computing())
        compute_s = self._compute_s(first)
        self._idle_s = self.kernel.now()

        def begun() -> None:
            t0 = self.kernel.now()
            self._gradient(compute_s, first).then(lambda: self._end(evaluate, t0, future))

        self._gradient(before_s, first).then(begun)

    def _end(self, evaluate: Evaluation, t0: float, future: Future[Computed]) -> None:
        self._idle_s = self.kernel.now()
        if not evaluate.is_done:
            self.world.gradients.settle()
        future.set(Computed(evaluate.loss, t0, self.kernel.now()))

    def _before_s(self) -> float:
        """The work before the next gradient."""
        before_s, self._owed_s = self._costs.step_s + self._owed_s, 0.0
        return before_s

    def _compute_s(self, first: bool) -> float:
        """How long the next gradient takes."""
        compute_s = self.times.next() * self._share + self._cold_s + (0.0 if first else self._aside_s())
        self._cold_s *= self._costs.cold_lasts
        return compute_s

    def _aside_s(self) -> float:
        """By how much a gradient takes longer in the thread beside, if it begins now."""
        costs, processors = self._costs, self._processors
        wakes_a_core = processors is not None and processors.idle(self.rank)
        return max(costs.aside_s, costs.aside_idle_s) if wakes_a_core else costs.aside_s

    def _cool(self, cold_s: float) -> None:
        self._cold_s = max(self._cold_s, cold_s)

    def _gradient(self, seconds: float, first: bool) -> Future[None]:
        """Part of a gradient, in the first thread or in the one beside it."""
        self._computing[first] += 1
        done = self._work(seconds, first=first)
        done.then(lambda: self._stopped(first))
        return done

    def _stopped(self, first: bool) -> None:
        self._computing[first] -= 1
        self._computed_s = self.kernel.now()

    async def mean_gradient(
        self, evaluate: Evaluation, x: Tensor, buckets: Sequence[Bucket], *, alone: bool
    ) -> tuple[Computed, list[Reduced]]:
        self.world.gradients.ask(evaluate, x)
        number = self._next_number()
        compute_s = self._compute_s(alone)
        await self._gradient(self._before_s(), alone)
        t0 = self.kernel.now()
        joined = []
        done, before = 0, 0.0
        for b, bucket in enumerate(buckets):
            done += bucket.hi - bucket.lo
            share = FORWARD_SHARE + (1 - FORWARD_SHARE) * done / x.numel()
            await self._gradient((share - before) * compute_s, alone)
            before = share
            if not evaluate.is_done:
                self.world.gradients.settle()
            future = self.world.join((number, b), self.rank, "gradient", evaluate.out[bucket.lo : bucket.hi])
            joined.append((self.kernel.now(), future, bucket))
        t1 = self.kernel.now()
        self._spin(alone, True)
        reduced = [Reduced(start_s, await future, bucket.hi - bucket.lo) for start_s, future, bucket in joined]
        self._spin(alone, False)
        self._reduced(alone)
        return Computed(evaluate.loss, t0, t1), reduced

    async def allreduce_mean(self, v: Tensor, label: str, *, alone: bool) -> Reduced:
        self._spin(alone, True)
        reduced = await super().allreduce_mean(v, label, alone=alone)
        self._spin(alone, False)
        if not alone:
            seen_s = self._handling.noticed_s(self._idle_s, self.kernel.now())
            await self.kernel.sleep(seen_s - self.kernel.now(), COMPUTING)
            reduced = Reduced(reduced.t0_s, seen_s, reduced.length)
        self._reduced(alone)
        return reduced

    def agree(self, value: float, *, alone: bool) -> Awaitable[float]:
        self._spin(alone, True)
        return self._agreed(super().agree(value, alone=alone), alone)

    async def _agreed(self, agreed: Awaitable[float], alone: bool) -> float:
        value = await agreed
        self._spin(alone, False)
        return value

    def _spin(self, alone: bool, begin: bool) -> None:
        """A rank that blocks in a collective does not sleep."""
        if self._blocks(alone) and self._processors is not None:
            self._processors.spin(self.rank, begin)

    def _blocks(self, alone: bool) -> bool:
        """Whether it does so; behind a token bucket all-reduces are messages, for which a rank sleeps."""
        return alone and self._limit is None

    def _reduced(self, alone: bool) -> None:
        self._idle_s = self.kernel.now()
        self._cool(self._costs.cold_reduce_s)
        if not self._blocks(alone):
            self._cool(self._costs.cold_after_s(self._idle_s - self._computed_s))
