"""Panels of lines with intervals: nothing that is drawn stands outside."""

from __future__ import annotations

import numpy as np
import pytest

from reports.drawing import canvas
from reports.papers import lines
from reports.papers.lines import Axis, Line, Panel
from reports.style import LOOKS

RATES = [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("width", [0.9, 4.0])
def test_bars_of_many_lines_beside_each_other_stand_inside(log: bool, width: float) -> None:
    """Six lines at the same four places, each so many points aside that the outer ones would leave a narrow panel."""
    figure = canvas(width, 2.0)
    axes = figure.add_axes((0, 0, 1, 1))
    made = [
        Line(f"line {i}", LOOKS[i], RATES, [0.5] * 4, [0.4] * 4, [0.6] * 4, n=3, marks=True) for i in range(6)
    ]  # fmt: skip
    x = Axis("learning rate", log=log, low=RATES[0] / 1.2, high=RATES[-1] * 1.2)
    lines._draw(axes, Panel(x, Axis("accuracy", low=0.0, high=1.0), made), {})
    left, right = axes.get_xlim()
    assert left <= x.low and right >= x.high, "limits that were asked for are widened only"
    if width > 2:
        assert (left, right) == pytest.approx((x.low, x.high)) or not log
    inside = axes.get_window_extent()
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    assert len(marks) == 6
    for line in marks:
        pixels = line.get_transform().transform(np.column_stack(line.get_data()))[:, 0]
        assert (pixels >= inside.x0 - 1e-6).all() and (pixels <= inside.x1 + 1e-6).all(), line
