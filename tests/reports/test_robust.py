"""Folders that are empty, half written or damaged: a report of what is there, and a list of what is not."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.records import RUNS, load, write_rows
from reports import cli
from tests.support.synthetic import EVIL, SCHEDULES, write_run

KINDS = ("run.parquet", "events-r1-p0.parquet", "snapshots-r0.parquet", "heldout.parquet", "shares.parquet")


def _rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda file: pq.write_table(change(pq.read_table(file)), file)


def _cut(length: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(file.read_bytes()[: length(file.stat().st_size)])


def _as_text(table: pa.Table) -> pa.Table:
    """A number becomes words."""
    at = next(
        i for i, one in enumerate(table.schema) if pa.types.is_floating(one.type) or pa.types.is_integer(one.type)
    )
    return table.set_column(at, table.schema[at].name, pa.array(["many"] * len(table)))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "nothing in it": _cut(lambda size: 0),
    "its first four bytes": _cut(lambda size: 4),
    "its first half": _cut(lambda size: size // 2),
    "all but its last byte": _cut(lambda size: size - 1),
    "text": lambda file: file.write_text("run,seconds\na,1\n"),
    "bytes at random": lambda file: file.write_bytes(random.Random(7).randbytes(5000)),
    "a column less": _rewritten(lambda table: table.drop_columns([table.column_names[1]])),
    "words for numbers": _rewritten(_as_text),
}


@pytest.fixture(scope="module")
def six_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for schedule in (SCHEDULES[0], SCHEDULES[3]):
        for seed in range(3):
            write_run(folder, schedule, "mpi", seed, steps=5, snapshots=6)
    (folder / "study.json").write_text('{"name": "synthetic"}')
    return folder


@pytest.fixture
def folder(six_runs: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(six_runs, tmp_path / "results"))


@pytest.fixture
def report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command: exit code, page ("" if there is none), what it said on stderr."""

    def run(*folders: Path) -> tuple[int, str, str]:
        page = tmp_path / "report.html"
        code = cli.main([*map(str, folders), "-o", str(page)])
        return code, page.read_text(encoding="utf-8") if page.is_file() else "", capsys.readouterr().err

    return run


Report = Callable[..., tuple[int, str, str]]


def problems(page: str) -> str:
    """The page's list of what it could not use."""
    return unescape(page[page.index('id="problems"') :].split("</ul>")[0])


RARER = ("its first four bytes", "all but its last byte", "bytes at random", "words for numbers")


@pytest.mark.thorough
@pytest.mark.parametrize("damage", [pytest.param(d, marks=[pytest.mark.slow] * (d in RARER)) for d in DAMAGES])
def test_each_damaged_file_is_named_and_the_rest_is_reported(damage: str, folder: Path, report: Report) -> None:
    runs = sorted((folder / "runs").iterdir())
    for run, kind in zip(runs, KINDS, strict=False):
        DAMAGES[damage](run / kind)
    code, page, error = report(folder)
    assert (code, error) == (0, "")
    listed = problems(page)
    for run, kind in zip(runs, KINDS, strict=False):
        assert f"{run.name}/{kind}" in listed
    assert runs[-1].name not in listed and runs[-1].name in page
    assert f"{len(runs) - 1} runs" in page


@pytest.mark.thorough
def test_files_that_are_gone_do_not_stop_the_report(folder: Path, report: Report) -> None:
    runs = dict(zip(KINDS, sorted((folder / "runs").iterdir()), strict=False))
    for kind, run in runs.items():
        (run / kind).unlink()
    code, page, _ = report(folder)
    assert code == 0
    for kind in ("run.parquet", "events-r1-p0.parquet", "heldout.parquet"):  # a run need not have the others
        assert runs[kind].name in problems(page)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_do_not_stop_the_report(seed: int, folder: Path, report: Report) -> None:
    chance = random.Random(seed)
    for run, kind in zip(sorted((folder / "runs").iterdir()), KINDS, strict=False):
        content = bytearray((run / kind).read_bytes())
        for _ in range(3):
            content[chance.randrange(4, len(content) - 8)] ^= 1 << chance.randrange(8)
        (run / kind).write_bytes(content)
    assert report(folder)[0] == 0


@pytest.mark.thorough
def test_runs_that_were_killed_are_listed(folder: Path, report: Report) -> None:
    first, second, third, *_ = sorted((folder / "runs").iterdir())
    (first / "run.parquet").unlink()
    for file in second.iterdir():
        file.unlink()
    (third / "run.parquet").rename(third / ".run.parquet.1234.tmp")
    code, page, _ = report(folder)
    assert code == 0
    for run in (first, second, third):
        assert f"{run.name}: not finished" in problems(page)


@pytest.mark.thorough
def test_what_is_not_ours_is_left_alone(folder: Path, report: Report) -> None:
    runs = folder / "runs"
    (runs / "notes.txt").write_text("mine")
    (runs / ".DS_Store").write_bytes(b"\0\1")
    (runs / "link").symlink_to(runs)
    (sorted(runs.iterdir())[-1] / "mine.parquet").write_text("mine")
    odd = runs / "odd"
    (odd / "run.parquet").mkdir(parents=True)
    code, page, _ = report(folder)
    assert code == 0
    assert "notes.txt" in problems(page) and "odd" in problems(page)
    assert (runs / "notes.txt").read_text() == "mine"


@pytest.mark.thorough
def test_studies_that_are_gone_torn_or_strange(tmp_path: Path, report: Report) -> None:
    contents = [None, b"", b'{"name": "synth', b"\xff\xfe{", b"[1, 2]", b"null", b'"x"', b'{"name": 3, "seeds": {}}']
    folders = []
    for seed, content in enumerate(contents):
        folders.append(tmp_path / f"given{seed}")
        write_run(folders[-1], SCHEDULES[3], "mpi", seed, steps=5, snapshots=6)
        if content is not None:
            (folders[-1] / "study.json").write_bytes(content)
    code, page, _ = report(*folders)
    assert code == 0 and f"{len(contents)} runs" in page
    for folder, torn in zip(folders, [True] * 4 + [False] * 4, strict=True):
        assert (f"{folder}/study.json" in problems(page)) == torn


@pytest.mark.thorough
def test_settings_that_are_no_settings_are_shown_as_they_are(tmp_path: Path, report: Report) -> None:
    names = ("settings", "workload_settings", "workload_facts", "network", "provenance")
    values = ("{torn", "", "null", "[]", "3", '"x"', '{"a": {"b": [1, null, {}]}}')
    for seed, value in enumerate(values):
        run_id = write_run(tmp_path / "odd", SCHEDULES[3], "simulated", seed, steps=5, snapshots=6)
        file = tmp_path / "odd" / "runs" / run_id / "run.parquet"
        write_rows(RUNS, [{**pq.read_table(file).to_pylist()[0], **dict.fromkeys(names, value)}], file)
    code, page, _ = report(tmp_path / "odd")
    assert code == 0 and "{torn" in page


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "runs").mkdir(), "no finished run"),
        (lambda folder: (folder / "runs" / "killed").mkdir(parents=True), "no finished run"),
        (lambda folder: (folder / "study.json").write_text('{"name": "begun"}'), "no finished run"),
    ],
    ids=["empty", "killed", "not begun"],
)
def test_without_a_finished_run_there_is_a_page_that_says_so(
    make: Callable[[Path], object], said: str, tmp_path: Path, report: Report
) -> None:
    (tmp_path / "given").mkdir()
    make(tmp_path / "given")
    code, page, error = report(tmp_path / "given")
    assert code == 0 and "<main>" in page
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_what_is_no_results_folder_is_refused(make: Callable[[Path], object], tmp_path: Path, report: Report) -> None:
    make(tmp_path / "given")
    code, page, error = report(tmp_path / "given")
    assert code == 2 and page == ""
    assert error.count("\n") == 1 and "Traceback" not in error


# -- text from outside -------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, those inside figures apart, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.drawn: set[str] = set()
        self.text = ""
        self._figure = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._figure |= tag == "svg"
        if self._figure:
            self.drawn.add(tag)
            assert not any(name.startswith("on") for name, _ in attrs)
        else:
            self.found.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_endtag(self, tag: str) -> None:
        self._figure &= tag != "svg"

    def handle_data(self, data: str) -> None:
        self.text += data


def _append(folder: Path, text: str) -> None:
    """Every text of every table ends so, but for those whose values the program looks at, and JSON."""
    looked_at = {"run_id", "status", "transport", "kind", "device", "gradients"}
    for file in sorted(folder.glob("runs/*/*.parquet")):
        table = pq.read_table(file)
        for at, one in enumerate(table.schema):
            values = table.column(at).to_pylist()
            plain = all(isinstance(value, str) and not value.startswith(("{", "[")) for value in values)
            if plain and values and one.name not in looked_at:
                table = table.set_column(at, one, pa.array([value + text for value in values], one.type))
        pq.write_table(table, file)


@pytest.mark.thorough
def test_text_from_outside_makes_no_element_and_no_attribute(tmp_path: Path, report: Report) -> None:
    evil = f'{EVIL}</script></style><img src=x onerror=alert(1)>" onmouseover="alert(1)" \' x=\'{{{{ 7 * 7 }}}} $x^2$'
    pages = []
    for name, text in (("tame", "t" * len(evil)), ("evil", evil)):
        folder = tmp_path / name / "given"
        for seed, schedule in enumerate(SCHEDULES):
            write_run(folder, schedule, "mpi", seed, steps=5, snapshots=6)
            write_run(
                folder, schedule, "simulated", seed, steps=5, snapshots=6, status="failed", text="equal bytes: NO"
            )
        _append(folder, text)
        (folder / "study.json").write_text(json.dumps({text: text, "name": text}))
        code, page, _ = report(folder)
        assert code == 0
        pages.append(Elements(page))
    tame, wild = pages
    assert sorted(wild.found) == sorted(tame.found)
    assert wild.drawn <= tame.drawn
    for part in ("ad-psgd", "digits-mlp", "synthetic", "equal bytes: NO"):
        assert f"{part}{evil}" in wild.text


@pytest.mark.thorough
def test_a_folder_with_html_in_its_name_is_text(tmp_path: Path, report: Report) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)> & 'co'"
    write_run(folder, SCHEDULES[0], "mpi", 0, steps=5)
    (folder / "runs" / "<b>killed").mkdir()
    code, page, _ = report(folder)
    assert code == 0
    assert not {tag for tag, _ in Elements(page).found} & {"img", "b"}
    assert "<b>killed: not finished" in problems(page)


# -- the same bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_two_processes_write_the_same_bytes(six_runs: Path, tmp_path: Path) -> None:
    """Page and tables, whatever the order of sets, the time zone and the day."""
    started = []
    for seed, zone in (("1", "Asia/Tokyo"), ("2", "America/New_York")):
        (tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "reports.cli", str(six_runs), "-o", str(tmp_path / seed / "report.html")]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    written = []
    for there in (tmp_path / "1", tmp_path / "2"):
        files = sorted(path for path in there.rglob("*") if path.is_file())
        written.append({path.relative_to(there).as_posix(): path.read_bytes() for path in files})
    assert len(written[0]) > 3
    assert written[0].keys() == written[1].keys()
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []


@pytest.mark.thorough
def test_the_folder_of_the_results_is_not_written_to(folder: Path, report: Report) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert report(folder)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert len(load(folder).runs) == 6
