"""Studies on a real Slurm: arrays and their report, jobs that depend on each other, and what Slurm refuses."""

from __future__ import annotations

import json

from bench.records import load
from tests.slurm.submitted import ENDED, ON_SLURM, PACELINE, ROOT, SMALL, fields, log, submit, until

pytestmark = ON_SLURM


def test_an_array_shares_the_runs_under_its_cap_and_the_report_follows(cluster, tmp_path):
    out = tmp_path / "out"
    ids = submit(cluster, out, "--array", "3", "--at-once", "2", site="ranks_per_node = 1")
    most = 0

    def ended() -> bool:
        nonlocal most
        shown = cluster.command("squeue", "--noheader", "--states=RUNNING", "--job", ids["small"], check=False).stdout
        most = max(most, len(shown.splitlines()))
        return cluster.state(ids["small-report"]) in ENDED

    until(ended, out, 600)
    assert cluster.state(ids["small-report"]) == "COMPLETED", log(out)
    assert most == 2, "as many at once as the cap allows, though there are nodes for all three"
    runs = load(out).runs
    assert len(runs) == 8 and set(runs["status"]) == {"completed"}
    assert {"mpi", "simulated"} == set(runs["transport"])
    assert "<h1>" in (out / "report.html").read_text()
    for text in runs.loc[runs["transport"] == "mpi", "provenance"]:
        hosts = [rank["host"] for rank in json.loads(text)["ranks"]]
        assert len(hosts) == len(set(hosts)) == 2 and set(hosts) <= set(cluster.names), "one rank on each of two nodes"


def test_a_calibration_runs_before_the_study_and_is_kept(cluster, tmp_path):
    out = tmp_path / "out"
    ids = submit(cluster, out, "--calibrate-first", "--without", "simulated", site="ranks_per_node = 1")
    assert list(ids) == ["small-calibrate", "small", "small-report"]
    assert fields(cluster, ids["small"])["Reason"] == "Dependency"
    assert cluster.wait(ids["small-report"], ENDED, timeout=600) == "COMPLETED", log(out)
    from bench.cluster.file import read

    assert read(out / "cluster.toml"), log(out)
    assert set(load(out).runs["status"]) == {"completed"}


def test_after_a_calibration_that_fails_nothing_waits_for_ever(cluster, tmp_path):
    out = tmp_path / "out"
    site = 'ranks_per_node = 1\nsetup = ["[[ $SLURM_JOB_NAME != *-calibrate ]] || exit 7"]'
    ids = submit(cluster, out, "--calibrate-first", site=site)
    assert cluster.wait(ids["small-calibrate"], ENDED) == "FAILED"
    assert cluster.wait(ids["small"], ENDED) == "CANCELLED"
    # The report still comes, and says what is missing.
    assert cluster.wait(ids["small-report"], ENDED) in ("COMPLETED", "FAILED"), log(out)
    assert "no runs/ in it" in log(out)
    assert not (out / "runs").exists()


def test_what_slurm_refuses_is_one_line(cluster, tmp_path):
    (tmp_path / "site.toml").write_text('partition = "nowhere"')
    (tmp_path / "small.toml").write_text(SMALL)
    done = cluster.command(
        *PACELINE, "submit", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out"),
        "--site", str(tmp_path / "site.toml"), check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1
    assert "sbatch refused small: " in done.stderr and "partition" in done.stderr
    assert len(done.stderr.splitlines()) == 1
