"""A scheduler's signal: what is complete stays, the exit code says that the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bench.interruption import EXIT_CODE, SIGNALS, Flag
from bench.records import load

STUDY = """
name = "long"
workers = [2]
transports = ["simulated"]
[budget]
seconds = 1.0
[[workload]]
name = "quadratic"
label = "short"
compute = { gradient_s = 0.01 }
[[workload]]
name = "quadratic"
label = "endless"
budget = { seconds = 1e4, snapshots = 1 }
compute = { gradient_s = 1e-3 }
[[algorithm]]
name = "allreduce-sgd"
workloads = ["short"]
[[algorithm]]
name = "local-sgd"
workloads = ["endless"]
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_with_the_exit_code_for_requeueing(tmp_path, number):
    study = tmp_path / "long.toml"
    study.write_text(STUDY)
    out = tmp_path / "out"
    run = [sys.executable, "-m", "paceline", "run", str(study), "--out", str(out)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "completed" in line:
                os.kill(process.pid, number)
                break
        said += process.stderr.read()
        assert process.wait(60) == EXIT_CODE, said
    assert f"interrupted by {signal.Signals(number).name}; what is complete is in {out}" in said
    runs = load(out).runs
    assert list(runs["algorithm"]) == ["allreduce-sgd"] and list(runs["status"]) == ["completed"]


def test_the_handler_sets_a_flag_and_does_nothing_else():
    flag = Flag()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        flag.install()
        assert not flag.is_set
        os.kill(os.getpid(), signal.SIGUSR2)
        assert flag.is_set and flag.name == "SIGUSR2"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
