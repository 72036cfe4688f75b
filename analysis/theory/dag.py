"""Training as a graph of work: when a layer's reduction over a slow link holds up the computation, and for how long.

The model. Each step runs the nodes of the layers on one processor, in order: all forwards from the first layer to the
last; then, from the last layer to the first, backward with respect to the activations and backward with respect to the
parameters. An exchange releases the reductions of some layers, each at the end of that layer's backward of one step.
One link carries the reductions one at a time in the order of their release (FIFO), each for bits / bandwidth seconds,
whatever is computed meanwhile. The forward of a layer, in the step that an exchange names, waits for that layer's
reduction and for nothing else. The last reductions count: training is over when both computation and link are.

So the total time is the longest path through a graph whose weights are seconds, or bits times seconds per bit:
a maximum of straight lines in the seconds per bit, hence convex, and `TrainingDag.required` finds its crossings exactly
by Newton's method, which ends on a polygon. The slope of the total is the number of bits on the longest path.

Left out: latency, the processor's share in communication, the network inside a worker, differences between workers.

Source: Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512, section 3.1 and its
appendix (four kinds of node per layer; bandwidth only). The order of the nodes is a reading of it, see
`analysis.theory.exchanges`.

Axes: L layers, b bandwidths, t targets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Reals = NDArray[np.float64]

NEAREST = 1 - 1e-9  # the highest target: sums of thousands of seconds are rounded to about 1e-13


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer costs in one step: seconds of each kind of node, and the bits of its reduction."""

    forward_s: float
    backward_activations_s: float  # 0 for the first layer: nothing before it wants a gradient
    backward_parameters_s: float
    bits: float  # on the link; 0: the layer has no reduction (it is frozen, say), and nothing waits for one

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} of a layer must be finite and at least 0: got {value}")

    @property
    def backward_s(self) -> float:
        """Seconds from the gradient of the layer's output to the release of its reduction."""
        return self.backward_activations_s + self.backward_parameters_s


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Layers that are reduced after their backward of `step`, for their forward of `step + 1 + delay`."""

    step: int  # from 1
    layers: tuple[int, ...]  # from 0, in any order: the backward pass decides
    delay: int = 0

    def __post_init__(self) -> None:
        if self.step < 1 or self.delay < 0:
            raise ValueError(
                f"an exchange must follow a step >= 1 with a delay >= 0: got step {self.step}, delay {self.delay}"
            )


class Duration(NamedTuple):
    """How long training takes at each bandwidth, and why.

    Attributes:
        total_s: time until computation and link are done [s], [b].
        path_bits: bits on the longest path [bit], [b]: the slope of total_s in the seconds per bit.
    """

    total_s: Reals
    path_bits: Reals


Transfer = tuple[int, int]  # step after which it is released, layer


class _Event(NamedTuple):
    """After `compute_s` of computing: wait for the transfer, or (with bits) hand it to the link."""

    compute_s: float
    transfer: Transfer
    bits: float | None


@dataclass(frozen=True, kw_only=True)
class TrainingDag:
    """Some steps of training with exchanges between them.

    Example:
        One layer of 1 + 2 s and 10 bits, exchanged after each of two steps: computing takes 6 s. At 5 bit/s each
        exchange takes 2 s, all of it waited for.

        >>> layer = Layer(forward_s=1, backward_activations_s=0, backward_parameters_s=2, bits=10)
        >>> dag = TrainingDag(layers=[layer], exchanges=[Exchange(step=k, layers=(0,)) for k in (1, 2)], steps=2)
        >>> dag.duration(1 / 5)
        Duration(total_s=array([10.]), path_bits=array([20.]))
        >>> dag.utilization(5e-9), dag.required([0.6]) * 1e9
        (array([0.6]), array([5.]))
    """

    layers: Sequence[Layer]
    exchanges: Sequence[Exchange]
    steps: int

    def __post_init__(self) -> None:
        if not self.layers or self.steps < 1:
            raise ValueError(
                f"training needs at least one layer and one step: got {len(self.layers)} layers, {self.steps} steps"
            )
        seen: set[tuple[int, int]] = set()
        for exchange in self.exchanges:
            if exchange.step > self.steps:
                raise ValueError(f"exchange after step {exchange.step} but training has {self.steps} steps")
            for layer in exchange.layers:
                if not 0 <= layer < len(self.layers):
                    raise ValueError(
                        f"layers of an exchange must lie in 0 .. {len(self.layers) - 1}: got {layer} "
                        f"after step {exchange.step}"
                    )
                if (exchange.step, layer) in seen:
                    raise ValueError(f"layer {layer} is exchanged twice after step {exchange.step} (once is enough)")
                seen.add((exchange.step, layer))

    @cached_property
    def compute_s(self) -> float:
        """Time spent computing [s]: the total with an infinitely fast link."""
        # The same sum as in `duration`, so that no rounding can push the utilisation above 1.
        return float(self.duration(0.0).total_s[0])

    @cached_property
    def sent_bits(self) -> float:
        """All that the link carries [bit]."""
        return math.fsum(event.bits for event in self._events if event.bits is not None)

    @cached_property
    def _events(self) -> list[_Event]:
        return list(self._walk())

    def _walk(self) -> Iterator[_Event]:
        # What the processor does, step by step, as the moments at which it meets the link: everything between two of
        # them is one stretch of computing, so the cost of a simulation is that of its exchanges and not of its nodes.
        released: dict[int, set[int]] = defaultdict(set)  # step -> layers
        awaited: dict[int, dict[int, list[Transfer]]] = defaultdict(lambda: defaultdict(list))  # step -> layer
        for exchange in self.exchanges:
            for index in exchange.layers:
                if self.layers[index].bits == 0:
                    continue  # nothing must not queue behind something
                released[exchange.step].add(index)
                awaited[exchange.step + 1 + exchange.delay][index].append((exchange.step, index))
        step_s = math.fsum(layer.forward_s + layer.backward_s for layer in self.layers)
        compute_s = 0.0
        for step in range(1, self.steps + 1):
            if step not in released and step not in awaited:
                compute_s += step_s
                continue
            for index, layer in enumerate(self.layers):
                for transfer in awaited[step].get(index, ()):
                    yield _Event(compute_s, transfer, None)
                    compute_s = 0.0
                compute_s += layer.forward_s
            for index, layer in reversed(list(enumerate(self.layers))):
                compute_s += layer.backward_s
                if index in released[step]:
                    yield _Event(compute_s, (step, index), layer.bits)
                    compute_s = 0.0
        # The end of the last step, as a transfer of nothing.
        yield _Event(compute_s, (self.steps + 1, 0), 0.0)

    def duration(self, seconds_per_bit: ArrayLike) -> Duration:
        """Total time [s] and bits on the longest path at each speed of the link.

        Args:
            seconds_per_bit: 1 / bandwidth [s/bit], [b], at least 0.
        """
        pace = np.atleast_1d(np.asarray(seconds_per_bit, dtype=np.float64))
        # Row 0: time [s]; row 1: how many bits' transfer it contains.
        clock, link = np.zeros((2, len(pace))), np.zeros((2, len(pace)))
        done: dict[Transfer, Reals] = {}
        for compute_s, transfer, bits in self._events:
            clock[0] += compute_s
            if bits is None:
                clock = _later(clock, done.pop(transfer))
            else:
                link = _later(link, clock)
                link[0] += bits * pace
                link[1] += bits
                done[transfer] = link
        return Duration(*_later(clock, link))

    def utilization(self, Gbit_per_s: ArrayLike) -> Reals:
        """Compute utilisation [b], time spent computing / total time, in (0, 1], at each bandwidth [Gbit/s], [b].

        Raises:
            ValueError: a bandwidth that is not positive.
        """
        bandwidth = np.atleast_1d(np.asarray(Gbit_per_s, dtype=np.float64))
        if not (bandwidth > 0).all():
            raise ValueError(f"bandwidth must be above 0 Gbit/s: got {bandwidth.min()}")
        return self.compute_s / self.duration(1e-9 / bandwidth).total_s

    def required(self, targets: ArrayLike) -> Reals:
        """The bandwidth [Gbit/s], [t], at which the compute utilisation is exactly the target.

        Newton's method on the total time as a function of the seconds per bit: convex and piecewise linear, so from
        the right it comes down line by line and ends on the one that crosses.

        Args:
            targets: compute utilisation, in (0, 1), [t].

        Raises:
            ValueError: a target outside (0, 1), or nothing is exchanged or computed.
        """
        wanted = np.atleast_1d(np.asarray(targets, dtype=np.float64))
        if not ((wanted > 0) & (wanted <= NEAREST)).all():
            raise ValueError(
                f"targets must lie between 0 and 1, both excluded: got {wanted.tolist()} "
                "(at most 1 - 1e-9: nearer to 1 rounding decides)"
            )
        if not (self.sent_bits > 0 and self.compute_s > 0):
            raise ValueError(
                f"no bandwidth is required: {self.sent_bits} bits are exchanged in {self.compute_s} s of computing "
                "(both must be above 0)"
            )
        limit_s = self.compute_s / wanted
        pace = limit_s / self.sent_bits  # here the link alone takes that long, so the crossing lies to the left
        while True:
            total_s, path_bits = self.duration(pace)
            step = np.maximum(total_s - limit_s, 0) / path_bits
            if (step <= 4 * np.finfo(np.float64).eps * pace).all():
                return np.asarray(1e-9 / pace)
            pace = pace - step


def _later(a: Reals, b: Reals) -> Reals:
    """The later of two times [2, b], a new array; row 0 decides."""
    return np.where(b[0] > a[0], b, a)
