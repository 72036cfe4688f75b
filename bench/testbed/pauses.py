"""A share of the processor for a host without any right: its processes are stopped and continued by signals.

What they have run is read from the kernel's own account, so their share is right in the mean; each pause is as long as
the clock of an ordinary process makes it, so it is less even than a cgroup's quota.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TURN_S = 2e-3
"""Between two looks."""
SAVED_S = 10e-3
"""Processor time that is kept at most for later, when the host has had nothing to do."""
SEARCH_S = 0.05
"""Between two searches for new processes."""


class Pauses:
    """Holds processes to a share of a core, in a thread of its own until the end of this process.

    Args:
        processes: their ids, now.
        cores: their share, together.
    """

    def __init__(self, processes: Callable[[], list[int]], cores: float) -> None:
        self._processes, self._cores = processes, cores
        self._ran_s: dict[int, float] = {}
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        saved_s, stopped, before_s, search_s = 0.0, False, time.monotonic(), 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= search_s:
                found = set(self._processes())
                self._ran_s = {pid: self._ran_s.get(pid, 0.0) for pid in found}
                search_s = now_s + SEARCH_S
                if stopped:
                    _tell(found, signal.SIGSTOP)  # those that have come meanwhile
            saved_s = min(saved_s + (now_s - before_s) * self._cores, SAVED_S) - self._ran()
            before_s = now_s
            if (saved_s < 0) != stopped:
                stopped = saved_s < 0
                _tell(set(self._ran_s), signal.SIGSTOP if stopped else signal.SIGCONT)
            time.sleep(TURN_S)

    def _ran(self) -> float:
        """Processor time since the last look [s]."""
        total_s = 0.0
        for pid, before_s in self._ran_s.items():
            ran_s = processor_s(pid)
            total_s += max(ran_s - before_s, 0.0)
            self._ran_s[pid] = max(ran_s, before_s)
        return total_s


def _tell(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def processor_s(pid: int) -> float:
    """Processor time that all threads of a process have had [s]; 0 if it has ended."""
    total_ns = 0
    with suppress(OSError, ValueError, IndexError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns * 1e-9


def processes_of(holder: int) -> list[int]:
    """Processes of the host that a process holds, itself left out: those with its host name's namespace."""
    own = _host(holder)
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != holder and _host(pid) == own]


def _host(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""
