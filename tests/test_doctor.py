"""The doctor's verdicts from stated facts, and that no probe can make it hang or die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import doctor
from bench.doctor import Check, Machine, Probe

WELL = Machine(
    python=(3, 11, 7),
    torch_pin="2.13.0",
    versions={"torch": "2.13.0+cpu", "mpi4py": "4.1.2", "horovod": "0.28.1"},
    mpirun="bin/mpirun",
    mpirun_version="mpirun (Open MPI) 5.0.11",
    sbatch=None,
    srun=None,
    nvidia_smi=None,
    cores=4,
    available_MiB=16384,
)
TORCH = Probe(facts={"version": "2.13.0+cpu", "threads": 4, "cuda": None, "gpus": [], "nccl": None})
GPU_TORCH = Probe(facts={"version": "2.13.0", "threads": 4, "cuda": "13.0", "gpus": ["A", "A"], "nccl": "2.27.7"})
MPI = Probe(facts={"library": "Open MPI v5.0.11, package: ...", "thread_level": 3, "cuda_aware": False})
HOROVOD = Probe(facts={"version": "0.28.1", "MPI": True, "Gloo": False, "NCCL": False, "threads": True})
TWO = Probe(facts={"size": 2})
HUNG = Probe(problem="gave no answer within 30 s and was ended")


def without(*names: str) -> Machine:
    return replace(WELL, versions={name: None if name in names else v for name, v in WELL.versions.items()})


def python(program: str) -> list[str]:
    return [sys.executable, "-I", "-c", program]


@pytest.mark.parametrize(
    ("check", "state", "words"),
    [
        (doctor.check_python(WELL), "ok", "3.11.7"),
        (doctor.check_python(replace(WELL, python=(3, 10, 2))), "missing", "3.10.2, but >= 3.11"),
        (doctor.check_torch(WELL, TORCH), "ok", "as pinned), 4 threads"),
        (doctor.check_torch(replace(WELL, torch_pin=None), TORCH), "ok", "pin unknown"),
        (doctor.check_torch(replace(WELL, torch_pin="2.12.0"), TORCH), "warn", "but 2.12.0 is pinned"),
        (doctor.check_torch(without("torch"), TORCH), "missing", "not installed"),
        (doctor.check_torch(WELL, HUNG), "missing", "no answer within 30 s"),
        (doctor.check_mpi4py(WELL), "ok", "4.1.2"),
        (doctor.check_mpi4py(without("mpi4py")), "missing", "not installed"),
        (doctor.check_mpi(MPI), "ok", "Open MPI v5.0.11, THREAD_MULTIPLE"),
        (doctor.check_mpi(Probe(facts=dict(MPI.facts) | {"thread_level": 1})), "warn", "THREAD_FUNNELED"),
        (doctor.check_mpi(HUNG), "missing", "no answer within 30 s"),
        (doctor.check_way("srun", MPI, TWO, []), "ok", "2 ranks see each other"),
        (doctor.check_way("srun", MPI, Probe(facts={"size": 1}), []), "warn", "a world of 1: Open MPI does not speak"),
        (doctor.check_way("srun", MPI, HUNG, []), "warn", "starting 2 ranks gave no answer within 30 s"),
        (doctor.check_mpirun(WELL, MPI, TWO), "ok", "Open MPI 5.0.11), 2 ranks see each other"),
        (doctor.check_mpirun(WELL, MPI, Probe(facts={"size": 1})), "missing", "a world of 1"),
        (doctor.check_mpirun(WELL, MPI, HUNG), "missing", "starting 2 ranks gave no answer"),
        (doctor.check_mpirun(replace(WELL, mpirun=None), MPI, TWO), "missing", "not on the PATH"),
        (doctor.check_mpirun(replace(WELL, mpirun=None, srun="srun"), MPI, TWO), "warn", "srun is there"),
        (doctor.check_horovod(WELL, HOROVOD), "ok", "0.28.1 with operations: MPI"),
        (doctor.check_horovod(without("horovod"), HOROVOD), "missing", "not installed"),
        (doctor.check_horovod(WELL, HUNG), "warn", "starting it gave no answer"),
        (doctor.check_horovod(WELL, Probe(facts=dict(HOROVOD.facts) | {"MPI": False})), "warn", "operations: none"),
        (doctor.check_gpu(WELL, TORCH, HOROVOD), "ok", "no GPU"),
        (doctor.check_gpu(replace(WELL, nvidia_smi="nvidia-smi"), TORCH, HOROVOD), "warn", "torch sees no GPU"),
        (
            doctor.check_gpu(WELL, GPU_TORCH, HOROVOD),
            "warn",
            "2 x A, torch's CUDA 13.0, NCCL 2.27.7; Horovod is without",
        ),
        (doctor.check_gpu(WELL, GPU_TORCH, Probe(facts=dict(HOROVOD.facts) | {"NCCL": True})), "ok", "NCCL 2.27.7"),
        (doctor.check_gpu_path(TORCH, MPI), "ok", "not needed"),
        (doctor.check_gpu_path(GPU_TORCH, MPI), "warn", "staged through the host"),
        (doctor.check_gpu_path(GPU_TORCH, Probe(facts={"cuda_aware": True})), "ok", "yes"),
        (doctor.check_gpu_path(GPU_TORCH, HUNG), "warn", "unknown"),
        (doctor.check_slurm(WELL), "ok", "not here"),
        (doctor.check_slurm(replace(WELL, srun="bin/srun")), "warn", "sbatch is missing"),
        (doctor.check_slurm(replace(WELL, srun="bin/srun", sbatch="bin/sbatch")), "ok", "bin"),
        (doctor.check_memory(WELL, 4), "ok", "16384 MiB free"),
        (doctor.check_memory(WELL, 17), "warn", "17 ranks may need 17408 MiB"),
        (doctor.check_memory(replace(WELL, available_MiB=None), 4), "ok", "not reported"),
        (doctor.check_cores(WELL, 4), "ok", "4 cores for 4 ranks"),
        (doctor.check_cores(WELL, 5), "warn", "oversubscribed"),
    ],
)
def test_verdicts(check: Check, state: str, words: str) -> None:
    assert check.state == state
    assert words in check.detail
    assert check.remedy or check.state == "ok"


def test_exit_code_counts_required_checks_only() -> None:
    fine = [doctor.check_python(WELL), doctor.check_horovod(without("horovod"), HOROVOD), doctor.check_cores(WELL, 99)]
    assert doctor.exit_code(fine) == 0
    assert doctor.exit_code([*fine, doctor.check_mpi(HUNG)]) == 1


def test_text_has_a_line_each_and_remedies_only_where_needed() -> None:
    checks = [doctor.check_python(WELL), doctor.check_mpi4py(without("mpi4py"))]
    lines = doctor.as_text(checks).splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "missing", "remedy:", "Paceline"]
    assert "cannot run here yet: mpi4py" in lines[-1]


def test_main_prints_json_and_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def examine(ranks: int) -> list[Check]:
        return [doctor.check_cores(WELL, ranks), doctor.check_mpi(HUNG)]

    assert doctor.main(["--json", "--ranks", "8"], examine=examine) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["ranks"]) == (False, 8)
    assert [(check["name"], check["state"]) for check in answer["checks"]] == [
        ("cores", "warn"),
        ("MPI library", "missing"),
    ]


@pytest.mark.parametrize("ranks", ["0", "-1", "two"])
def test_ranks_must_be_a_positive_number(ranks: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        doctor.main([f"--ranks={ranks}"])
    assert f"got '{ranks}'" in capsys.readouterr().err


def test_a_hanging_probe_is_ended_with_all_it_started() -> None:
    program = (
        "import signal, subprocess, sys;"
        "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']); signal.pause()"
    )
    probe = doctor.run_probe(python(program), timeout_s=0.5)
    assert probe.problem == "gave no answer within 0.5 s and was ended"


def test_a_crashing_probe_is_reported_in_one_line() -> None:
    probe = doctor.run_probe(python("import no_such_module"))
    assert probe.problem == "failed with exit code 1: ModuleNotFoundError: No module named 'no_such_module'"


def test_a_probe_killed_by_a_signal_is_reported() -> None:
    assert doctor.run_probe(python("import os; os.abort()")).problem.startswith("failed with exit code -6")


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    assert "could not be started" in doctor.run_probe([str(tmp_path / "absent")]).problem


def test_noise_around_the_answer_is_skipped() -> None:
    probe = doctor.read_probe(0, 'warning: noise\n{"size": 2}\ntrailing noise\n', "")
    assert probe.facts == {"size": 2}
    assert "unexpected: 7" in doctor.read_probe(0, "7\n", "").problem


def test_probes_never_join_a_running_job_and_root_is_allowed() -> None:
    base = {"PMIX_RANK": "1", "OMPI_COMM_WORLD_RANK": "1", "PMI_RANK": "1", "LANG": "C"}
    env = doctor.probe_environment(base, effective_user=0)
    assert not {"PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"} & set(env)
    assert env["LANG"] == "C" and env["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert "OMPI_ALLOW_RUN_AS_ROOT" not in doctor.probe_environment(base, effective_user=1000)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("mpirun (Open MPI) 5.0.11", "Open MPI"),
        ("HYDRA build details:\n    Version: 4.0.2", "MPICH"),
        ("MPICH Version: 5.0.2", "MPICH"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.13", "Intel MPI"),
        ("something", ""),
    ],
)
def test_mpi_family(text: str, family: str) -> None:
    assert doctor.mpi_family(text) == family


def test_help_answers_without_torch_or_mpi() -> None:
    program = (
        "import sys; import bench.doctor;"
        "sys.exit(any(name.split('.')[0] in {'torch', 'mpi4py', 'horovod', 'numpy', 'pandas'} for name in sys.modules))"
    )
    root = str(Path(doctor.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": root}
    assert subprocess.run([sys.executable, "-c", program], env=env, check=False).returncode == 0


def test_ways_of_starting_ranks_are_tried_inside_jobs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(doctor, "run_probe", lambda *_: pytest.fail("started something"))
    assert doctor.try_ways(replace(WELL, srun="srun"), MPI) == []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert doctor.try_ways(WELL, MPI) == []  # no srun


def test_who_does_not_see_the_others_is_told_what_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "run_probe", lambda command, _: Probe(facts={"size": 1 + ("--mpi=pmix" in command)}))
    checks = {check.name: check for check in doctor.try_ways(replace(WELL, srun="srun"), MPI)}
    assert {name: check.state for name, check in checks.items()} == {
        "srun --mpi=pmix": "ok", "srun --mpi=pmi2": "warn", "srun --mpi=none": "warn", "torchrun": "warn",
    }  # fmt: skip
    assert checks["srun --mpi=pmi2"].remedy == "use one of: srun --mpi=pmix"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.mpi
def test_this_machine_can_run_paceline() -> None:
    checks = doctor.examine(ranks=2)
    assert doctor.exit_code(checks) == 0, doctor.as_text(checks)
