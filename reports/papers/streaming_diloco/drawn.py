"""What the figures of Streaming DiLoCo share: how each method is drawn, and differences between runs of one seed."""

from __future__ import annotations

import math

from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.compare import Gap, Losses, final, gap
from reports import words
from reports.language import t
from reports.papers.forest import Row
from reports.papers.lines import Line
from reports.style import LOOKS, Look

METHODS = {
    "data-parallel": LOOKS[0],
    "diloco": LOOKS[5],
    "streaming": LOOKS[6],
    "overlapped": LOOKS[2],
    "overlapped-fp4": LOOKS[1],
    "overlapped-fp4-H100": LOOKS[8],
}
"""Label in the studies -> look."""
HERE = LOOKS[1]


def per_cent(share: float) -> str:
    """A difference in per cent with its sign.

    Example:
        >>> per_cent(0.0123), per_cent(-0.2), per_cent(float("inf"))
        ('+1.2\\xa0%', '-20.0\\xa0%', 'diverged')
    """
    if math.isinf(share):
        return t("diverged")
    return words.NOTHING if math.isnan(share) else f"{100 * share:+.1f}\u00a0%"


def said(found: Gap) -> str:
    """A gap with its interval, in words."""
    if not math.isfinite(found.high - found.low):
        return per_cent(found.mean)
    low, high = per_cent(found.low), per_cent(found.high)
    return t("{median} ({low} to {high})", median=per_cent(found.mean), low=low, high=high)


def between(evidence: Evidence, part: str, label: str, base: Losses, workload: str | None = None) -> Gap:
    """By how much a label's losses are above others, seed by seed.

    Raises:
        Missing: one of the two has not been run, or no seed is common.
    """
    found = gap(final(evidence, part, label, workload), base)
    if not found.n:
        raise Missing(f"{part}: no seed in common, or what it is compared with diverged")
    return found


def row(label: str, found: Gap, *, paper: float = math.nan, tolerance: tuple[float, float] | None = None) -> Row:
    """A gap as a row of a forest [%]."""
    low, high = (100 * v if math.isfinite(v) else math.nan for v in (found.low, found.high))
    return Row(label, 100 * found.mean, low, high, found.n, paper, tolerance)


def of_gaps(label: str, look: Look, x: list[float], gaps: list[Gap]) -> Line:
    """Gaps over a setting as a line of marks [%]; a diverged one leaves a gap."""

    def finite(values: list[float]) -> list[float]:
        return [100 * v if math.isfinite(v) else math.nan for v in values]

    return Line(
        label, look, x, finite([g.mean for g in gaps]), finite([g.low for g in gaps]), finite([g.high for g in gaps]),
        n=min(g.n for g in gaps), marks=True,
    )  # fmt: skip
