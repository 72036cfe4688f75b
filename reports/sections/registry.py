"""Which sections the report has, in their order.

Each is a function of the material; None means that the results hold nothing for it. Those of `PER_SETTING` are asked
for each workload with one number of workers, those of `FIRST` (before them) and `OVERALL` (after) once.
"""

from __future__ import annotations

from collections.abc import Callable

from reports.sections import (
    ages,
    answers,
    barriers,
    claims,
    consensus,
    findings,
    landscape,
    momentum,
    network,
    noise,
    papers,
    pareto,
    predicted_pairs,
    profiles,
    scaling,
    spectrum,
    timeline,
    traffic,
)
from reports.sections.base import Material, Section

FIRST: tuple[Callable[[Material], Section | None], ...] = (
    claims.section,
    papers.section,
    network.section,
)
PER_SETTING: tuple[Callable[[Material], Section | None], ...] = (
    findings.section,
    pareto.section,
    timeline.section,
    traffic.section,
    ages.section,
    consensus.section,
    noise.section,
    spectrum.section,
    landscape.section,
    barriers.section,
)
OVERALL: tuple[Callable[[Material], Section | None], ...] = (
    answers.section,
    predicted_pairs.section,
    scaling.section,
    profiles.section,
    momentum.section,
)
