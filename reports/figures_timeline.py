"""Who did what when: ranks as rows, one short window for each algorithm, messages as arrows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reports.drawing import INK, MUTED, PAPER, SIZE, Box, boxes, canvas, strokes, theme, to_svg
from reports.style import PARTS, Look
from reports.words import number, percent, short

ARROWS = 90  # most arrows in a window: more hide what is below them
WIDE, LEFT, RIGHT = 4.6, 0.12, 0.985  # inches, and fractions of them
ROW, HEAD, GAP = 0.155, 0.2, 0.1  # inches: a rank, an algorithm's name, the space below


@dataclass(frozen=True)
class Window:
    """A short window of one run; all times in seconds since the window's start.

    Attributes:
        workers: of the run; ranks from there on are servers.
        ranks: those that are shown.
        pieces: `analysis.timeline.pieces` of it.
        messages: `analysis.timeline.messages`, those that were sent or under way meanwhile, between shown ranks.
        collectives: times at which a collective of all workers was done.
        gradients: rank, and time at which it began a gradient.
    """

    label: str
    look: Look
    lockstep: bool
    workers: int
    ranks: Sequence[int]
    pieces: pd.DataFrame
    messages: pd.DataFrame
    collectives: Sequence[float]
    gradients: Sequence[tuple[int, float]]


def timeline(name: str, windows: Sequence[Window], length_s: float, where: str) -> str:
    """One figure with the windows one above the other, on one scale of time.

    Args:
        length_s: of each window.
    """
    heights = [HEAD + ROW * len(window.ranks) + GAP for window in windows]
    tall = sum(heights) + 0.45
    scale, unit = (1e3, "ms") if length_s < 1 else (1.0, "s")
    with rc_context(theme()):
        figure = canvas(WIDE, tall)
        axes = figure.add_axes((LEFT, 0.42 / tall, RIGHT - LEFT, 1 - 0.43 / tall))
        axes.set_xlim(0, length_s * scale)
        axes.set_ylim(sum(heights), 0)  # inches, downwards
        rectangles: dict[str, list[Box]] = {}
        top = 0.0
        for window, height in zip(windows, heights, strict=True):
            _window(axes, window, top, scale, rectangles)
            top += height
        for column, _, fill, hatch, _ in PARTS:
            boxes(axes, rectangles.get(column, []), facecolor=fill, hatch=hatch, edgecolor="#ffffff", linewidth=0.25)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axes.set_xlabel(f"{unit} since the window's start")
        sns.despine(ax=axes, left=True)
        text = f"{where}. Windows of {number(length_s * scale)} {unit}. " + " ".join(map(_said, windows))
        return to_svg(figure, name, "Timeline of a short window", text)


def _window(axes: Axes, window: Window, top: float, scale: float, rectangles: dict[str, list[Box]]) -> None:
    """Add one window's bars to `rectangles`, and draw the rest of it."""
    axes.annotate(
        short(window.label), (0, top + 0.5 * HEAD), xytext=(-34, 0), textcoords="offset points", fontweight="bold",
        color=window.look.light, va="center_baseline", annotation_clip=False,
    )  # fmt: skip
    way = "lock-step" if window.lockstep else "asynchronous"
    axes.text(
        1, top + 0.5 * HEAD, way, transform=axes.get_yaxis_transform(), ha="right", va="center_baseline",
        color=MUTED, fontsize=SIZE - 1,
    )  # fmt: skip
    row = {rank: top + HEAD + ROW * i for i, rank in enumerate(window.ranks)}
    for rank, y in row.items():
        who = "server" if rank >= window.workers else f"rank {rank}"
        axes.annotate(
            who, (0, y + ROW / 2), xytext=(-4, 0), textcoords="offset points", ha="right", va="center_baseline",
            color=MUTED, fontsize=SIZE - 1.5, annotation_clip=False,
        )  # fmt: skip
    for piece in window.pieces.to_dict("records"):
        rank, part, t0_s, t1_s = piece["rank"], piece["part"], piece["t0_s"], piece["t1_s"]
        if rank in row and part != "other_s":
            box = (t0_s * scale, row[rank] + 0.08 * ROW, (t1_s - t0_s) * scale, 0.84 * ROW)
            rectangles.setdefault(part, []).append(box)
    workers = [y for rank, y in row.items() if rank < window.workers]
    ends = [[(s * scale, min(workers) - 0.03), (s * scale, max(workers) + ROW + 0.03)] for s in window.collectives]
    strokes(axes, np.array(ends), edgecolor=INK, linewidth=0.9, zorder=4)
    begun = [(s * scale, row[rank] + 0.08 * ROW) for rank, s in window.gradients if rank in row]
    lines = [[(x, y), (x, y + 0.84 * ROW)] for x, y in begun]
    strokes(axes, np.array(lines), edgecolor="#ffffff", linewidth=0.5, zorder=3)
    arrows = window.messages
    if 0 < len(arrows) <= ARROWS:
        start = np.column_stack([arrows["sent_s"] * scale, arrows["source"].map(row) + ROW / 2])
        end = np.column_stack([arrows["arrived_s"] * scale, arrows["destination"].map(row) + ROW / 2])
        _arrows(axes, start, end)


def _arrows(axes: Axes, start: NDArray[np.float64], end: NDArray[np.float64], head: float = 3.2) -> None:
    """Arrows as one path; heads in points, so that they keep their shape.

    Args:
        start, end: x in the axes' unit, y in inches [arrows, 2].
    """
    low, high = axes.get_xlim()
    points = np.array([WIDE * 72 * (RIGHT - LEFT) / (high - low), 72.0])  # per unit of x and y
    way = (end - start) * points
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    across = way[:, ::-1] * [-1, 1]
    left, right = ((end * points - head * way + side * 0.4 * head * across) / points for side in (1, -1))
    strokes(axes, np.stack([start, end], axis=1), edgecolor=PAPER, linewidth=2.0, zorder=5)  # a rim, over dark bars
    strokes(axes, np.stack([start, end], axis=1), edgecolor=INK, linewidth=0.8, zorder=5)
    strokes(axes, np.stack([left, end, right], axis=1), edgecolor=INK, linewidth=0.8, zorder=5)


def _said(window: Window) -> str:
    """One sentence for readers who cannot see the window."""
    own = window.pieces[window.pieces["rank"] < window.workers]
    spent = (own["t1_s"] - own["t0_s"]).groupby(own["part"]).sum() / max((own["t1_s"] - own["t0_s"]).sum(), 1e-12)
    waits = spent.get("exposed_straggler_s", 0.0) + spent.get("exposed_transfer_s", 0.0)
    did = [f"computed gradients {percent(spent.get('gradient_s', 0.0))} and waited {percent(waits)} of the time"]
    if len(window.collectives):
        did.append(f"finished {len(window.collectives)} collectives together")
    if len(window.messages):
        did.append(f"had {len(window.messages)} messages between them")
    way = "in lock-step" if window.lockstep else "asynchronously"
    return f"{window.label}: the workers ran {way}, {', '.join(did)}."
