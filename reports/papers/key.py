"""The key of a figure with several panels: above them, in rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.drawing import INK, MUTED, PAPER, SIZE
from reports.style import Look

ROW = 0.175  # inches
SAMPLE = 0.26  # of a line [inches]
GAP = 0.14
DASHES = ((0, (4, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.5, 2)))
"""How what is known is drawn, in the order of its names, so that two of them in one figure differ."""
Kind = Literal["line", "points", "dashes", "diamond", "none"]
"""How its sample is drawn; "none" is text alone."""


@dataclass(frozen=True)
class Entry:
    """One line of a figure by its name; without a look it is what theory or a paper says, drawn with `dash`."""

    label: str
    look: Look | None
    kind: Kind
    dash: Any = DASHES[0]

    @property
    def width(self) -> float:
        """Room that it needs [inches]; a letter of the font is 0.6 of its size wide, bold letters 0.66."""
        letter = (0.64 if self.look else 0.58) * (SIZE - 0.5) / 72 * (1.2 if self.label.isupper() else 1.0)
        sample = 0.0 if self.kind == "none" else SAMPLE
        return sample + 0.06 + letter * len(self.label) + GAP


def rows_of(entries: Iterable[Entry], width: float) -> list[list[Entry]]:
    """The entries in rows that are not wider than `width` [inches]."""
    rows: list[list[Entry]] = []
    for entry in entries:
        if rows and sum(one.width for one in rows[-1]) + entry.width <= width + GAP:
            rows[-1].append(entry)
        else:
            rows.append([entry])
    return rows


def draw_key(figure: Figure, rows: Sequence[Sequence[Entry]], width: float, height: float) -> None:
    """Write the rows at the top of a figure of that size [inches]."""
    for i, row in enumerate(rows):
        at, y = 0.08, 1 - (i + 0.55) * ROW / height
        for entry in row:
            colour = entry.look.light if entry.look else MUTED
            dash = entry.look.dash if entry.look else entry.dash
            left, right = at / width, (at + SAMPLE) / width
            if entry.kind == "none":
                right = left
            elif entry.kind != "diamond":
                line = Line2D([left, right], [y, y], color=colour, linestyle=dash, linewidth=1.4)
                figure.add_artist(line)
            marker = entry.look.marker if entry.look else "D" if entry.kind == "diamond" else ""
            if marker:
                middle = (left + right) / 2
                face = colour if entry.look else PAPER
                figure.add_artist(
                    Line2D(
                        [middle], [y], marker=marker, color=colour, markersize=4, linestyle="none", markerfacecolor=face
                    )
                )
            figure.text(
                right + 0.05 / width, y, entry.label, color=entry.look.light if entry.look else INK,
                fontsize=SIZE - 0.5, fontweight="bold" if entry.look else "normal", va="center_baseline",
            )  # fmt: skip
            at += entry.width
