"""The figures of Streaming DiLoCo show what their rules read."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco import PAPER
from analysis.papers.streaming_diloco.compare import final, gap, of_variant
from analysis.papers.streaming_diloco.printed import GAP_BY_REPLICAS, TABLE_4
from analysis.papers.streaming_diloco.speed import METHODS, NETWORKS
from analysis.papers.streaming_diloco.utilization import by_delay, row
from analysis.theory.utilization import printed
from reports import words
from reports.papers.base import Draw, PaperFigure
from reports.papers.streaming_diloco import FIGURES, utilization
from tests.support.diloco_evidence import (
    Curves,
    MadeUp,
    cosines,
    delays,
    formats,
    late,
    missed,
    outers,
    periods,
    pools,
    rates,
    replicas,
    sizes,
    traffic,
)
from tests.support.paper_figures import drawn, material

COMPUTED = utilization.FIGURES
"""Figures that rest on arithmetic alone."""
LEARNT = [draw for draw in FIGURES if draw not in COMPUTED]


def figures(found: Evidence) -> dict[str, PaperFigure]:
    return drawn(PAPER, LEARNT, found)


def frame(figure: PaperFigure) -> pd.DataFrame:
    assert figure.table is not None
    return figure.table.frame


@pytest.mark.parametrize("draw", LEARNT)
def test_without_its_part_a_figure_is_missing(draw: Draw) -> None:
    with pytest.raises(Missing):
        draw(MadeUp({}), material())


@pytest.mark.thorough
def test_utilisation_stands_beside_the_papers_table() -> None:
    found = drawn(PAPER, COMPUTED, MadeUp({}))
    assert set(found) == {"diloco-utilisation", "diloco-overlap"}
    shown = frame(found["diloco-utilisation"])
    assert len(shown) == 75 and shown["paper"].notna().sum() == 50
    for (model, method), papers in TABLE_4.items():
        own = shown[(shown["model"] == model) & (shown["method"] == method)]
        assert own["paper"].tolist() == list(papers)
        assert own["here"].tolist() == [printed(point) for point in row(model, method).Gbit_per_s_on_grid]
    claim = next(claim for claim in PAPER.claims if claim.id == "D1").decide(MadeUp({}))
    assert f"{claim.measured:.0f} of 50 cells are equal" in found["diloco-utilisation"].text
    overlap = frame(found["diloco-overlap"]).query("line == '100B, 5 Gbit/s'").set_index("x")["y"]
    assert overlap.to_dict() == by_delay(utilization.DELAYS)


def test_loss_against_tokens() -> None:
    gaps = {"methods/data-parallel": 0, "methods/diloco": 0.05, "methods/overlapped-fp4": 0.01}
    evidence = MadeUp(gaps)
    figure = figures(evidence)["diloco-tokens"]
    own = frame(figure).query("line == 'diloco'")
    losses = final(evidence, "methods", "diloco")
    assert own["x"].tolist() == pytest.approx([0.32, 0.64, 0.96]), "the start is left out"
    assert own["y"].iloc[-1] == pytest.approx(np.mean(list(losses.values())) + 0.25)
    assert "diloco against data-parallel +5.0\u00a0% (" in figure.text
    assert "overlapped-fp4 against diloco -3.8\u00a0% (" in figure.text, "as claim D13 compares"


def test_seconds_on_three_networks() -> None:
    transfer = dict(zip(METHODS, (1.0, 0.03, 0.02, 0.0), strict=True))
    slower = dict(zip(NETWORKS, (0.4, 1.6, 16.0), strict=True))
    figure = figures(Curves(lambda n, m: 1 + slower[n] * transfer[m]))["diloco-networks"]
    shown = frame(figure)
    ends = shown.groupby(["part", "line"])["x"].max()
    assert {key: ends[key] for key in ends.index} == pytest.approx(
        {(n, m): 10 * (1 + slower[n] * transfer[m]) for n in NETWORKS for m in METHODS}
    )
    assert f"overlapped-fp4 {9 * 17 / 10:.1f}" in figure.text and "n = 3 seeds" in figure.text


def test_gaps_are_those_of_the_rules() -> None:
    gaps = {**replicas(-0.001, 0.01, 0.02, 0.04), **sizes(0.06, 0.01, 0.02), **periods(0.2, 0.02, 0.0, 0.01, 0.03)}
    evidence = MadeUp(gaps)
    found = figures(evidence)
    three = frame(found["diloco-sizes"])["value"].tolist()
    base = final(evidence, "sizes", "data-parallel", "large")
    assert three[2] == 100 * gap(final(evidence, "sizes", "diloco", "large"), base).mean
    assert three == pytest.approx([6, 1, 2], abs=0.1)
    shown = frame(found["diloco-replicas"])
    assert shown.query("line == 'here'")["y"].tolist() == pytest.approx([-0.1, 1, 2, 4], abs=0.1)
    assert shown.query("line == 'in the paper, 35M'")["y"].tolist() == list(GAP_BY_REPLICAS.values())
    of_period = frame(found["diloco-periods"]).set_index("x")["y"]
    assert list(of_period.index) == [1, 5, 10, 30, 100]
    assert of_period[10] == 0 and of_period[1] == pytest.approx(20, abs=0.1)


def test_a_diverged_setting_is_a_gap_and_said() -> None:
    evidence = MadeUp(periods(0.2, 0.02, 0.0, 0.01, 0.03))
    every = evidence._rows  # type: ignore[attr-defined]
    diverged = every["run_id"] == "periods/diloco@period=1-1"
    assert diverged.sum() == 1
    object.__setattr__(evidence, "_rows", every.assign(status=every["status"].mask(diverged, "diverged")))
    figure = figures(evidence)["diloco-periods"]
    assert math.isnan(frame(figure).set_index("x")["y"][1]) and "diverged (H = 1)" in figure.text


def test_overlap_formats_and_missed_rounds() -> None:
    evidence = MadeUp({**delays(0.0, 0.001, 0.005, 0.03, 0.1), "delays/unequal": 0.004, **missed(0.002, 0.004, 0.01)})
    found = figures(evidence)
    shown = frame(found["diloco-delays"])
    assert shown.query("line == 'alpha = 0.5'")["y"].tolist() == pytest.approx([0, 0.1, 0.5, 3, 10], abs=0.05)
    assert shown.query("line == 'tau = 1 and 5'")["y"].tolist() == pytest.approx([0.4], abs=0.05)
    drops = frame(found["diloco-drops"]).query("line == 'shares by role'")
    base = final(evidence, "drops", "diloco", "by-role")
    known = [gap(final(evidence, "drops", f"dropping@drop={q}"), base, perplexity=True) for q in (0.1, 0.3, 0.5)]
    assert drops["y"].tolist() == [100 * one.mean for one in known]
    evidence = MadeUp(formats(0.001, 0.05))
    rows = frame(figures(evidence)["diloco-formats"]).set_index("label")
    fp4 = final(evidence, "methods", "overlapped-fp4")
    assert rows.loc["random values", "value"] == 100 * gap(of_variant(evidence, "dropped-values", "random"), fp4).mean
    assert rows.loc["fp4", "value"] == pytest.approx(0.1, abs=0.05) and (rows["n"] == 3).all()


def test_variants_that_were_run_have_rows() -> None:
    def shown(gaps: dict[str, float]) -> tuple[PaperFigure, pd.DataFrame]:
        figure = figures(MadeUp(gaps))["diloco-variants"]
        return figure, frame(figure).set_index("label")

    figure, rows = shown({**late(0.1, 0.01)})
    assert figure.claims == ("D21",) and len(rows) == 3
    assert rows.loc["a round late, naive", "value"] == pytest.approx(10, abs=0.1)
    assert rows.loc["a round late, naive", "paper"] == pytest.approx(12.73, abs=0.01)
    figure, rows = shown({**late(0.1, 0.01), **rates(0.05, 0.01, -0.01), **outers(0.02, 0.03)})
    assert figure.claims == ("D21", "D22", "D25")
    assert rows.loc["asynchronous, Nesterov", "value"] == pytest.approx(5, abs=0.1)
    assert rows.loc["outer Adam", "value"] == pytest.approx(3, abs=0.1), "each at its best rate"


def test_cosines_by_round() -> None:
    evidence = cosines(0.1, -0.2, 0.05)
    figure = figures(evidence)["diloco-cosines"]
    shown = frame(figure)
    first = shown.query("line == 'first layer'").set_index("x")["y"]
    assert first[1] == pytest.approx(0.15, abs=1e-3) and first[9] == pytest.approx(-0.15, abs=1e-3)
    others = shown.query("line == 'other layers'").set_index("x")["y"]
    assert others[1] == pytest.approx(0.1, abs=1e-3) and others[9] == pytest.approx(-0.2, abs=1e-3)
    decided = next(claim for claim in PAPER.claims if claim.id == "D27").decide(evidence)
    assert "0.113 in the first third" in figure.text and f"{words.number(decided.measured)} in the last" in figure.text


def test_bytes_of_every_step() -> None:
    figure = figures(traffic())["diloco-traffic"]
    shown = frame(figure)
    total = shown[shown["part"] == "1B, 16 bit"].groupby("line")["y"].sum() * 1e6
    known = {"data-parallel": 16000, "diloco": 1600, "streaming": 1600, "overlapped-fp4": 432}
    assert total.round(6).to_dict() == known
    assert "1B, 16 bit: 40.0 times fewer bits (37.0 with scales)" in figure.text


def test_models_and_pools() -> None:
    gaps = {"models/outer": 0.0, "models/mean": 0.004, "models/replica": 0.04}
    figure = figures(MadeUp({**gaps, **pools(0.01, -0.01)}))["diloco-models"]
    rows = frame(figure).set_index("label")
    assert rows["value"].tolist() == pytest.approx([0.4, 3.6, 1, -1], abs=0.1)
    assert rows.loc["one replica over mean of replicas", "paper"] == pytest.approx(3.36, abs=0.01)
    assert figure.claims == ("D20", "D24")
    assert figures(MadeUp(gaps))["diloco-models"].claims == ("D20",), "what was not run has no row"
