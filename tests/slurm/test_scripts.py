"""The scripts that `paceline submit` writes: right for the shell, right for Slurm, and free of surprises."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import paceline
from bench.cli import part_of
from bench.settings import StudyError
from bench.study import resolve
from slurm import jobs
from slurm.site import FOLDER, Site, read

STUDY = {
    "name": "small",
    "workload": {"name": "quadratic"},
    "algorithm": [{"name": "allreduce-sgd"}, {"name": "ad-psgd"}],
    "workers": [2, 4],
    "seeds": [0, 1, 2],
    "transports": ["mpi", "simulated"],
    "budget": {"seconds": 3.0},
}
EVERYTHING = Site(
    partition="gpu", account="a-1", qos="high", constraint="ib", reservation="r", ranks_per_node=4, cores_per_rank=8,
    gpus_per_rank=1, memory_per_core="2G", exclusive=True, launcher="srun", mpi="pmix", modules=("openmpi/5", "cuda"),
    setup=("source venv/bin/activate",), environment={"NCCL_DEBUG": "WARN", "WORDS": "it's here"}, most_minutes=30,
    warn_s=60, sbatch=("--mail-type=END",),
)  # fmt: skip


def scripts(site: Site, **settings) -> dict[str, str]:
    planned = jobs.plan("small", Path("/out"), "small.toml", 8, [100.0], site, **settings)
    return {job.name: jobs.script(job, site, folder=Path("/some where"), logs=Path("/out/slurm")) for job in planned}


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here (apt-get install shellcheck)")
@pytest.mark.parametrize(
    "site",
    [
        *(read(path.stem) for path in sorted(FOLDER.glob("*.toml"))), Site(), EVERYTHING,
        *(replace(EVERYTHING, **{name: empty}) for name, empty in (
            ("modules", ()), ("setup", ()), ("environment", {}), ("gpus_per_rank", 0), ("mpi", ""), ("warn_s", 0),
            ("ranks_per_node", 0), ("exclusive", False), ("sbatch", ()),
        )), replace(EVERYTHING, launcher="mpirun", mpi=""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("parts", [1, 3])
def test_shellcheck_finds_nothing(tmp_path, site, parts):
    for name, script in scripts(site, parts=parts, calibrate_workers=4).items():
        path = tmp_path / name
        path.write_text(script)
        # What a site's file says is its own: a file to source cannot be looked at here.
        checked = subprocess.run(
            ["shellcheck", "--exclude=SC1091", str(path)], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout


def test_a_default_site_asks_for_ranks_and_time_only():
    script = scripts(Site())["small"]
    assert options(script) == [
        "--job-name=small", "--output=/out/slurm/%x-%A.log", "--open-mode=append", "--time=10", "--ntasks=8",
        "--cpus-per-task=1", "--requeue", "--signal=B:USR2@120",
    ]  # fmt: skip


def test_everything_a_site_says_is_in_the_script():
    script = scripts(EVERYTHING, parts=3, at_once=2)["small"]
    assert options(script) == [
        "--job-name=small", "--output=/out/slurm/%x-%A-%a.log", "--open-mode=append", "--time=10", "--ntasks=8",
        "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=8", "--gpus-per-task=1", "--partition=gpu",
        "--account=a-1", "--qos=high", "--constraint=ib", "--reservation=r", "--mem-per-cpu=2G", "--exclusive",
        "--array=1-3%2", "--mail-type=END", "--requeue", "--signal=B:USR2@60",
    ]  # fmt: skip
    for line in (
        "cd '/some where' || exit 1", "module load openmpi/5 cuda", "source venv/bin/activate",
        """export WORDS='it'"'"'s here'""", "export SLURM_MPI_TYPE=pmix", "export SLURM_GPU_BIND=single:1",
    ):  # fmt: skip
        assert line in script.splitlines()
    assert '--part "${SLURM_ARRAY_TASK_ID}/3"' in script and "--launcher srun" in script


def test_the_report_waits_for_the_runs_and_these_for_the_calibration():
    planned = jobs.plan("small", Path("/out"), "s.toml", 8, [1.0], Site(), calibrate_workers=4)
    assert [(job.name, job.ranks, job.after) for job in planned] == [
        ("small-calibrate", 4, ()),
        ("small", 8, (("small-calibrate", "afterok"),)),
        ("small-report", 1, (("small", "afterany"),)),
    ]
    assert "--exclusive" in scripts(EVERYTHING)["small"]
    assert "--exclusive" not in options(scripts(EVERYTHING)["small-report"])  # which needs one core


def test_times_and_node_hours():
    job = jobs.Job(name="x", template="run.sbatch.j2", command=("true",), ranks=8, seconds=3540.0, parts=3)
    site = Site(ranks_per_node=4, most_minutes=100)
    assert site.nodes(8) == 2 and site.nodes(9) == 3
    assert job.node_hours(site) == 2 * 3 * 1.0
    assert job.minutes(site) == 92  # 1.5 x 59 min, a minute to start, two of warning
    assert job.minutes(replace(site, most_minutes=60)) == 60
    assert Site(cores_per_node=16, cores_per_rank=4).nodes(8) == 2


def test_parts_hold_every_run_once_and_are_about_equally_long():
    cells = list(resolve(STUDY).cells())
    for n in (1, 2, 5, len(cells)):
        parts = [part_of(cells, f"{k + 1}/{n}") for k in range(n)]
        found = [cell.run_id for part in parts for cell in part]
        assert sorted(found) == sorted(cell.run_id for cell in cells)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert {cell.transport for cell in part_of(cells, "1/2")} == {"mpi"}  # one launch


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_part_that_there_is_not_is_one_line(part):
    with pytest.raises(StudyError, match="--part: expected K/N with 1 <= K <= N"):
        part_of(list(resolve(STUDY).cells()), part)


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.toml")))
def test_the_shipped_sites_are_read(name):
    assert isinstance(read(name), Site)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("launcher = 3", "launcher: got 3, allowed: 'mpirun', 'srun'"),
        ("partitoin = 'x'", "unknown key 'partitoin' (did you mean 'partition'?)"),
        ("ranks_per_node = -1", "ranks_per_node must be at least 0: got -1"),
        ("mpi = 'pmix'", "mpi is what srun is told: got mpi='pmix' with launcher=\"mpirun\""),
        ("most_minutes = 2", "most_minutes must leave time before warn_s: got 2 minutes and 120 s"),
        ("partition = 'a\\nb'", "a value must be one line"),
        ("x = [", "site.toml: "),
    ],
)
def test_a_site_that_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, text, message):
    (tmp_path / "site.toml").write_text(text.replace("'a\\nb'", '"a\\nb"'))
    monkeypatch.chdir(tmp_path)
    assert paceline.main(["submit", "demo", "--site", "./site.toml", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--site", "genric"], "--site: no site 'genric' (did you mean 'generic'?)"),
        (["--array", "0"], "--array: must lie in 1..48, the number of runs: got 0"),
        (["--array", "2", "--at-once", "49"], "--at-once: must lie in 1..48, the number of runs: got 49"),
        (["--out", "with space"], "--out: sbatch takes no such characters"),
    ],
)
def test_what_cannot_be_submitted_is_one_line(tmp_path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    assert paceline.main(["submit", "demo", "--dry-run", *more]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_without_slurm_it_says_so_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert paceline.main(["submit", "demo"]) == 2
    assert "no sbatch found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
