"""The mean of the workers' outer gradients: in any wire format, with workers that drop out of rounds.

Source: Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512 (wire format); Douillard et
    al., DiLoCo, arXiv 2311.08105, the experiment on dropped communication.
Symbols: v_i [L] = outer gradient of worker i, S_t = workers that are present in the round of step t, n = workers.

Exact and with everybody present this is an all-reduce. Otherwise each present worker encodes its own v_i once and sends
the code to all others; everybody decodes the codes and adds them in float32 or wider, in rank order, its own after the
same round trip. So all workers get the same bits, on every transport.

A worker that is absent from a round does not send; it still receives what the others send. Presence is drawn from the
seed, so that nobody waits for what is not sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms.compression import DEFAULT_BLOCK, Blockwise, WireFormat, WireName, wire_format
from algorithms.interface import Traffic, Worker
from algorithms.shared import shared_generator


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """How outer gradients are averaged."""

    wire: WireName = "float32"
    block: int = DEFAULT_BLOCK
    drop: float = 0.0  # probability that a worker is absent from a round

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop must be a probability in [0, 1]: got {self.drop} (0 drops nothing)")
        if not isinstance(self.format, Blockwise) and self.block != DEFAULT_BLOCK:
            raise ValueError(f"block is for formats with scales: wire is {self.wire!r} (omit it)")

    @property
    def format(self) -> WireFormat:
        """How one vector travels."""
        return wire_format(self.wire, self.block)

    @property
    def reduces(self) -> bool:
        """Whether this is an all-reduce."""
        return self.wire == "float32" and self.drop == 0

    def present(self, size: int, t: int, seed: int) -> list[int]:
        """S_t, ascending."""
        if self.drop == 0:
            return list(range(size))
        return [rank for rank, u in enumerate(shared_generator(seed, "drop", t).random(size)) if u >= self.drop]

    def is_present(self, w: Worker, t: int) -> bool:
        """Whether this worker is in S_t."""
        return w.rank in self.present(w.size, t, w.seed)

    def post(self, w: Worker, tag: str, v: Tensor, t: int) -> Tensor:
        """Send v [L] to all others, if present; returns its code, for `collect`. Not for all-reduces."""
        code = self.format.encode(v)
        if self.is_present(w, t):
            for other in range(w.size):
                if other != w.rank:
                    w.send(other, tag, code)
        return code

    async def collect(self, w: Worker, tag: str, own: Tensor, t: int, like: Tensor) -> Tensor | None:
        """The mean over S_t of what was posted at step t, with the shape and type of `like` [L]; None if S_t is empty.

        Args:
            own: this worker's code.
        """
        total = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
        present = self.present(w.size, t, w.seed)
        for rank in present:
            code = own if rank == w.rank else (await w.recv(tag, src=rank)).data
            total.add_(self.format.decode(code, like.numel(), total.dtype))
        return total.div_(len(present)).to(like.dtype) if present else None

    async def mean(self, w: Worker, tag: str, v: Tensor, t: int) -> Tensor | None:
        """The mean over S_t of v [L], as a new tensor; None if S_t is empty."""
        if self.reduces:
            return await w.allreduce_mean(v, label=tag)
        return await self.collect(w, tag, self.post(w, tag, v, t), t, v)

    def payload_nbytes(self, traffic: Traffic, length: int, rounds: Iterable[int]) -> int:
        """What all workers send for vectors of `length` values in the rounds of these steps."""
        nbytes = self.format.nbytes(length, traffic.itemsize)
        if self.drop == 0:
            return len(list(rounds)) * nbytes * traffic.size * (1 if self.reduces else traffic.size - 1)
        return sum(len(self.present(traffic.size, t, traffic.seed)) for t in rounds) * nbytes * (traffic.size - 1)

    def symbols(self, size: int) -> dict[str, float]:
        """copies: vectors that a worker sends in a round; values: share of a vector's values that travel as they are;
        extra: other bytes per value (codes, scales)."""
        exact = self.wire == "float32"
        return {
            "copies": 1.0 if self.reduces else (1 - self.drop) * (size - 1),
            "values": float(exact),
            "extra": 0.0 if exact else self.format.nbytes(2 * self.block, 0) / (2 * self.block),
        }


class Flight:
    """One vector [L] at a time on its way: sent at one step, its mean taken at a later one, by the same worker.

    It survives a restart in between: an all-reduce is found again by its label, and otherwise this worker's own code is
    kept and the others' codes wait in the mailbox.
    """

    def __init__(self, w: Worker, exchange: Exchange, tag: str, like: Tensor) -> None:
        self._w, self._exchange, self._tag, self._like = w, exchange, tag, torch.zeros_like(like)
        self._started: Awaitable[Tensor] | None = None
        if not exchange.reduces:
            self._own = w.keep(tag, exchange.format.encode(self._like))

    def send(self, v: Tensor, t: int) -> None:
        """Send v [L] in the round of step t."""
        if self._exchange.reduces:
            self._started = self._w.start(self._w.allreduce_mean(v, label=self._tag))
        else:
            self._own.copy_(self._exchange.post(self._w, self._tag, v, t))

    async def mean(self, t: int) -> Tensor | None:
        """The mean of what was sent in the round of step t, waiting for it; None if nobody was present."""
        if not self._exchange.reduces:
            return await self._exchange.collect(self._w, self._tag, self._own, t, self._like)
        started, self._started = self._started or self._w.resumed(self._tag), None  # resumed: sent before a restart
        assert started is not None, "the mean of what was never sent"
        return await started
