"""The time to the target on a network where no learning was simulated: what has to be done, times how fast it goes.

For a lock-step algorithm the steps that it needs do not depend on the network, so its time elsewhere is exact as far as
the pace is. An asynchronous one sees other staleness on another network, and needs another number of samples; that is
known where its learning was simulated, the anchors, and taken in between from the line through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Pace = Callable[[str, float], float]
"""(label, x) -> virtual seconds per sample of all workers together."""


@dataclass
class Prediction:
    """Predicted times to the target over one property x of the cluster, such as its bandwidth.

    Attributes:
        pace: how fast each algorithm goes at x.
        anchors: label -> x -> samples of all workers to the target, where learning was simulated; labels that never got
            there are missing.

    Source: the product in the module's docstring.

    Example:
        1000 samples at x = 1 and 4000 at x = 4, a sample a second: at x = 2 it is half way, on logarithms.

        >>> prediction = Prediction(pace=lambda label, x: 1.0, anchors={"a": {1.0: 1000.0, 4.0: 4000.0}})
        >>> [round(prediction.seconds("a", x)) for x in (0.5, 1.0, 2.0, 8.0)], prediction.seconds("b", 1.0)
        ([1000, 1000, 2000, 4000], inf)
    """

    pace: Pace
    anchors: dict[str, dict[float, float]] = field(default_factory=dict)

    def anchor(self, label: str, x: float, seconds: float) -> None:
        """Take over that the target was reached after `seconds` at x, in simulated learning."""
        self.anchors.setdefault(label, {})[x] = seconds / self.pace(label, x)

    def samples(self, label: str, x: float) -> float:
        """Samples of all workers to the target at x; beyond the anchors as at the last one."""
        return between(self.anchors.get(label, {}), x)

    def seconds(self, label: str, x: float) -> float:
        """Predicted time to the target at x [s]; infinite for a label that never got there."""
        samples = self.samples(label, x)
        return math.inf if math.isinf(samples) else samples * self.pace(label, x)


def between(points: Mapping[float, float], x: float) -> float:
    """A value between known ones, on a straight line of both logarithms; beyond them the nearest, infinite without any.

    Source: linear interpolation.

    Example:
        >>> round(between({1.0: 1.0, 100.0: 10000.0}, 10.0), 9), between({}, 1.0)
        (100.0, inf)
    """
    if not points:
        return math.inf
    known = sorted(points)
    values = np.log([points[at] for at in known])
    return float(np.exp(np.interp(math.log(x), np.log(known), values)))


def by_inverse(points: Mapping[float, float], x: float) -> float:
    """A value between known ones, on a straight line over 1 / x: exact for what costs a + b / x.

    Args:
        points: x -> value; x may be infinite.
        x: at least the least of the known ones.

    Source: linear interpolation; the cost of messages by Hockney, The communication challenge for MPP, Parallel
    Computing 20 (1994).

    Example:
        2 + 6 / x:

        >>> by_inverse({1.0: 8.0, 6.0: 3.0, math.inf: 2.0}, 3.0)
        4.0
    """
    known = sorted((1 / at, value) for at, value in points.items())
    return float(np.interp(1 / x, [at for at, _ in known], [value for _, value in known]))
