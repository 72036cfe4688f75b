"""The MPI wire with a limited rate: each rank's outgoing traffic passes a token bucket, so that a slow network can be
tried on one machine without privileges.

A message leaves when its last byte would have left a link of that rate, in order of posting. MPI's own collectives
cannot be slowed down from outside, so here an all-reduce is a ring of messages through the same bucket: it takes the
time, and competes for the link, as it would on a wire of this rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from algorithms.interface import Message
from algorithms.ring import ring_sum
from bench.clock import WallClock
from bench.cluster import HEADER_NBYTES
from bench.kernel import Future, Kernel, Wait
from bench.mailbox import Mailbox
from bench.transports.base import COLLECTIVE, CONTROL, Envelope, OnSent, Reduced
from bench.transports.mpi import Check, MPITransport
from bench.transports.staging import from_wire, summable

if TYPE_CHECKING:
    from mpi4py import MPI

BURST_NBYTES = 16 << 10
"""What may leave at once after a pause: the depth of the bucket."""


class LimitedTransport(MPITransport):
    """One MPI rank that sends at most `rate_Bps` bytes per second."""

    def __init__(
        self,
        world: MPI.Comm,
        size: int,
        kernel: Kernel,
        clock: WallClock,
        rate_Bps: float,
        *,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(world, size, kernel, clock, device=device)
        self.rate_Bps = rate_Bps
        self._free_s = 0.0  # when the link has passed everything that was posted
        self._waiting: deque[tuple[float, int, Envelope, OnSent]] = deque()
        self._rings = 0  # all-reduces under way
        self._chunks = Mailbox()

    def attach(self, receive: Callable[[Envelope], None], only_computing: Callable[[], bool]) -> None:
        def sort(envelope: Envelope) -> None:
            if envelope.kind == COLLECTIVE:
                self._chunks.put(Message(envelope.data, envelope.src, envelope.tag))
            else:
                receive(envelope)

        super().attach(sort, only_computing)

    def post(self, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        if envelope.kind == CONTROL or dst == self.rank:
            super().post(dst, envelope, on_sent)
            return
        nbytes = envelope.data.nbytes + HEADER_NBYTES
        tokens_since_s = self.kernel.now() - BURST_NBYTES / self.rate_Bps
        self._free_s = max(self._free_s, tokens_since_s) + nbytes / self.rate_Bps
        if self._free_s <= self.kernel.now() and not self._waiting:
            super().post(dst, envelope, on_sent)
            return
        copy = Envelope(
            envelope.kind, envelope.tag, envelope.ident, envelope.data.clone(), envelope.src, envelope.sent_s
        )
        self._waiting.append((self._free_s, dst, copy, on_sent))
        self.kernel.call_at(self._free_s, self._release)

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.kernel.now():
            _, dst, envelope, on_sent = self._waiting.popleft()
            super().post(dst, envelope, on_sent)

    def under_way(self) -> bool:
        return bool(self._waiting or self._rings) or super().under_way()

    def start_allreduce(self, v: Tensor, check: Check) -> Future[Reduced]:
        """Begin to replace v by its mean, along a ring."""
        future: Future[Reduced] = Future(Wait("allreduce", check.label))
        self._rings += 1
        self.kernel.start(self._reduce(v, check, check.next_name(), future), rank=self.rank, name=check.label)
        return future

    async def _reduce(self, v: Tensor, check: Check, name: str, future: Future[Reduced]) -> None:
        t0 = self.kernel.now()
        # With vectors of different lengths the ring would break.
        await self._condition(lambda: self._passed(check) or check.error is not None, check.label)
        if check.error is not None:
            self._rings -= 1
            future.fail(check.error)
            return
        staged = summable(v)  # on a GPU too: its chunks go as all messages do
        staged.copy_(await ring_sum(_Ring(self), range(self.size), staged, name[-32:]))
        from_wire(staged, v, self.size)
        self._rings -= 1
        future.set(Reduced(t0, self.kernel.now(), v.numel()))

    def _allreduce_here(self, v: Tensor, check: Check) -> Future[Reduced]:
        return self.start_allreduce(v, check)  # MPI's blocking all-reduce knows no limit

    def facts(self) -> dict[str, object]:
        paths = {"point-to-point": self._memory.path, "collectives": self._memory.path}
        return {"collectives": "ring of messages", "paths": paths, "rate_Gbit_per_s": self.rate_Bps * 8e-9}


class _Ring:
    """The link along which an all-reduce sends its chunks."""

    def __init__(self, transport: LimitedTransport) -> None:
        self.rank, self._transport = transport.rank, transport

    def send(self, dst: int, tag: str, v: Tensor) -> None:
        envelope = Envelope(COLLECTIVE, tag, 0, v, self.rank, self._transport.kernel.now())
        self._transport.post(dst, envelope, lambda _: None)

    async def recv(self, tag: str, *, src: int | None = None) -> Message:
        return await self._transport._chunks.take(tag, src)
