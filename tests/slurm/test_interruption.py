"""Jobs that are told to stop, by a signal, by a time limit or for a more urgent job, and go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.records import load
from tests.slurm.cluster import PrivateSlurm
from tests.slurm.submitted import ENDED, ON_SLURM, PACELINE, ROOT, fields, log, submit, until

pytestmark = ON_SLURM

LONG = """
name = "long"
seeds = [0]
workers = [2]
transports = ["mpi"]
rate_Gbit_per_s = {rate}
[budget]
{budget}
snapshots = 6
[[workload]]
name = "digits-mlp"
[[algorithm]]
name = "{algorithm}"
"""
"""A slow network makes it long, not the processors."""

SITE = "ranks_per_node = 2\n"


def interrupt(cluster: PrivateSlurm, job: str, out: Path, times: int) -> None:
    """Send the job USR2, as before its time limit, each time as soon as its run is at work."""
    for k in range(times):
        until(lambda k=k: log(out).count("goes on at") == k and list(out.glob("runs/*")), out, 400)
        cluster.command("scancel", "--batch", "--signal=USR2", job)
        until(lambda k=k: fields(cluster, job).get("Restarts") == str(k + 1), out, 400)


def test_a_lock_step_run_that_is_interrupted_three_times_ends_as_if_it_was_not(cluster, tmp_path):
    out, apart = tmp_path / "out", tmp_path / "apart"
    study = LONG.format(rate=0.02, budget="steps = 1600", algorithm="allreduce-sgd")
    job = submit(cluster, out, study=study, site=SITE)["long"]
    interrupt(cluster, job, out, 3)
    assert cluster.wait(job, ENDED, timeout=600) == "COMPLETED", log(out)
    (run,) = load(out).runs.itertuples()
    assert (run.status, run.interruptions) == ("completed", 3), log(out)
    assert not list(out.glob("runs/*/checkpoint"))
    cluster.command(*PACELINE, "run", str(tmp_path / "study.toml"), "--out", str(apart), cwd=ROOT, timeout=600)
    one, other = load(out).heldout, load(apart).heldout
    assert list(one["step"]) == list(other["step"]) and one["step"].iloc[-1] == 1600
    np.testing.assert_allclose(one["heldout_loss"], other["heldout_loss"], rtol=1e-5)
    assert np.all(np.diff(one["t_s"]) > 0)


@pytest.mark.parametrize("algorithm", ["downpour", "ad-psgd"])
def test_an_asynchronous_run_that_is_interrupted_loses_and_doubles_no_gradient(cluster, tmp_path, algorithm):
    out = tmp_path / "out"
    study = LONG.format(rate=1.0, budget="seconds = 6.0", algorithm=algorithm)
    job = submit(cluster, out, study=study, site=SITE)["long"]
    interrupt(cluster, job, out, 1)
    assert cluster.wait(job, ENDED, timeout=600) == "COMPLETED", log(out)
    tables = load(out)
    (run,) = tables.runs.itertuples()
    assert (run.status, run.interruptions) == ("completed", 1), log(out)
    gradients = tables.events[tables.events["kind"] == "gradient"]
    for _, steps in gradients.groupby("rank")["step"]:
        assert sorted(steps) == list(range(1, len(steps) + 1)), "every step once"
    if algorithm == "downpour":
        assert (tables.events["kind"] == "apply").sum() == len(gradients) == run.steps
    else:
        assert "exchanges conserve the sum of all models: yes" in run.verdict


def test_a_study_longer_than_its_time_limit_is_done_by_several_jobs(cluster, tmp_path):
    out = tmp_path / "out"
    study = LONG.format(rate=1.0, budget="seconds = 45.0", algorithm="allreduce-sgd")
    job = submit(cluster, out, study=study, site=f"{SITE}most_minutes = 2\nwarn_s = 95")["long"]
    assert fields(cluster, job)["TimeLimit"] == "00:02:00"
    assert cluster.wait(job, ENDED, timeout=600) == "COMPLETED", log(out)
    (run,) = load(out).runs.itertuples()
    assert run.status == "completed" and run.interruptions >= 1, log(out)
    assert "interrupted by SIGUSR2" in log(out)
    # On a slow machine a job may be told before its run has begun, or gone on: then there was nothing to interrupt.
    assert run.interruptions <= int(fields(cluster, job)["Restarts"]) <= run.interruptions + 2, log(out)


def test_a_job_makes_room_for_a_more_urgent_one_and_goes_on(cluster, tmp_path):
    out = tmp_path / "out"
    site = f'{SITE}launcher = "srun"\nmpi = "pmix"\nsbatch = ["--nodelist=n0"]'
    study = LONG.format(rate=1.0, budget="seconds = 6.0", algorithm="allreduce-sgd")
    job = submit(cluster, out, study=study, site=site)["long"]
    until(lambda: list(out.glob("runs/*")), out)
    cluster.command("srun", "--partition=urgent", "--nodelist=n0", "--ntasks=2", "--quiet", "true", timeout=600)
    assert cluster.wait(job, ENDED, timeout=600) == "COMPLETED", log(out)
    (run,) = load(out).runs.itertuples()
    assert (run.status, run.interruptions) == ("completed", 1), log(out)
    assert "interrupted by a signal to a rank" in log(out) or "interrupted by SIGTERM" in log(out)
