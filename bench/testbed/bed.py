"""The bed itself: hosts that are namespaces, a switch, and links with a rate.

Made inside a namespace of our own (see `bench.testbed.enter`), whose end takes everything away, however it comes::

    head                      here run mpirun and the supervisor; not on the shaped network
      switch                  a bridge; its ports port0, port1, ... are shaped: what goes down to a host
      launch                  a bridge for start-up, output and the end of programs, unshaped
    host0, host1, ...         a process each that holds its namespaces (network, mounts, host name)
      shaped                  the link to the switch; shaped: what goes up
      launch                  the link to the head
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.testbed import shape
from bench.testbed.settings import Testbed

SHM = Path("/dev/shm")
"""The head's is a tmpfs of its own, a host's a folder of it: two hosts must not meet in their machine's memory."""
FOLDER = SHM / "paceline-testbed"
"""What all hosts see."""
TEMPORARY = SHM / "tmp"
"""Each host's own."""
SHAPED, LAUNCH, SWITCH = "shaped", "launch", "switch"
QUIET = "addrgenmode none"
"""No IPv6 address, so that nothing is sent to find out about neighbours and routers."""


@dataclass(frozen=True)
class Host:
    """One host of the bed."""

    name: str
    pid: int  # of the process that holds its namespaces
    address: str  # on the shaped network
    port: str  # the switch's end of its shaped link
    interface: str = SHAPED  # its own end


class BedError(RuntimeError):
    """The bed cannot be made; one line."""


class Bed:
    """The hosts; a context manager.

    Attributes:
        hosts: in order of their numbers.
        delayed_by: "netem", "relay" or "" (no delay).
    """

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.hosts: list[Host] = []
        self.delayed_by = ""
        self._holders: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Bed:
        _run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(SHM)])
        names = [f"host{k}" for k in range(self.testbed.hosts)]
        FOLDER.mkdir()
        for own in (SHM, *(SHM / name for name in names)):
            _folder(own / TEMPORARY.name)
        for name in names:
            _folder(SHM / name / FOLDER.name)
            _run(["mount", "--bind", str(FOLDER), str(SHM / name / FOLDER.name)])
        lines = [f"10.77.0.{k + 1} {name}" for k, name in enumerate(names)]
        (FOLDER / "hosts").write_text("\n".join(["127.0.0.1 localhost", "10.78.0.254 head", *lines, ""]))
        _run(["mount", "--bind", str(FOLDER / "hosts"), "/etc/hosts"])
        _run(["hostname", "head"])
        bridges = [f"link add {name} type bridge" for name in (SWITCH, LAUNCH)]
        up = [f"link set {name} {what}" for name in (SWITCH, LAUNCH) for what in (QUIET, "up")]
        ip("link set lo up", *bridges, *up, f"address add 10.78.0.254/24 dev {LAUNCH}")
        self._holders = [_holder(name) for name in names]
        for k, holder in enumerate(self._holders):
            _ready(holder, names[k])
            self.hosts.append(Host(names[k], holder.pid, f"10.77.0.{k + 1}", f"port{k}"))
            self._cable(k)
        if self.testbed.delay_s:
            self._open_windows()
            self._delay()
        return self

    def __exit__(self, *_: object) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()

    def _cable(self, k: int) -> None:
        """Both links of a host."""
        host, rate = self.hosts[k], self.testbed.rate_Gbit_per_s
        largest = f"gso_max_size {shape.largest_packet_nbytes(rate)}"
        ip(
            f"link add {host.port} {largest} type veth peer name {SHAPED} netns {host.pid}",
            f"link add launch{k} type veth peer name {LAUNCH} netns {host.pid}",
            f"link set {host.port} master {SWITCH} {QUIET}",
            f"link set launch{k} master {LAUNCH} {QUIET}",
            f"link set {host.port} up",
            f"link set launch{k} up",
        )
        ip(
            f"link set {SHAPED} {largest} {QUIET}",
            f"link set {LAUNCH} {QUIET}",
            f"address add {host.address}/24 dev {SHAPED}",
            f"address add 10.78.0.{k + 1}/24 dev {LAUNCH}",
            f"link set {SHAPED} up",
            f"link set {LAUNCH} up",
            host=host,
        )
        tc(shape.rate(host.port, rate))
        tc(shape.rate(SHAPED, rate), host=host)

    def _open_windows(self) -> None:
        """TCP's largest windows, so that a long and fast link can be filled: four times what is under way in a round
        trip, or what the kernel allows anyway."""
        wanted = round(8 * self.testbed.delay_s * self.testbed.rate_Gbit_per_s * 1e9 / 8)
        lines = []
        for path in map(Path, ("/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/ipv4/tcp_wmem")):
            least, usual, largest = path.read_text().split()
            lines.append(f"echo {least} {usual} {max(wanted, int(largest))} > {path}")
        for host in self.hosts:
            _run([*_on(host), "sh", "-c", " && ".join(lines)])

    def _delay(self) -> None:
        """On the switch's ports, so that each packet is delayed once; where the kernel cannot, by our own switch."""
        try:
            for host in self.hosts:
                tc(shape.delay(host.port, self.testbed.delay_s, self.testbed.rate_Gbit_per_s))
            self.delayed_by = "netem"
            return
        except BedError:
            if len(self.hosts) > 1 and host is not self.hosts[0]:
                raise
        ports = [host.port for host in self.hosts]
        ip(*(f"link set {port} nomaster" for port in ports))
        relay = _started([sys.executable, "-m", "bench.testbed.relay", repr(self.testbed.delay_s), *ports])
        self._holders.append(relay)
        _ready(relay, "the relay")
        self.delayed_by = "relay"

    # -- while it is there -------------------------------------------------------------------------------------------

    def command(self, host: Host, command: Sequence[str]) -> list[str]:
        """The command line that runs a command on a host, in the folder where we are."""
        inside = ["nsenter", f"--target={host.pid}", "--net", "--mount", "--uts", f"--wd={os.getcwd()}", "--"]
        return [*inside, *command]

    def set_rate(self, host: Host, rate_Gbit_per_s: float) -> None:
        """Give both directions of a host's link another rate; what goes through meanwhile stays in its queue."""
        tc(shape.rate(host.port, rate_Gbit_per_s, verb="change"))
        tc(shape.rate(SHAPED, rate_Gbit_per_s, verb="change"), host=host)

    def set_link(self, host: Host, *, up: bool) -> None:
        """Take a host's link down at the switch, so that nothing passes either way, or up again.

        The host's own end keeps its address and its routes, so that its connections survive.
        """
        ip(f"link set {host.port} {'up' if up else 'down'}")


def _folder(path: Path) -> None:
    path.mkdir(parents=True)
    path.chmod(0o1777)


HOLDER = """
hostname "$0" && mount --rbind "$1" "$2" && ip link set lo up || exit 1
# /sys shows the network of whoever mounted it; UCX looks there for interfaces. Control groups stay as they are.
{ mkdir /dev/shm/cgroup && mount --rbind /sys/fs/cgroup /dev/shm/cgroup && mount -t sysfs sysfs /sys &&
  mount --rbind /dev/shm/cgroup /sys/fs/cgroup && umount --lazy /dev/shm/cgroup && rmdir /dev/shm/cgroup; } 2>/dev/null
echo ready
exec sleep infinity
"""


def _holder(name: str) -> subprocess.Popen[str]:
    return _started(["unshare", "--net", "--mount", "--uts", "sh", "-c", HOLDER, name, str(SHM / name), str(SHM)])


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _ready(process: subprocess.Popen[str], name: str) -> None:
    """Wait until a process says so."""
    said = process.stdout.readline() if process.stdout else ""
    if said != "ready\n":
        rest = process.communicate()[0].strip()
        raise BedError(f"{name} did not start: {(said + rest).strip().splitlines()[-1:] or 'no reason given'}")


def ip(*lines: str, host: Host | None = None) -> None:
    """Lines of the ip command, on the head or on a host.

    Raises:
        BedError: one failed.
    """
    _run([*_on(host), "ip", "-batch", "-"], "\n".join(lines) + "\n")


def tc(*lines: str, host: Host | None = None) -> None:
    """Lines of the tc command; see `ip`."""
    _run([*_on(host), "tc", "-batch", "-"], "\n".join(lines) + "\n")


def _on(host: Host | None) -> list[str]:
    return [] if host is None else ["nsenter", f"--target={host.pid}", "--net"]


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise BedError(f"{' '.join(command[-3:])}: {said.splitlines()[0]}")
