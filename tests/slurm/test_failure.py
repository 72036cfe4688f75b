"""A node is lost, a job fails, a job is killed: what is left goes on, and nothing stays behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from bench.records import load
from tests.slurm.cluster import private_slurm
from tests.slurm.submitted import ENDED, ON_SLURM, fields, log, submit, until
from tests.slurm.test_interruption import LONG

pytestmark = ON_SLURM

ENDLESS = LONG.format(rate=1.0, budget="seconds = 2000", algorithm="allreduce-sgd")


def at_work(out: Path) -> bool:
    """Whether the run has begun."""
    return bool(list(out.glob("runs/*")))


def left(name: str) -> list[str]:
    """Processes of ours whose command line has this in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if name in line:
                found.append(line)
    return found


def test_when_a_node_is_lost_the_job_goes_on_without_it(cluster, tmp_path):
    out = tmp_path / "out"
    study = LONG.format(rate=0.02, budget="steps = 300", algorithm="allreduce-sgd")
    job = submit(cluster, out, study=study, site='ranks_per_node = 1\nsbatch = ["--exclude=n2,n3"]')["long"]
    until(lambda: at_work(out), out)
    cluster.fail_node("n1")
    try:
        until(lambda: fields(cluster, job).get("Restarts") == "1", out, 60)
        assert "NODE FAILURE" in log(out)
        cluster.command("scontrol", "update", f"JobId={job}", "ExcNodeList=n1")
        assert cluster.wait(job, ENDED, timeout=150) == "COMPLETED", log(out)
        (run,) = load(out).runs.itertuples()
        assert (run.status, run.steps) == ("completed", 2 * 300)
        assert '"n1"' not in run.provenance
    finally:
        cluster.start_node("n1")
        cluster.wait_idle(timeout=200)  # also for the report to end


def test_a_job_that_is_cancelled_leaves_nothing(cluster, tmp_path):
    out = tmp_path / "out"
    job = submit(cluster, out, study=ENDLESS, site="ranks_per_node = 1")["long"]
    until(lambda: at_work(out), out)
    assert len(left(str(out))) > 2
    cluster.command("scancel", job)
    assert cluster.wait(job, ENDED) == "CANCELLED"
    until(lambda: not left(str(out)), out)  # the report, which still comes, has ended as well


def test_a_cluster_that_is_taken_down_at_work_leaves_no_process_and_no_folder(tmp_path):
    out = tmp_path / "out"
    with private_slurm(nodes=2) as small:
        submit(small, out, study=ENDLESS, site="ranks_per_node = 1")
        until(lambda: at_work(out), out)
        inside = small.processes()
        assert len(inside) > 6
    assert small.processes() == [] and not left(str(out)) and not small.folder.exists()
    for pid in inside:
        assert not Path(f"/proc/{pid}").exists()


def test_nothing_outlives_a_test_run_that_is_killed(tmp_path):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with private_slurm(nodes=1) as cluster:
                os.write(write, str(cluster.folder).encode())
                signal.pause()
        finally:
            os._exit(1)
    folder = os.read(read, 4096).decode()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    until(lambda: not left(folder) and not Path(folder).exists(), tmp_path, 10)
