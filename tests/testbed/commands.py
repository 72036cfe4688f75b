"""How tests start `paceline testbed`, and find what it may have left behind."""

from __future__ import annotations

import os
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

    def environment(self, temporary: Path) -> dict[str, str]:
        """For the command, which should leave nothing in this folder."""
        return {**os.environ, MARK: self.mark, "TMPDIR": str(temporary)}

    def processes(self) -> list[int]:
        """Of the command, zombies left out."""
        return [pid for pid in pids() if f"{MARK}={self.mark}".encode() in said(pid, "environ").split(b"\0")]

    def note(self) -> int:
        """Remember the namespaces that the command's processes are in now; how many that are not ours."""
        own = {_namespace(os.getpid(), kind) for kind in ("net", "mnt", "pid", "uts")}
        seen = {_namespace(pid, kind) for pid in self.processes() for kind in ("net", "mnt", "pid", "uts")}
        self.namespaces |= seen - own - {""}
        return len(self.namespaces)

    def left(self, since_s: float) -> list[str]:
        """What is left: processes; namespaces that a process is in which was there before `since_s`, since the kernel
        gives their numbers to new ones; and namespaces that are mounted."""
        kinds = ("net", "mnt", "pid", "uts")
        found = [f"process {pid}: {said(pid, 'cmdline')!r}" for pid in self.processes()]
        alive = {_namespace(pid, kind) for pid in pids() if _started_s(pid) <= since_s for kind in kinds}
        found += sorted(self.namespaces & alive)
        mounted = Path("/proc/self/mountinfo").read_text()
        return found + [name for name in self.namespaces if name in mounted]

    def nothing_left(self, within_s: float = 10.0) -> list[str]:
        """The same, once the command has ended, as soon as it is empty, or after some time."""
        now_s, end = time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic() + within_s
        while (left := self.left(now_s)) and time.monotonic() < end:
            time.sleep(0.05)
        return left


def until(what: str, true: object, within_s: float = 120.0) -> None:
    """Wait until `true()` is.

    Raises:
        AssertionError: it did not become so.
    """
    assert callable(true)
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def links() -> Sequence[str]:
    """Network interfaces of this machine."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def pids() -> list[int]:
    """Of all processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def said(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty for a process that has ended."""
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _started_s(pid: int) -> float:
    """Since the machine started; infinite for a process that has ended."""
    fields = said(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else float("inf")


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""
