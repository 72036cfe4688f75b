"""The files beside the page, and folders that hold little: what is there, and a list of what is not."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.comparison import saving
from analysis.summary import summary
from bench.records import STATUSES, Results, load
from reports import cli, export
from reports.digest import digest
from reports.found import found_in
from reports.shown import Shown, ShownTable
from tests.support.page import Page, text_of
from tests.support.synthetic import SCHEDULES, write_run

NUMBERS = [0.1 + 0.2, math.pi * 1e-300, 1e22, -0.0, math.nan, math.inf, 5e-324]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "demo"
    for seed in (0, 1):
        for schedule in (SCHEDULES[0], *SCHEDULES[3:]):  # all-reduce, gossip, and one with a server
            write_run(folder, schedule, "mpi", seed, steps=5, late=seed)
    write_run(folder, SCHEDULES[0], "simulated", 0, steps=5)
    write_run(folder, SCHEDULES[0], "horovod", 0, steps=5, status="crashed", text="RuntimeError: boom")
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load(folder)


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "report.html"
    assert cli.main([str(folder), "-o", str(page)]) == 0
    return page


def table(name: str = "one", **columns: Any) -> ShownTable:
    frame = pd.DataFrame({"name": list("abcdefg"), "v": NUMBERS, **columns})
    return ShownTable(name, "numbers", [Shown("name", "Name"), Shown("v", "V", "s", "a time")], frame)


# -- files -----------------------------------------------------------------------------------------------------------


def test_numbers_come_back_as_they_were() -> None:
    for frame in (
        pd.read_csv(io.BytesIO(export.csv(table()))),
        pq.read_table(io.BytesIO(export.parquet(table()))).to_pandas(),
    ):
        assert list(map(repr, frame["v"])) == list(map(repr, NUMBERS))


def test_units_and_meanings_are_in_the_files(report: Path) -> None:
    tables = export.folder_of(report)
    said = json.loads((tables / "summary.json").read_text(encoding="utf-8"))["tables"]["s1-comparison"]
    schema = pq.read_schema(tables / said["parquet"])
    for field in schema:
        assert field.metadata[b"unit"].decode() == said["columns"][field.name]["unit"]
        assert field.metadata[b"meaning"].decode() == said["columns"][field.name]["meaning"]
    units = {name: column["unit"] for name, column in said["columns"].items()}
    assert units["time_to_target_s"] == units["time_to_target_s_low"] == units["exposed_comm_s"] == "s"
    assert (units["samples_per_s"], units["overlap_fraction"], units["label"]) == ("samples/s", "", "")
    assert said["rows"] == len(pd.read_csv(tables / said["csv"]))


def test_summary_says_the_answer_in_numbers(report: Path, results: Results) -> None:
    said = json.loads((export.folder_of(report) / "summary.json").read_text(encoding="utf-8"))
    assert said["schema"] == export.SCHEMA and said["content_hash"] == digest(results)
    status = results.runs["status"].value_counts().reindex(STATUSES, fill_value=0)
    assert said["runs"] == {"total": len(results.runs), **{k: int(v) for k, v in status.items()}}
    (answer,) = said["answers"]
    assert (answer["study"], answer["workload"], answer["workers"]) == ("synthetic", "digits-mlp", 4)
    found = answer["by_transport"][answer["transport"]]
    assert (answer["transport"], found["winner"], found["baseline"]) == ("mpi", "ad-psgd", "allreduce-sgd")
    assert not found["clear"] and found["ties"] == ["easgd"]
    rows = summary(results)
    mpi = {row["label"]: row for row in rows[rows["transport"] == "mpi"].to_dict("records")}
    time = found["figures"]["time_saved"]
    assert (time["value"], time["low"], time["high"]) == saving(
        mpi["ad-psgd"], mpi["allreduce-sgd"], "time_to_target_s"
    )
    assert time["shown"] and time["value"] > 0
    loss = found["figures"]["heldout_loss_difference"]
    assert loss["value"] == mpi["ad-psgd"]["final_heldout_loss"] - mpi["allreduce-sgd"]["final_heldout_loss"]
    assert "simulated" in answer["by_transport"]


def test_summary_has_no_nan(results: Results) -> None:
    made = export.files([], {"a": [math.nan, {"b": math.inf}], "c": results.runs["seed"].iloc[0], "d": pd.NA})
    assert json.loads(made["summary.json"], parse_constant=lambda name: pytest.fail(name)) == {
        "schema": export.SCHEMA, "a": [None, {"b": None}], "c": 0, "d": None, "tables": {}, "files": ["summary.json"],
    }  # fmt: skip


def test_page_links_to_every_file_and_to_the_raw_rows(report: Path) -> None:
    links = {
        link for link in Page(report.read_text(encoding="utf-8")).values("href") if not link.startswith(("#", "data"))
    }
    for link in links:
        assert (report.parent / link).exists(), link
    beside = {f"report-tables/{path.name}" for path in export.folder_of(report).iterdir()}
    assert beside <= links
    assert any(link.endswith("/events-r0-p0.parquet") for link in links)


@pytest.mark.thorough
def test_rebuilding_gives_the_same_bytes(report: Path, folder: Path) -> None:
    files = [report, *export.folder_of(report).iterdir()]
    before = {path: path.read_bytes() for path in files}
    assert cli.main([str(folder), "-o", str(report)]) == 0
    assert {path: path.read_bytes() for path in [report, *export.folder_of(report).iterdir()]} == before


def test_only_files_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    page, outside = tmp_path / "r.html", tmp_path / "outside.csv"
    export.write(page, [table("one"), table("two")], {})
    folder = export.folder_of(page)
    (folder / "mine.csv").write_text("mine")
    outside.write_text("theirs")
    listed = json.loads((folder / "summary.json").read_text())
    listed["files"] += ["../outside.csv", str(outside), 7, "mine.txt"]
    (folder / "summary.json").write_text(json.dumps(listed))
    export.write(page, [table("two")], {})
    assert {path.name for path in folder.iterdir()} == {"two.csv", "two.parquet", "summary.json", "mine.csv"}
    assert outside.exists()
    export.remove(page)
    assert [path.name for path in folder.iterdir()] == ["mine.csv"]


@pytest.mark.parametrize("content", ["", "[]", '{"files": null}', '{"files": 3}', '{"files": {"a.csv": 1}}', "null"])
def test_a_foreign_summary_removes_nothing(content: str, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    folder = export.folder_of(page)
    folder.mkdir()
    (folder / "b.csv").write_text("theirs")
    (folder / "summary.json").write_text(content)
    export.write(page, [table("one")], {})
    assert {path.name for path in folder.iterdir()} == {"one.csv", "one.parquet", "summary.json", "b.csv"}


@pytest.mark.thorough
def test_no_tables_writes_the_page_alone_and_links_to_none(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    for extra, there in ((["--lang", "ja"], True), (["--no-tables"], False)):
        assert cli.main([str(folder), "-o", str(page), *extra]) == 0
        html = page.read_text(encoding="utf-8")
        assert export.folder_of(page).exists() == there
        assert ("r-tables/" in html) == there
        assert ('<html lang="ja">' in html) == there
    assert {path.name for path in tmp_path.iterdir()} == {"r.html"}


# -- the fingerprint ---------------------------------------------------------------------------------------------------


def test_fingerprint_knows_the_tables_not_their_order(folder: Path, results: Results, tmp_path: Path) -> None:
    halves = [tmp_path / "a", tmp_path / "b"]
    for i, run in enumerate(sorted((folder / "runs").iterdir())):
        shutil.copytree(run, halves[i % 2] / "runs" / run.name)
    assert digest(load(*halves)) == digest(load(*halves[::-1])) == digest(results)
    assert len(digest(results)) == 64


@pytest.mark.parametrize("name", ["runs", "events", "snapshots", "heldout", "shares"])
def test_fingerprint_sees_every_change(name: str, results: Results) -> None:
    frame: pd.DataFrame = getattr(results, name)
    seen = {digest(results)}
    for column in frame.columns:
        changed = frame.copy()
        old = changed[column].iloc[-1]
        if isinstance(changed[column].dtype, pd.CategoricalDtype):
            changed[column] = changed[column].astype(object)
        changed.loc[changed.index[-1], column] = (
            f"{old}!" if isinstance(old, str) else not old if changed[column].dtype == bool else 77
        )
        seen.add(digest(replace(results, **{name: changed})))
    seen.add(digest(replace(results, **{name: frame.iloc[:-1]})))
    assert len(seen) == 2 + len(frame.columns)


# -- folders that hold little ------------------------------------------------------------------------------------------


def _empty(folder: Path) -> None:
    (folder / "runs").mkdir(parents=True)


def _never_begun(folder: Path) -> None:
    folder.mkdir()
    (folder / "study.json").write_text('{"name": "planned"}')


def _torn(folder: Path) -> None:
    write_run(folder, SCHEDULES[0], "mpi", 0, steps=5)
    (run,) = (folder / "runs").iterdir()
    whole = (run / "run.parquet").read_bytes()
    (run / "run.parquet").write_bytes(whole[: len(whole) // 2])


def _killed(folder: Path) -> None:
    write_run(folder, SCHEDULES[0], "mpi", 0, steps=5)
    (run,) = (folder / "runs").iterdir()
    (run / "run.parquet").rename(run / ".run.parquet.77.tmp")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "listed"),
    [
        (_empty, ["study.json: FileNotFoundError"]),
        (_never_begun, []),
        (_torn, ["run.parquet: Arrow", "study.json"]),
        (_killed, ["not finished (no run.parquet)", ".run.parquet.77.tmp: half written"]),
    ],
)
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_folder_without_a_finished_run_has_a_page(
    make: Any, listed: list[str], lang: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "it")
    page = tmp_path / "report.html"
    assert cli.main([str(tmp_path / "it"), "-o", str(page), "--lang", lang]) == 0
    said = capsys.readouterr()
    assert "no finished run in" in said.err and said.err.count("\n") == 1
    html = page.read_text(encoding="utf-8")
    text = text_of(html[html.index('id="problems"') :])
    for problem in listed:
        assert problem in text
    assert "planned" in html or make is not _never_begun
    assert json.loads((export.folder_of(page) / "summary.json").read_text(encoding="utf-8"))["answers"] == []


@pytest.mark.thorough
def test_what_is_not_ours_among_the_runs_is_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    run = sorted((copy / "runs").iterdir())[0]
    (copy / "runs" / "notes.txt").write_text("")
    (run / "mine.parquet").write_bytes(b"")
    (run / "notes.txt").write_text("")  # no table: nothing that a reader could miss
    page = tmp_path / "report.html"
    assert cli.main([str(copy), "-o", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    problems = text_of(html[html.index('id="problems"') :])
    assert "runs/notes.txt: not a folder of a run" in problems
    assert f"{run.name}/mine.parquet: not a file of a run" in problems
    assert f"{run.name}/notes.txt" not in problems


def test_a_run_that_was_copied_beside_itself_is_left_out(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    run = sorted((copy / "runs").iterdir())[0]
    shutil.copytree(run, run.with_name("copied"))
    found = found_in([str(copy)], tmp_path)
    assert found.problems[0] == f"{run.name}: is in several folders below {copy}/runs, so it is left out"
    assert sorted([run.name, *found.results.runs["run_id"]]) == sorted(load(folder).runs["run_id"])
    assert run.name not in set(found.results.events["run_id"])


def test_several_folders_are_one_report(folder: Path, results: Results, tmp_path: Path) -> None:
    halves = [tmp_path / "a", tmp_path / "b"]
    for i, run in enumerate(sorted((folder / "runs").iterdir())):
        shutil.copytree(run, halves[i % 2] / "runs" / run.name)
    found = found_in([str(half) for half in halves], tmp_path)
    assert digest(found.results) == digest(results)
    assert set(found.files) == set(results.runs["run_id"])
    for links in found.files.values():
        assert all((tmp_path / link).exists() for link, _ in links)
    again = found_in([str(half) for half in (*halves, folder)], tmp_path)
    assert digest(again.results) == digest(results)
    assert sum("is left out" in problem for problem in again.problems) == len(results.runs)
