"""The page: its numbers, what it must not show, and that it needs nothing but itself."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.summary import summary
from bench.records import Results, load
from reports import cli
from reports.build import build as page_of
from reports.definitions import DEFINITIONS
from reports.style import LOOKS, looks
from tests.support.page import Page
from tests.support.synthetic import EVIL, SCHEDULES, write_results, write_run


def build(results: Results, **given: Any) -> str:
    return page_of(results, **given).html


STEPS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results") / "demo", steps=STEPS)


def write_few(folder: Path, *seeds: int) -> Path:
    """All-reduce and gossip over MPI: as little as makes a comparison."""
    for schedule in (SCHEDULES[0], SCHEDULES[3]):
        for late, seed in enumerate(seeds):
            write_run(folder, schedule, "mpi", seed, steps=STEPS, late=late)
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_few(tmp_path_factory.mktemp("few"), 0, 1))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load(folder)


@pytest.fixture(scope="module")
def html(results: Results) -> str:
    return build(results, sources=["demo"], studies={"demo": {"name": "synthetic"}})


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.mark.parametrize("module", ["words", "style", "drawing"])
def test_doctests(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"reports.{module}")).failed == 0


# -- the page needs nothing but itself -------------------------------------------------------------------------------


def test_nothing_is_fetched(html: str, page: Page) -> None:
    links = page.values("src") + page.values("href") + page.values("xlink:href") + page.values("action")
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert "default-src 'none'" in html  # and the browser is told so


def test_ids_are_unique_and_every_reference_leads_somewhere(html: str, page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    referred = {link[1:] for link in page.values("href") if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", html)
    )
    referred |= {one for value in page.values("aria-labelledby") for one in value.split()}
    assert referred <= set(ids)


def test_figures_are_text_that_scales_and_say_their_numbers(html: str) -> None:
    drawn = re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>', html, flags=re.S)
    assert len(drawn) >= 9 + 3 + 4
    for svg in drawn:
        assert "<text" in svg and "<image" not in svg
        assert not re.match(r"<svg[^>]* (width|height)=", svg)
        described = re.search(r"<desc[^>]*>(.*?)</desc>", svg)
        assert described and re.search(r"\d", described[1])
    assert len(html) < 3_000_000


@pytest.mark.thorough
def test_the_same_tables_give_the_same_bytes(html: str, folder: Path, tmp_path: Path) -> None:
    script = (
        "import json, pathlib, sys; from bench.records import load; from reports.build import build;"
        "html = build(load(sys.argv[1]), sources=['demo'], studies={'demo': {'name': 'synthetic'}}).html;"
        "pathlib.Path(sys.argv[2]).write_bytes(html.encode())"
    )
    again = tmp_path / "again.html"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, str(folder), str(again)], check=True, env=environment)
    assert again.read_bytes() == html.encode()


# -- its numbers -----------------------------------------------------------------------------------------------------


def test_every_cell_equals_the_summary(results: Results, page: Page) -> None:
    checked = 0
    for row in summary(results).to_dict("records"):
        cells = page.tables["s1-comparison"].row(label=row["label"], transport=row["transport"])
        assert cells["seeds"].text == str(row["seeds"])
        for definition in DEFINITIONS:
            shown = cells[definition.name].values["data-value"]
            if math.isnan(row[definition.name]):
                assert shown == ""
            else:
                assert float(shown) == row[definition.name]
                checked += 1
    assert checked > 100


def test_closed_forms_are_on_the_page(page: Page) -> None:
    table = page.tables["s1-comparison"]
    row = table.row(label="allreduce-sgd", transport="mpi")
    assert row["samples_per_s"].text == "3,048"  # 4 workers x 16 samples / 21 ms
    # (3 + 4) ms of 21 ms, 20 steps
    assert row["exposed_comm_s"].text.replace("\u00a0", " ") == "0.140 (33 %)"
    row = table.row(label="ad-psgd", transport="mpi")
    assert (row["staleness_mean"].text, row["staleness_p95"].text) == ("1.50", "3")
    assert row["exposed_comm_s"].values["title"] == "range of n=2"


def test_the_answer_comes_first_and_names_the_rule(html: str) -> None:
    text = re.sub(r"<[^>]+>", "", html[html.index("<main>") : html.index('id="s1"')]).replace("\u00a0", " ")
    assert "ad-psgd was first on average, after 0.099 s" in re.sub(r"0\.0990", "0.099", text)
    assert "easgd and d-psgd may be as fast" in text
    assert "Shown: ad-psgd is faster than local-sgd, allreduce-sgd and easgd-wild." in text
    assert "one run is no evidence" in text
    assert "by luck in one of 3 comparisons" in text
    assert "measured, MPI" in text


# -- runs that are no result -----------------------------------------------------------------------------------------


def test_a_row_without_a_result_shows_no_number(page: Page) -> None:
    cells = page.tables["s1-comparison"].row(label="ad-psgd-broken")
    assert cells.pop("checks").text == "no result: 2 crashed"
    texts = [cells.pop(name).text for name in ("label", "transport", "seeds", "tuning")]
    assert texts == ["ad-psgd-broken 2 crashed", "MPI", "0", "not stated"]
    assert {(cell.text, cell.small) for cell in cells.values()} == {("–", "")}


def test_checks_that_were_not_passed_are_counted_and_named(page: Page) -> None:
    table = page.tables["s1-comparison"]
    checks = {label: table.row(label=label, transport="mpi")["checks"].text for label in ("d-psgd", "easgd-wild")}
    assert checks["d-psgd"] == "✗ 1 of 2: 1 failed (bytes equal to the closed form: NO (counted 123, expected 124))"
    assert checks["easgd-wild"] == "✗ 1 of 2: 1 diverged"
    assert table.row(label="easgd", transport="mpi")["checks"].text == "✓ 2 of 2"


def test_a_name_leads_to_its_runs_and_they_to_theirs(page: Page, html: str, results: Results) -> None:
    ids = set(page.values("id"))
    for row in page.tables["s1-comparison"].rows:
        label, place = row.cells[0].values["data-value"], row.cells[0].values["name-href"]
        assert place[1:] in ids
        group = html[html.index(f'id="{place[1:]}"') :].split('<details class="group"')[0]
        for run_id in results.runs.loc[results.runs["label"] == label, "run_id"]:
            assert f'id="run-{run_id}"' in group
    assert len(page.tables["s1-runs"].rows) == len(results.runs)
    assert {row.cells[0].values["name-href"][1:] for row in page.tables["s1-runs"].rows} <= ids


def test_runs_without_a_result_have_no_number_in_the_table_of_runs(page: Page) -> None:
    table = page.tables["s1-runs"]
    numbers = table.columns[table.columns.index("status") + 1 :]
    for row in table.rows:
        cells = dict(zip(table.columns, row.cells, strict=True))
        has = {cells[name].values["data-value"] != "" for name in numbers}
        assert has == ({True} if cells["status"].values["data-value"] == "completed" else {False})


def test_bad_runs_are_shown_with_their_reason(html: str) -> None:
    text = re.sub(r"<[^>]+>", "", html)
    assert "d-psgd, MPI, seed 1: bytes equal to the closed form: NO (counted 123, expected 124)" in text
    assert re.search(r"easgd-wild, MPI, seed 0: a loss was not finite at", text)
    assert "1 diverged" in text and "reached in 1 of 2" in text
    for block in re.findall(r'<details class="run".*?</details>', html, flags=re.S):
        if "badge completed" not in block:
            assert "of all workers" not in block and ", all ranks" not in block  # samples, steps, bytes


def test_simulated_rows_are_marked(page: Page) -> None:
    for name, column in (("s1-comparison", "transport"), ("s1-runs", "transport")):
        table = page.tables[name]
        at = table.columns.index(column)
        for row in table.rows:
            simulated = row.cells[at].values["data-value"] == "simulated"
            assert ("simulated" in row.values.get("class", "")) == simulated  # its stripes
            assert row.cells[0].text.endswith("simulated") == simulated
            assert row.values["data-on"] == row.cells[at].values["data-value"]
    assert len([s for s in SCHEDULES if "simulated" in s.reaches]) == sum(
        row.values["data-on"] == "simulated" for row in page.tables["s1-comparison"].rows
    )


def test_no_nan_is_printed(page: Page) -> None:
    assert not re.search(r"\b(nan|None|inf)\b", " ".join(page.texts))


# -- text from outside stays text ------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_html_in_names_settings_and_errors_comes_out_as_text(html: str, tmp_path: Path) -> None:
    assert EVIL not in html and "&lt;script&gt;alert" in html
    evil = "<img src=x onerror=alert(1)> $x^2$ & 'q'"
    for seed in (0, 1):
        write_run(tmp_path, SCHEDULES[0], "mpi", seed, label=evil, study="<b>bold", workload="<i>w", steps=5)
    page = build(load(tmp_path), problems=["<u>torn</u>"])
    found = {tag for tag, _ in Page(page).elements}
    assert not found & {"img", "i", "u", "b"}
    assert "$x^2$" in page


# -- other shapes of results -----------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_one_run_alone_makes_a_report(tmp_path: Path) -> None:
    write_run(tmp_path, SCHEDULES[0], "simulated", 0, steps=5)
    html = build(load(tmp_path))
    assert "simulated, not measured" in html
    assert "it is the only algorithm with a result here" in html


def test_only_crashed_runs_make_a_report_without_an_answer(tmp_path: Path) -> None:
    write_run(tmp_path, SCHEDULES[0], "mpi", 0, status="crashed", text="RuntimeError: boom")
    html = build(load(tmp_path))
    assert "No run completed, so there is no answer." in html
    assert "RuntimeError: boom" in html and "no result: 1 crashed" in html


@pytest.mark.thorough
def test_coarse_snapshots_are_owned_up_to(tmp_path: Path) -> None:
    for schedule in SCHEDULES[:2]:
        for seed in (0, 1):
            write_run(tmp_path, replace(schedule, reaches={"mpi": 2}), "mpi", seed, steps=5)
    assert "more snapshots, or a harder target, would tell more" in build(load(tmp_path))


@pytest.mark.thorough
def test_a_baseline_that_never_arrives_bounds_the_saving(few: Results) -> None:
    heldout = few.heldout.copy()
    slow = heldout["run_id"].str.contains("allreduce-sgd")
    heldout.loc[slow, "heldout_loss"] = heldout.loc[slow, "heldout_loss"] + 1
    html = build(Results(few.runs, few.events, few.snapshots, heldout, few.shares))
    assert "allreduce-sgd did not get there" in re.sub(r"<[^>]+>", "", html)
    assert re.search(r"over \d+\u00a0% less", html)


@pytest.mark.thorough
def test_missing_events_and_provenance_do_not_stop_the_report(few: Results) -> None:
    runs = few.runs.assign(provenance="not json", settings="")
    html = build(Results(runs, few.events.iloc[:0], few.snapshots.iloc[:0], few.heldout, few.shares))
    assert "not json" in html
    assert "no events of ranks 0, 1, 2, 3" in html


# -- looks -----------------------------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_are_readable_as_text_on_both_backgrounds() -> None:
    for look in LOOKS:
        assert _contrast(look.light, "#ffffff") >= 4.5
        assert _contrast(look.dark, "#1b1e24") >= 4.5


def test_an_algorithm_looks_the_same_in_every_report() -> None:
    names = [("easgd", "easgd"), ("ad-psgd", "ad-psgd")]
    more = [*names, ("allreduce-sgd", "allreduce-sgd"), ("my own", "my-own"), ("easgd tau=1", "easgd")]
    assert all(looks(names)[label] == looks(more)[label] for label, _ in names)
    assert len({look.number for look in looks(more).values()}) == len(more)


# -- the command -----------------------------------------------------------------------------------------------------


def test_command_writes_the_file_and_names_what_it_could_not_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    write_few(copy, 7)
    whole, torn = sorted((copy / "runs").iterdir())
    (torn / "run.parquet").write_bytes(b"PAR1")
    (copy / "runs" / "unfinished").mkdir()
    (whole / "events-r1-p0.parquet").unlink()
    output = tmp_path / "report.html"
    assert cli.main([str(copy), str(write_few(tmp_path / "more", 0)), "-o", str(output)]) == 0
    html = output.read_text(encoding="utf-8")
    text = html[html.index('id="problems"') :]
    assert "unfinished: not finished (no run.parquet)" in text
    assert f"{torn.name}/run.parquet" in text
    assert f"{whole.name}: no events of rank 1" in text
    assert "study.json: FileNotFoundError" in text
    assert str(output) in capsys.readouterr().out


@pytest.mark.thorough
def test_a_run_found_twice_counts_once(tmp_path: Path) -> None:
    folder, copy = write_few(tmp_path / "it", 0, 1), tmp_path / "copy"
    write_run(copy, SCHEDULES[0], "mpi", 0, steps=STEPS)
    output = tmp_path / "report.html"
    assert cli.main([str(folder), str(copy), "-o", str(output)]) == 0
    html = output.read_text(encoding="utf-8")
    assert "is left out" in html
    assert Page(html).tables["s1-comparison"].row(label="allreduce-sgd", transport="mpi")["seeds"].text == "2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: [str(d / "nowhere")], "not a results folder"),
        (lambda d: [str(d)], "not a results folder"),
        (lambda d: [str(_empty(d)), "-o", str(d / "no" / "report.html")], "there is no folder"),
        (lambda d: [str(_empty(d)), "-o", str(d)], "is a folder"),
        (lambda d: [str(_empty(d)), str(d / "empty")], "given twice"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    make: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(make(tmp_path)) == 2  # type: ignore[operator]
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def _empty(folder: Path) -> Path:
    (folder / "empty" / "runs").mkdir(parents=True)
    return folder / "empty"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from reports.cli import parser; parser().format_help();"
        "heavy = ('pandas', 'numpy', 'matplotlib', 'seaborn', 'jinja2', 'scipy', 'torch');"
        "print([m for m in heavy if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], check=True, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_study_and_provenance_are_shown_whole(html: str, results: Results) -> None:
    text = re.sub(r"<[^>]+>", "", html)
    for value in json.loads(results.runs["provenance"].iloc[0])["versions"].values():
        assert value in text
    assert "paceline run synthetic.toml -n 4 --out results" in text
    assert "paceline report demo -o report.html" in text
    assert "Not the same in all runs, so given with each run: pids." in text


# -- what was trained on, and how the bytes went -----------------------------------------------------------------------


def test_each_path_shows_the_bytes_that_it_carried(results: Results, html: str) -> None:
    done = results.runs[results.runs["status"] == "completed"]
    events = results.events[results.events["run_id"].isin(done["run_id"])].merge(done[["run_id", "transport"]])
    by_nccl = events[(events["kind"] == "allreduce") & (events["transport"] == "horovod")]
    row = re.search(r"<th scope=\"row\">Horovod</th><td>collectives</td><td>NCCL</td>(.*?)</tr>", html)
    assert row is not None
    cells = re.findall(r">([^<]+)</td>", row[1])
    assert cells[0] == str(by_nccl["run_id"].nunique())
    shown = float(cells[1].replace("\u202f", "").replace(",", ""))
    assert shown == pytest.approx(by_nccl["nbytes"].sum() / 1e6, rel=0.01)


def test_facts_and_shares_of_the_training_set_are_shown(html: str) -> None:
    text = re.sub(r"<[^>]+>", " ", html)
    assert re.search(r"data\s+made up", text) and re.search(r"partition\s+label, classes=3", text)
    assert re.search(r"3\s+103\s+label 3: 103", text)  # worker 3 has 103 samples, all of label 3


@pytest.mark.thorough
def test_a_whole_training_set_needs_no_table_of_shares(few: Results) -> None:
    runs = few.runs.assign(workload_settings='{"partition": {"by": "whole"}}')
    html = build(Results(runs, few.events, few.snapshots, few.heldout, few.shares))
    assert "Each worker.s share" not in html.replace("&#39;", ".") and "Shares of the training set" not in html
