"""`paceline probe` on a small study: what it writes, that repeating costs nothing, one line for what cannot be done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import paceline
from analysis.probes import tables

STUDY = """
name = "probed"
seeds = [0]
workers = [3]
transports = ["simulated"]
save = "{save}"
budget = {{ seconds = 3, snapshots = 2 }}

[[workload]]
name = "digits-mlp"
width = 8

[[algorithm]]
name = "d-psgd"

[[algorithm]]
name = "allreduce-sgd"
"""


def run_study(folder: Path, save: str) -> Path:
    file = folder / "study.toml"
    file.write_text(STUDY.format(save=save))
    assert paceline.main(["run", str(file), "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_study(tmp_path_factory.mktemp("probed"), "replicas")


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may probe."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def probe(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """The new rows."""
    assert paceline.main(["probe", *map(str, arguments), "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert paceline.main(["probe", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    return captured.err


def test_noise_of_every_snapshot(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame(probe(capsys, results, "noise"))
    assert len(rows) == 2 * 3
    synchronous = rows[rows["run_id"].str.startswith("allreduce")]
    assert (synchronous["noise_diversity"] == 0).all() and (synchronous["replica_variance"] == 0).all()
    assert (synchronous["alpha_e"] == synchronous["alpha_e_control"]).all()
    later = rows[rows["run_id"].str.startswith("d-psgd") & (rows["snapshot"] > 0)]
    assert (later["noise_diversity"] > 0).all() and (later["replica_variance"] > 0).all()
    left = rows["alpha_e"] ** 2 * rows["slope"] + rows["noise"]
    assert ((left - rows["lr"] ** 2 * rows["mean_gradient"]).abs() <= 1e-9 * left).all()
    assert rows["probe_set"].nunique() == 1 and (rows["of"] == "training").all()


def test_the_split_estimator_is_near_the_full_one(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = pd.DataFrame(probe(capsys, results, "noise", "--snapshot", 0))
    split = pd.DataFrame(probe(capsys, results, "noise", "--snapshot", 0, "--gradient", "split", "--halves", 40))
    ratio = split["alpha_e"].to_numpy() / full["alpha_e"].to_numpy()
    assert abs(ratio - 1).max() < 0.2
    assert len(tables.load([results])["probe-noise"]) == 4, "other settings stand beside, not in place"


def test_what_was_probed_is_not_probed_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = probe(capsys, results, "noise", "--snapshot", "1,2")
    before = tables.load([results])["probe-noise"]
    again = probe(capsys, results, "noise")
    assert {row["snapshot"] for row in first} == {1, 2} and {row["snapshot"] for row in again} == {0}
    after = tables.load([results])["probe-noise"]
    assert len(after) == len(before) + 2 == 6
    assert paceline.main(["probe", str(results), "noise"]) == 0
    assert "6 of 6 snapshots had been probed like this before" in capsys.readouterr().out


def test_a_torn_table_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe(capsys, results, "noise", "--snapshot", "last")
    file = next(results.glob("runs/*/probe-noise.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    assert "cannot read" in refused(capsys, results, "noise")
    assert str(file) in tables.load([results]).skipped[0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["noise", "--run", "easgd"], "no run 'easgd'"),
        (["noise", "--snapshot", "7"], "no snapshot 7 (there are 0 to 2)"),
        (["noise", "--snapshot", "first"], "must be last, all or numbers"),
        (["noise", "--samples", "0"], "samples must be at least 1: got 0"),
        (["noise", "--halves", "0"], "halves must be at least 1: got 0"),
        (["noise", "--device", "cuda"], "torch sees no GPU here"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert why in refused(capsys, results, *arguments)


def test_folders_that_cannot_be_probed_are_one_line(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not a results folder" in refused(capsys, tmp_path, "noise")
    for file in results.glob("runs/d-psgd*/snapshots/replica-0002-r1.safetensors"):
        file.write_bytes(b"torn")
    assert "replica-0002-r1.safetensors" in refused(capsys, results, "noise", "--run", "d-psgd")
    for file in results.glob("runs/d-psgd*/snapshots/replica-*"):
        file.unlink()
    assert 'add save = "replicas" to the study' in refused(capsys, results, "noise", "--run", "d-psgd")


def test_without_models_there_is_nothing_to_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_study(tmp_path, "none")
    capsys.readouterr()
    assert 'add save = "replicas"' in refused(capsys, out, "noise")
