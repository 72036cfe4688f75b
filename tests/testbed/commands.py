"""How tests start `paceline testbed`, and find what it may have left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.testbed.enter import missing

REASON = missing()
needs_bed = [pytest.mark.testbed, pytest.mark.skipif(bool(REASON), reason=REASON or "a bed can be made")]

MARK = "PACELINE_TEST_MARK"


def paceline(*arguments: str, timeout: float = 240.0, **more: str) -> subprocess.CompletedProcess[str]:
    """`paceline testbed` to its end."""
    return subprocess.run(
        line(*arguments), env={**os.environ, **more}, capture_output=True, text=True, timeout=timeout, check=False
    )


def line(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "paceline", "testbed", *arguments]


@dataclass
class Traces:
    """All that one command starts, told by a mark in the environment; what is there at the end must be nothing."""

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    namespaces: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """For the command."""
        return {**os.environ, MARK: self.mark}

    def processes(self) -> list[int]:
        """Of the command, zombies left out."""
        return [pid for pid in _pids() if f"{MARK}={self.mark}".encode() in _bytes(pid, "environ").split(b"\0")]

    def note(self) -> int:
        """Remember the namespaces that the command's processes are in now; how many that are not ours."""
        own = {_namespace(os.getpid(), kind) for kind in ("net", "mnt", "pid", "uts")}
        seen = {_namespace(pid, kind) for pid in self.processes() for kind in ("net", "mnt", "pid", "uts")}
        self.namespaces |= seen - own - {""}
        return len(self.namespaces)

    def left(self) -> list[str]:
        """What is left: processes, and namespaces that any process of the machine is in or that are mounted."""
        kinds = ("net", "mnt", "pid", "uts")
        found = [f"process {pid}: {_bytes(pid, 'cmdline')!r}" for pid in self.processes()]
        alive = {_namespace(pid, kind) for pid in _pids() for kind in kinds}
        found += sorted(self.namespaces & alive)
        mounted = Path("/proc/self/mountinfo").read_text()
        return found + [name for name in self.namespaces if name in mounted]

    def nothing_left(self, within_s: float = 10.0) -> list[str]:
        """The same, as soon as it is empty, or after some time."""
        end = time.monotonic() + within_s
        while (left := self.left()) and time.monotonic() < end:
            time.sleep(0.05)
        return left


def until(what: str, true: object, within_s: float = 60.0) -> None:
    """Wait until `true()` is.

    Raises:
        AssertionError: it did not become so.
    """
    assert callable(true)
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
    """Send a signal and wait; the exit code."""
    process.send_signal(number)
    return process.wait(60)


def links() -> Sequence[str]:
    """Network interfaces of this machine."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _bytes(pid: int, name: str) -> bytes:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""
