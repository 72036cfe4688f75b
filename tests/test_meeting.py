"""How a process finds out how it was started, and how processes without MPI's start-up meet."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import meeting, started
from bench.settings import StudyError

STEP = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
TORCH = {"RANK": "2", "WORLD_SIZE": "4", "MASTER_ADDR": "here", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("environment", "ranks", "size"),
    [
        ({}, 0, 0),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3, 0),
        ({"PMI_SIZE": "3"}, 3, 0),
        ({"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, 0, 0),  # a batch script
        ({**STEP, "PMIX_RANK": "1"}, 4, 0),
        ({**STEP, "PMI_SIZE": "4", "PMI_RANK": "1"}, 4, 0),
        (STEP, 0, 4),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"}, 0, 0),  # a shell on a node
        (TORCH, 0, 4),
        ({**TORCH, "WORLD_SIZE": "1"}, 0, 0),
        ({**STEP, **TORCH}, 0, 4),
        ({**TORCH, "OMPI_COMM_WORLD_SIZE": "4"}, 4, 0),
    ],
)
def test_how_a_process_was_started(environment, ranks, size):
    assert started.inside_mpi(environment) == ranks
    call = started.called(environment)
    assert (call.size if call else 0) == size


def test_launches_of_one_job_do_not_meet_each_other():
    keys = {started.called({**STEP, **more}).key for more in ({}, {"SLURM_STEP_ID": "1"}, {"SLURM_RESTART_COUNT": "1"})}
    assert len(keys) == 3


def test_a_launch_from_a_shell_on_a_node_is_no_part_of_that_shells_step():
    shell = {**STEP, "SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0", "PMIX_MCA_gds": "hash", "PMI_FD": "3", "HOME": "/"}
    made = started.apart(shell)
    assert made["SLURM_OVERLAP"] == "1" and made["PMIX_MCA_gds"] == "hash" and made["HOME"] == "/"
    assert not {"PMIX_RANK", "PMI_FD"} & set(made)
    assert started.apart(STEP) == STEP


def test_a_command_for_one_process_is_refused_once():
    script = "from bench.started import need_one; need_one('predict')"
    ends = [
        subprocess.run([sys.executable, "-c", script], env={**os.environ, **TORCH, "RANK": rank}, capture_output=True)
        for rank in ("0", "1")
    ]
    assert b"predict is one process: got 4 from" in ends[0].stderr and ends[0].returncode == 1
    assert (ends[1].returncode, ends[1].stderr) == (2, b"")


PROGRAM = """
import json, os, socket, subprocess, sys, time
from pathlib import Path
from bench import meeting
from bench.interruption import ASKED
from bench.started import Call
rank, folder, what = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if rank:
    socket.gethostname = lambda: "other"

def work():
    ASKED.install()
    (folder / "met").touch()
    if what == "agent":
        os.environ["OF_THE_RUN"] = "7"
        agent, hosts = os.environ["PRTE_MCA_plm_ssh_agent"], os.environ["PRTE_MCA_prte_default_hostfile"]
        done = [subprocess.run([agent, "-x", host, "echo $OF_THE_RUN $0 $PPID; exit 5"], capture_output=True, text=True)
                for host in ("other", "nowhere")]
        print(json.dumps([Path(hosts).read_text(), *([d.returncode, d.stderr] for d in done)]))
    if what == "signal":
        while not ASKED.is_set:
            time.sleep(0.01)
        print(ASKED.name)
    if what == "fails":
        raise RuntimeError("no")
    return 85

sys.exit(meeting.attend(Call(rank, 2, "a test", "k", False), folder, work))
"""


def start(folder: Path, what: str) -> list[subprocess.Popen[str]]:
    """Two processes on what they believe to be two hosts."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(folder), what], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip


def test_the_agent_runs_a_command_on_the_other_host(tmp_path):
    first, other = start(tmp_path, "agent")
    said = json.loads(first.communicate(timeout=60)[0])
    other.communicate(timeout=60)
    assert said[0].splitlines() == [f"{socket.gethostname()} slots=1", "other slots=1"]
    assert said[1][0] == 5 and said[1][1].split() == ["7", "/bin/sh", str(other.pid)], "in the waiting process's care"
    assert said[2][0] == 255 and "none of the 2 processes is on a host 'nowhere'" in said[2][1]
    assert (first.returncode, other.returncode) == (85, 85)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["met"]


def test_a_signal_to_any_process_is_one_to_the_first(tmp_path):
    first, other = start(tmp_path, "signal")
    end_s = time.monotonic() + 60
    while not (tmp_path / "met").exists():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    other.send_signal(signal.SIGUSR2)
    assert first.communicate(timeout=60)[0].strip() == "SIGUSR2"
    other.communicate(timeout=60)
    assert (first.returncode, other.returncode) == (85, 85)


@pytest.mark.thorough
def test_the_others_end_with_the_first(tmp_path):
    first, other = start(tmp_path, "fails")
    assert "RuntimeError: no" in first.communicate(timeout=60)[1]
    other.communicate(timeout=60)
    assert (first.returncode, other.returncode) == (1, 2)


def test_who_does_not_know_the_token_is_not_listened_to():
    hub = meeting._Hub(started.Call(0, 2, "a test", "k", False))
    _, port, token = json.loads(hub.address)
    with pytest.raises(StudyError, match="none of these can be reached"):
        meeting._connected(["127.0.0.1"], port, "guessed", **meeting._about())
    meeting._connected(["127.0.0.1"], port, token, **meeting._about())
    hub.close(0)


def test_the_first_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE_S", 0.2)
    monkeypatch.setattr(meeting.ASKED, "install", lambda: None)
    with pytest.raises(StudyError, match=r"only 1 of 2 processes \(a test\) met within 0.2 s"):
        meeting.attend(started.Call(0, 2, "a test", "k", False), tmp_path, lambda: 0)
    with pytest.raises(StudyError, match=r"process 0 of 2 .* left no word in"):
        meeting.attend(started.Call(1, 2, "a test", "k", False), tmp_path, lambda: 0)
    assert list(tmp_path.iterdir()) == []
