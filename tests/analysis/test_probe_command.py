"""`paceline probe` on a small study: what it writes, that repeating costs nothing, one line for what cannot be done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch

import paceline
from analysis.probes import tables
from analysis.probes.probe_set import probe_set
from bench.workloads.digits_mlp import DigitsMlp
from tests.support.probed import probed_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probed_study(tmp_path_factory.mktemp("probed"), ["d-psgd", "allreduce-sgd"])


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


def test_curvature_of_the_last_model_is_that_of_the_dense_hessian(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["hessian", "--run", "d-psgd", "--samples", 30, "--float64", "--probes", 3, "--steps", 10, "--replicas"]
    rows = pd.DataFrame(probe(capsys, results, *call))
    numbers = rows[rows["table"] == "probe-curvature"]
    assert set(numbers["model"]) == {"evaluated", "replica 0", "replica 1", "replica 2"}

    settings = DigitsMlp(width=8, dtype="float64")
    objective = settings.build(torch.device("cpu"), 3).objective()
    chosen = probe_set(objective, samples=30)
    assert set(numbers["probe_set"]) == {chosen.digest}
    file = next(results.glob("runs/d-psgd*/snapshots/evaluated-0002.safetensors"))
    x = safetensors.torch.load_file(file)["x"].double()

    def loss(at: torch.Tensor) -> torch.Tensor:
        parts = [objective.loss(objective.logits(at, inputs), targets) for inputs, targets in chosen.batches]
        assert len(parts) == 1
        return parts[0]

    dense = torch.linalg.eigvalsh(torch.func.hessian(loss)(x))
    of = numbers[numbers["model"] == "evaluated"].set_index("quantity")
    largest = of.loc["eigenvalue"].sort_values("number")["value"].to_numpy()
    assert largest == pytest.approx(dense.flip(0)[:5].numpy(), rel=1e-6)
    assert of.loc["smallest eigenvalue", "value"] == pytest.approx(float(dense[0]), rel=1e-6)
    assert abs(of.loc["trace", "value"] - float(dense.sum())) < 5 * of.loc["trace", "error"]
    assert of.loc["loss", "value"] == pytest.approx(float(loss(x)), rel=1e-12)
    density = rows[rows["table"] == "probe-density"]
    mass = density.groupby(["model", "vector"])["weight"].sum()
    assert len(mass) == 4 * 3 and mass.to_numpy() == pytest.approx(1.0, rel=1e-9)


def test_landscape_of_the_last_model(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame(probe(capsys, results, "landscape", "--points", 5, "--samples", 60))
    plane = rows[rows["curve"] == "plane"]
    assert len(plane) == 2 * 25
    numbers = rows[rows["table"] == "probe-curvature"].set_index(["run_id", "quantity"])["value"]
    for run_id, group in plane.groupby("run_id"):
        middle = group[(group["alpha"] == 0) & (group["beta"] == 0)]["loss"].item()
        assert middle == numbers[run_id, "loss"], "the middle is the model itself"
        line = rows[(rows["curve"] == "interpolation") & (rows["run_id"] == run_id)]
        assert line["loss"].iloc[-1] == middle and line["a"].iloc[0] == "snapshot 0"
        assert numbers[run_id, "sharpness"] > 0 and numbers[run_id, "landscape_index"] > 0
    workers = rows[rows["table"] == "probe-workers"]
    synchronous = workers[workers["run_id"].str.startswith("allreduce")]
    assert len(synchronous) == 3 + 3
    assert (synchronous[["distance", "barrier"]] == 0).all(axis=None)
    assert (workers[workers["run_id"].str.startswith("d-psgd")]["distance"] > 0).all()


def test_positions_of_three_workers_are_their_distances_from_the_mean(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = "workers,positions"
    rows = pd.DataFrame(probe(capsys, results, "landscape", "--parts", parts, "--points", 5, "--samples", 60))
    places = rows[rows["curve"] == "position"].set_index("a")
    assert places["run_id"].str.startswith("d-psgd").all(), "workers that are equal have no positions"
    against = rows[rows["b"] == "mean"].merge(places["run_id"].drop_duplicates(), on="run_id").set_index("a")
    workers = places.loc[against.index]
    assert len(workers) == 3 and workers[["alpha", "beta"]].sum().abs().max() < 1e-6 * against["distance"].min()
    # Three workers and their mean lie in one plane.
    lengths = (workers["alpha"] ** 2 + workers["beta"] ** 2) ** 0.5
    assert lengths.tolist() == pytest.approx(against["distance"].tolist(), rel=1e-5)
    assert workers["loss"].tolist() == against["loss_a"].tolist()
    plane = rows[rows["curve"] == "workers"]
    middle = plane[(plane["alpha"] == 0) & (plane["beta"] == 0)]["loss"].item()
    assert len(plane) == 25 and middle == against["loss_b"].iloc[0]
    assert plane["alpha"].max() == pytest.approx(2 * workers["alpha"].abs().max(), rel=1e-9)


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
        (["hessian", "--probes", "2"], "probes must be at least 3: got 2"),
        (["hessian", "--smallest", "-1"], "smallest must be at least 0: got -1"),
        (["hessian", "--tolerance", "2"], "tolerance must lie between 0 and 1"),
        (["landscape", "--parts", "plane,volcano"], "parts must be among plane, line, workers, sharpness"),
        (["landscape", "--points", "4"], "points must be odd and at least 3: got 4"),
        (["landscape", "--span", "0"], "span must be > 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert why in refused(capsys, results, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "torch sees no GPU here" in refused(capsys, results, "noise", "--device", "cuda")


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


def test_without_models_there_is_nothing_to_probe(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in results.glob("runs/*/snapshots"):
        shutil.rmtree(folder)  # as save = "none" leaves it
    for name in ("hessian", "landscape"):
        assert 'leave out save = "none"' in refused(capsys, results, name)
    assert 'add save = "replicas"' in refused(capsys, results, "noise")
