"""A scheduler's signal: what is complete stays, the exit code says that the same command goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

import paceline
from bench import lanes, provenance
from bench.interruption import EXIT_CODE, SIGNALS, Flag, Interrupted
from bench.records import load
from bench.run import run_cell
from bench.study import resolve

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


@pytest.mark.thorough
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


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_reproduce_says_that_it_goes_on_and_leaves_no_process(tmp_path, number):
    """In the midst of an experiment that takes a minute and more, and of which nothing is kept."""
    out = tmp_path / "out"
    call = [sys.executable, "-m", "paceline", "reproduce", "async-momentum", "--only", "B4", "--out", str(out)]
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # where this is run in a shell's background
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True, preexec_fn=default) as process:
        family = []
        while len(family) < 2 and process.poll() is None:  # one watches over what they share
            family = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else EXIT_CODE), said
    words = f"interrupted by {signal.Signals(number).name}; what is complete is in {out}, the same command goes on"
    assert words in said and "Traceback" not in said, said
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert not list(out.rglob("*.parquet"))


def test_lanes_let_go_of_what_they_do_when_a_signal_comes(monkeypatch):
    flag = Flag()
    monkeypatch.setattr(lanes, "ASKED", flag)
    with pytest.raises(Interrupted, match="SIGTERM"), lanes.Lanes(2) as two:
        for seconds, _ in two.work_off(time.sleep, [0.0, 1e4]):
            assert seconds == 0.0
            flag.signal = signal.SIGTERM
    assert not multiprocessing.active_children()
    with pytest.raises(Interrupted, match="SIGTERM"), lanes.Lanes(1) as one:
        next(one.work_off(time.sleep, [1e4]))


def test_an_interrupted_command_ends_with_one_line(monkeypatch, capsys):
    def main(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("reports.cli.main", main)
    assert paceline.main(["report", "."]) == 130
    assert capsys.readouterr().err == "\npaceline report: interrupted\n"


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


GOES_ON = """
name = "goes-on"
workers = [3]
transports = ["simulated"]
network = { latency_s = 1e-4, bandwidth_Gbit_per_s = 1e-2 }
[[workload]]
name = "quadratic"
budget = { seconds = 12.0, snapshots = 7 }
compute = { gradient_s = 1e-3, distribution = "lognormal", sigma = 0.3 }
[[algorithm]]
name = "d-psgd"
"""


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_interrupted_three_times_a_run_is_the_uninterrupted_one(tmp_path):
    """By signals to the command, each part in processes of its own: the same held-out table, bit for bit, and the same
    events."""
    study = tmp_path / "goes-on.toml"
    study.write_text(GOES_ON)

    def command(out):
        return [sys.executable, "-m", "paceline", "run", str(study), "--out", str(out)]

    out = tmp_path / "out"
    for number in range(3):
        with subprocess.Popen(command(out), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            if number == 0:
                while not list(out.glob("runs/*")) and process.poll() is None:
                    time.sleep(0.05)
            else:
                assert any("goes on at" in line for line in process.stderr)
            os.kill(process.pid, signal.SIGUSR2)
            said = process.stderr.read()
            assert process.wait(120) == EXIT_CODE, said
        assert "its state is saved" in said
        assert [path.name for path in out.glob("runs/*/checkpoint/*")] == [f"{number + 1:04d}"]
        assert load(out).runs.empty
    ended = subprocess.run(command(out), check=True, capture_output=True, text=True)
    assert "after 3 interruptions" in ended.stderr
    assert not list(out.glob("runs/*/checkpoint"))
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    ours, theirs = load(out), load(tmp_path / "whole")
    assert list(ours.runs["interruptions"]) == [3] and list(theirs.runs["interruptions"]) == [0]
    assert list(ours.runs["status"]) == ["completed"]
    for name in ("steps", "samples", "nbytes", "wire_nbytes", "duration_s", "mailbox_depth_max"):
        assert list(ours.runs[name]) == list(theirs.runs[name])
    assert ours.heldout.equals(theirs.heldout)

    def in_order(results):
        frame = results.events.drop(columns="run_id").astype({"kind": str, "label": str})
        return frame.sort_values(list(frame.columns)).reset_index(drop=True)

    assert in_order(ours).equals(in_order(theirs))


class After:
    """A wish that comes at the k-th time it is asked for."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_going_on_with_other_code_is_said_and_recorded(tmp_path, monkeypatch):
    table = {
        "name": "s", "transports": ["simulated"], "workload": {"name": "quadratic"}, "budget": {"steps": 20},
        "algorithm": {"name": "allreduce-sgd"},
    }  # fmt: skip
    (cell,) = resolve(table).cells()
    notes = []
    monkeypatch.setattr(provenance, "code", lambda: "before")
    for _ in range(2):
        with pytest.raises(Interrupted):
            run_cell(cell, tmp_path, world=None, wish=After(3), note=notes.append)
    assert len(notes) == 1 and notes[0].startswith("goes on at"), "the same code: nothing to warn of"
    monkeypatch.setattr(provenance, "code", lambda: "now")
    run_cell(cell, tmp_path, world=None, wish=After(99), note=notes.append)
    assert notes[2].startswith("warning: the code has changed")
    (run,) = load(tmp_path).runs.itertuples()
    assert json.loads(run.provenance)["code before interruptions"] == ["before", "before"]
