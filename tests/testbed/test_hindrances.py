"""Slow hosts, thin links and outages: as they are said, and what they do to real hosts."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.records import Results, load
from bench.settings import StudyError, build
from bench.testbed import cli, quota, settings
from bench.testbed.pauses import Pauses, processor_s
from bench.testbed.settings import TCP_SHARE
from tests.testbed.commands import Traces, line, needs_bed, paceline

BUSY = """
import time
begun, ran = time.monotonic(), time.process_time()
while time.monotonic() < begun + 2: pass
print((time.monotonic() - begun) / (time.process_time() - ran))
"""

on_a_bed = pytest.mark.parametrize("bed", [pytest.param(None, marks=needs_bed, id="bed")])


def said(*options: str) -> settings.Testbed:
    """As the command line says them."""
    parser = argparse.ArgumentParser()
    cli.add_options(parser)
    return cli.testbed(cli._given(parser.parse_args(["--hosts", "4", "--rate", "1gbit", *options])))


def test_hindrances_are_said_by_host() -> None:
    bed = said("--slow-host", "3=6", "--thin-link", "2=10mbit", "--outage", "1=5s..8s", "--outage", "1=9s..9500ms")
    assert (bed.slow_host, bed.thin_link) == ({"3": 6.0}, {"2": 0.01})
    assert [(o.host, o.from_s, o.to_s) for o in bed.outage] == [(1, 5.0, 8.0), (1, 9.0, 9.5)]
    assert bed.suffix == "1gbit-slow3x6-thin2x10mbit-cut1x5-8-cut1x9-9.5"
    assert bed.title.startswith("testbed 1 Gbit/s, host 3 6 times slower, host 2 at 10 Mbit/s, host 1 cut off from 5 s")


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--slow-host", "6", "expected HOST=..., such as 3=6: got '6'"),
        ("--slow-host", "3=fast", "expected a number behind 3="),
        ("--slow-host", "3=0.5", "the factor must lie above 1"),
        ("--slow-host", "4=6", "slow_host names host '4': allowed are 0..3"),
        ("--thin-link", "2=10", "expected a number and one of kbit"),
        ("--outage", "1=5s", "expected two times with .. between"),
        ("--outage", "1=5s..4s", "0 <= from_s < to_s"),
        ("--outage", "9=5s..6s", "outage names host '9'"),
    ],
)
def test_what_cannot_hinder_is_refused(option: str, text: str, message: str) -> None:
    with pytest.raises(StudyError) as refused:
        said(option, text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_study_file_says_the_same() -> None:
    written = {"hosts": 4, "rate_Gbit_per_s": 1, "slow_host": {"3": 6}, "outage": [{"host": 1, "from_s": 5, "to_s": 8}]}
    assert build(settings.Testbed, written, "testbed") == said("--slow-host", "3=6", "--outage", "1=5s..8s")


@pytest.mark.thorough
def test_pauses_hold_a_process_to_its_share() -> None:
    """A twentieth of a core, which a busy machine has left, within 10 % by the kernel's account; no right is needed."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        Pauses(lambda: [process.pid], 0.05)
        time.sleep(0.5)
        begun_s, ran_s = time.monotonic(), processor_s(process.pid)
        time.sleep(3.0)
        share = (processor_s(process.pid) - ran_s) / (time.monotonic() - begun_s)
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()
    assert share == pytest.approx(0.05, rel=0.1)


@on_a_bed
def test_a_slow_host_gets_its_share_and_leaves_no_cgroup(bed: None) -> None:
    """A sixth of a core, within 5 %."""
    command = f"$PACELINE_TESTBED_AGENT host1 {sys.executable} -c '\"{BUSY}\"'; echo $PACELINE_TESTBED"
    done = paceline("exec", "--hosts", "2", "--rate", "1gbit", "--slow-host", "1=6", "--", "sh", "-c", command)
    assert done.returncode == 0, done.stderr
    factor, facts = done.stdout.splitlines()[-2:]
    assert float(factor) == pytest.approx(6.0, rel=0.05)
    assert json.loads(facts)["slowed_by"] in ("cgroup quota", "pauses")
    assert json.loads(facts)["measured_factor"]["1"] == pytest.approx(6.0, rel=0.1)
    assert not cgroups()


@on_a_bed
def test_a_killed_bed_leaves_no_cgroup(bed: None, tmp_path: Path) -> None:
    traces = Traces()
    options = ["--hosts", "2", "--rate", "1gbit", "--slow-host", "1=6", "--", "sh", "-c", "echo ready; sleep 60"]
    process = subprocess.Popen(
        line("exec", *options), env=traces.environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 10
    while (traces.processes() or cgroups()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not traces.processes() and not cgroups()


def cgroups() -> list[Path]:
    return [folder for parent in (quota.CGROUPS, quota.CGROUPS / "cpu") for folder in parent.glob("paceline-*-host*")]


@on_a_bed
def test_a_thin_link_has_its_own_rate(bed: None) -> None:
    """What headers leave of 100 Mbit/s, within 5 %; the other link stays faster, as far as the machine lets it."""
    command = ["mpirun", "-n", "3", sys.executable, "-m", "bench.micro.link_rate", "--seconds", "2"]
    options = ["--hosts", "3", "--rate", "1gbit", "--thin-link", "1=100mbit"]
    done = paceline("exec", *options, "--", *command, "--Gbit-per-s", "0.1")
    assert done.returncode == 0, done.stderr
    pairs = json.loads(done.stdout.splitlines()[-1])["pairs"]
    assert pairs["1"]["Gbit_per_s"] == pytest.approx(0.1 * TCP_SHARE, rel=0.05)
    assert pairs["2"]["Gbit_per_s"] > 0.3


@on_a_bed
def test_a_run_survives_an_outage(bed: None, tmp_path: Path) -> None:
    """Nothing arrives while the link is down, TCP goes on soon after, and all steps are done."""
    study = """
name = "cut"
workers = [2]
budget = { steps = 30, snapshots = 1 }
workload = [{ name = "quadratic", dimension = 100_000 }]
algorithm = [{ name = "d-psgd" }]
"""
    results = ran(tmp_path, study, "--thin-link", "1=100mbit", "--outage", "1=800ms..1800ms")
    run = results.runs.iloc[0]
    assert run.status == "completed" and run.steps == 60
    received = np.sort(results.events[results.events.kind == "recv"].t1_s)
    # What was under way arrives, then nothing until the link is up; each direction waits for TCP's own next try.
    assert not ((received > 0.95) & (received < 1.75)).any(), received
    assert (received < 0.8).any() and (received > 1.75).any() and np.diff(received).max() < 2.7
    assert json.loads(run.network)["testbed"]["outage"] == [{"host": 1, "from_s": 0.8, "to_s": 1.8}]
    assert "host 1 cut off from 0.8 s to 1.8 s" in json.loads(run.network)["testbed"]["title"]


def ran(folder: Path, study: str, *options: str) -> Results:
    (folder / "study.toml").write_text(study, encoding="utf-8")
    out = folder / "out"
    done = paceline("run", str(folder / "study.toml"), "--hosts", "2", "--rate", "1gbit", "--out", str(out), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return load(out)
