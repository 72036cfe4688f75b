"""Into namespaces of our own: network, mounts, host name and process ids, and a user namespace for who is not root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from bench.settings import StudyError, plain
from bench.testbed import quota
from bench.testbed.settings import Testbed

PROGRAMS = ("ip", "tc", "unshare", "nsenter", "setpriv", "mount", "hostname")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
OTHERWISE = "without a bed, rate_Gbit_per_s in the study file limits what each rank sends, and needs no privileges"
TRIAL = (
    "ip link add link0 type veth peer name link1 && ip link add switch type bridge && "
    "tc qdisc add dev link0 root tbf rate 1mbit burst 16k limit 64k"
)


def missing() -> str:
    """Why there can be no bed here; "" if there can."""
    _find_programs()
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: apt-get install iproute2 util-linux mount hostname)"
    reasons = []
    for user in _users():
        tried = subprocess.run([*_namespaces(user), "sh", "-c", TRIAL], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return ""
        reasons.append((tried.stderr.strip() or f"exit code {tried.returncode}").splitlines()[0])
    return f"hosts from namespaces are not permitted here: {reasons[-1]}"


def enter(testbed: Testbed, command: Sequence[str]) -> int:
    """Run a command on the head of a new bed; its exit code.

    Signals go to the command. When this process ends, in whatever way, so does the bed and all that runs in it.

    Raises:
        StudyError: there can be no bed here.
    """
    if reason := missing():
        raise StudyError(f"{reason}; {OTHERWISE}")
    user = next(u for u in _users() if not _fails(u))
    read, write = os.pipe()
    shares = {host: testbed.ranks_per_host / factor for host, factor in (testbed.slow_host or {}).items()}
    quotas = quota.make(shares)
    janitor = quota.remove_at_our_end(quotas.values()) if quotas else None
    told = [json.dumps(plain(testbed)), json.dumps(quotas), str(read)]
    inside = [sys.executable, "-m", "bench.testbed.inside", *told, *command]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *_namespaces(user), *inside],
        stdin=subprocess.DEVNULL, pass_fds=[read], start_new_session=True,
    )  # fmt: skip
    os.close(read)

    def tell(number: int, frame: FrameType | None) -> None:
        os.write(write, bytes([number]))

    before = {number: signal.signal(number, tell) for number in SIGNALS}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)
        if janitor is not None:
            janitor.communicate()


def _users() -> list[list[str]]:
    """Options for a user namespace: none for root if that is enough."""
    own = ["--user", "--map-root-user"]
    return [[], own] if os.geteuid() == 0 else [own]


def _namespaces(user: list[str]) -> list[str]:
    own = ["--net", "--mount", "--uts", "--ipc", "--pid", "--mount-proc"]
    return ["unshare", *user, *own, "--fork", "--kill-child=KILL", "--"]


def _fails(user: list[str]) -> bool:
    return subprocess.run([*_namespaces(user), "true"], capture_output=True, check=False).returncode != 0


def _find_programs() -> None:
    """Ordinary users' PATH often lacks the folders of ip and tc."""
    for folder in ("/usr/sbin", "/sbin"):
        if folder not in os.environ.get("PATH", "").split(":"):
            os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{folder}"
