"""The figures of DSGD-AAU and of gossip show what their rules read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.papers.dsgd_aau import PAPER
from analysis.papers.dsgd_aau.gossip_rounds import expected_rate
from analysis.papers.dsgd_aau.gossip_time import expected_ratio
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import mean_over_runs
from reports.papers.base import Draw, PaperFigure
from reports.papers.dsgd_aau import FIGURES, limits
from reports.papers.dsgd_aau.learning import rates
from tests.support.learning_evidence import SPREAD, evidence, seeds
from tests.support.paper_figures import drawn, material
from tests.support.straggler_evidence import RISING, pair, raced, slopes, slowed


def figures(found: Evidence) -> dict[str, PaperFigure]:
    return drawn(PAPER, FIGURES, found)


def frame(figure: PaperFigure) -> pd.DataFrame:
    assert figure.table is not None
    return figure.table.frame


@pytest.mark.parametrize("draw", FIGURES)
def test_without_its_part_a_figure_is_missing(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        draw(Evidence(tmp_path, "quick"), material())


def test_the_race_is_at_each_algorithms_best_rate(tmp_path: Path) -> None:
    runs = [*raced(0.9, 0.8), *(run for run in pair((0.9, 0.95), (0.7, 0.1)) if run["label"] == "ad-psgd")]
    found = figures(evidence(tmp_path, {"stragglers": runs}))
    race = frame(found["aau-race"])
    ends = race[(race["part"] == "N = 32, accuracy") & (race["x"] == 2.0)].set_index("line")
    assert ends["y"].to_dict() == pytest.approx(
        {"dsgd-aau": 0.9, "ad-psgd": 0.7, "prague": 0.8, "agp": 0.8, "d-psgd": 0.8, "allreduce-sgd": 0.8}
    )
    known = mean_over_runs([0.9 + spread for spread in SPREAD[:3]])
    assert (ends.loc["dsgd-aau", "low"], ends.loc["dsgd-aau", "high"]) == (known.low, known.high)
    assert (ends["n"] == 3).all()
    assert "dsgd-aau 0.900" in found["aau-race"].text and "at rate 0.2 (n = 3)" in found["aau-race"].text
    assert set(race.loc[race["part"] == "N = 32, loss", "y"]) == {0.5}
    six = figures(evidence(tmp_path / "six", {"stragglers-six": runs}))["aau-race-six"]
    assert frame(six).equals(race) and "6 times slower" in six.title


def test_every_rate_that_was_tried_is_shown(tmp_path: Path) -> None:
    shown = frame(figures(evidence(tmp_path, {"stragglers": pair((0.9, 0.85), (0.95, 0.1))}))["aau-rates"])
    assert shown.query("line == 'ad-psgd'")[["x", "y"]].to_numpy() == pytest.approx(np.array([[0.1, 0.95], [0.8, 0.1]]))
    assert shown.query("line == 'dsgd-aau'")["y"].tolist() == pytest.approx([0.9, 0.85])
    with pytest.raises(Missing, match="stragglers: fewer than two learning rates"):
        rates(evidence(tmp_path, {"stragglers": seeds(3, "dsgd-aau", 0.1, 0.9)}), material())


def test_iterations_and_bytes_are_read_where_the_rules_read_them(tmp_path: Path) -> None:
    pace = [{"workers": 32, "seed": s, "iterations": 200, "gradients": 1000, "seconds": 2.0} for s in range(3)]
    runs = pair((0.9, 0.1), (0.9, 0.1), nbytes=0.6e9)
    found = evidence(tmp_path, {"stragglers": runs}, {"pace": pace})
    claims = {claim.id: claim.decide(found) for claim in PAPER.claims if claim.id in ("B6", "B9")}
    figure = figures(found)["aau-spent"]
    # 32 000 samples of 32 each: 1000 gradients in 2 s, and 200 iterations.
    counted = frame(figure).query("part == 'thousand iterations'").groupby("line")["x"].max()
    assert counted.to_dict() == pytest.approx({"dsgd-aau": 0.2, "ad-psgd": 1.0})
    assert frame(figure).query("line == 'dsgd-aau' and part == 'MB on the wire'")["x"].max() == pytest.approx(600)
    assert "0.0944 against 0.472 thousand iterations and 283 against 472 MB" in figure.text
    assert claims["B6"].measured == pytest.approx(0.0944 / 0.472, rel=0.01)
    assert claims["B9"].measured == pytest.approx(283 / 472, rel=0.01)


def test_slower_stragglers(tmp_path: Path) -> None:
    found = figures(evidence(tmp_path, {"slowdown": slowed(RISING)}))
    assert set(found) == {"aau-slower", "aau-advantage"}
    text = found["aau-slower"].text
    assert "6 times slower: 0.163 (" in text and "10 times slower: 0.163 (" in text, text
    assert "against 0.325 (" in text and "against 0.488 (" in text
    shown = frame(found["aau-advantage"])
    slowness = shown[shown["part"] == "one gradient in ten"]
    assert slowness["x"].tolist() == [2, 6, 10, 20, 40] and slowness["y"].tolist() == pytest.approx([1.5, 2, 3, 4, 5])
    frequency = shown[shown["part"] == "ten times slower"]
    assert frequency["x"].tolist() == [0.05, 0.1, 0.2, 0.4] and frequency["y"].tolist() == pytest.approx([2, 3, 4, 5])
    few = evidence(tmp_path, {"slowdown": slowed({key: RISING[key] for key in ((0.1, 6), (0.1, 10))}, count=2)})
    assert set(figures(few)) == {"aau-slower"}, "below three seeds there is no ratio, as in the rule"


def test_speed_up_with_workers_is_that_of_the_rule(tmp_path: Path) -> None:
    runs = []
    for n, reach_s in {32: 1.6, 64: 1.1, 128: 0.7}.items():
        runs += seeds(3, "dsgd-aau", 0.1 * (n / 32) ** 0.5, 0.9, workers=n, reach_s=reach_s)
        runs += seeds(3, "dsgd-aau", 0.5, 0.9, workers=n, reach_s=1.9)
    figure = figures(evidence(tmp_path, {"workers": runs}))["aau-workers"]
    shown = frame(figure)
    assert shown["x"].tolist() == [32, 64, 128]
    assert shown["y"].to_numpy() == pytest.approx(np.array([1.6, 1.1, 0.7]) * 0.65 / 0.8, rel=0.01)
    assert "2.29 times as fast with 4 times the workers" in figure.text


def test_rate_straggler_and_agreeing(tmp_path: Path) -> None:
    paces = [
        {"algorithm": name, "workers": 16, "slow": slow, "gradients_per_s": value}
        for name, at in (("dsgd-aau S", (0.8, 0.04)), ("ad-psgd", (1.0, 0.92)), ("another", (1.0, 1.0)))
        for slow, value in zip((1.0, 100.0), at, strict=True)
    ]
    control = [{"workers": n, "control_nbytes": 10 * n * n, "models": 10} for n in (8, 32)]
    tables = {"linear-speedup": slopes(0.2), "persistent-straggler": paces, "control": control}
    found = figures(evidence(tmp_path, tables=tables))
    assert set(found) == {"aau-rate", "aau-straggler", "aau-agreeing"}
    text = found["aau-rate"].text
    assert "dsgd-aau over N, noise 1 0.20" in text and "d-psgd over K, noise 10 -0.50" in text
    assert len(frame(found["aau-rate"])) == 40
    assert frame(found["aau-straggler"]).query("line == 'dsgd-aau S'")["y"].tolist() == [0.8, 0.04]
    shown = frame(found["aau-agreeing"])
    assert shown.query("line == '2,410 parameters'")["y"].tolist() == pytest.approx(
        [100 * n * n / 9640 for n in (8, 32)]
    )


def test_consensus_beside_the_closed_forms(tmp_path: Path) -> None:
    rates = [{"topology": g, "workers": 16, "rate": expected_rate(g, 16) + 1e-6} for g in ("ring", "hypercube")]
    left = [{"workers": n, "rounds": 3, "left": value} for n, value in ((4, 0.0), (8, 1e-16), (6, 0.35))]
    figure = figures(evidence(tmp_path, tables={"consensus": rates, "one-peer-rounds": left}))["aau-consensus"]
    for said in ("at most 1e-06 apart", "1e-16 at powers of two", "0.35 or more"):
        assert said in figure.text
    shown = frame(figure)
    assert shown.query("line == 'ring'")["y"].tolist() == [rates[0]["rate"]]
    assert shown.query("line == 'n = 2^k'")["y"].tolist() == [1e-17, 1e-16], "nothing stands on the floor of the axis"


def compared() -> dict[str, list[dict[str, Any]]]:
    one = seeds(3, "one-peer", 0.1, 0.91, workers=16, nbytes=2.5e8) + seeds(3, "one-peer", 0.2, 0.5, workers=16)
    return {
        "one-peer": [*one, *seeds(3, "static", 0.1, 0.9, workers=16, nbytes=1e9)],
        "slow-momentum": [*seeds(3, "slowmo", 0.1, 0.88), *seeds(3, "local-sgd", 0.1, 0.86)],
    }


def test_one_peer_and_gains(tmp_path: Path) -> None:
    found = figures(evidence(tmp_path, compared()))
    assert "one peer has 0.909" in found["aau-one-peer"].text or "one peer has 0.910" in found["aau-one-peer"].text
    assert "at 25\u00a0% of the bytes" in found["aau-one-peer"].text
    shown = frame(found["aau-gains"]).set_index("label")
    assert shown["value"].to_dict() == pytest.approx({"one-peer over static": 0.01, "slowmo over local-sgd": 0.02})
    assert (shown["n"] == 3).all(), "studies that were not run have no row"


def test_bias_pace_and_crossover(tmp_path: Path) -> None:
    errors = [{"algorithm": "d-psgd atc", "workers": 8, "lr": lr, "error": 10 * lr} for lr in (0.1, 0.05)]
    errors += [{"algorithm": "d2", "workers": 8, "lr": 0.2, "error": 0.0}]
    speeds = {"prague": 2.0, "ad-psgd": 4.0, "allreduce-sgd": 1.0}
    prague = [
        {"algorithm": name, "slow": slow, "seed": seed, "gradients_per_s": pace * (1 + 0.1 * seed)}
        for slow in (1.0, 5.0)
        for seed in range(3)
        for name, pace in speeds.items()
    ]
    shared = [
        {"algorithm": name, "shared": busy, "seed": seed, "gradients_per_s": pace * (1 + busy)}
        for busy in (False, True)
        for seed in range(3)
        for name, pace in (("ad-psgd", 3.0), ("allreduce-sgd", 1.0), ("d-psgd", 1.5))
    ]
    network = [
        {"workers": 4, "latency_s": a, "transfer_s": b, "allreduce_s": 1.1 * expected_ratio(4, a, b), "gossip_s": 1.0}
        for a, b in ((0.0, 1.0), (1.0, 0.1))
    ]
    tables = {"bias": errors, "prague": prague, "shared-network": shared, "crossover": network}
    found = figures(evidence(tmp_path, tables=tables))
    assert set(found) == {"aau-bias", "aau-pace", "aau-crossover"}
    assert "distance is 0.50 times as large" in found["aau-bias"].text
    assert frame(found["aau-bias"]).query("line == 'd-psgd atc'")["y"].tolist() == [0.5, 1.0]
    rows = frame(found["aau-pace"]).set_index("label")
    assert rows.loc["prague / all-reduce, one slow worker", ["value", "paper", "n"]].tolist() == [2.0, 4.4, 3]
    assert rows.loc["prague / ad-psgd, equal workers", "value"] == 0.5
    assert rows.loc["ad-psgd / d-psgd, shared network", "value"] == 2.0
    assert frame(found["aau-crossover"])["y"].tolist() == pytest.approx([1.1, 1.1])
    assert "The farthest is 10\u00a0% off" in found["aau-crossover"].text


def test_hidden_messages_and_compression(tmp_path: Path) -> None:
    steps = [
        {"algorithm": name, "workers": 4, "transfer_s": message, "step_s": step}
        for name, message, step in (("sgp", 2.0, 3.3), ("sgp", 0.5, 1.5), ("overlap-sgp", 2.0, 2.0))
    ]
    left = [
        {"compressor": "top-k", "fraction": share, "gamma": gamma, "rounds": 600, "left": value}
        for share, gamma, value in ((0.01, 0.05, 0.1), (0.01, 0.45, math.inf), (0.1, 0.15, 1e-3))
    ]
    found = figures(evidence(tmp_path, tables={"overlap": steps, "compression": left}))
    assert set(found) == {"aau-hidden", "aau-compression"}
    assert "at most 10\u00a0% and 0\u00a0% off" in found["aau-hidden"].text
    assert frame(found["aau-hidden"]).query("line == 'SGP'")["y"].tolist() == [1.5, 3.3]
    shown = frame(found["aau-compression"])
    assert shown.query("line == 'top 1 % of the values'")["y"].tolist() == [0.1, limits.MOST], "on the upper edge"
