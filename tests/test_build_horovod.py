"""The Horovod builder's decisions: what it finds, how it keys and publishes wheels, what it says when it cannot."""

from __future__ import annotations

import importlib.util
import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bench import build_horovod as builder

OPEN_MPI_HEADER = """
#define OMPI_MAJOR_VERSION 5
#define OMPI_MINOR_VERSION 0
#define OMPI_RELEASE_VERSION 11
"""
MPICH_HEADER = '#define MPICH_VERSION "4.0.2"\n'
INTEL_HEADER = '#define I_MPI_VERSION "2021.13"\n#define MPICH_VERSION "3.4a2"\n'
MVAPICH_HEADER = '#define MPICH_VERSION "3.2.1"\n#define MVAPICH2_VERSION "2.3.7"\n'


def fake_mpi(root: Path, header: str) -> Path:
    """An MPI of our own making: a wrapper that only knows ``-show``, and its header in an odd folder."""
    include = root / "odd" / "include"
    include.mkdir(parents=True)
    (include / "mpi.h").write_text(header)
    compiler = root / "bin" / "mpicxx"
    compiler.parent.mkdir()
    compiler.write_text(f'#!/bin/sh\n[ "$1" = -show ] && echo "g++ -I{include} -lmpi"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    return root


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A place with no compiler, no MPI and nothing on the PATH."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("MPI_HOME", "MPICXX", "CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr(sys, "prefix", str(empty))
    return empty


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (OPEN_MPI_HEADER, ("openmpi", "5.0.11")),
        (MPICH_HEADER, ("mpich", "4.0.2")),
        (INTEL_HEADER, ("intelmpi", "2021.13")),
        (MVAPICH_HEADER, ("mvapich", "2.3.7")),
        ("#define MPI_VERSION 3\n", None),
    ],
)
def test_mpi_family_is_read_from_the_header(header: str, expected: tuple[str, str] | None) -> None:
    assert builder.parse_mpi_header(header) == expected


def test_mpi_is_found_without_a_cxx_compiler(bare: Path, tmp_path: Path) -> None:
    mpi = builder.find_mpi(str(fake_mpi(tmp_path / "mpich", MPICH_HEADER)))
    assert (mpi.family, mpi.version, mpi.tag) == ("mpich", "4.0.2", "mpich4")


def test_environment_variable_names_the_mpi(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPI_HOME", str(fake_mpi(tmp_path / "site", OPEN_MPI_HEADER)))
    assert builder.find_mpi().tag == "openmpi5"


def test_no_mpi_compiler_is_said_with_places_and_remedies(bare: Path) -> None:
    with pytest.raises(builder.BuildError, match=r"no MPI compiler: looked for .*mpicxx.*libopenmpi-dev.*MPI_HOME"):
        builder.find_mpi()


def test_unknown_mpi_is_refused(bare: Path, tmp_path: Path) -> None:
    root = fake_mpi(tmp_path / "strange", "#define MPI_VERSION 3\n")
    with pytest.raises(builder.BuildError, match="no MPI that is known"):
        builder.find_mpi(str(root))


def test_no_cxx_compiler_is_said_with_the_remedy(bare: Path) -> None:
    with pytest.raises(builder.BuildError, match=r"no C\+\+17 compiler: tried c\+\+.*apt-get install g\+\+"):
        builder.find_cxx()


def test_a_compiler_without_cxx17_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bare / "old-c++"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("CXX", str(old))
    with pytest.raises(builder.BuildError, match="old-c"):
        builder.find_cxx()


def test_key_differs_in_everything_a_wheel_depends_on() -> None:
    same = {"torch": "2.13.0+cpu", "mpi_tag": "openmpi5", "gpu_tag": "cpu", "recipe": "0123abcd"}
    others = [
        {"torch": "2.13.0+cu130"},
        {"torch": "2.14.0+cpu"},
        {"mpi_tag": "openmpi4"},
        {"mpi_tag": "mpich5"},
        {"gpu_tag": "cuda13nccl2"},
        {"recipe": "deadbeef"},
    ]
    keys = [builder.cache_key(**same), *(builder.cache_key(**(same | other)) for other in others)]
    assert all(one != two for one, two in itertools.combinations(keys, 2))
    assert all("/" not in key and builder.python_tag() in key and builder.platform_tag() in key for key in keys)


def test_wheel_and_system_mpi_have_keys_of_their_own(bare: Path, tmp_path: Path) -> None:
    tags = {
        builder.find_mpi(str(fake_mpi(tmp_path / "a", OPEN_MPI_HEADER))).tag,
        builder.find_mpi(str(fake_mpi(tmp_path / "b", OPEN_MPI_HEADER.replace("5", "4", 1)))).tag,
        builder.find_mpi(str(fake_mpi(tmp_path / "c", MPICH_HEADER))).tag,
    }
    assert tags == {"openmpi5", "openmpi4", "mpich4"}


def test_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert builder.cache_dir() == tmp_path / "paceline" / "wheels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert builder.cache_dir() == tmp_path / "home" / ".cache" / "paceline" / "wheels"


def test_publish_replaces_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    wheel = tmp_path / "horovod-0.28.1-cp311.whl"
    folder = tmp_path / "cache" / "key"
    for content in (b"first", b"second"):
        wheel.write_bytes(content)
        published = builder.publish(wheel, folder)
        assert published.read_bytes() == content
    assert [path.name for path in folder.iterdir()] == [wheel.name]


def test_failed_publish_leaves_no_partial_wheel(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    with pytest.raises(FileNotFoundError):
        builder.publish(tmp_path / "horovod-absent.whl", folder)
    assert list(folder.iterdir()) == []
    assert builder.cached_wheel(folder) is None


def test_the_log_of_a_failed_build_is_no_cached_wheel(tmp_path: Path) -> None:
    (tmp_path / "build.log").write_text("error\n")
    assert builder.cached_wheel(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cmake version 3.25.1\n", (3, 25)), ("cmake version 4.4.4", (4, 4)), ("nonsense", (0, 0))],
)
def test_cmake_version(text: str, expected: tuple[int, int]) -> None:
    assert builder.parse_cmake_version(text) == expected


@pytest.mark.parametrize(
    ("cores", "memory_GiB", "expected"), [(2, 100, 2), (64, 12, 10), (8, 0.5, 1), (4, float("inf"), 4)]
)
def test_jobs_fit_cores_and_memory(cores: int, memory_GiB: float, expected: int) -> None:
    assert builder.build_jobs(cores, memory_GiB * 2**30) == expected


def test_build_environment_keeps_out_what_would_steer_it(tmp_path: Path) -> None:
    mpi = builder.Mpi(compiler=tmp_path / "bin" / "mpicxx", family="openmpi", version="5.0.11")
    caller = {"HOROVOD_GPU_OPERATIONS": "MPI", "OMPI_CXX": "icpc", "MAKEFLAGS": "n", "PATH": "/bin", "LANG": "C"}
    env = builder.build_environment(caller, mpi=mpi, cxx="c++", cmake="cmake", jobs=3, nccl=None)
    assert "HOROVOD_GPU_OPERATIONS" not in env and "OMPI_CXX" not in env
    assert (env["HOROVOD_WITH_MPI"], env["HOROVOD_WITHOUT_GLOO"], env["MAKEFLAGS"]) == ("1", "1", "-j3")
    assert (env["MPI_HOME"], env["LANG"]) == (str(tmp_path), "C")
    assert env["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")
    assert Path(env["CMAKE_TOOLCHAIN_FILE"]).is_file()


def test_no_nccl_without_a_cuda_torch(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "torch_cuda_version", lambda: None)
    assert builder.find_nccl() is None
    assert builder.require_toolkit() is None


def fake_toolkit(root: Path, release: str = "13.0") -> Path:
    """A CUDA toolkit, and apart from it a script that is called nvcc and only knows its version and its home."""
    (root / "toolkit" / "targets" / "linux" / "include").mkdir(parents=True)
    (root / "toolkit" / "targets" / "linux" / "include" / "cuda_runtime.h").touch()
    (root / "toolkit" / "lib64").mkdir()
    (root / "toolkit" / "lib64" / "libcudart.so").touch()
    script = root / "elsewhere" / "nvcc"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Cuda compilation tools, release {release}, V{release}.88"\n'
        f'else echo "#$ TOP={root}/toolkit/bin/.." >&2; exit 1; fi\n'
    )
    (root / "toolkit" / "bin").mkdir()
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_the_toolkit_is_where_its_compiler_says(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = fake_toolkit(tmp_path)
    monkeypatch.setattr(builder, "torch_cuda_version", lambda: "13.0")
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    assert builder.find_toolkit() == (tmp_path / "toolkit", "13.0")
    nccl = tmp_path / "nccl"
    (nccl / "include").mkdir(parents=True)
    (nccl / "include" / "nccl.h").write_text("#define NCCL_MAJOR 2\n")
    (nccl / "lib").mkdir()
    (nccl / "lib" / "libnccl.so.2").touch()
    monkeypatch.setenv("HOROVOD_NCCL_HOME", str(nccl))
    found = builder.find_nccl()
    assert found is not None and found.tag == "cuda13nccl2" and found.toolkit == tmp_path / "toolkit"
    mpi = builder.find_mpi(str(fake_mpi(tmp_path / "mpi", OPEN_MPI_HEADER)))
    env = builder.build_environment(
        {}, mpi=mpi, cxx="c++", cmake="cmake", jobs=1, nccl=found, toolkit=builder.require_toolkit()
    )
    assert env["HOROVOD_GPU_OPERATIONS"] == "NCCL" and env["HOROVOD_CUDA_HOME"] == str(tmp_path / "toolkit")


@pytest.mark.parametrize("lacks", ["nvcc", "header", "library", "version"])
def test_a_cuda_torch_without_its_toolkit_is_refused_at_once(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    script = fake_toolkit(tmp_path, "12.8" if lacks == "version" else "13.0")
    monkeypatch.setattr(builder, "torch_cuda_version", lambda: "13.0")
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    for part, path in (
        ("nvcc", script),
        ("header", next(tmp_path.rglob("*.h"))),
        ("library", next(tmp_path.rglob("*.so"))),
    ):
        if lacks == part:
            path.unlink()
    if lacks == "nvcc":
        monkeypatch.setenv("PATH", str(bare))
    assert builder.find_nccl() is None
    with pytest.raises(builder.BuildError, match=r"built for CUDA 13.0, .* needs the CUDA toolkit 13: found no nvcc"):
        builder.require_toolkit()


def test_failed_nccl_build_falls_back_to_mpi_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mpi = builder.Mpi(compiler=tmp_path / "bin" / "mpicxx", family="openmpi", version="5.0.11")
    nccl = builder.Nccl(toolkit=tmp_path, include=tmp_path, library=tmp_path, cuda="13.0", version="2")
    tried: list[str] = []

    def build(folder: Path, mpi: builder.Mpi, nccl: builder.Nccl | None) -> Path:
        tried.append(folder.name)
        if nccl is not None:
            raise builder.BuildError("nvcc: unsupported\nmore")
        return folder / "horovod-0.28.1.whl"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(builder, "find_nccl", lambda: nccl)
    monkeypatch.setattr(builder, "build", build)
    wheel = builder.get_wheel(mpi, "2.13.0")
    assert "cuda13nccl2" in tried[0] and "-cpu-" in tried[1] and wheel.parent.name == tried[1]
    assert "nvcc: unsupported" in capsys.readouterr().err


def test_cached_wheel_is_not_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mpi = builder.Mpi(compiler=tmp_path / "bin" / "mpicxx", family="mpich", version="5.0.2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = builder.cache_key(torch="2.13.0", mpi_tag="mpich5", gpu_tag="cpu", recipe=builder.recipe_digest())
    folder = builder.cache_dir() / key
    folder.mkdir(parents=True)
    (folder / "horovod-0.28.1-x.whl").write_bytes(b"")
    assert builder.get_wheel(mpi, "2.13.0", cpu_only=True) == folder / "horovod-0.28.1-x.whl"


def test_run_logged_keeps_the_output_and_the_exit_code(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "import sys; print('to out'); print('to err', file=sys.stderr); sys.exit(3)"
    code, seconds = builder.run_logged([sys.executable, "-c", program], os.environ, log, "trying")
    assert code == 3 and seconds > 0
    assert {"to out", "to err"} <= set(log.read_text().splitlines())


@pytest.mark.parametrize(
    ("shown", "line", "expected"),
    [
        ("", "Collecting horovod", "Collecting horovod"),
        ("Collecting horovod", "    |   ^~~~~", "Collecting horovod"),
        ("Collecting horovod", "  [ 35%] Building CXX", "  [ 35%] Building CXX"),
        ("[ 35%] Building CXX", "warning: unused", "[ 35%] Building CXX"),
    ],
)
def test_progress_shows_what_says_something(shown: str, line: str, expected: str) -> None:
    assert builder.worth_showing(shown, line) == expected


def test_tail_is_the_last_twenty_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(map(str, range(100))))
    assert builder.tail(log).splitlines() == [str(number) for number in range(80, 100)]


def test_tail_shows_the_compilers_error_and_not_the_cleaning_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    after = ["Traceback (most recent call last):", *["frame"] * 30, "error: subprocess-exited-with-error", "removing"]
    log.write_text("\n".join(["x.cc:1: error: no such thing", "make: *** [x] Error 1", *after]))
    assert builder.tail(log).splitlines() == ["x.cc:1: error: no such thing", "make: *** [x] Error 1"]


def test_failure_is_one_message_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: object) -> None:
        raise builder.BuildError("no MPI compiler")

    assert builder.main([], run=run) == 1
    assert capsys.readouterr().err == "horovod: no MPI compiler\n"


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_only_root_is_told_that_root_is_allowed(user: int, allowed: bool) -> None:
    env = builder.mpi_environment({"LANG": "C"}, user)
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in env and "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM" in env) is allowed


def test_builder_needs_the_standard_library_only() -> None:
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='builder');"
        "extra = {m.split('.')[0] for m in sys.modules} & {'torch', 'mpi4py', 'numpy', 'packaging', 'bench'};"
        "sys.exit(', '.join(extra) if extra else 0)"
    )
    command = [sys.executable, "-I", "-c", program, str(builder.__file__)]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.mpi
@pytest.mark.skipif(importlib.util.find_spec("horovod") is None, reason="Horovod is not installed (make horovod)")
def test_installed_horovod_is_verified() -> None:
    assert builder.verify().startswith("verified: MPI")
