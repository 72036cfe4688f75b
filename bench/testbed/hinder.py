"""Hinders a bed: sets the rates of thin links, slows hosts down, and cuts links off at their times in each run."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial

from bench.testbed.bed import Bed, Host
from bench.testbed.here import CLOCKS
from bench.testbed.hindrances import Outage
from bench.testbed.pauses import Pauses, processes_of
from bench.testbed.quota import procs

BUSY_S = 0.6
BUSY = f"""
import time
begun, ran = time.monotonic(), time.process_time()
while time.monotonic() < begun + {BUSY_S}: pass
print((time.monotonic() - begun) / (time.process_time() - ran))
"""
"""Says what share of a core a busy thread gets, inverted."""


def hinder(bed: Bed, quotas: Mapping[str, str]) -> dict[str, object]:
    """Hinder a bed as its settings say; what its provenance is to say of it.

    Args:
        quotas: number of a host -> folder of the cgroup that its processes are put into; a slow host without one is
            slowed down by pauses.
    """
    testbed = bed.testbed
    for number, rate in (testbed.thin_link or {}).items():
        bed.set_rate(bed.hosts[int(number)], rate)
    if testbed.outage:
        Outages(bed, testbed.outage)
    measured = {}
    for number, factor in (testbed.slow_host or {}).items():
        host = bed.hosts[int(number)]
        if number not in quotas:
            Pauses(partial(processes_of, host.pid), testbed.ranks_per_host / factor)
        measured[number] = round(slower(bed, host, quotas.get(number)), 2)
    return {"slowed_by": "cgroup quota" if quotas else "pauses", "measured_factor": measured} if measured else {}


def slower(bed: Bed, host: Host, quota: str | None) -> float:
    """How many times less than a core of its own a busy thread gets on a host, now."""
    join = f"echo 0 > {shlex.quote(procs(quota))}; " if quota else ""
    busy = f"{join}exec {shlex.quote(sys.executable)} -c {shlex.quote(BUSY)}"
    done = subprocess.run(bed.command(host, ["sh", "-c", busy]), capture_output=True, text=True, check=True)
    return float(done.stdout)


class Outages:
    """Takes links down and up again at their times on each run's clock, in a thread of its own.

    A run that ends earlier leaves no link down: the next begins with all of them up.
    """

    def __init__(self, bed: Bed, outages: Sequence[Outage], path: str = CLOCKS) -> None:
        self._bed, self._outages = bed, outages
        self._timers: list[threading.Timer] = []
        self._down: set[int] = set()
        self._lock = threading.Lock()
        self._said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._said.bind(path)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            elapsed_s = json.loads(self._said.recv(256))
            for timer in self._timers:
                timer.cancel()
            self._timers = []
            with self._lock:
                for host in sorted(self._down):
                    self._set(host, up=True)
            if elapsed_s is not None:
                self._begin(elapsed_s)

    def _begin(self, elapsed_s: float) -> None:
        for outage in self._outages:
            for at_s, up in ((outage.from_s, False), (outage.to_s, True)):
                if outage.to_s > elapsed_s:
                    timer = threading.Timer(max(at_s - elapsed_s, 0.0), self._change, (outage.host, up))
                    timer.daemon = True
                    timer.start()
                    self._timers.append(timer)

    def _change(self, host: int, up: bool) -> None:
        with self._lock:
            self._set(host, up=up)

    def _set(self, host: int, *, up: bool) -> None:
        self._bed.set_link(self._bed.hosts[host], up=up)
        (self._down.discard if up else self._down.add)(host)
