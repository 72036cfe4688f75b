"""B9: implicit momentum measured, in one run without noise and over many with it.

Source: Zhang, Mitliagkas, YellowFin and the Art of Momentum Tuning, arXiv 1706.03471; Mitliagkas, Zhang, Hadjis, Re,
    arXiv 1605.09774, theorem 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.asynchrony.ensemble import fit_momentum
from analysis.asynchrony.sensor import read
from analysis.papers.cases import all_cases, groups_of
from analysis.papers.claim import Claim, Decision
from analysis.papers.evidence import Evidence

RATE, CONDITION = 0.05, 50.0
"""Learning rate of the paths; curvatures are 1/50 to 1, evenly spaced in the logarithm."""
SETTLED = 500
"""Writes after which the sensor is read."""
SENSOR, FIT = 0.02, 0.03
FITTED = 4
"""Workers from which on the fit is judged."""


@dataclass(frozen=True)
class Reading:
    """Momentum measured in runs with M workers.

    Attributes:
        kind: "noiseless": by the sensor, in one run; "noisy": by least squares over runs.
        implicit, low, high: momentum and its interval, NaN if there is none.
        rate: what the learning rate is multiplied with; NaN for the sensor.
        runs: behind it.
    """

    kind: str
    workers: int
    implicit: float
    low: float
    high: float
    rate: float
    runs: int


def readings(evidence: Evidence) -> list[Reading]:
    """What both instruments read for each number of workers.

    Raises:
        Missing: the experiment has not been made.

    Source: arXiv 1706.03471, section 4; theorem 6.
    """
    found = []
    for (kind, workers), own in groups_of(evidence.table("trajectories"), "kind", "workers"):
        own = own.sort_values(["run", "write"])
        runs = int(own["run"].nunique())
        points = np.stack(own["center"].to_list())
        paths = points.reshape(runs, -1, points.shape[1])
        h = np.logspace(-np.log10(CONDITION), 0, points.shape[1])
        if kind == "noiseless":
            reading = read(paths[0], paths[0] * h, lr=RATE)
            value = float(reading.implicit[SETTLED:].mean())
            found.append(Reading(kind, int(workers), value, math.nan, math.nan, math.nan, 1))
        else:
            fit = fit_momentum(paths, paths * h, lr=RATE)
            of = fit.implicit
            found.append(Reading(kind, int(workers), of.value, of.low, of.high, fit.rate.value, runs))
    return found


def measured(evidence: Evidence) -> Decision:
    """B9.

    Source: arXiv 1706.03471, section 4; theorem 6.
    """
    cases, words = {}, []
    for one in readings(evidence):
        workers, known = one.workers, 1 - 1 / one.workers
        if one.kind == "noiseless":
            cases[f"sensor, M = {workers}"] = abs(one.implicit - known) <= SENSOR
            words.append(f"sensor {one.implicit:.3f} with M = {workers}")
        elif workers >= FITTED:
            cases[f"fit of the momentum, M = {workers}"] = abs(one.implicit - known) <= FIT
            cases[f"fit of the rate, M = {workers}"] = abs(one.rate - 1 / workers) <= FIT
            words.append(f"fit {one.implicit:.3f} ({one.low:.3f} to {one.high:.3f}) with M = {workers}")
    return all_cases(cases, least=7, found=", ".join(words))


CLAIMS = (
    Claim(
        id="B9",
        statement="The implicit momentum can be measured: it is 1 - 1/M with M memoryless workers.",
        kind="exact",
        expected="0.5, 0.75, 0.875, 0.9375 with M = 2, 4, 8, 16",
        tolerance="0.02 by the sensor without noise, 0.03 by a fit over seeds with it",
        rule="Paths of the registered async-sgd's center on a quadratic. Reproduced if the sensor reads 1 - 1/M within "
        "0.02 in one run without noise for every M, and least squares over 300 runs with noise give 1 - 1/M and 1/M "
        "within 0.03 for M of 4 and more; partly from 90 % of these on; contradicted below; not shown with fewer than "
        "7.",
        parts=("trajectories",),
        decide=measured,
    ),
)
