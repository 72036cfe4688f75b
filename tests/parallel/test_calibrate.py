"""`paceline calibrate` on real ranks: a file that can be read, with figures that a machine can have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.cluster import Cluster, file
from bench.launch import cores
from tests.support.mpi_launch import ROOT, require

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(200)]

STUDY = """
name = "calibrated"
workers = [2]
workload = [{ name = "digits-mlp", label = "digits" }, { name = "quadratic", dimension = 1000 }]
algorithm = [{ name = "local-sgd" }]
"""


def calibrate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    command = [sys.executable, str(ROOT / "paceline.py"), "calibrate", str(folder / "study.toml"), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)


def calibrated(folder: Path, *options: str) -> Cluster:
    done = calibrate(folder, "--seconds", "0.03", "-o", "c.toml", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    for title in ("gradients (medians)", "one way between two ranks", "all-reduce of 2 ranks", "residuals"):
        assert title in done.stdout
    return file.read(folder / "c.toml")


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["mpi", "horovod"])
def test_a_calibration_of_this_machine(transport: str, tmp_path: Path) -> None:
    require(transport)
    cluster = calibrated(tmp_path, "--transport", transport)
    assert (cluster.measured.transport, cluster.measured.ranks, cluster.measured.hosts) == (transport, 2, 1)
    assert set(cluster.compute) == {"digits", "quadratic"}
    for compute in cluster.compute.values():
        assert compute.cores_per_node == cores() == cluster.measured.cores_per_node
        assert min(compute.times_s) > 1e-6 and max(compute.times_s) < 10.0 and compute.step_s < 1.0
        assert list(compute.times_s) == sorted(compute.times_s)
    latency_s, gbit = cluster.network.inner.figures
    assert 0 < latency_s + cluster.network.handling.message_s < 0.1
    assert gbit > 0.01
    assert cluster.network.handling.nap_s == 1e-3
    assert all(0 <= residual < 10 for residual in cluster.residuals.values())


@pytest.mark.thorough
def test_one_rank_has_no_network_to_measure(tmp_path: Path) -> None:
    require("mpi")
    done = calibrate(tmp_path, "--seconds", "0.3", "-n", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    cluster = file.read(tmp_path / "cluster.toml")
    assert set(cluster.compute) == {"digits", "quadratic"} and not cluster.residuals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-n", "0"), "-n must be at least 1: got 0"),
        (("--seconds", "0"), "--seconds must be > 0: got 0"),
        (("-o", "no/such/folder/c.toml"), "cannot write no/such/folder/c.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = calibrate(tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
