"""Nothing is left of a bed, however it ends: no process, no namespace, no network interface, no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.testbed.commands import Traces, end, line, links, needs_bed, until

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
def places():
    """Network interfaces, and the folders in which something temporary might be left."""

    def now():
        folders = [Path(tempfile.gettempdir()), Path("/dev/shm")]
        # Other programs use these folders, too: only what could be ours counts.
        names = [p.name for folder in folders for p in folder.iterdir()]
        return links(), sorted(n for n in names if n.startswith(("paceline", "prte", "ompi", "pmix", "host")))

    before = now()
    yield
    assert now() == before


@pytest.mark.parametrize("code", [0, 3])
def test_after_its_command_has_ended(places, code):
    traces = Traces()
    command = ["sh", "-c", f"mpirun -n 2 sleep 0.5; exit {code}"]
    process = subprocess.Popen(line("exec", *BED, "--", *command), env=traces.environment)
    until("the bed has namespaces", lambda: traces.note() >= 4 or process.poll() is not None)
    assert process.wait(60) == code
    assert traces.nothing_left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_after_a_signal_in_the_middle_of_a_run(places, tmp_path, number):
    traces = Traces()
    path = tmp_path / "endless.toml"
    path.write_text(ENDLESS)
    process = subprocess.Popen(
        line("run", str(path), *BED, "--out", str(tmp_path / "out")), env=traces.environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    until("ranks are at work", lambda: list((tmp_path / "out").glob("runs/*")) or process.poll() is not None)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    assert traces.note() >= 4 + 2 * 3  # the head's, and each host's own
    code = end(process, number)
    assert code == {signal.SIGTERM: 85, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert traces.nothing_left() == []


@pytest.mark.parametrize("which", ["unshare", "bench.testbed.inside", "sleep"])
def test_after_one_of_its_own_processes_was_killed(places, which):
    """The one that waits for the namespaces, the first in them, and the command itself."""
    traces = Traces()
    process = subprocess.Popen(line("exec", *BED, "--", "sleep", "600"), env=traces.environment)

    def victims():
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in traces.processes()}
        wanted = {"unshare": [b"unshare", b"--net"], "sleep": [b"sleep", b"600"]}.get(which)
        own = {pid: words for pid, words in lines.items() if words[:2] == wanted or which.encode() in words[2:3]}
        return [pid for pid, words in own.items() if b"sh" not in words]

    until(which, lambda: any(b"600" in Path(f"/proc/{p}/cmdline").read_bytes() for p in _sleeping(traces)))
    traces.note()
    os.kill(min(victims()), signal.SIGKILL)
    assert process.wait(60) != 0
    assert traces.nothing_left() == []


def _sleeping(traces):
    return [pid for pid in traces.processes() if Path(f"/proc/{pid}/comm").read_text() == "sleep\n"]
