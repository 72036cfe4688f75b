"""A real Slurm on this machine, in one folder: munged, slurmctld and several slurmd, each a node of its own.

Nothing lies outside the folder, nothing is a service, and all of it ends with `down`, which also ends what its jobs
left behind. Needs Debian's packages slurmctld, slurmd, slurm-client and munge, libpmix-dev for --mpi=pmix, and the
right to make namespaces.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo", "setpriv", "unshare")
UP_S, DOWN_S = 20.0, 5.0
"""Longest start and end of the daemons."""

GRACE_S = 30
"""What a job of the partition `all` is given to end when one of the partition `urgent` wants its nodes."""


def missing() -> str:
    """Why there can be no Slurm here; "" if there can."""
    absent = [program for program in PROGRAMS if _program(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install slurmctld slurmd slurm-client munge libpmix-dev)"
    if not list(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so")):  # where Debian's plugin for srun --mpi=pmix looks
        return "not installed: PMIx for srun (apt-get install libpmix-dev)"
    tried = subprocess.run(
        [*_namespaces(), "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    return f"namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else ""


class PrivateSlurm:
    """The cluster; a context manager.

    Args:
        folder: for everything; its path must be short, since sockets lie in it.
        nodes: how many virtual nodes.
        cores: of each node, at most those of the machine (Open MPI 5 under srun fails otherwise).
        gpus: that each node says it has; /dev/null stands in for the devices.
    """

    def __init__(self, folder: Path, *, nodes: int = 4, cores: int = 2, gpus: int = 0) -> None:
        self.folder, self.nodes, self.cores, self.gpus = folder, nodes, cores, gpus
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._ports = _free_ports(1 + nodes)

    @property
    def names(self) -> list[str]:
        """Names of the nodes."""
        return [f"n{k}" for k in range(self.nodes)]

    @property
    def environment(self) -> dict[str, str]:
        """What makes Slurm's commands talk to this cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        # A node's own /dev/shm, for what MPI names after process ids, which are equal on nodes that are namespaces.
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "TMPDIR": "/dev/shm"}
        return {**kept, **own, "PATH": f"{os.environ['PATH']}:/usr/sbin"}

    def __enter__(self) -> PrivateSlurm:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Start all daemons and wait until every node is idle.

        Raises:
            RuntimeError: they did not come up; with the ends of their logs.
        """
        for name in ("state", "spool", "log", "run", *(f"tmp/{node}" for node in self.names)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # munged wants folders that nobody else can write to, and a key that only its user can read.
        os.chmod(self.folder, 0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self.folder / "slurm.conf").write_text(self._configuration(), encoding="utf-8")
        for k in range(self.gpus):
            (self.folder / f"gpu{k}").symlink_to("/dev/null")
        devices = f"Name=gpu File={self.folder}/gpu[0-{self.gpus - 1}]\n" if self.gpus else ""
        (self.folder / "gres.conf").write_text(devices, encoding="utf-8")
        run = self.folder / "run"
        self._start(
            "munged", "--foreground", "--force", f"--socket={self._socket}", f"--key-file={key}",
            f"--pid-file={run / 'munged.pid'}", f"--log-file={self.folder / 'log' / 'munged.log'}",
            f"--seed-file={run / 'munged.seed'}",
        )  # fmt: skip
        self._wait(self._socket.exists, "munged has no socket")
        self._start("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        for name in self.names:
            self.start_node(name)
        self.wait_idle()

    def wait_idle(self, timeout: float = UP_S) -> None:
        """Wait until every node answers and has nothing to do."""
        self._wait(lambda: self._states() == {"idle"}, "not all nodes are idle", timeout)

    def start_node(self, name: str) -> subprocess.Popen[bytes]:
        """A node: slurmd with a host name and a /dev/shm of its own, or the shared memory of two nodes would collide.

        Its processes are in a namespace of their own too, and end with it. It stays up until `down` or `fail_node`.
        """
        hosts = self.folder / f"hosts-{name}"  # a node knows its own name
        hosts.write_text(f"{Path('/etc/hosts').read_text(encoding='utf-8')}\n127.0.0.1 {name}\n", encoding="utf-8")
        mounts = f"mount -t tmpfs tmpfs /dev/shm && mount --bind {hosts} /etc/hosts && hostname {name}"
        return self._start(*_namespaces(), "sh", "-c", f"{mounts} && {{ slurmd -D -N {name} & wait; }}")

    def fail_node(self, name: str) -> None:
        """The power goes off: slurmd and every process on that node end at once, and nobody is told."""
        _end(self.node(name), at_once=True)

    def node(self, name: str) -> subprocess.Popen[bytes]:
        """The process of a node."""
        return next(d for d in reversed(self._daemons) if f" -N {name} &" in str(d.args[-1]))  # type: ignore[index]

    def down(self) -> None:
        """Cancel all jobs, end all daemons, and what is left of their jobs."""
        if (self.folder / "slurm.conf").exists() and any(d.poll() is None for d in self._daemons):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.command("scancel", "--user", getpass.getuser(), check=False, timeout=DOWN_S)
        left = self.processes()
        for daemon in reversed(self._daemons):
            _end(daemon)
        self._daemons.clear()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Everything on this machine that knows this cluster's configuration, but for this process and its like."""
        mark, found = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode(), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def command(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 60.0,
        cwd: Path | None = None,
        more: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands, or any other, as a user of this cluster.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(
            arguments, env={**self.environment, **(more or {})}, cwd=cwd, timeout=timeout, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def state(self, job: str) -> str:
        """State of a job: PENDING, RUNNING, COMPLETED, ...; "" when Slurm has forgotten it."""
        shown = self.command("scontrol", "--oneliner", "show", "job", job, check=False).stdout
        fields = dict(field.split("=", 1) for field in shown.split() if "=" in field)
        return fields.get("JobState", "")

    def wait(self, job: str, until: Sequence[str], timeout: float = 60.0) -> str:
        """Wait until a job is in one of these states.

        Raises:
            RuntimeError: it did not get there.
        """
        self._wait(lambda: self.state(job) in until, f"job {job} did not become {' or '.join(until)}", timeout)
        return self.state(job)

    @property
    def _socket(self) -> Path:
        return self.folder / "run" / "munge.socket"

    def _configuration(self) -> str:
        user, controller, *ports = getpass.getuser(), *self._ports
        nodes = [
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs={self.cores} "
            f"RealMemory=1024{f' Gres=gpu:{self.gpus}' if self.gpus else ''} State=UNKNOWN"
            for name, port in zip(self.names, ports, strict=True)
        ]
        lines = [
            "ClusterName=paceline-test",
            f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            f"SlurmctldPort={controller}",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self._socket},cred_expire=6",  # a requeued job waits for that long
            "CryptoType=crypto/munge",
            "MpiDefault=none",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "SlurmdParameters=config_overrides",
            "ReturnToService=2",
            "EnforcePartLimits=ALL",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1,requeue_setup_env_fail",
            "JobRequeue=1",
            "MinJobAge=600",
            "SlurmdTimeout=6",  # a node that is silent for longer is down
            "SlurmctldTimeout=10",
            "KillWait=5",
            "InactiveLimit=0",
            f"StateSaveLocation={self.folder / 'state'}",
            f"SlurmdSpoolDir={self.folder / 'spool'}/%n",
            f"SlurmctldPidFile={self.folder / 'run'}/slurmctld.pid",
            f"SlurmdPidFile={self.folder / 'run'}/slurmd-%n.pid",
            f"SlurmctldLogFile={self.folder / 'log'}/slurmctld.log",
            f"SlurmdLogFile={self.folder / 'log'}/slurmd-%n.log",
            f"TmpFS={self.folder / 'tmp'}/%n",
            "JobCompType=jobcomp/none",
            "AccountingStorageType=accounting_storage/none",
            *(["GresTypes=gpu"] if self.gpus else []),
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            *nodes,
            f"PartitionName=all Nodes={','.join(self.names)} Default=YES MaxTime=60 GraceTime={GRACE_S} State=UP",
            f"PartitionName=urgent Nodes={','.join(self.names)} PriorityTier=2 PreemptMode=OFF State=UP",
        ]
        return "\n".join(lines) + "\n"

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        program = _program(arguments[0]) or arguments[0]
        with open(self.folder / "log" / "daemons.out", "ab") as out:
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *arguments[1:]], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._daemons.append(daemon)
        return daemon

    def _states(self) -> set[str]:
        asked = ("sinfo", "--noheader", "--Node", "--partition=all", "--format=%T")
        shown = self.command(*asked, check=False, timeout=10.0).stdout.split()
        return set(shown) if len(shown) == self.nodes else set()

    def _wait(self, there: object, what: str, timeout: float = UP_S) -> None:
        assert callable(there)
        end_s = time.monotonic() + timeout
        while not there():
            if time.monotonic() > end_s:
                raise RuntimeError(f"{what} after {timeout:g} s\n{self.logs()}")
            time.sleep(0.05)

    def logs(self, lines: int = 15) -> str:
        """The end of each daemon's log."""
        parts = []
        for path in sorted((self.folder / "log").glob("*")):
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {path.name}", *text]))
        return "\n".join(parts)


@contextlib.contextmanager
def private_slurm(**settings: int) -> Iterator[PrivateSlurm]:
    """A cluster in a folder of its own, which goes with it; also if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    # Reads until this process has ended in whatever way, and then removes the folder.
    last = ["sh", "-c", 'cat >/dev/null; rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }', str(folder)]
    with (
        subprocess.Popen(last, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True),
        PrivateSlurm(folder, **settings) as cluster,
    ):
        yield cluster


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _namespaces() -> list[str]:
    """What a node needs of its own: a host name, mounts and processes; the latter end with unshare, their parent."""
    own = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return own if os.geteuid() == 0 else [*own, "--user", "--map-root-user"]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _end(daemon: subprocess.Popen[bytes], *, at_once: bool = False) -> None:
    """End a daemon and its group, the hard way if it does not go by itself."""
    ways = ((signal.SIGTERM, DOWN_S), (signal.SIGKILL, DOWN_S))
    for number, patience_s in ways[at_once:]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(patience_s)
            return
