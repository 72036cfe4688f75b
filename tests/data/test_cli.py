"""`paceline data`: what it says of a folder, and its exit codes."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

import paceline
from bench.data.catalogue import SETS
from bench.data.dataset import DataSet, Download
from bench.workloads.registry import NAMES
from tests.data.samples import LABELS, PIXELS, data_file, idx_images, idx_labels
from tests.support.datasets import folder, needs_data

IMAGES, MARKS = idx_images(PIXELS), idx_labels(LABELS)
TOY = DataSet(
    name="toy", title="Toy", what="six images", licence="CC0", homepage="https://example.org/toy", folders=("toy",),
    files=(data_file("images", IMAGES), data_file("marks", MARKS)),
    downloads=(
        Download(urls=("http://127.0.0.1:9/images",), digest="", saved_as="images", gives=("images",)),
        Download(urls=("http://127.0.0.1:9/marks",), digest="", saved_as="marks", gives=("marks",)),
    ),
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose catalogue is the toy set alone."""
    for name in list(SETS):
        monkeypatch.delitem(SETS, name)
    monkeypatch.setitem(SETS, "toy", TOY)
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "toy").mkdir()
    return tmp_path


def test_the_list_says_what_is_there_and_what_is_not(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "toy" / "images.gz").write_bytes(gzip.compress(IMAGES))
    assert paceline.main(["data"]) == 0
    said = capsys.readouterr().out
    assert f"data folder: {root}" in said and "toy: Toy, six images" in said and "CC0" in said
    assert "present   toy/images.gz: 136 bytes" in said
    assert f"missing   marks: expected {TOY.files[1].expected}" in said
    assert f"paceline data fetch toy, or put the files into {root}/toy" in said


def test_the_list_says_which_workloads_read_a_set(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paceline.main(["data"])
    assert "used by   no workload\n" in capsys.readouterr().out
    for name in ("toy-lstm", "toy-mlp"):
        monkeypatch.setitem(NAMES, name, replace(NAMES["quadratic"], data=("toy",)))
    paceline.main(["data"])
    assert "used by   toy-lstm, toy-mlp\n" in capsys.readouterr().out


def test_the_list_says_what_is_corrupt(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "toy" / "images").write_bytes(IMAGES[:-1])
    assert paceline.main(["data", "toy"]) == 1
    expected = f"corrupt   {root}/toy/images: got 135 bytes, expected {TOY.files[0].expected}"
    assert expected in capsys.readouterr().out


def test_check_sees_what_a_size_does_not(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "toy" / "images").write_bytes(IMAGES)
    (root / "toy" / "marks").write_bytes(MARKS)
    assert paceline.main(["data", "check"]) == 0
    assert capsys.readouterr().out.count("present") == 2
    (root / "toy" / "marks").write_bytes(MARKS[:-1] + bytes([MARKS[-1] ^ 1]))
    assert paceline.main(["data"]) == 0
    capsys.readouterr()
    assert paceline.main(["data", "check"]) == 1
    said = capsys.readouterr().out
    assert f"corrupt  {root}/toy/marks: got sha256" in said and TOY.files[1].expected in said


def test_a_missing_file_fails_the_check_of_a_named_set_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main(["data", "check"]) == 0
    assert paceline.main(["data", "check", "toy"]) == 1
    assert capsys.readouterr().out.count("missing") == 4


def test_another_folder_by_option(
    root: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("other")
    for arguments in (["--data-dir", str(other), "check"], ["check", "toy", "--data-dir", str(other)]):
        paceline.main(["data", *arguments])
        assert "missing" in capsys.readouterr().out
    assert paceline.main(["data", "--data-dir", str(other / "absent")]) == 2
    assert "paceline data: --data-dir: got" in capsys.readouterr().err


def test_an_unknown_set_is_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["data", "tou"], ["data", "check", "tou"], ["data", "fetch", "tou"]):
        assert paceline.main(arguments) == 2
        assert capsys.readouterr().err == "paceline data: unknown data set: got 'tou' (did you mean 'toy'?)\n"


def test_fetching_without_a_network_is_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main(["data", "fetch", "toy"]) == 2
    said = capsys.readouterr()
    assert "toy: images could not be fetched (127.0.0.1:9: no connection)" in said.err and said.err.count("\n") == 1
    (root / "toy" / "images").write_bytes(IMAGES)
    (root / "toy" / "marks").write_bytes(MARKS)
    assert paceline.main(["data", "fetch", "toy"]) == 0
    assert "toy: complete, nothing to get" in capsys.readouterr().out


def test_of_several_sets_one_failure_does_not_stop_the_rest(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = DataSet(
        name="whole", title="-", what="-", licence="-", homepage="-", folders=("whole",), files=(TOY.files[1],),
        downloads=TOY.downloads[1:],
    )  # fmt: skip
    monkeypatch.setitem(SETS, "whole", whole)
    (root / "whole").mkdir()
    (root / "whole" / "marks").write_bytes(MARKS)
    assert paceline.main(["data", "fetch"]) == 1
    said = capsys.readouterr().out
    assert "failed: toy: images could not be fetched" in said and "whole: complete, nothing to get" in said


@needs_data
def test_real_sets_are_as_published(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are read, and so verified, in test_load."""
    found = folder()
    assert found is not None
    monkeypatch.setenv("PACELINE_DATA", str(found))
    assert paceline.main(["data", "check", "a9a", "wikitext2", "--data-dir", str(found)]) == 0, capsys.readouterr().out
