"""Ranks for processes that a launcher started without MPI: the first runs mpirun, the others what it wants started.

srun --mpi=none, torchrun and its like start a process per rank, tell each its number, and offer no start-up for MPI.
Every MPI can start ranks by a remote shell, though, so here the waiting processes stand in for it:

1. The first process listens, and says where: in a file in the results folder, or in torchrun's store.
2. The others connect to it, and tell their host, cores and GPUs.
3. The first runs the study as ever. Its mpirun takes the hosts from a list and, instead of ssh, an agent.
4. The agent (`main` here) asks the first process, which asks a process on that host, which starts mpirun's daemon.
5. At the end all take the first one's exit code. A signal to any of them is a signal to the first.

Only who knows the token of this launch is listened to.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.interruption import ASKED
from bench.processes import end_group
from bench.settings import StudyError
from bench.started import Call

ADDRESS = "PACELINE_MEETING"
"""Where the first process listens, and the token: for the agent."""

PATIENCE_S = 300.0
"""How long the processes wait for each other at the start."""


class Line:
    """A connection on which messages go as lines of JSON, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._lines = connection.makefile("r", encoding="utf-8")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def say(self, **what: Any) -> None:
        """Send a message; if nobody listens any more, nobody misses it."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(what).encode() + b"\n")

    def heard(self) -> Iterator[dict[str, Any]]:
        """Messages, until the other side ends."""
        with contextlib.suppress(OSError):
            for line in self._lines:
                yield json.loads(line)


@dataclass
class _Host:
    """Processes on one host, and what they may use together."""

    line: Line | None  # to one of them; None: the first process's own host
    slots: int = 0
    cores: set[int] = field(default_factory=set)
    gpus: list[str] = field(default_factory=list)

    def add(self, what: Mapping[str, Any]) -> None:
        self.slots += 1
        self.cores |= set(what["cores"])
        self.gpus += [one for one in what["gpus"].split(",") if one and one not in self.gpus]

    @property
    def variables(self) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}


def attend(call: Call, folder: Path, work: Callable[[], int]) -> int:
    """What `work` returns in the first process, in all of them; only there it is called, with mpirun made ready.

    Args:
        call: which process this is.
        folder: that all of them see, for saying where the first one listens.
        work: starts its ranks with mpirun, at most as many as there are processes.

    Raises:
        StudyError: the processes do not find each other.
    """
    if call.rank:
        return _help(call, folder)
    hub = _Hub(call)
    code = 2
    try:
        with _published(call, folder, hub.address), hub.ready():
            code = work()
    finally:
        hub.close(code)
    return code


class _Hub:
    """The first process's side."""

    def __init__(self, call: Call) -> None:
        self._call, self._token = call, secrets.token_hex(16)
        self._server = socket.create_server(("", 0), backlog=call.size + 128)
        self._port = self._server.getsockname()[1]
        self.address = json.dumps([_addresses(), self._port, self._token])
        self._own = _Host(None)
        self._own.add(_about())
        self._hosts = {socket.gethostname(): self._own}
        self._helpers: list[Line] = []
        self._agents: dict[int, Line] = {}
        self._base = dict(os.environ)
        self._lock, self._all = threading.Lock(), threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """When everybody is here: an environment in which mpirun starts ranks on all hosts.

        Raises:
            StudyError: they do not come.
        """
        if not self._all.wait(PATIENCE_S):
            raise StudyError(
                f"only {len(self._helpers) + 1} of {self._call.size} processes ({self._call.by}) met within "
                f"{PATIENCE_S:g} s: can the hosts connect to each other by TCP? (else use mpirun or srun --mpi=pmix)"
            )
        _use(self._own.cores)
        with tempfile.TemporaryDirectory(prefix="paceline-") as name:
            os.environ |= self._own.variables | self._variables(Path(name))
            yield

    def _variables(self, folder: Path) -> dict[str, str]:
        agent, hosts, machines = folder / "agent", folder / "hostfile", folder / "machinefile"
        agent.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bench.meeting "$@"\n', encoding="utf-8")
        agent.chmod(0o700)
        hosts.write_text("".join(f"{name} slots={host.slots}\n" for name, host in self._hosts.items()))
        machines.write_text("".join(f"{name}:{host.slots}\n" for name, host in self._hosts.items()))
        return {
            ADDRESS: json.dumps([["127.0.0.1"], self._port, self._token]),
            # Open MPI 5: hosts from our list, not from Slurm's allocation; all daemons are started from here.
            "PRTE_MCA_ras": "^slurm",
            "PRTE_MCA_plm": "ssh",
            "PRTE_MCA_plm_ssh_agent": str(agent),
            "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
            "PRTE_MCA_prte_default_hostfile": str(hosts),
            # Open MPI 4
            "OMPI_MCA_ras": "^slurm",
            "OMPI_MCA_plm": "rsh",
            "OMPI_MCA_plm_rsh_agent": str(agent),
            "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
            "OMPI_MCA_orte_default_hostfile": str(hosts),
            # MPICH and Intel MPI
            "HYDRA_RMK": "user",
            "HYDRA_LAUNCHER": "ssh",
            "HYDRA_LAUNCHER_EXEC": str(agent),
            "HYDRA_HOST_FILE": str(machines),
        }

    def close(self, code: int) -> None:
        """Let everybody go, with this exit code."""
        for helper in self._helpers:
            helper.say(exit=code)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._listen, args=(Line(connection),), daemon=True).start()

    def _listen(self, line: Line) -> None:
        heard = line.heard()
        first = next(heard, {})
        if not secrets.compare_digest(str(first.get("token")), self._token):
            line.say(welcome=False)
            return
        line.say(welcome=True)
        if "command" in first:
            self._pass_on(line, first)
        else:
            self._add(line, first)
        for said in heard:
            if "asked" in said:
                ASKED.signal = ASKED.signal or said["asked"]
            elif "ended" in said:
                self._agents.pop(said["task"]).say(ended=said["ended"], words=said["words"])

    def _add(self, line: Line, what: dict[str, Any]) -> None:
        with self._lock:
            self._hosts.setdefault(what["host"], _Host(line)).add(what)
            self._helpers.append(line)
            if len(self._helpers) == self._call.size - 1:
                self._all.set()

    def _pass_on(self, agent: Line, what: dict[str, Any]) -> None:
        host = self._hosts.get(what["on"])
        if host is None or host.line is None:
            agent.say(ended=255, words=f"none of the {self._call.size} processes is on a host {what['on']!r}")
            return
        self._agents[id(agent)] = agent
        changed = {name: value for name, value in what["environment"].items() if self._base.get(name) != value}
        environment = {**changed, **host.variables}
        host.line.say(command=what["command"], environment=environment, cores=sorted(host.cores), task=id(agent))


def _help(call: Call, folder: Path) -> int:
    """Every other process: start what it is asked to, until the first has ended."""
    ASKED.install()
    line = _connected(*_found(call, folder), **_about())
    inbox: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        for said in line.heard():
            inbox.put(said)
        inbox.put({"exit": 1})  # the first process is gone without a word

    threading.Thread(target=listen, daemon=True).start()
    started: list[subprocess.Popen[str]] = []
    told = False
    try:
        while True:
            if ASKED.is_set and not told:
                line.say(asked=ASKED.signal)
                told = True
            with contextlib.suppress(queue.Empty):
                said = inbox.get(timeout=0.5)
                if "exit" in said:
                    return int(said["exit"])
                started.append(_start(said, line))
    finally:
        for process in started:
            end_group(process)


def _start(what: dict[str, Any], line: Line) -> subprocess.Popen[str]:
    """What ssh would do here: a command for the shell; its end is told to who asked for it."""
    process = subprocess.Popen(
        what["command"], shell=True, env={**os.environ, **what["environment"]}, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=lambda: _use(what["cores"]),
    )  # fmt: skip

    def tell() -> None:
        words = process.communicate()[0]
        line.say(ended=process.returncode, words=words[-4000:], task=what["task"])

    threading.Thread(target=tell, daemon=True).start()
    return process


def main(argv: list[str]) -> int:
    """The agent in the place of ssh: [options] HOST COMMAND..., run there by a process that waits; its exit code."""
    while argv and argv[0].startswith("-"):
        argv = argv[1:]
    hosts, port, token = json.loads(os.environ[ADDRESS])
    line = _connected(hosts, port, token, on=argv[0], command=" ".join(argv[1:]), environment=dict(os.environ))
    for said in line.heard():
        if "ended" in said:
            sys.stderr.write(said["words"])
            return int(said["ended"])
    return 255


def _connected(hosts: Sequence[str], port: int, token: str, **hello: Any) -> Line:
    """A line to the first process, at the first of its addresses where it answers.

    Raises:
        StudyError: none.
    """
    for host in hosts:
        with contextlib.suppress(OSError):
            connection = socket.create_connection((host, port), timeout=10)
            line = Line(connection)
            line.say(token=token, **hello)
            if next(line.heard(), {}).get("welcome"):
                connection.settimeout(None)
                return line
    raise StudyError(
        f"the first process listens at port {port} of {', '.join(hosts)}, and none of these can be reached from "
        f"{socket.gethostname()} (use mpirun or srun --mpi=pmix)"
    )


@contextlib.contextmanager
def _published(call: Call, folder: Path, address: str) -> Iterator[None]:
    """Where the first process listens is known to the others as long as this lasts."""
    if call.store:
        store = _store(call)
        store.set(f"paceline/{call.key}", address)
        yield
        return
    from bench.records import write_atomic  # brings pandas, which the agent does not need

    path = _file(call, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, address.encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _found(call: Call, folder: Path) -> tuple[list[str], int, str]:
    """(addresses, port, token) of the first process.

    Raises:
        StudyError: it does not say.
    """
    if call.store:
        hosts, port, token = json.loads(_store(call).get(f"paceline/{call.key}"))
        return hosts, port, token
    path, end_s = _file(call, folder), time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            hosts, port, token = json.loads(path.read_text(encoding="utf-8"))
            return hosts, port, token
        time.sleep(0.2)
    raise StudyError(
        f"process 0 of {call.size} ({call.by}) left no word in {folder} within {PATIENCE_S:g} s: must be a folder that "
        "all hosts see (choose another --out)"
    )


def _store(call: Call) -> Any:
    """The store at MASTER_ADDR and MASTER_PORT: torchrun's own, or else one that the first process opens."""
    from datetime import timedelta

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    ours = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    place, patience = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), timedelta(seconds=PATIENCE_S)
    try:
        return TCPStore(*place, call.size, is_master=ours and call.rank == 0, timeout=patience, wait_for_workers=False)
    except (RuntimeError, OSError) as error:
        raise StudyError(f"no store at MASTER_ADDR, MASTER_PORT {place}: {str(error).splitlines()[0]}") from error


def _file(call: Call, folder: Path) -> Path:
    return folder / f".meeting-{call.key}"


def _about() -> dict[str, Any]:
    """What the others must know of this process."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"host": socket.gethostname(), "cores": cores, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


def _use(cores: Iterable[int]) -> None:
    """From now on run on these cores, as far as that is allowed: each process may have been bound to its own."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.sched_setaffinity(0, cores)


def _addresses() -> list[str]:
    """Under which other hosts may reach this one; under the last only processes of this host."""
    import psutil

    found = [a.address for all_of in psutil.net_if_addrs().values() for a in all_of if a.family == socket.AF_INET]
    return [socket.gethostname(), *(a for a in found if not a.startswith("127.")), "127.0.0.1"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
