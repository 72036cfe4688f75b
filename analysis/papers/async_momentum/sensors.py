"""B9: implicit momentum measured, in one run without noise and over many with it.

Source: Zhang, Mitliagkas, YellowFin and the Art of Momentum Tuning, arXiv 1706.03471; Mitliagkas, Zhang, Hadjis, Re,
    arXiv 1605.09774, theorem 6.
"""

from __future__ import annotations

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


def measured(evidence: Evidence) -> Decision:
    """B9.

    Source: arXiv 1706.03471, section 4; theorem 6.
    """
    cases, words = {}, []
    for (kind, workers), own in groups_of(evidence.table("trajectories"), "kind", "workers"):
        own = own.sort_values(["run", "write"])
        runs = int(own["run"].nunique())
        points = np.stack(own["center"].to_list())
        paths = points.reshape(runs, -1, points.shape[1])
        h = np.logspace(-np.log10(CONDITION), 0, points.shape[1])
        known = 1 - 1 / int(workers)
        if kind == "noiseless":
            reading = read(paths[0], paths[0] * h, lr=RATE)
            found = float(reading.implicit[SETTLED:].mean())
            cases[f"sensor, M = {workers}"] = abs(found - known) <= SENSOR
            words.append(f"sensor {found:.3f} with M = {workers}")
        elif int(workers) >= 4:
            fit = fit_momentum(paths, paths * h, lr=RATE)
            cases[f"fit of the momentum, M = {workers}"] = abs(fit.implicit.value - known) <= FIT
            cases[f"fit of the rate, M = {workers}"] = abs(fit.rate.value - 1 / int(workers)) <= FIT
            low, high = fit.implicit.low, fit.implicit.high
            words.append(f"fit {fit.implicit.value:.3f} ({low:.3f} to {high:.3f}) with M = {workers}")
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
