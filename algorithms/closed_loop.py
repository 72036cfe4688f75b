"""Asynchronous SGD that measures the momentum which asynchrony brings, and makes up for it (YellowFin's closed loop).

Source: Zhang, Mitliagkas, YellowFin and the Art of Momentum Tuning, MLSys 2019, arXiv 1706.03471, closed loop; sensor:
    Mitliagkas, Zhang, Hadjis, Re, arXiv 1605.09774, Theorem 6.
Symbols: w_t = center after t writes, D_t = w_t - w_{t-1}, a = learning rate, mu = explicit, mu_S = implicit momentum,
    mu* = `target`, kappa = `gain`, u_t = D_t - mu D_{t-1} = what write t took from its gradient, -a g.
Update, when a worker's gradient g arrives that it took at w_v, the version that its own last write made:
    sensor:   y <- mean over time of u_{v+1} + a g,  z <- mean over time of u_v + a g         (exponential, `smoothing`)
              mu_S = median over the elements of y / z, in [0, 1]
    server:   mu <- mu + kappa (mu* - mu - mu_S), in [-0.99, 0.99];   w_{t+1} = w_t - a g + mu (w_t - w_{t-1})
Why: by Theorem 6, E u_{v+1} = mu_S E u_v - (1 - mu_S) a E grad f(w_v), whatever mu does; y / z solves it for mu_S.
Differences from the paper: its sensor, median of (D_{v+1} + a g) / D_v, is meant for mu + mu_S at once but does not
estimate it, as it keeps all of a on the gradient, not (1 - mu_S) a. This one is the "implicit" sensor of the authors'
first code, with each gradient at the write after its reading. mu* and a are given, not tuned. mu starts at 0.
Gradient noise pulls the measured mu_S towards a half or less, unless there is but one worker: use large batches.
The server keeps two vectors for each group of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from algorithms.async_sgd import PUSH, GradientPushes
from algorithms.center import write_
from algorithms.interface import Message, Server

LARGEST_MOMENTUM = 0.99


class HeavyBall:
    """In an optimiser's place: x <- x + D with D <- mu D + u, where u [P] is what it is given for a gradient."""

    def __init__(self, d: Tensor, momentum: Tensor) -> None:
        """D [P] and mu (0-d), which the caller keeps and may change."""
        self.d, self.momentum = d, momentum

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        """One step of x [P]."""
        x.add_(self.d.mul_(self.momentum).add_(gradient))


class Sensor:
    """Measures the implicit momentum from the changes u [P], in the order of their writes."""

    def __init__(self, s: Server, groups: int, smoothing: float) -> None:
        unseen = torch.zeros_like(s.replica().data)
        self.smoothing = smoothing
        self.y, self.z = s.keep("y", unseen), s.keep("z", unseen)  # both start at 0, which their quotient hides
        self.own = s.keep("own", unseen.repeat(groups, 1))  # u_v of the version that each group read last
        self.following = s.keep("following", unseen.repeat(groups, 1))  # u_{v+1}
        self.last = s.keep("last", torch.full((1,), -1))  # group that wrote last

    def observe_(self, group: int, version: int, u: Tensor) -> None:
        """Take in the next write, by `group`, which had read `version`."""
        if self.last >= 0:
            self.following[int(self.last)] = u
        if version > 0:  # nobody wrote version 0
            self.y.lerp_(self.following[group] - u, self.smoothing)
            self.z.lerp_(self.own[group] - u, self.smoothing)
        self.own[group] = u
        self.last.fill_(group)

    def measured(self) -> Tensor:
        """mu_S (0-d); NaN before there is any."""
        return (self.y / self.z).nanmedian().clamp(0, 1)  # what is 0 / 0 does not count


@dataclass(frozen=True, kw_only=True)
class ClosedLoopAsyncSGD(GradientPushes):
    """A parameter server that sets its momentum so that with the workers' asynchrony it comes to `target`."""

    name: ClassVar[str] = "closed-loop-async-sgd"
    summary: ClassVar[str] = "asynchronous SGD that measures its implicit momentum and corrects the explicit one"
    paper: ClassVar[str] = "Zhang, Mitliagkas 2019, arXiv 1706.03471"

    target: float = 0.9  # mu* in [0, 1), explicit and implicit momentum together
    gain: float = 0.01  # kappa in (0, 1]; larger: follows sooner, but also the sensor's fluctuations
    smoothing: float = 0.02  # weight of the newest gradient in the sensor's means, in (0, 1]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.servers != 1:
            raise ValueError(f"servers must be 1 to measure one momentum: got {self.servers} (or use async-sgd)")
        if not 0 <= self.target < 1:
            raise ValueError(f"target (total momentum) must lie in [0, 1): got {self.target} (try 0.9)")
        for name, got in (("gain", self.gain), ("smoothing", self.smoothing)):
            if not 0 < got <= 1:
                raise ValueError(f"{name} must lie in (0, 1]: got {got} (the default is {getattr(type(self), name)})")

    async def server(self, s: Server) -> None:
        """The center, with its kept `momentum` (mu) and `implicit-momentum` (mu_S as measured last)."""
        center, sgd = s.replica(), s.optimizer(self.optimizer)
        read = s.keep("read-versions", torch.zeros(s.size, dtype=torch.int64))
        zero = center.data.new_zeros((), dtype=torch.float64)
        implicit, mu = s.keep("implicit-momentum", zero), s.keep("momentum", zero)
        ball = HeavyBall(s.keep("step", torch.zeros_like(center.data)), mu)
        sensor = Sensor(s, self.groups(s.size), self.smoothing)

        def push(message: Message) -> Tensor:
            u, version = sgd.update(message.data, center.data), int(read[message.src])
            sensor.observe_(message.src // self.group_size, version, u)
            measured = sensor.measured()
            unknown = measured.isnan()
            implicit.copy_(torch.where(unknown, implicit, measured))
            change = self.gain * (self.target - mu - implicit)
            mu.add_(change.masked_fill(unknown, 0.0)).clamp_(-LARGEST_MOMENTUM, LARGEST_MOMENTUM)
            write_(center, u, version, ball)
            read[message.src] = center.version
            return center.data

        s.serve(PUSH, push)
        await s.finished()
