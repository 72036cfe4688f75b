"""The answer to a question about theory: as JSON for programs, and as a table that says what the numbers mean."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 96  # of the texts below a table


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Named numbers, and what they mean.

    Attributes:
        values: what programs are given, by name; a number that is not finite becomes null there.
        lines: of the table: name, value with its unit, and what it is.
        meaning: what a reader learns from it, a sentence or two.
        source: authors, title, arXiv id.
        given: what was asked for.
    """

    values: Mapping[str, Any]
    lines: Sequence[tuple[str, str, str]]
    meaning: str
    source: str
    given: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        """One object.

        Example:
            >>> Answer(values={"tau": math.inf}, lines=[], meaning="", source="", given={"eta": 0.1}).json()
            '{"tau": null, "given": {"eta": 0.1}}'
        """
        return json.dumps(finite({**self.values, "given": self.given}), allow_nan=False)

    def table(self) -> str:
        """For people.

        Example:
            >>> print(Answer(values={}, lines=[("tau", "11.5 steps", "longest")], meaning="M.", source="S.").table())
            tau  11.5 steps  longest
            <BLANKLINE>
            M.
            Source: S.
        """
        import textwrap

        widths = [max((len(line[k]) for line in self.lines), default=0) for k in (0, 1)]
        rows = [f"{name:{widths[0]}s}  {value:{widths[1]}s}  {what}".rstrip() for name, value, what in self.lines]
        texts = [line for text in (self.meaning, f"Source: {self.source}") for line in textwrap.wrap(text, WIDTH)]
        return "\n".join([*rows, "", *texts])


def finite(value: Any) -> Any:
    """`value` with null in place of every number that JSON cannot hold.

    Example:
        >>> finite({"a": [1.5, math.nan], "b": 2})
        {'a': [1.5, None], 'b': 2}
    """
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(value: float, unit: str = "") -> str:
    """A number of at most six digits with its unit; "none" for NaN.

    Example:
        >>> shown(11.518843, "steps"), shown(math.inf), shown(math.nan, "steps")
        ('11.5188 steps', 'infinite', 'none')
    """
    if math.isnan(value):
        return "none"
    text = "infinite" if math.isinf(value) else f"{value:.6g}"
    return f"{text} {unit}".rstrip()


def shown_bytes(value: float) -> str:
    """Bytes with a decimal prefix.

    Example:
        >>> shown_bytes(7e6), shown_bytes(12)
        ('7 MB', '12 byte')
    """
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {prefix}B"
    return f"{value:.4g} byte"
