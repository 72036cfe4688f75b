"""A paper's claims and every pair of algorithms: their tables, and how the page shows them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.claim_table import CLAIMS, FILE, VERDICTS, counts, read, write
from analysis.claims import findings
from analysis.summary import per_run, summarise
from analysis.timing import time_split
from bench.records import load
from reports.build import build
from reports.cli import main as report
from reports.environment import environment
from reports.found import found_in
from reports.language import language
from reports.sections import claims as claims_section
from reports.sections import findings as findings_section
from reports.sections.base import Material, Setting
from reports.style import looks
from tests.support.synthetic import SCHEDULES, write_results

LABELS = (*(schedule.label for schedule in SCHEDULES), "easgd-wild", "ad-psgd-broken")
EVIL = "<script>alert('x')</script> & <b>bold</b>"


def claim(claim_id: str, verdict: str = "reproduced", **values: Any) -> dict[str, Any]:
    row = dict(
        claim_id=claim_id, paper="Doe et al., On Things, 2017", statement=f"statement of {claim_id}", kind="number",
        expected="2 x", tolerance="10 %", measured=2.0625, low=1.9, high=2.2, unit="x", found="", n=5, verdict=verdict,
        rule="the interval holds the paper's number", command="paceline reproduce things --quick", rows=[],
    )  # fmt: skip
    return row | values


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = write_results(tmp_path_factory.mktemp("results") / "demo", steps=5)
    results = load(folder)
    table = per_run(results)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    split = time_split(results.events, results.runs).merge(table[["run_id", "label"]], on="run_id")
    setting = Setting("s1", "synthetic", "digits-mlp", 4, "digits-mlp, 4 workers")
    return Material(results, table, summarise(table), split, look_of, (), environment(look_of), setting)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [claim("A1", rows=["r1", "r2"]), claim("A2", "not shown", measured=math.nan, low=math.nan, high=math.nan)]
    write(tmp_path, rows)
    found = read(tmp_path)
    assert list(found.columns) == [column.name for column in CLAIMS.columns]
    for row, expected in zip(found.to_dict("records"), rows, strict=True):
        assert json.loads(row.pop("rows")) == expected.pop("rows")
        pd.testing.assert_series_equal(pd.Series(row), pd.Series(expected), check_dtype=False)
    assert read(tmp_path / "elsewhere").empty


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([claim("A1", "likely")], "claim A1: verdict must be one of reproduced, partly, not shown, contradicted"),
        ([claim("A1", kind="guess")], "claim A1: kind must be one of exact, number, shape: got 'guess'"),
        ([claim("A1"), claim("A1")], "claim A1 is there twice"),
        ([claim("A1", low=3.0)], "claim A1: low and high are no interval: 3, 2.2"),
        ([claim("A1", high=math.nan)], "claim A1: low and high are no interval"),
        ([claim("A1", rows="r1")], "claim A1: rows: must be a JSON list of run_ids: got 'r1'"),
        ([{**claim("A1"), "extra": 1}], "claim A1: missing or unknown columns: extra"),
        ([{k: v for k, v in claim("A1").items() if k != "rule"}], "claim A1: missing or unknown columns: rule"),
    ],
)
def test_what_no_claim_can_say_is_refused_and_not_written(
    rows: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        write(tmp_path, rows)
    assert "\n" not in str(refused.value) and list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_table_of_claims_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"PAR1 torn")
    with pytest.raises(ValueError, match="cannot be read as claims") as refused:
        read(tmp_path)
    assert "\n" not in str(refused.value)
    pd.DataFrame({"claim_id": ["A1"]}).to_parquet(tmp_path / FILE)
    with pytest.raises(ValueError, match="missing columns: command, expected"):
        read(tmp_path)


def test_counts_add_up(tmp_path: Path) -> None:
    verdicts = ["reproduced", "reproduced", "partly", "contradicted", "not shown"]
    write(tmp_path, [claim(f"A{i}", v, paper=f"paper {i % 2}") for i, v in enumerate(verdicts)])
    found = counts(read(tmp_path))
    assert found["claims"].tolist() == [3, 2] and int(found[list(VERDICTS)].to_numpy().sum()) == 5
    assert found["reproduced"].tolist() == [1, 1]


# -- on the page -------------------------------------------------------------------------------------------------------


def shown(material: Material, folder: Path, rows: list[dict[str, Any]]) -> Any:
    write(folder, rows)
    return claims_section.section(replace(material, sources=(str(folder),), setting=None))


def test_without_claims_there_is_no_section(material: Material, tmp_path: Path) -> None:
    assert claims_section.section(replace(material, sources=(str(tmp_path),))) is None


def test_a_claim_shows_the_papers_number_the_measured_one_the_verdict_and_its_runs(
    material: Material, tmp_path: Path
) -> None:
    known = str(material.results.runs["run_id"].iloc[0])
    rows = [
        claim(
            "A10", "not shown", kind="shape", expected="falls with n", measured=math.nan, low=math.nan, high=math.nan
        ),
        claim("A2", "contradicted", paper="Roe, Other Things, 2018"),
        claim("A2", rows=[known, "elsewhere"]),
    ]
    section = shown(material, tmp_path, rows)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", str(section.html))).replace("\u00a0", " ")
    assert "3 claims: 1 reproduced, 1 not shown here and 1 contradicted." in text
    assert [table.name for table in section.tables] == ["claims-1", "claims-2"]
    doe = section.tables[0].file
    assert doe["claim_id"].tolist() == ["A2", "A10"]  # by number
    assert doe["measured"].tolist()[0] == 2.0625 and doe["rule"].tolist() == [claim("A")["rule"]] * 2
    assert 'data-value="2.0625"' in section.html and "1.90 to 2.20" in text and "✓ reproduced" in text
    assert "2.062 x (1.900 to 2.200)" in text and "falls with n" in text and "✗ contradicted" in text
    assert f'href="#run-{known}"' in section.html and 'href="#run-elsewhere"' not in section.html
    assert "elsewhere" in text
    places = re.findall(r'href="#(claim-[\d-]+)"', str(section.html))
    assert len(places) == 3 and all(f'id="{place}"' in section.html for place in places)


def test_html_in_claims_comes_out_as_text(material: Material, tmp_path: Path) -> None:
    texts = ("claim_id", "paper", "statement", "expected", "tolerance", "unit", "found", "rule", "command")
    evil = claim("A1") | {name: f"{EVIL} {name}" for name in texts} | {"rows": [EVIL, *(f"r{i}" for i in range(20))]}
    section = shown(material, tmp_path, [evil])
    assert EVIL not in section.html and "<b>" not in section.html and "<script" not in section.html
    for name in texts:
        assert f"&lt;b&gt;bold&lt;/b&gt; {name}" in section.html, name
    assert "and 9 more" in section.html


def test_a_file_that_cannot_be_read_is_named(material: Material, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"torn")
    section = claims_section.section(replace(material, sources=(str(tmp_path),)))
    assert section is not None and "cannot be read as claims" in section.html and section.tables == ()


def test_claims_speak_japanese(material: Material, tmp_path: Path) -> None:
    with language("ja"):
        section = shown(material, tmp_path, [claim("A1"), claim("A2", "partly")])
    assert "主張 2 件: 1 再現、1 一部再現。" in section.html and "✓ 再現" in section.html


# -- every pair of algorithms ------------------------------------------------------------------------------------------


def test_every_pair_is_shown_with_its_numbers(material: Material) -> None:
    section = findings_section.section(material)
    expected = findings(material.summary)
    assert section is not None and section.anchor == "s1-findings"
    (table,) = section.tables
    assert table.name == "s1-pairs" and len(table.file) == len(expected) > 20
    for name in ("a", "b", "word", "n_a", "n_b", "value", "low", "high", "chance", "tuning_a", "tuning_b"):
        pd.testing.assert_series_equal(table.file[name], expected[name])
    html = str(section.html)
    for value in expected["value"].dropna():
        assert f'data-value="{value!r}"' in html
    assert html.count("<tr") == 1 + len(expected)
    assert f"A difference is shown in {int((expected['word'] != 'not shown').sum())} of {len(expected)} pairs" in html
    simulated = int((expected["transport"] == "simulated").sum())
    assert html.count('<tr class="simulated"') == simulated > 0
    assert re.search(r"▲ better", html) and "○ not shown" in html


@pytest.mark.parametrize(
    ("trials", "warning"),
    [
        ({}, "is not stated in the study, so a difference may be one of tuning"),
        ({"easgd": 5}, "Not stated for"),
        (dict.fromkeys(LABELS, 5), ""),
        (dict.fromkeys(LABELS, 5) | {"allreduce-sgd": 1}, "The algorithms were not tuned alike"),
    ],
)
def test_unequal_tuning_is_a_warning(trials: dict[str, int], warning: str, material: Material) -> None:
    summary = material.summary.assign(
        tuning_trials=[trials.get(label, -1) for label in material.summary["label"]], tuning_searched="lr in 0.1..1"
    )
    section = findings_section.section(replace(material, summary=summary))
    assert section is not None
    found = re.search(r'<p class="differs">(.*?)</p>', str(section.html))
    assert (warning in re.sub(r"<[^>]+>", "", found[1])) if warning else found is None
    if trials.get("easgd"):
        assert "5 trials: lr in 0.1..1" in section.html


def test_one_algorithm_alone_makes_no_pairs(material: Material) -> None:
    alone = material.summary[material.summary["label"] == "easgd"].drop_duplicates("transport").head(1)
    assert findings_section.section(replace(material, summary=alone)) is None


@pytest.mark.thorough
def test_the_report_of_a_whole_paper_begins_with_its_claims_and_leaves_figures_of_studies_to_their_own_reports(
    tmp_path: Path,
) -> None:
    for part in ("sweep", "minima"):
        write_results(tmp_path / "paper" / part, steps=3)
    write(tmp_path / "paper", [claim("A1")])
    pages = {}
    for name in ("paper", "paper/sweep"):
        assert report([str(tmp_path / name), "-o", str(tmp_path / "report.html"), "--no-tables"]) == 0
        pages[name] = (tmp_path / "report.html").read_text()
    whole, part = pages.values()
    assert "What holds here of what the papers say?" in whole
    assert whole.index('id="claims"') < whole.index('class="answers"') < whole.index('id="s1-compare"')
    assert "<figure" not in whole[whole.index('id="s1-compare"') : whole.index('id="provenance"')]
    assert "Which way of training in parallel was best?" in part
    assert part.index('class="answers"') < part.index('id="claims"')
    assert "<figure" in part[part.index('id="s1-compare"') : part.index('id="provenance"')]


@pytest.mark.thorough
def test_the_report_of_a_whole_paper_has_the_same_numbers_without_all_events_in_memory(tmp_path: Path) -> None:
    parts = {"minima": ("digits-mlp",), "sweep": ("mnist-mlp",)}
    folders = [str(write_results(tmp_path / "paper" / part, steps=3, workloads=on)) for part, on in parts.items()]
    torn = next(Path(folders[0]).glob("runs/*/events-r1-p*.parquet"))
    torn.write_bytes(torn.read_bytes()[:100])
    everything = load(*folders)
    assert found_in(folders, tmp_path).batches is None, "figures of studies need them"
    write(tmp_path / "paper", [claim("A1")])
    found = found_in(folders, tmp_path)
    assert found.results.events.empty and found.batches is not None
    lean, whole = (
        build(results, sources=folders, batches=batches)
        for results, batches in ((found.results, found.batches), (everything, None))
    )
    assert lean.html.replace(lean.summary["content_hash"], whole.summary["content_hash"]) == whole.html
    assert "staleness" in lean.html and lean.summary["problems"] == whole.summary["problems"]
    assert any(torn.name in line for line in lean.summary["problems"])
