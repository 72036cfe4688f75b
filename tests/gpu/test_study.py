"""Whole studies with ranks on a GPU: the same training as on CPUs, timed there, and every byte's path recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bench.micro import gpu_throughput
from bench.records import Results, load
from bench.transports.paths import DEVICE, HOST, NCCL, PINNED
from tests.gpu.support import needs_gpu
from tests.support.mpi_launch import ROOT, require

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(300)]

LOCKSTEP = ("allreduce-sgd", "local-sgd", "d-psgd", "easgd-sync")
FREE = ("ad-psgd", "easgd", "async-sgd")


def run(
    folder: Path, device: str, algorithms: tuple[str, ...], budget: str, head: str = "", workload: str = ""
) -> Results:
    """Results of two ranks on digits-mlp."""
    require("mpi")
    text = f'name = "gpu"\nworkers = [2]\ndevice = "{device}"\nsave = "none"\nbudget = {budget}\n{head}\n'
    text += f'[[workload]]\nname = "digits-mlp"\n{workload}\n'
    text += "".join(f'[[algorithm]]\nname = "{name}"\n' for name in algorithms)
    folder.mkdir()
    (folder / "study.toml").write_text(text)
    line = [sys.executable, str(ROOT / "paceline.py"), "run", str(folder / "study.toml"), "--out", str(folder / "out")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return load(folder / "out")


def final_losses(results: Results) -> dict[str, float]:
    last = results.heldout.sort_values("snapshot").groupby("run_id").tail(1).set_index("run_id")["heldout_loss"]
    return {row.algorithm: float(last[row.run_id]) for row in results.runs.itertuples()}


def gradients(results: Results) -> np.ndarray:
    """Host time and device time of each gradient [rows, 2]."""
    rows = results.events[results.events["kind"] == "gradient"]
    return np.stack([rows["t1_s"] - rows["t0_s"], rows["device_s"]], axis=1)


def test_on_cpus_there_is_no_device_time_and_bytes_stay_in_host_memory(tmp_path: Path) -> None:
    results = run(tmp_path / "cpu", "cpu", ("allreduce-sgd",), "{ steps = 5, snapshots = 1 }")
    assert np.isnan(gradients(results)[:, 1]).all()
    (row,) = results.runs.itertuples()
    assert json.loads(row.provenance)["paths"] == {"point-to-point": HOST, "collectives": HOST}


@needs_gpu
@pytest.mark.parametrize(
    "head", ["", "bucket_MiB = 0.01", "rate_Gbit_per_s = 20.0"], ids=["whole", "in buckets", "limited"]
)
def test_on_a_gpu_lockstep_training_is_that_of_cpus(tmp_path: Path, head: str) -> None:
    budget = "{ steps = 40, snapshots = 4 }"
    here = run(tmp_path / "gpu", "cuda", LOCKSTEP, budget, head)
    there = run(tmp_path / "cpu", "cpu", LOCKSTEP, budget)
    ours, theirs = final_losses(here), final_losses(there)
    for name in LOCKSTEP:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name
    times = gradients(here)
    assert (times[:, 1] > 0).all() and (times[:, 1] <= times[:, 0] * 1.05).all()
    for row in here.runs.itertuples():
        paths = json.loads(row.provenance)["paths"]
        assert paths["point-to-point"] in (PINNED, DEVICE) and paths["collectives"] in (PINNED, DEVICE)


@needs_gpu
def test_on_a_gpu_asynchronous_training_learns_and_conserves(tmp_path: Path) -> None:
    results = run(tmp_path / "gpu", "cuda", FREE, "{ seconds = 4, snapshots = 4 }")
    assert set(results.runs["status"]) == {"completed"}
    first = results.heldout[results.heldout["snapshot"] == 0]["heldout_loss"].mean()
    assert all(loss < 0.5 * first for loss in final_losses(results).values())


@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_on_a_gpu_lower_precision_learns_the_same(tmp_path: Path, precision: str) -> None:
    budget = "{ steps = 40, snapshots = 1 }"
    exact = run(tmp_path / "exact", "cuda", ("allreduce-sgd",), budget)
    rounded = run(tmp_path / "rounded", "cuda", ("allreduce-sgd",), budget, workload=f'precision = "{precision}"')
    assert final_losses(rounded)["allreduce-sgd"] == pytest.approx(final_losses(exact)["allreduce-sgd"], rel=0.05)


@needs_gpu
@pytest.mark.skipif(find_spec("horovod") is None, reason="Horovod is not installed")
def test_on_a_gpu_horovod_says_whether_it_went_by_nccl(tmp_path: Path) -> None:
    budget = "{ steps = 40, snapshots = 1 }"
    here = run(tmp_path / "gpu", "cuda", ("allreduce-sgd",), budget, 'transports = ["horovod"]')
    there = run(tmp_path / "cpu", "cpu", ("allreduce-sgd",), budget)
    assert final_losses(here)["allreduce-sgd"] == pytest.approx(final_losses(there)["allreduce-sgd"], rel=1e-3)
    path = json.loads(here.runs["provenance"].iloc[0])["paths"]["collectives"]
    assert path == NCCL or path.startswith(f"{PINNED} (no NCCL: ")


@pytest.mark.slow
def test_the_program_that_compares_throughput_works_where_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--device", "cpu", "--workloads", "digits-mlp,batch_size=8", "--ranks", "2", "--seconds", "1"]
    assert gpu_throughput.main([*arguments, "--steps", "10"]) == 0
    said = capsys.readouterr().out
    assert "plain loop" in said and "allreduce-sgd  mpi" in said and f"collectives: {HOST}" in said
    curve = [line.split() for line in said.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert len(curve) == 6 and all(float(step[3]) == 0.0 for step in curve)  # the CPU against itself


def test_a_workload_is_named_with_its_settings() -> None:
    assert gpu_throughput.table("a,size=25M,batch_size=8") == {"name": "a", "size": "25M", "batch_size": 8}
