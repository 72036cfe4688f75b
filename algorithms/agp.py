"""AGP (asynchronous gradient push): push-sum without rounds; nobody ever waits for anybody.

Source: Assran, Rabbat, Asynchronous Gradient-Push, IEEE Trans. Automatic Control 2021, arXiv 1803.08950.
Symbols: x_i = replica (numerator), w_i = push weight, z_i = x_i / w_i = kept "debiased", d = number of receivers.
Update of worker i, on its own clock:
    x_i <- x_i - alpha w_i g_i(z_i)                    with `scaled`; the paper's step is x_i - alpha g_i(z_i)
    send (x_i, w_i) / (1 + d) to each receiver and keep as much;    z_i <- x_i / w_i
    whenever (x, w) arrives:  (x_i, w_i) <- (x_i, w_i) + (x, w)
Differences from the paper: the step is scaled by w_i by default; what arrives is added at once, not at the next step;
the optimiser may be any: scaled, it moves z_i, and x_i follows by w_i times the change.
Why scaled: weight gathers at slow workers, which receive but seldom send, and drains from fast ones. Unscaled, their
z_i moves by alpha g_i / w_i, which has no bound: NaN with a straggler or two. Scaled, it moves by alpha g_i.
Equal speeds: z tends to the minimiser of the mean loss. Unequal speeds: workers that step more often count more.
Scaled, this bias nearly cancels where shares balance, since there w_i times the worker's speed tends to a constant.
Limit: who hears from nobody for 100 of its steps has w_i = 2^-100, near the end of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from algorithms.interface import Algorithm, Need, Traffic, Worker
from algorithms.optim import Optimizer
from algorithms.push_sum import PUSH, debias_, part_nbytes, push_, take_, unit_weight
from algorithms.topology import Topology

Graph = Literal["exponential", "ring", "directed-ring", "complete", "irregular"]


@dataclass(frozen=True)
class ScaledStep:
    """An optimiser's step on z = x / w, done on the numerator: x moves by w times the change of z."""

    optimizer: Optimizer
    weight: Tensor  # w, 0-d

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        """Update x [P] in place with a gradient [P] at z."""
        x.addcmul_(self.optimizer.update(gradient, x / self.weight), self.weight.to(x.dtype))


@dataclass(frozen=True, kw_only=True)
class AGP(Algorithm):
    """Push-sum gossip without rounds."""

    name: ClassVar[str] = "agp"
    summary: ClassVar[str] = "asynchronous push-sum gossip on a directed graph: send, never wait"
    paper: ClassVar[str] = "Assran, Rabbat 2018, arXiv 1803.08950"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    evaluated_model: ClassVar[str] = "mean:debiased"
    bytes_per_step: ClassVar[str] = "degree * M"  # and one number, the weight, per message
    state: ClassVar[str] = "2 * M + opt"
    sequential: ClassVar[bool] = False  # a single worker is refused

    topology: Graph = "exponential"  # may be directed, and irregular: shares in need not balance shares out
    peers: Literal["all", "one"] = "all"  # receivers per step: all, or one at random; one sends less and mixes slower
    scaled: bool = True  # step times w_i; False is the paper's step, which blows up when speeds differ much

    def validate(self, size: int) -> None:
        """Needs two workers."""
        Topology(self.topology).check(size)

    def warnings(self, size: int) -> list[str]:
        """The paper's step has no bound on its effective rate."""
        if self.scaled:
            return []
        return ["scaled = false: the effective rate alpha / w_i grows at workers that are faster than their senders"]

    def symbols(self, size: int) -> dict[str, float]:
        """degree: messages that a worker sends in a step, on average."""
        return {"degree": Topology(self.topology).mean_degree(size) if self.peers == "all" else 1}

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        weight, z = unit_weight(w), w.keep("debiased", x.data)
        step = ScaledStep(opt, weight) if self.scaled else opt
        w.on(PUSH, lambda message: take_(x, weight, message.data))
        neighbours = Topology(self.topology).receivers(w.rank, w.size)
        async for _ in w.steps():
            x.apply_(await w.gradient(x, at=z), step)
            receivers = neighbours if self.peers == "all" else [neighbours[w.rng.integers(len(neighbours))]]
            part = push_(x, weight, len(receivers))
            for j in receivers:
                w.send(j, PUSH, part)
            debias_(z, x, weight)

    def payload_nbytes(self, traffic: Traffic) -> int:
        """Each worker sends one part to each receiver, or to one of them, in each of its steps."""
        topology, n = Topology(self.topology), traffic.size
        degrees = [len(topology.receivers(rank, n)) if self.peers == "all" else 1 for rank in range(n)]
        return sum(d * t for d, t in zip(degrees, traffic.steps, strict=True)) * part_nbytes(traffic)

    def conserved(self) -> bool:
        """What leaves a numerator arrives in others; what is under way at the end is still delivered."""
        return True
