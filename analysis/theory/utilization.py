"""Compute utilisation of training methods on a slow link, and the bandwidth that a given utilisation needs.

Compute utilisation = time spent computing / total time. It rises with the bandwidth, to 1.

Source: Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512, figures 4, 7 and 9 and
table 4. The simulator is that of `analysis.theory.dag` with the schedules of `analysis.theory.exchanges`, which say
what they assume. Its tables, again in the reading that reproduces them: bandwidths are 50 points from 0.1 to 1000
Gbit/s, evenly on a logarithmic scale, so that one cell is a factor of 1.207; what is printed for a target is the *last*
point that still misses it, rounded to two decimals and then to one. The exact crossing lies up to one cell higher; both
are given.

DiLoCo in closed form, for B bits on a link of bandwidth W, H steps of T seconds, L layers; o is how much of the
reductions the backward pass hides. It neglects 1 / L of a step:

    utilisation = H T / (H T + max(B / W - o, B / (L W))),    o = T (2 / 3 - 2 / (3 L))

Axes: b bandwidths, t targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.theory.dag import Reals, TrainingDag
from analysis.theory.exchanges import equal_layers, training

TARGETS = (0.5, 0.8, 0.9, 0.95, 0.99)
GRID = np.logspace(-1, 3, 50)  # bandwidths of the paper's tables [Gbit/s]


@dataclass(frozen=True)
class Bandwidths:
    """The bandwidth [Gbit/s] that each target of compute utilisation needs.

    Attributes:
        targets: compute utilisation, in (0, 1), [t].
        Gbit_per_s_on_grid: the last point of `GRID` that misses the target [t], unrounded; NaN if even the first
            reaches it; 1000, the grid's end, if none does.
        Gbit_per_s: where the target is reached exactly [t].
    """

    targets: tuple[float, ...]
    Gbit_per_s_on_grid: tuple[float, ...]
    Gbit_per_s: tuple[float, ...]

    def remarks(self) -> list[str]:
        """One line for each target that is not reached within the grid, which says what stands there instead."""
        lines = []
        for target, point, exact in zip(self.targets, self.Gbit_per_s_on_grid, self.Gbit_per_s, strict=True):
            reached = f"utilisation {target:g} is reached at {exact:.4g} Gbit/s"
            if math.isnan(point):
                lines.append(f"{reached}: no point of the grid, which starts at {GRID[0]:g} Gbit/s, misses it")
            elif point == GRID[-1]:
                lines.append(f"{reached}: beyond the grid, which ends at {GRID[-1]:g} Gbit/s")
        return lines


def printed(Gbit_per_s: float) -> float:
    """A bandwidth [Gbit/s] as the paper's tables print it: rounded to two decimals, then to one.

    Example:
        Python's rounding, of the number that is stored: 0.4498 becomes 0.45 and 0.5.

        >>> [printed(point) for point in GRID[[6, 8, 9, 30, 49]].tolist()]
        [0.3, 0.5, 0.5, 28.1, 1000.0]
    """
    return round(round(Gbit_per_s, 2), 1)


def bandwidths(dag: TrainingDag, targets: Sequence[float] = TARGETS) -> Bandwidths:
    """The bandwidth [Gbit/s] that each target of compute utilisation needs in any training, exactly and on the grid.

    Raises:
        ValueError: a target outside (0, 1), or nothing is exchanged or computed.

    Example:
        10 Gbit after each second of computing, of which nothing is hidden:

        >>> layers = equal_layers(parameters=1e9, layers=1, step_time_s=1, bits=10)
        >>> found = bandwidths(training(layers, method="data-parallel"), targets=[0.8])
        >>> round(found.Gbit_per_s[0], 9), round(found.Gbit_per_s_on_grid[0], 3)
        (40.0, 33.932)
    """
    exact = dag.required(targets)
    reached = dag.utilization(GRID)
    missing = [np.flatnonzero(reached < target) for target in targets]
    return Bandwidths(
        targets=tuple(float(target) for target in targets),
        Gbit_per_s_on_grid=tuple(float(GRID[at[-1]]) if len(at) else math.nan for at in missing),
        Gbit_per_s=tuple(float(bandwidth) for bandwidth in exact),
    )


def utilization(
    Gbit_per_s: ArrayLike,
    *,
    method: str,
    parameters: float,
    layers: int,
    step_time_s: float,
    period: int = 100,
    fragment_size: int = 3,
    pattern: str = "strided",
    delay: int = 0,
    bits: float = 16,
    workers: int = 2,
) -> Reals:
    """Compute utilisation, computing time / total time, of a model of equal layers at each bandwidth, [b].

    Args:
        Gbit_per_s: bandwidths of the link [Gbit/s], [b].
        method, period, fragment_size, pattern, delay: see `training`.
        parameters, layers, step_time_s, bits, workers: see `equal_layers`.

    Raises:
        ValueError: a name or number that is not allowed.

    Example:
        One layer: nothing is left to compute while 16 Gbit are on their way for as long as the step took.

        >>> utilization([10.0], method="data-parallel", parameters=1e9, layers=1, step_time_s=1.6)
        array([0.5])
    """
    costs = equal_layers(parameters=parameters, layers=layers, step_time_s=step_time_s, bits=bits, workers=workers)
    dag = training(costs, method=method, period=period, fragment_size=fragment_size, pattern=pattern, delay=delay)
    return dag.utilization(Gbit_per_s)


def required_bandwidth(
    *,
    method: str,
    parameters: float,
    layers: int,
    step_time_s: float,
    period: int = 100,
    fragment_size: int = 3,
    pattern: str = "strided",
    delay: int = 0,
    bits: float = 16,
    targets: Sequence[float] = TARGETS,
    workers: int = 2,
) -> Bandwidths:
    """The bandwidth [Gbit/s] at which a model of equal layers reaches each compute utilisation: a row of table 4.

    Args:
        method, period, fragment_size, pattern, delay: see `training`.
        parameters, layers, step_time_s, bits, workers: see `equal_layers`.
        targets: compute utilisation, in (0, 1), [t].

    Raises:
        ValueError: a name or number that is not allowed.

    Example:
        Plain DiLoCo, 1e9 parameters; the paper's table 4 prints 1.4, 6.2, 13.3, 23.3 and 86.8:

        >>> row = required_bandwidth(method="diloco", parameters=1e9, layers=24, step_time_s=0.099)
        >>> [printed(point) for point in row.Gbit_per_s_on_grid]
        [1.4, 6.2, 13.3, 23.3, 86.8]
    """
    costs = equal_layers(parameters=parameters, layers=layers, step_time_s=step_time_s, bits=bits, workers=workers)
    dag = training(costs, method=method, period=period, fragment_size=fragment_size, pattern=pattern, delay=delay)
    return bandwidths(dag, targets)
