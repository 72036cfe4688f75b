"""Every way of starting ranks in a job: it works, or it is refused in one line; and the doctor says which."""

from __future__ import annotations

import json

import pytest

from bench.records import load
from tests.slurm.submitted import ENDED, ON_SLURM, PACELINE, ROOT, fields, log, submit

pytestmark = ON_SLURM

TINY = """
name = "tiny"
seeds = [0]
workers = [2]
transports = ["mpi"]
[budget]
steps = 20
snapshots = 2
[[workload]]
name = "quadratic"
[[algorithm]]
name = "d-psgd"
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def step(cluster, study, *launcher: str, before: str = ""):
    """paceline run as two tasks on two nodes."""
    run = f"{before} exec {' '.join(PACELINE)} run {study} --out {study.parent / 'out'}"
    command = ("srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", *launcher, "bash", "-c", run)
    return cluster.command(*command, check=False, cwd=ROOT, timeout=150)


def hosts(out) -> list[str]:
    """Where the ranks of the only run were."""
    (run,) = load(out).runs.itertuples()
    assert run.status == "completed"
    return [rank["host"] for rank in json.loads(run.provenance)["ranks"]]


TORCH = (
    "export RANK=$SLURM_PROCID WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + SLURM_JOB_ID));"
)


@pytest.mark.parametrize(
    ("kind", "before"), [("pmix", ""), ("none", ""), ("none", TORCH)], ids=["pmix", "none", "torchrun's variables"]
)
def test_a_task_a_rank(cluster, study, kind, before):
    done = step(cluster, study, f"--mpi={kind}", before=before)
    assert done.returncode == 0, done.stderr
    assert len(set(hosts(study.parent / "out"))) == 2, "a rank on each node"
    assert [path.name for path in (study.parent / "out").iterdir() if path.name.startswith(".")] == []


def test_what_this_mpi_does_not_speak_is_refused_in_one_line(cluster, study):
    done = step(cluster, study, "--mpi=pmi2")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("paceline")]
    assert "the launcher announces 2 ranks but MPI sees 1" in line and "--mpi=pmix" in line
    assert not (study.parent / "out").exists()


@pytest.mark.parametrize(("mpi", "good"), [("pmix", True), ("pmi2", False)])
def test_srun_as_the_launcher_of_a_batch_job(cluster, tmp_path, mpi, good):
    out = tmp_path / "out"
    job = submit(cluster, out, study=TINY, site=f'ranks_per_node = 1\nlauncher = "srun"\nmpi = "{mpi}"')["tiny"]
    assert cluster.wait(job, ENDED, timeout=120) == ("COMPLETED" if good else "FAILED"), log(out)
    if good:
        assert len(set(hosts(out))) == 2
    else:
        assert fields(cluster, job)["ExitCode"] == "2:0"
        assert "paceline run: the launcher started 1 ranks, 2 are needed" in log(out)
        assert not list(out.glob("runs/*"))


def test_the_doctor_says_on_a_node_which_ways_work(cluster, tmp_path):
    said = tmp_path / "said.txt"
    command = ("sbatch", "--wait", "--nodes=2", "--ntasks=2", "--time=5", f"--output={said}", f"--chdir={tmp_path}")
    cluster.command(*command, f"--wrap={' '.join(PACELINE)} doctor --json", timeout=200)
    checks = {check["name"]: check for check in json.loads(said.read_text())["checks"]}
    ways = ("mpirun", "srun --mpi=pmix", "srun --mpi=pmi2", "srun --mpi=none", "torchrun")
    assert {way: checks[way]["state"] for way in ways} == {
        "mpirun": "ok", "srun --mpi=pmix": "ok", "srun --mpi=pmi2": "warn", "srun --mpi=none": "ok", "torchrun": "ok",
    }, said.read_text()  # fmt: skip
    assert "world of 1" in checks["srun --mpi=pmi2"]["detail"] and "mpi=pmix" in checks["srun --mpi=pmi2"]["remedy"]
