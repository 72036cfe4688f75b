"""Which sections the report has, in their order.

Each is a function of the material; None means that the results hold nothing for it. Those of `PER_SETTING` are asked
for each workload with one number of workers, those of `OVERALL` once.
"""

from __future__ import annotations

from collections.abc import Callable

from reports.sections import barriers, landscape, momentum, network, noise, spectrum
from reports.sections.base import Material, Section

PER_SETTING: tuple[Callable[[Material], Section | None], ...] = (
    noise.section,
    spectrum.section,
    landscape.section,
    barriers.section,
)
OVERALL: tuple[Callable[[Material], Section | None], ...] = (network.section, momentum.section)
