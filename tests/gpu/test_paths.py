"""Whether MPI takes device memory is found out by trying, and everything but success means no."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.launch import environment_for_ranks, mpirun
from bench.transports.paths import CUDA_AWARE, WORKS, gpu_visible, no_nccl, probed, told_aware
from tests.gpu.support import needs_gpu
from tests.support.mpi_launch import ROOT, require


def verdict(program: str, timeout_s: float = 20.0) -> dict[str, str]:
    return probed([], dict(os.environ), program=[sys.executable, "-c", program], timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (f"print({WORKS!r})", "1"),
        ("print('3 messages arrived changed'); raise SystemExit(1)", "0"),
        (f"print({WORKS!r}); raise SystemExit(1)", "0"),
        ("pass", "0"),
        (f"import os; print({WORKS!r}, flush=True); os.kill(os.getpid(), 11)", "0"),
    ],
    ids=["works", "wrong bytes", "wrong in the end", "silent", "crash"],
)
def test_only_a_probe_that_ends_well_counts(program: str, expected: str) -> None:
    assert verdict(program) == {CUDA_AWARE: expected}


@pytest.mark.thorough
def test_a_probe_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    child = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    t0 = time.monotonic()
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert verdict(program, timeout_s=1.5) == {CUDA_AWARE: "0"}
    assert time.monotonic() - t0 < 10
    if started.exists():
        with pytest.raises(ProcessLookupError):
            for _ in range(100):
                os.kill(int(started.read_text()), 0)
                time.sleep(0.05)


def test_who_has_decided_himself_is_believed() -> None:
    environment = {**os.environ, CUDA_AWARE: "1"}
    assert probed(["/no/such/launcher"], environment) == {}
    assert told_aware(environment) and not told_aware({CUDA_AWARE: "0"}) and not told_aware({})
    with pytest.raises(ValueError, match=r"PACELINE_CUDA_AWARE must be 0 or 1: got 'yes'"):
        probed([], {CUDA_AWARE: "yes"})


def test_a_gpu_is_looked_for_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert not gpu_visible({}, tmp_path)
    (tmp_path / "nvidia0").touch()
    assert gpu_visible({}, tmp_path) and gpu_visible({"CUDA_VISIBLE_DEVICES": "1"}, tmp_path)
    assert not gpu_visible({"CUDA_VISIBLE_DEVICES": ""}, tmp_path)
    assert not gpu_visible({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path)


@pytest.mark.parametrize(
    ("gpus", "built", "why"),
    [
        (["a 1", "a 2", "b 1"], True, ""),
        (["a 1", "a 1", "a 1", "a 1"], True, "4 workers share 1 GPU"),
        (["a 1", "a 2", "a 1"], True, "3 workers share 2 GPUs"),
        (["a 1", "a 2"], False, "Horovod was built without it"),
        (["a 1", ""], True, "some workers have no GPU"),
    ],
)
def test_nccl_needs_a_gpu_for_each_worker(gpus: list[str], built: bool, why: str) -> None:
    assert no_nccl(gpus, built=built) == why


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    require("mpi")
    return subprocess.run(
        [mpirun(), "-n", "2", sys.executable, "-m", "bench.transports.cuda_probe", *arguments],
        cwd=ROOT, env=environment_for_ranks(2), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.mpi
def test_the_probe_sends_what_it_says_by_the_code_of_runs() -> None:
    """On the CPU: messages are put together and taken apart as on a GPU, and MPI sends from torch's own memory."""
    done = probe("--device", "cpu", "--paths", "device", "pinned")
    assert done.returncode == 0 and WORKS in done.stdout, done.stderr[-3000:]


@pytest.mark.mpi
@needs_gpu
def test_page_locked_messages_arrive_on_the_gpu() -> None:
    done = probe("--paths", "pinned")
    assert done.returncode == 0 and WORKS in done.stdout, done.stderr[-3000:]
