"""A claim, the parts of its evidence, and what a rule finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from analysis.papers.evidence import Evidence

Verdict = Literal["reproduced", "partly", "not shown", "contradicted"]
Kind = Literal["exact", "number", "shape"]

LEAST_SEEDS = 3
"""Seeds below which a claim on learning is not shown, whatever they say."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a rule found.

    Attributes:
        found: in words, with the numbers that decide.
        n: runs, or cases of an exact claim, behind it.
        measured, low, high: the number and its interval in `unit`; NaN if there is none.
        rows: run_ids that it rests on.
    """

    verdict: Verdict
    found: str
    n: int
    measured: float = math.nan
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    rows: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says, and how it is decided here.

    Attributes:
        id: unique within its paper, such as "A3".
        statement: what the paper says, in one sentence.
        kind: a formula or identity; a number of the paper; which is larger, how something grows.
        expected: the paper's number with its unit, or its shape in words.
        tolerance: what still counts as reproduced; "" if the rule says it.
        rule: how the verdict follows from what is found, in words.
        parts: names of the parts of the evidence that the rule reads.
        decide: the rule itself.
    """

    id: str
    statement: str
    kind: Kind
    expected: str
    rule: str
    parts: Sequence[str]
    decide: Callable[[Evidence], Decision]
    tolerance: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of the evidence: the runs of a study, or a table that an experiment makes.

    Attributes:
        name: of its folder, and of the study's file or the experiment.
        kind: "study": `bench/studies/papers/PAPER/NAME.toml`; "experiment": `bench.experiments`.
        what: one sentence on what is run.
        probes: for a study, what `paceline probe` is asked for afterwards, as arguments: ("noise", "--snapshot", "all")
    """

    name: str
    kind: Literal["study", "experiment"]
    what: str
    probes: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper: its parts and its claims.

    Attributes:
        name: as on the command line.
        title: authors, title, venue, number.
        url: where it can be read.
    """

    name: str
    title: str
    url: str
    parts: Sequence[Part]
    claims: Sequence[Claim] = field(default_factory=tuple)

    def part(self, name: str) -> Part:
        """The part of that name."""
        return next(part for part in self.parts if part.name == name)


def within(
    measured: float,
    expected: float,
    tolerance: float,
    *,
    found: str,
    n: int,
    low: float = math.nan,
    high: float = math.nan,
    unit: str = "",
    rows: Sequence[str] = (),
) -> Decision:
    """The verdict on a number: reproduced within the tolerance, partly if only its interval reaches so far.

    Args:
        tolerance: largest distance that counts as reproduced, in the number's unit.
        low, high: 95 % interval of `measured`, if there is one.

    Source: the usual reading of an interval: what it contains is not ruled out.

    Example:
        >>> within(1.02, 1.0, 0.05, found="", n=3).verdict, within(1.2, 1.0, 0.05, found="", n=3).verdict
        ('reproduced', 'contradicted')
        >>> within(1.1, 1.0, 0.05, found="", n=3, low=1.0, high=1.2).verdict
        'partly'
    """
    verdict: Verdict
    if abs(measured - expected) <= tolerance * (1 + 1e-9):  # a distance is rounded, too
        verdict = "reproduced"
    elif math.isnan(measured):
        verdict = "not shown"
    elif low <= expected + tolerance and high >= expected - tolerance:
        verdict = "partly"
    else:
        verdict = "contradicted"
    return Decision(
        verdict=verdict, found=found, n=n, measured=measured, low=low, high=high, unit=unit, rows=tuple(rows)
    )
