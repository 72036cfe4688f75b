"""What an algorithm puts on the network per step, on average and at most: counted on small models, for one of any size.

Source: the algorithms' own papers state averages; a burst needs to know who sends what in which step, so it is counted
    in a simulated run on a stand-in model (`StandIn`), whose gradients are zero: what is sent does not depend on them.
Symbols: n = workers, P = parameters, T = steps, b = bytes of a rank in the time of a step.

Every byte counts once, at the worker that causes it: what a worker sends, what servers answer to it, and of an
all-reduce the 2 (n - 1) / n of the vector that a ring sends on each rank. Headers are not counted. A server counts all
that it receives and sends. Two models of different size give b = constant + slope x P exactly, for each rank and step:
numbers that are sent beside models do not grow with them. Workers take the same time for every gradient and the network
takes none, so that a server meets all workers at once wherever the algorithm lets them. The time of a step goes from
one gradient's end to just before the next one's: what ends a step counts with what begins the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.theory.linear import Array
from bench.workloads.base import LayerSpan, OnReady
from bench.workloads.quadratic import Quadratic, QuadraticWorkload

BLOCK = 256  # parameters: what coded formats give one scale; layers of the stand-in are a multiple
AT_LEAST = 16  # steps counted, for what repeats without a period of its own


class StandIn(QuadraticWorkload):
    """A model of L equal blocks in float32 without gradients, for counting messages.

    Args:
        layers: L.
        layer_size: parameters of each.
        workers: n.

    Example:
        >>> StandIn(layers=3, layer_size=256, workers=2).parameters
        768
    """

    dtype = torch.float32

    def __init__(self, *, layers: int, layer_size: int, workers: int) -> None:
        super().__init__(Quadratic(dimension=layers * layer_size, noise=0.0), torch.device("cpu"), workers)
        self.spans = [(layer_size * k, layer_size * (k + 1)) for k in range(layers)]
        self.layers = [LayerSpan(f"block {k}", lo, hi, True) for k, (lo, hi) in enumerate(self.spans)]
        self._zero = torch.zeros(self.parameters, dtype=self.dtype)
        self.shifts = self.minimiser.expand(workers, -1)

    def initial(self, seed: int) -> Tensor:
        """The minimiser, where all gradients are zero [P]."""
        return self.minimiser.clone()

    def draw_noise(self, rng: np.random.Generator) -> Tensor:
        """Zeros [P]."""
        return self._zero

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        """Zeros into out [P], in the order of a backward pass; the loss is zero."""
        out.zero_()
        if on_ready is not None:
            for k in reversed(range(len(self.spans))):
                on_ready(k)
        return self._zero[0]


@dataclass(frozen=True)
class Steps:
    """Which steps are counted: the last `window` of `total`, a whole number of the algorithm's periods."""

    total: int
    window: int


def steps_to_count(period: int = 1, upper_period: int = 1, start: int = 0) -> Steps:
    """Enough steps for everything to have happened once, and then for a whole number of periods [steps].

    Args:
        period, upper_period: of the exchanges, as far as an algorithm has them.
        start: steps before the algorithm begins to do what it does later.

    Example:
        >>> steps_to_count(30), steps_to_count()
        (Steps(total=60, window=30), Steps(total=32, window=16))
    """
    window = math.lcm(max(period, 1), max(upper_period, 1))
    window *= -(-AT_LEAST // window)
    return Steps(start + 2 * window, window)


@dataclass(frozen=True)
class Counts:
    """Bytes by rank and step.

    Attributes:
        workers: [n, T], caused by each worker.
        servers: [s, T], received and sent by each server.
        payload: [T], handed to the network by all ranks together, all-reduced vectors counted once per worker.
    """

    workers: Array
    servers: Array
    payload: Array


def counts(events: pd.DataFrame, *, workers: int, servers: int, steps: int, step_s: float = 1.0) -> Counts:
    """The bytes of a run with equal steps by rank and step.

    Args:
        events: columns rank, kind, t0_s, nbytes and peer of `bench.records.EVENTS`.
        steps: T; what happens at the end of the last or later is left out.
        step_s: duration of a step [s].

    Example:
        >>> rows = [(0, "send", 0.0, 8, 2), (2, "recv", 0.0, 8, 0), (2, "send", 0.0, 8, 0), (0, "recv", 0.0, 8, 2),
        ...         (1, "allreduce", 0.0, 8, -1)]
        >>> columns = ["rank", "kind", "t0_s", "nbytes", "peer"]
        >>> found = counts(pd.DataFrame(rows, columns=columns), workers=2, servers=1, steps=1)
        >>> found.workers.tolist(), found.servers.tolist(), found.payload.tolist()
        ([[16.0], [8.0]], [[16.0]], [24.0])
    """
    rank, kind = events["rank"].to_numpy(), events["kind"].to_numpy()
    nbytes = events["nbytes"].to_numpy(dtype=np.float64)
    of_worker = rank < workers
    slot = np.floor(events["t0_s"].to_numpy(dtype=np.float64) / step_s + 1e-9).astype(np.int64)
    inside = slot < steps
    reduced, sent, received = kind == "allreduce", kind == "send", kind == "recv"
    answered = received & (events["peer"].to_numpy() >= workers)
    caused = nbytes * (reduced * 2 * (workers - 1) / workers + sent + answered)
    through = nbytes * (sent | received)

    def table(rows: np.ndarray[tuple[int], np.dtype[np.bool_]], first: int, ranks: int, values: Array) -> Array:
        place = (rank[rows] - first) * steps + slot[rows]
        total = np.bincount(place, weights=values[rows], minlength=ranks * steps)
        return total.astype(np.float64).reshape(ranks, steps)

    asked = nbytes * (reduced | sent)
    everybody = np.bincount(slot[inside], weights=asked[inside], minlength=steps).astype(np.float64)
    return Counts(
        table(of_worker & inside, 0, workers, caused), table(~of_worker & inside, workers, servers, through), everybody
    )


def carried(small: Counts, large: Counts, sizes: tuple[int, int], parameters: float) -> Counts:
    """The bytes of a model of P parameters, from those of two small ones; linear in the size, for each rank and step.

    Args:
        sizes: parameters of the two.
        parameters: P.

    Example:
        >>> one, two = (Counts(*(np.array([[8.0 + 4 * p]]),) * 2, np.array([8.0 + 4 * p])) for p in (10, 20))
        >>> carried(one, two, (10, 20), 1000).payload.tolist()
        [4008.0]
    """
    share = (parameters - sizes[0]) / (sizes[1] - sizes[0])

    def line(a: Array, b: Array) -> Array:
        return a + share * (b - a)

    return Counts(
        line(small.workers, large.workers), line(small.servers, large.servers), line(small.payload, large.payload)
    )


@dataclass(frozen=True)
class Load:
    """Bytes of one rank.

    Attributes:
        average: per step; the mean over all workers, or of the busiest server while each worker does one step.
        burst: the most in one step, over all steps and ranks of the kind.
    """

    average: float
    burst: float


def loads(found: Counts, steps: Steps, payload_per_step: float | None = None) -> tuple[Load, Load | None]:
    """The load of a worker and of a server, None without servers [byte].

    Args:
        payload_per_step: what the algorithm's own formula says that an average worker hands to the network [byte];
            then averages are in its measure, and only what share of it ranks cause is counted. For what chance decides
            the formula is exact, and some steps are not.

    Example:
        >>> found = Counts(np.array([[0.0, 7.0], [0.0, 7.0]]), np.zeros((0, 2)), np.array([0.0, 14.0]))
        >>> loads(found, Steps(2, 2))
        (Load(average=3.5, burst=7.0), None)
    """
    counted = found.payload[-steps.window :].mean() / len(found.workers)
    scale = 1.0 if payload_per_step is None or counted == 0 else payload_per_step / counted
    worker = Load(float(found.workers[:, -steps.window :].mean() * scale), float(found.workers.max()))
    if not len(found.servers):
        return worker, None
    busiest = found.servers[:, -steps.window :].mean(1).max()
    return worker, Load(float(busiest * scale), float(found.servers.max()))
