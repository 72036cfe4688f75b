"""Predicted against measured in the report: its numbers, its words, and when it is not there."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.summary import per_run, summarise
from bench.records import Results, load
from reports import cli
from reports.build import build as page_of
from reports.environment import environment
from reports.predictions import predictions
from reports.sections import predicted_pairs
from reports.sections.base import Material
from reports.style import looks
from tests.support.synthetic import SCHEDULES, WORKERS, write_results, write_run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    # The simulated runs are made to be a quarter slower, so that every ratio is 0.8.
    return load(write_results(tmp_path_factory.mktemp("results") / "demo", steps=20))


@pytest.fixture(scope="module")
def html(results: Results) -> str:
    return section(results)


def section(results: Results) -> str:
    """The section as the page has it, without making the rest of the page."""
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    return environment(look_of).get_template("predictions.html.j2").render(predicted=context(results))


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).replace("\u00a0", " ")


def context(results: Results) -> dict[str, Any] | None:
    table = per_run(results)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    return predictions(results.runs, table, summarise(table), look_of)


def with_runs(results: Results, change: Any) -> Results:
    """The results with each run's row changed."""
    rows = [change(dict(row)) for row in results.runs.to_dict("records")]
    return replace(results, runs=pd.DataFrame(rows, columns=results.runs.columns))


def material(results: Results) -> Material:
    table = per_run(results)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    return Material(results, table, summarise(table), table, look_of, (), environment(look_of))


def test_every_pair_is_a_row_with_its_ratio(results: Results) -> None:
    done = results.runs[results.runs["status"] == "completed"]
    cells = set(zip(done["label"], done["transport"], strict=True))
    expected = {(label, t) for label, t in cells if t != "simulated" and (label, "simulated") in cells}
    found = predicted_pairs.section(material(results))
    assert found is not None
    (table,) = found.tables
    assert set(zip(table.file["label"], table.file["transport"], strict=True)) == expected
    assert table.file["ratio"].to_numpy() == pytest.approx(0.8) and not table.file["within"].any()
    text = words(str(found.html).replace("</t", " </t").replace("<small", " <small"))
    assert found.html.count("<tr") == 1 + len(expected) and text.count("beyond 10 %") == len(expected)
    row = table.file[(table.file["label"] == "allreduce-sgd") & (table.file["transport"] == "mpi")].iloc[0]
    # 4 workers x 16 samples / 21 ms; 4/5 of that; of 21 ms, (3 + 4) ms of waiting, as in the longer simulated run.
    assert row["measured_samples_per_s"] == pytest.approx(64 / 0.021)
    assert row["predicted_samples_per_s"] == pytest.approx(0.8 * 64 / 0.021)
    assert row["measured_exposed_comm_share"] == pytest.approx(1 / 3) == row["predicted_exposed_comm_share"]
    assert re.search(r"allreduce-sgd beyond 10 % digits-mlp 4 MPI 0\.800 3,048 2,438 33 % 33 % ", text)


def test_what_does_not_agree_is_said(html: str) -> None:
    text = words(html)
    assert "within 10 % of the measured throughput for 0 of 7 pairs" in text
    assert "predicted at 0.800 times what was measured" in text
    assert "Do not decide by the simulator where it is off (7 too low)" in text
    assert "For 5 of 7 pairs the intervals over seeds leave no doubt" in text
    assert "not what a calibration measured: read them as a guess" in text


def test_what_agrees_is_said_and_a_calibration_is_taken_at_its_word(results: Results) -> None:
    def faster(row: dict[str, Any]) -> dict[str, Any]:
        factor = 1 / 1.25 if row["simulated"] else 1.0
        provenance = json.dumps({"command": "paceline predict s.toml --cluster cluster.toml"})
        return row | {"duration_s": row["duration_s"] * factor, "provenance": provenance}

    found = context(with_runs(results, faster))
    assert found is not None
    assert "for all 7 pairs; the farthest is off by 0" in found["headline"]
    said = " ".join(found["sentences"])
    assert "Do not decide" not in said and "guess" not in said
    assert "also predicted to have it in 2 of 2 comparisons" in said  # over MPI and over Horovod
    assert found["rows"] == 7


def test_a_what_if_is_named_but_not_compared(results: Results) -> None:
    def elsewhere(row: dict[str, Any]) -> dict[str, Any]:
        return row | ({"study": "synthetic@1Gbit"} if row["simulated"] else {})

    other = with_runs(results, elsewhere)
    assert context(other) is None  # nothing to compare, and one size only
    again = results.runs[results.runs["simulated"]].assign(run_id=lambda runs: runs["run_id"] + "-again")
    both = replace(other, runs=pd.concat([other.runs, again]))
    assert "not compared: another network: 1Gbit (7 pairs)" in words(section(both))


@pytest.mark.thorough
def test_without_both_there_is_no_section(results: Results) -> None:
    for simulated in (True, False):
        one = replace(results, runs=results.runs[results.runs["simulated"] == simulated])
        assert context(one) is None
    assert section(one).strip() == ""
    page = page_of(replace(results, runs=results.runs[results.runs["transport"] == "horovod"])).html
    assert 'id="predictions"' not in page and 'href="#predictions"' not in page


def sizes(results: Results) -> Results:
    """The simulated runs as if they had been made for 4, 8 and 32 workers, on two networks."""
    parts, heldout = [], []
    for workers in (4, 8, 32):
        for study, gbit in (("synthetic", 10.0), ("synthetic@1Gbit", 1.0)):
            network = json.dumps({"network": {"latency_s": 5e-5, "bandwidth_Gbit_per_s": gbit}})
            part = results.runs[results.runs["simulated"]].assign(workers=workers, study=study, network=network)
            part["samples"] *= workers // WORKERS
            part["run_id"] += f"-{workers}-{gbit}"
            parts.append(part)
            heldout.append(results.heldout.assign(run_id=results.heldout["run_id"] + f"-{workers}-{gbit}"))
    return replace(
        results,
        runs=pd.concat([results.runs[~results.runs["simulated"]], *parts], ignore_index=True),
        heldout=pd.concat([results.heldout, *heldout], ignore_index=True),
    )


@pytest.mark.thorough
def test_sizes_and_bandwidths_are_drawn(results: Results) -> None:
    page = section(sizes(results))
    text = words(page)
    assert "Predicted at other sizes simulated, not measured" in text and "digits-mlp, study synthetic" in text
    assert "Throughput against workers, 10 Gbit/s and 50.0 us" in text
    assert "Throughput against workers, 1 Gbit/s and 50.0 us" in text
    assert "Throughput against bandwidth, 32 workers" in text
    described = re.findall(r"<desc[^>]*>(.*?)</desc>", page)
    # 4 workers x 16 samples in 21 ms x 1.25, and eight times that.
    line = "allreduce-sgd: 2,438 samples/s at 4, 19,505 samples/s at 32"
    assert any(line in text and "digits-mlp, 10" in text for text in described)
    assert not re.search(r"\b(nan|None|inf)\b", text)


@pytest.mark.thorough
def test_runs_without_a_loss_are_shown_by_their_throughput(results: Results) -> None:
    simulated = results.runs[results.runs["simulated"]]
    page = page_of(replace(results, runs=simulated, heldout=results.heldout[:0])).html
    answer = words(page[page.index('aria-label="The answer"') :])
    assert "No held-out loss was recorded, only time and bytes" in answer
    rates = simulated["samples"] / simulated["duration_s"]
    best = simulated.loc[rates.idxmax()]
    assert "no loss" in answer and "reached in 0" not in answer and "Held-out loss against time" not in answer
    assert f"{best['label']} has the highest throughput, {rates.max():,.0f} samples/s" in answer
    assert not re.search(r"\b(nan|None|inf)\b", words(page[page.index("<main>") : page.index("<script>")]))


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    for transport in ("mpi", "simulated"):
        write_run(tmp_path, SCHEDULES[0], transport, 0, label="<b>x & $y$", workload="<i>w", steps=5)
    results = load(tmp_path)
    pairs = predicted_pairs.section(material(results))
    assert pairs is not None
    found = section(results) + pairs.html
    assert found and "<b>" not in found and "<i>" not in found and "&lt;b&gt;x &amp; $y$" in found


@pytest.mark.thorough
def test_the_command_takes_the_folders_of_other_networks_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, study in ((".", "s"), ("1Gbit", "s@1Gbit"), ("1Gbit/n5", "s@1Gbit"), ("notes", "s@2Gbit")):
        write_run(tmp_path / place, SCHEDULES[0], "simulated", 0, study=study, label=f"a{len(place)}", steps=5)
        if place != "notes":  # a folder without a study is nobody's results
            (tmp_path / place / "study.json").write_text(json.dumps({"name": study}))
    assert cli.main([str(tmp_path), "-o", str(tmp_path / "r.html")]) == 0
    assert ": 3 runs" in capsys.readouterr().out
    assert cli.main([str(tmp_path / "1Gbit"), "-o", str(tmp_path / "r.html")]) == 0
    assert ": 2 runs" in capsys.readouterr().out
