"""What the figures of DSGD-AAU share: how each algorithm is drawn, and learning curves as lines over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.papers.dsgd_aau.rivals import AD_PSGD, OURS, RIVALS
from analysis.papers.dsgd_aau.rules import Curve, final
from analysis.statistics import Mean, mean_over_runs
from reports import words
from reports.language import t
from reports.papers.lines import Line
from reports.style import LOOKS, Look, looks

NAMES = (OURS, AD_PSGD, *RIVALS)
"""The paper's algorithm and its rivals, in the order of the key."""
LOOK_OF = looks((name, name) for name in NAMES)
OTHERS = LOOKS[1:]
"""How lines are drawn that are no algorithms."""

Values = NDArray[np.float64]


def over_curves(
    label: str, look: Look, across: Sequence[Values], heights: Sequence[Values], *, marks: bool = False
) -> Line:
    """The mean of several runs' curves at each snapshot, with its interval over the runs.

    Args:
        across, heights: of each run, one value per snapshot; the shortest curve ends the line.
    """
    count = min(len(y) for y in heights)
    means = [mean_over_runs([float(y[k]) for y in heights]) for k in range(count)]
    return Line(
        label, look, np.mean([x[:count] for x in across], axis=0), [m.mean for m in means], [m.low for m in means],
        [m.high for m in means], n=len(heights), marks=marks,
    )  # fmt: skip


def end(found: Sequence[Curve]) -> Mean:
    """Accuracy at the end, over the runs."""
    return mean_over_runs([final(curve) for curve in found])


def interval(mean: Mean, digits: int = 3) -> str:
    """A mean with its interval, in words."""
    value, low, high = (words.number(v, digits) for v in (mean.mean, mean.low, mean.high))
    return t("{median} ({low} to {high})", median=value, low=low, high=high) if mean.low < mean.high else value
