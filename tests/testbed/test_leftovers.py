"""Nothing is left of a bed, however it ends: no process, no namespace, no network interface, no folder."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.commands import Traces, line, links, needs_bed, said, until

pytestmark = needs_bed

BED = ("--hosts", "2", "--rate", "1gbit")
ENDLESS = """
name = "endless"
workers = [2]
[budget]
seconds = 600
snapshots = 1
[[workload]]
name = "quadratic"
[[algorithm]]
name = "allreduce-sgd"
"""


@pytest.fixture
def temporary(tmp_path):
    """The folder for temporary files that the command is told of; afterwards it is empty, and this machine as before.

    Other programs use the machine's memory, too: only names that could be ours count.
    """

    def seen():
        return links(), sorted(p.name for p in Path("/dev/shm").iterdir() if p.name.startswith(("paceline", "host")))

    before, folder = seen(), tmp_path / "temporary"
    folder.mkdir()
    yield folder
    assert seen() == before
    assert list(folder.iterdir()) == []


@pytest.fixture
def start():
    """Starts `paceline testbed`, and ends what a failed test leaves running."""
    started = []

    def start(*arguments, **more):
        # Started from a shell's background, we would hand down that SIGINT is ignored.
        default = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        started.append(subprocess.Popen(line(*arguments), preexec_fn=default, **more))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("code", [0, 3])
def test_after_its_command_has_ended(temporary, start, code):
    traces = Traces()
    command = ["sh", "-c", f"mpirun -n 2 sleep 0.5; exit {code}"]
    process = start("exec", *BED, "--", *command, env=traces.environment(temporary))
    until("the bed has namespaces", lambda: traces.note() >= 4 or process.poll() is not None)
    assert process.wait(60) == code
    assert traces.nothing_left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_after_a_signal_in_the_middle_of_a_run(temporary, start, tmp_path, number):
    traces = Traces()
    path = tmp_path / "endless.toml"
    path.write_text(ENDLESS)
    process = start(
        "run", str(path), *BED, "--out", str(tmp_path / "out"), env=traces.environment(temporary), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    until("ranks are at work", lambda: list((tmp_path / "out").glob("runs/*")) or process.poll() is not None)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    assert traces.note() >= 4 + 2 * 3  # the head's, and each host's own
    process.send_signal(number)
    assert process.wait(60) == {signal.SIGTERM: 85, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert traces.nothing_left() == []


@pytest.mark.parametrize(
    "victim",
    [(b"unshare", b"--net"), (sys.executable.encode(), b"-m", b"bench.testbed.inside"), (b"sleep", b"600")],
    ids=["who waits outside", "the first inside", "the command"],
)
def test_after_one_of_its_own_processes_was_killed(temporary, start, victim):
    traces = Traces()
    process = start("exec", *BED, "--", "sleep", "600", env=traces.environment(temporary))

    def running(words):
        return [pid for pid in traces.processes() if tuple(said(pid, "cmdline").split(b"\0")[: len(words)]) == words]

    until("the command runs", lambda: running((b"sleep", b"600")) or process.poll() is not None)
    traces.note()
    (pid,) = running(victim)
    os.kill(pid, signal.SIGKILL)
    assert process.wait(60) not in (0, None)
    assert traces.nothing_left() == []
