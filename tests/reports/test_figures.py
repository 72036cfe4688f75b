"""Figures: what is drawn is what was measured, nothing overlaps, and files stay small."""

from __future__ import annotations

import doctest
import importlib
import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context

from analysis.curves import over_runs
from analysis.profiles import performance_profile, profile_score
from analysis.ranks import critical_difference as ranks_of
from reports.chosen import varied
from reports.drawing import SIZE, boxes, canvas, labels_at_ends, theme, to_svg
from reports.figures_curves import NAMED, curves, named_lines
from reports.figures_over_time import Traffic, consensus, traffic
from reports.figures_summary import critical_difference, front, profile, scaling
from reports.style import Look, looks

MANY = [f"algorithm-{i:02d}" for i in range(30)]


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    return looks((label, label) for label in labels)


def table_of(labels: Sequence[str], seeds: int = 3) -> pd.DataFrame:
    """Completed runs as in `per_run`."""
    rows = [
        {"run_id": f"{label}-{seed}", "label": label, "seed": seed, "status": "completed", "study": "s",
         "workload": "w", "workers": 4, "transport": "mpi"}
        for label in labels for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def heldout_of(table: pd.DataFrame, snapshots: int = 21) -> pd.DataFrame:
    """Curves that fall from 2 nat; the last algorithm's ends lowest; seeds differ by 0.01 nat."""
    rows = []
    order = sorted(table["label"].unique())
    for run in table.to_dict("records"):
        pace = 1 + order.index(run["label"]) / len(order)
        for k in range(snapshots):
            loss = 0.3 + 0.01 * run["seed"] + 1.7 * math.exp(-3 * pace * k / snapshots)
            at = {"snapshot": k, "t_s": 0.5 * k, "samples": 100 * k, "wire_nbytes": 1000 * k}
            rows.append({"run_id": run["run_id"], **at, "heldout_loss": loss, "consensus_distance": 0.1 * k})
    return pd.DataFrame(rows)


def texts(svg: str) -> list[tuple[str, float, float, bool]]:
    """Each text of an SVG with its place, and whether it is bold."""
    found = re.findall(r"<text ([^>]*)>([^<]*)</text>", svg)
    places = []
    for attributes, text in found:
        x, y = (float(re.search(rf' {axis}="([^"]*)"', attributes)[1]) for axis in "xy")  # type: ignore[index]
        places.append((text, x, y, "700" in attributes))
    return places


def paths(svg: str) -> list[str]:
    return re.findall(r'<path (?:id="[^"]*" )?d="([^"]*)"', svg)


@pytest.mark.parametrize("module", ["chosen", "svg", "drawing", "style"])
def test_doctests(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"reports.{module}")).failed == 0


# -- the SVG ----------------------------------------------------------------------------------------------------------


def test_coordinates_are_short_and_rectangles_are_where_they_were() -> None:
    figure = canvas(2, 2)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 144)
    axes.set_ylim(144, 0)
    asked = [(10.123456, 20.0, 30.5, 4.25), (50.0, 60.0, 7.0, 8.0)]
    boxes(axes, asked, facecolor="#2f6690")
    svg = to_svg(figure, "boxes", "t", "d")
    drawn = re.findall(r"M(\S+) (\S+?)H(\S+?)V(\S+?)H\1z", svg)
    assert len(drawn) == 2
    for (x, y, w, h), found in zip(asked, drawn, strict=True):
        left, top, right, bottom = map(float, found)
        assert np.allclose(sorted((left, right)), (x, x + w), atol=0.006)
        assert np.allclose(sorted((top, bottom)), (y, y + h), atol=0.006)
    assert not re.search(r"\d\.\d{3,}", re.sub(r"<desc.*?</desc>", "", svg))


def test_names_of_many_lines_do_not_overlap_and_stay_inside() -> None:
    labels = MANY[:NAMED]
    for log_x in (False, True):
        with rc_context(theme()):
            figure = canvas(4.6, 3.2)
            axes = figure.add_axes((0.115, 0.145, 0.87, 0.82))
            if log_x:
                axes.set_xscale("log")
            axes.set_ylim(0, 1)
            ends = {label: (10.0 - 0.1 * (i % 3), 0.5 + 0.001 * i) for i, label in enumerate(labels)}
            labels_at_ends(axes, ends, looks_of(labels), log_x)
            svg = to_svg(figure, "names", "t", "d")
        placed = [(text, x, y) for text, x, y, bold in texts(svg) if bold]
        assert {text for text, _, _ in placed} == set(labels)
        for i, (text, x, y) in enumerate(placed):
            assert x >= 0 and x + 0.6 * SIZE * len(text) <= 4.6 * 72 + 1 and 0 <= y <= 3.2 * 72
            for other, x2, y2 in placed[:i]:
                apart = abs(y - y2) >= SIZE - 1 or x >= x2 + 0.5 * SIZE * len(other) or x2 >= x + 0.5 * SIZE * len(text)
                assert apart, (text, other)


# -- held-out curves --------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("axis", ["t_s", "samples", "wire_nbytes"])
def test_curves_of_many_algorithms_name_the_lowest_and_stay_small(axis: str) -> None:
    table = table_of(MANY)
    svg = curves("many", axis, table, heldout_of(table), looks_of(MANY), 0.5, "w, 4 workers, MPI")
    assert svg is not None and len(svg) < 60_000
    named = {text for text, _, _, bold in texts(svg) if bold}
    assert named == set(MANY[-NAMED:])  # the later ones fall faster, so they end lower
    for label in MANY:
        assert f"{label} ends at" in svg  # in the text for those who cannot see it


def test_the_band_is_the_interval_over_the_seeds() -> None:
    table = table_of(["a", "b"])
    heldout = heldout_of(table)
    svg = curves("band", "t_s", table, heldout, looks_of(["a", "b"]), math.nan, "w")
    assert svg is not None
    last = over_runs(heldout, table, "heldout_loss").groupby("label").tail(1)
    for row in last.to_dict("records"):
        said = rf"{row['label']} ends at {row['mean']:.4f} \({row['low']:.4f} to {row['high']:.4f}\) after 10.0 \(n=3\)"
        assert re.search(said, svg)
    assert svg.count("opacity: 0.16") == 2
    alone = table[table["seed"] == 0]
    single = curves("one", "t_s", alone, heldout, looks_of(["a", "b"]), math.nan, "w")
    assert single is not None and "opacity: 0.16" not in single and "(n=1)" in single


def test_a_diverged_run_enters_no_mean() -> None:
    table = table_of(["a"])
    table.loc[table["seed"] == 2, "status"] = "diverged"
    heldout = heldout_of(table)
    heldout.loc[heldout["run_id"] == "a-2", "heldout_loss"] *= 1000
    svg = curves("wild", "t_s", table, heldout, looks_of(["a"]), math.nan, "w")
    assert svg is not None and "(n=2)" in svg and "a diverged in 1 run(s)" in svg


def test_the_baseline_keeps_its_name_among_many() -> None:
    given = looks([("allreduce-sgd", "allreduce-sgd"), *((label, label) for label in MANY)])
    ends = {"allreduce-sgd": 9.0, **{label: 0.1 * i for i, label in enumerate(MANY)}}
    named = named_lines(ends, given)
    assert named == ["allreduce-sgd", *MANY[: NAMED - 1]]


def test_varied_shows_one_of_each_algorithm_first() -> None:
    labels = ["allreduce-sgd", "easgd", "easgd tau=4", "d-psgd"]
    summary = pd.DataFrame(
        {"label": labels, "algorithm": ["allreduce-sgd", "easgd", "easgd", "d-psgd"], "final_heldout_loss": 0.1,
         "time_to_target_s": [9.0, 2.0, 1.0, 3.0]}
    )  # fmt: skip
    given = looks(zip(labels, summary["algorithm"], strict=True))
    assert varied(summary, labels, given, 3) == ["allreduce-sgd", "easgd tau=4", "d-psgd"]
    assert varied(summary, labels, given, 4) == sorted(labels)


# -- what goes on in a run --------------------------------------------------------------------------------------------


def test_the_peak_is_marked_above_its_window() -> None:
    look = looks_of(["a"])["a"]
    t_s = [0.05 + 0.1 * k for k in range(40)]
    rate = [1.0 + (k == 30) for k in range(40)]
    svg = traffic("peak", [Traffic("a", look, t_s, rate, 1.025, 2.0, t_s[30])], "w")
    assert "mean 1.02, peak 2.00 Gbit/s" in svg or "mean 1.03, peak 2.00 Gbit/s" in svg
    mark = re.findall(r'<use href="#[^"]*" x="([^"]*)"[^>]*fill: var\(--ink\)', svg)
    left, width = 0.02 * 4.6 * 72, 0.96 * 4.6 * 72
    assert [float(x) for x in mark] == pytest.approx([left + width * t_s[30] / t_s[-1]], abs=0.02)


def test_a_distance_of_zero_is_a_mark_on_the_floor_and_not_a_line() -> None:
    means = pd.DataFrame(
        {"label": "local-sgd", "snapshot": range(5), "t_s": [0.0, 1.0, 2.0, 3.0, 4.0], "low": math.nan,
         "high": math.nan, "mean": [0.0, 0.1, 0.0, 0.2, 0.1]}
    )  # fmt: skip
    svg = consensus("zero", means, looks_of(["local-sgd"]), "w")
    assert "zero at 1" in svg and "nan" not in "".join(paths(svg)).lower()
    bottom = (1 - 0.16) * 2.9 * 72
    curve = [d for d in paths(svg) if re.fullmatch(r"M[^MLz]+L[^MLz]+", d)]  # 0.2 to 0.1, after the gap
    ends = [[float(y) for y in re.findall(r" (-?[\d.]+)", d)] for d in curve]
    assert any(len(ys) == 2 and max(ys) < bottom - 1 and ys[0] < ys[1] for ys in ends)
    marks = re.findall(r'<use href="#[^"]*" x="[^"]*" y="([^"]*)" style="fill-opacity: 0', svg)
    assert [float(y) for y in marks] == pytest.approx([bottom], abs=0.02)


# -- many runs --------------------------------------------------------------------------------------------------------


def test_figures_of_many_algorithms_stay_small() -> None:
    given = looks_of(MANY)
    sizes = [1, 2, 4, 8, 16]
    rows = pd.DataFrame(
        [{"label": label, "workers": n, "value": 100.0 * n**0.9 + i, "low": 90.0 * n**0.9, "high": 120.0 * n**0.9,
          "ideal": 100.0 * n} for i, label in enumerate(MANY) for n in sizes]
    )  # fmt: skip
    svg = scaling("scaling", rows, "samples_per_s", given, "w", "Throughput", "samples/s")
    assert len(svg) < 60_000 and f"{MANY[3]}: 103 at 1" in svg
    assert {text for text, _, _, _ in texts(svg)} >= {str(n) for n in sizes}
    costs = pd.DataFrame(np.random.default_rng(1).uniform(1, 4, (6, 30)), columns=MANY)
    scores = {str(k): float(v) for k, v in profile_score(costs).items()}
    svg = profile("profile", performance_profile(costs), scores, given, 4.0, "6 settings")
    assert len(svg) < 60_000 and "score" in svg
    svg = critical_difference("ranks", ranks_of(costs[MANY[:12]]), given, "6 settings")
    assert len(svg) < 60_000 and all(label in svg for label in MANY[:12])


def test_marks_on_the_front_are_filled_and_the_others_open() -> None:
    rows = pd.DataFrame(
        {"label": ["a", "b", "c"], "time_to_target_s": [1.0, 2.0, 3.0], "wire_nbytes_to_target": [3e6, 1e6, 2e6],
         "on_front": [True, True, False], "dominated_by": ["", "", "b"]}
    )  # fmt: skip
    svg = front("front", rows, looks_of(["a", "b", "c"]), "w", (1e6, "MB"))
    assert "a: 1.00 s and 3.00 MB, on the front" in svg and "c: 3.00 s and 2.00 MB, dominated by b" in svg
    assert svg == front("front", rows, looks_of(["a", "b", "c"]), "w", (1e6, "MB"))
