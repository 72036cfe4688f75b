"""Asynchronous DiLoCo: workers send outer gradients to a server whenever they are ready; nobody waits for anybody.

Source: Liu et al., Asynchronous Local-SGD Training for Language Modeling, arXiv 2401.09135.
Symbols: theta = center (the server's replica), theta_i = what worker i was sent last, H = `period`, H_i = its steps,
    D = outer gradient, m = momentum, N = `buffer`, a, mu = outer learning rate and momentum, v_i = steps per second.
Update:
    worker i:  H_i times x_i <- optimizer(x_i, g_i(x_i));   D = theta_i - x_i;   one request: D up, theta down
    server, "delayed-nesterov", on its k-th arrival (from 1):   B <- B + D;
        N divides k:  m <- mu m + B / N;   theta <- theta - a ((1 - cN + c) mu m + D / N);   B <- 0
        otherwise:    theta <- theta - a (c mu m + D / N)                          the momentum waits for N arrivals
    server, "naive":  theta <- outer(theta, D / n)                                 the momentum moves at every arrival
    `dylu`:  H_i = floor(H v_i / max_j v_j), at least 1; without: H_i = H
Differences from the paper: the outer gradients of "naive" are weighted by 1/n. No grace period. The server sets H_i as
it answers, from the speeds it was told; all begin with H. Staleness counts arrivals between a download and its upload.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from algorithms.delayed_nesterov import DelayedNesterov
from algorithms.diloco import OUTER
from algorithms.downpour import apply_push_
from algorithms.interface import SERVER, Message, Need, Server, Traffic, Worker
from algorithms.optim import OptimizerSettings
from algorithms.outer import OuterOptimizer, check_outer
from algorithms.replica import FlatOptimizer

DELAYED = OptimizerSettings(name="nesterov", lr=0.7, momentum=0.9)
NAIVE = OptimizerSettings(name="nesterov", lr=0.07, momentum=0.9)


@dataclass(frozen=True, kw_only=True)
class AsyncDiLoCo(OuterOptimizer):
    """DiLoCo with a server and without rounds."""

    name: ClassVar[str] = "async-diloco"
    summary: ClassVar[str] = "DiLoCo without rounds: a server applies outer gradients as they come, momentum delayed"
    paper: ClassVar[str] = "Liu et al. 2024, arXiv 2401.09135"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "server"})
    evaluated_model: ClassVar[str] = "center"
    bytes_per_step: ClassVar[str] = "2 * M / period"  # with dylu more: slower workers exchange as often as fast ones
    state: ClassVar[str] = "2 * M + opt"
    by_values: ClassVar[dict[str, str]] = {"dylu": "dylu takes the next period from a number in the server's answer"}

    period: int = 50  # H [steps] of the fastest worker, or of all without dylu
    variant: Literal["delayed-nesterov", "naive"] = "delayed-nesterov"  # naive: outer's own momentum, at each arrival
    outer: OptimizerSettings | None = None  # None: nesterov, momentum 0.9, lr 0.7, for naive 0.07
    buffer: int | None = None  # delayed-nesterov: N [arrivals]; None: the number of workers
    c: float = 0.0  # delayed-nesterov: share of the momentum that acts at each arrival, in [0, 1/N]
    dylu: bool = False  # dynamic local updates: slower workers do fewer steps, so that all exchange about as often

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period must be at least 1 step: got {self.period} (the paper's is 50)")
        if self.buffer is not None and self.buffer < 1:
            raise ValueError(f"buffer must be at least 1 arrival: got {self.buffer} (None: the number of workers)")
        if self.variant == "naive":
            check_outer(self.resolved_outer)
            if self.buffer is not None or self.c:
                raise ValueError("buffer and c are for variant 'delayed-nesterov': got them with 'naive' (omit them)")
        elif (outer := self.resolved_outer) != OptimizerSettings(name="nesterov", lr=outer.lr, momentum=outer.momentum):
            raise ValueError(f"outer must be nesterov with lr and momentum alone: got {outer} (or use variant 'naive')")

    @property
    def resolved_outer(self) -> OptimizerSettings:
        """The outer optimiser in use."""
        return self.outer or (NAIVE if self.variant == "naive" else DELAYED)

    def resolved_buffer(self, size: int) -> int:
        """N."""
        return size if self.buffer is None else self.buffer

    def validate(self, size: int) -> None:
        """c in [0, 1/N]."""
        if not 0 <= self.c <= 1 / self.resolved_buffer(size):
            raise ValueError(f"c must lie in [0, 1/{self.resolved_buffer(size)}]: got {self.c} (the paper's is 0)")

    def warnings(self, size: int) -> list[str]:
        """Where momentum is amplified."""
        outer = self.resolved_outer
        if self.variant != "naive" or outer.name == "sgd" or outer.lr < 0.1:
            return []
        return [
            f"outer.lr {outer.lr:g} with momentum that moves at every arrival: the paper's authors use a tenth of the "
            "synchronous one, 0.07 (lower it, or use variant 'delayed-nesterov')"
        ]

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        anchor = w.keep("anchor", x.data)  # theta_i
        due = w.keep("due", torch.tensor([self.period]))  # the step at whose end D is sent
        async for t in w.steps():
            x.apply_(await w.gradient(x), opt)
            if t == int(due):
                speed = x.data.new_tensor([w.steps_per_s()] if self.dylu else [])
                answer = await w.request(SERVER, OUTER, torch.cat([anchor - x.data, speed]))
                x.assign_(answer[: anchor.numel()])
                anchor.copy_(x.data)
                due.fill_(t + (int(answer[-1]) if self.dylu else self.period))

    async def server(self, s: Server) -> None:
        """The center."""
        center, opt = s.replica(), self.server_optimizer(s)
        read, speeds = s.keep("read", torch.zeros(s.size, dtype=torch.int64)), s.keep("speeds", torch.zeros(s.size))
        arrivals = s.keep("arrivals", torch.zeros((), dtype=torch.int64))
        weight = 1 / s.size if self.variant == "naive" else 1.0

        def push(message: Message) -> Tensor:
            moved, speed = message.data.tensor_split([center.data.numel()])
            arrivals.add_(1)
            apply_push_(center, Message(moved * weight, message.src, message.tag), read, opt)
            if not self.dylu:
                return center.data
            speeds[message.src] = speed[0]
            return torch.cat([center.data, center.data.new_tensor([self.local_steps(speeds, message.src)])])

        s.serve(OUTER, push)
        await s.finished()

    def server_optimizer(self, s: Server) -> FlatOptimizer:
        """What steps theta with an outer gradient."""
        if self.variant == "naive":
            return s.optimizer(self.resolved_outer)
        zero = torch.zeros_like(s.replica().data)
        return DelayedNesterov(
            lr=self.resolved_outer.lr,
            decay=self.resolved_outer.resolved_momentum,
            buffer=self.resolved_buffer(s.size),
            c=self.c,
            momentum=s.keep("momentum", zero),
            pending=s.keep("pending", zero),
            arrivals=s.keep("arrivals", torch.zeros((), dtype=torch.int64)),
        )

    def local_steps(self, speeds: Tensor, rank: int) -> int:
        """H_i; speeds [n] are 0 where they are not known yet."""
        return max(1, math.floor(self.period * float(speeds[rank] / speeds.max()) * (1 + 1e-6)))  # speeds are rounded

    def payload_nbytes(self, traffic: Traffic) -> int:
        """Every exchange moves one outer gradient up and one model down; with dylu each has one number more."""
        if self.dylu:
            return 2 * traffic.counters["arrivals"] * (traffic.nbytes + traffic.itemsize)
        return sum(2 * (t // self.period) for t in traffic.steps) * traffic.nbytes
