"""What `analysis.before_after` and the conditions say of a change, in the page's language."""

from __future__ import annotations

from reports.language import noted, retold

VALUES = (
    noted("{value} ({low} to {high}): {reason}"),
    noted("NEW has no run with this number ({ended})"),
    noted("there is no {measure}: old {old}, new {new}"),
)
REASONS = (
    noted("{lower} of {n} pairs lower, {higher} higher"),
    noted("{lower} of {n} pairs lower, {higher} higher, {equal} equal or too close to tell"),
    noted("equal but for rounding"),
    noted("the target was missed before and after"),
    noted("one run is no evidence: n={old} before, n={new} after"),
    noted("the ranges do not overlap: n={old} before, n={new} after"),
    noted("the ranges overlap: n={old} before, n={new} after"),
    noted("the 95 % intervals do not overlap: n={old} before, n={new} after"),
    noted("the 95 % intervals overlap: n={old} before, n={new} after"),
    noted("the intervals do not overlap: n={first} runs of {a}, n={second} of {b}"),
    noted("the intervals overlap: n={first} runs of {a}, n={second} of {b}"),
    noted("{which} has no run with this number"),
)
INTERVALS = (
    noted("{n} pairs of runs with one seed, {percent} %"),
    noted("worst and best cases of both means' intervals"),
)

ANY = (noted("{value}: {reason}"),)  # asked last: it fits whatever has a colon


def told(sentence: str) -> str:
    """A reason or an interval, with or without the numbers before it."""
    return retold(sentence, (*VALUES, *REASONS, *INTERVALS, *ANY), REASONS)
