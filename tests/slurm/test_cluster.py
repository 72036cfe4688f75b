"""A study on a real Slurm: an array, its report after it, and a job that is interrupted and requeued."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.records import load
from tests.slurm.cluster import PrivateSlurm, missing, private_slurm

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(why := missing()), reason=f"no Slurm: {why}")]

STUDY = """
name = "small"
seeds = [0, 1]
workers = [2]
transports = ["mpi", "simulated"]
[budget]
seconds = {seconds}
snapshots = 3
[[workload]]
name = "digits-mlp"
[[algorithm]]
name = "allreduce-sgd"
[[algorithm]]
name = "ad-psgd"
"""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateSlurm]:
    with private_slurm(nodes=4) as up:
        yield up
    assert up.processes() == []


def submit(cluster: PrivateSlurm, out: Path, seconds: float, *more: str) -> dict[str, str]:
    """Submit the study from its own folder; job ids by name."""
    study = out.parent / "small.toml"
    study.write_text(STUDY.format(seconds=seconds))
    cluster.command(
        sys.executable, "-m", "paceline", "submit", str(study), "--out", str(out), *more,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return json.loads((out / "slurm" / "jobs.json").read_text())


def log(out: Path) -> str:
    return "\n".join(f"--- {p.name}\n{p.read_text()}" for p in sorted((out / "slurm").glob("*.log")))


def test_an_array_shares_the_runs_and_the_report_follows(cluster, tmp_path):
    out = tmp_path / "out"
    site = tmp_path / "site.toml"
    site.write_text("ranks_per_node = 1")
    ids = submit(cluster, out, 1.0, "--array", "2", "--site", str(site))
    assert cluster.wait(ids["small-report"], ENDED, timeout=150) == "COMPLETED", log(out)
    assert cluster.state(ids["small"]) == "COMPLETED", log(out)
    runs = load(out).runs
    assert len(runs) == 8 and set(runs["status"]) == {"completed"}
    assert {"mpi", "simulated"} == set(runs["transport"])
    assert "<h1>" in (out / "report.html").read_text()
    for text in runs.loc[runs["transport"] == "mpi", "provenance"]:
        hosts = [rank["host"] for rank in json.loads(text)["ranks"]]
        assert len(hosts) == len(set(hosts)) == 2 and set(hosts) <= set(cluster.names), "one rank on each of two nodes"


def test_an_interrupted_job_is_requeued_and_goes_on_with_what_is_missing(cluster, tmp_path):
    out = tmp_path / "out"
    ids = submit(cluster, out, 3.0, "--without", "simulated")
    job = ids["small"]
    cluster.wait(job, ["RUNNING"])
    until(lambda: list(out.glob("runs/*/run.parquet")), log, out)
    first = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/run.parquet")}
    cluster.command("scancel", "--batch", "--signal=USR2", job)
    until(lambda: "Restarts=1" in cluster.command("scontrol", "show", "job", job).stdout, log, out)
    assert cluster.wait(job, ENDED, timeout=200) == "COMPLETED", log(out)
    runs = load(out).runs
    assert len(runs) == 4 and set(runs["status"]) == {"completed"}
    assert all(path.stat().st_mtime_ns == when for path, when in first.items()), "what was complete was not run again"
    said = log(out)
    assert "interrupted by SIGUSR2" in said and "back into the queue, restart 1" in said


def test_what_slurm_refuses_is_one_line(cluster, tmp_path):
    (tmp_path / "site.toml").write_text('partition = "nowhere"')
    (tmp_path / "small.toml").write_text(STUDY.format(seconds=1.0))
    done = cluster.command(
        sys.executable, "-m", "paceline", "submit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out"),
        "--site", str(tmp_path / "site.toml"), check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    assert "sbatch refused small: " in done.stderr and "partition" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def until(there, tell, out: Path, seconds: float = 90.0) -> None:
    end_s = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end_s, tell(out)
        time.sleep(0.2)
