"""Whole studies through the command line: the bytes they report, a rank that is killed, an interrupt."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from algorithms.interface import Algorithm
from algorithms.registry import algorithm_class, names
from bench.records import Results, load
from bench.settings import build
from bench.study import read
from tests.support.mpi_launch import ROOT, require

HEADER_NBYTES = 64
WORKERS = 4

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(200)]


def write_study(path: Path, text: str) -> Path:
    """The study file."""
    path.write_text(text, encoding="utf-8")
    return path


def paceline(*arguments: object) -> list[str]:
    """The command line of `paceline`."""
    return [sys.executable, str(ROOT / "paceline.py"), *map(str, arguments)]


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`paceline` in the background; if the test leaves it running, it is ended with all that it started."""
    process = subprocess.Popen(
        paceline(*arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Started from a shell's background, we would hand down that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                child.kill()
            process.communicate(timeout=20)


def until(condition: Callable[[], Any], seconds: float, what: str, process: subprocess.Popen[str]) -> Any:
    """What `condition()` returns as soon as it is true, while the process runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        if process.poll() is not None:
            pytest.fail(f"ended before {what}: {process.communicate()}")
        time.sleep(0.02)
    pytest.fail(f"not within {seconds} s: {what}")


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes below a supervisor that run `bench.session`, apart from the launcher."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[1:3] == ["-m", "bench.session"]:
                found.append(child)
        except psutil.Error:
            continue
    return found


# -- bytes ------------------------------------------------------------------------------------------------------------

TRAFFIC = """
name = "bytes"
workers = [4]
transports = ["mpi", "horovod", "simulated"]
bucket_MiB = 0.01  # several all-reduces a gradient, of lengths that four ranks cannot share evenly
timeout_s = 60
budget = { seconds = 0.25, snapshots = 3 }
compute = { gradient_s = 0.005, distribution = "lognormal", sigma = 0.3 }
workload = [{ name = "digits-mlp", width = 31 }, { name = "quadratic", dimension = 23 }]
"""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "local-sgd": [{"period": 3}],
    "d-psgd": [{}, {"topology": "complete", "order": "atc"}],
    "ad-psgd": [{}, {"topology": "complete-bipartite"}],
    "easgd": [{"period": 2}],
}


def traffic_algorithms() -> dict[str, tuple[str, dict[str, Any]]]:
    """label -> (name, settings): every registered algorithm, some in several variants."""
    return {
        f"{name}-{i}": (name, settings)
        for name in names()
        for i, settings in enumerate(VARIANTS.get(name, [{}]))
    }  # fmt: skip


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The tables of a study of every algorithm on every transport."""
    for transport in ("mpi", "horovod"):
        require(transport)
    folder = tmp_path_factory.mktemp("bytes")
    entries = [{"name": name, "label": label, **settings} for label, (name, settings) in traffic_algorithms().items()]
    tables = "".join(
        "\n[[algorithm]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
        for entry in entries
    )
    study = write_study(folder / "study.toml", TRAFFIC + tables)
    done = subprocess.run(
        paceline("run", study, "--out", folder / "out"), cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return load(folder / "out")


@pytest.mark.parametrize("label", traffic_algorithms())
@pytest.mark.parametrize("transport", ["mpi", "horovod", "simulated"])
def test_bytes_equal_the_closed_forms(traffic: Results, label: str, transport: str) -> None:
    """What a run says it moved is what the algorithm must have moved in that many steps, to the byte: payload, and with
    headers (64 bytes a message) or around the ring (2 (n - 1) vectors an all-reduce) on the wire."""
    name, settings = traffic_algorithms()[label]
    algorithm: Algorithm = build(algorithm_class(name), settings, label)
    runs = traffic.runs[(traffic.runs.label == label) & (traffic.runs.transport == transport)]
    assert len(runs) == 2 and set(runs.status) == {"completed"}, runs.verdict.tolist()
    for run in runs.itertuples():
        vector = run.parameters * (8 if run.workload == "quadratic" else 4)
        events = traffic.events[traffic.events.run_id == run.run_id]
        steps = [int((events[events["rank"] == rank].kind == "apply").sum()) for rank in range(WORKERS)]
        assert min(steps) >= 3 and sum(steps) == run.steps
        payload = algorithm.payload_nbytes(steps, vector)
        assert payload == run.nbytes == events[events.kind != "recv"].nbytes.sum()
        if "point-to-point" in algorithm.needs:
            wire = payload + HEADER_NBYTES * (payload // vector)
            assert (events.kind == "send").sum() == (events.kind == "recv").sum() == payload // vector
        else:
            all_reduces = payload // (WORKERS * vector)
            wire = 2 * (WORKERS - 1) * vector * all_reduces
        assert wire == run.wire_nbytes == events.wire_nbytes.sum()


# -- lost ranks and interrupts ----------------------------------------------------------------------------------------

THREE_CELLS = """
name = "three"
workers = [2]
timeout_s = 60
budget = { seconds = 1.5, snapshots = 3 }
workload = [{ name = "quadratic" }]
algorithm = [{ name = "allreduce-sgd" }, { name = "local-sgd" }, { name = "d-psgd" }]
"""


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file below a folder: when it was written and how large it is."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_kill_9_of_a_rank_costs_one_cell(tmp_path: Path) -> None:
    """All ranks end within 10 s, finished cells are whole, the next cell runs; the same command finishes the study."""
    require("mpi")
    study, out = write_study(tmp_path / "study.toml", THREE_CELLS), tmp_path / "out"
    first, second, third = (out / "runs" / cell.run_id for cell in read(study).cells())
    with started("run", study, "--out", out) as process:
        # Ranks write their tables at the end only: a cell with a folder and no tables is under way.
        until(lambda: (first / "run.parquet").exists() and second.exists(), 60, "the second cell began", process)
        ranks = ranks_of(process)
        assert len(ranks) == 2
        ranks[-1].kill()
        killed = time.monotonic()
        _, alive = psutil.wait_procs(ranks, timeout=10)
        assert not alive, f"still there {time.monotonic() - killed:.1f} s after the kill: {alive}"
        output = process.communicate(timeout=60)
    assert process.returncode == 1, output

    tables = load(out)
    status = dict(zip(tables.runs.run_id, tables.runs.status, strict=True))
    assert status == {first.name: "completed", second.name: "crashed", third.name: "completed"}, output
    assert tables.skipped == []
    for folder in (first, third):
        mine = tables.events[tables.events.run_id == folder.name]
        assert set(mine["rank"]) == {0, 1} and (mine.kind == "apply").any()
        assert len(tables.heldout[tables.heldout.run_id == folder.name]) == 4
    assert "1 of 3 runs failed" in output[1]

    before = {folder: contents(folder) for folder in (first, third)}
    again = subprocess.run(paceline("run", study, "--out", out), cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 3 runs were complete already" in again.stderr
    assert set(load(out).runs.status) == {"completed"}
    assert {folder: contents(folder) for folder in (first, third)} == before, "finished cells were touched"


@pytest.mark.parametrize("transport", ["mpi", "simulated"])
def test_an_interrupt_leaves_no_process(tmp_path: Path, transport: str) -> None:
    """SIGINT to the supervisor: all it started is gone within 10 s, and what is complete is whole."""
    require(transport)
    cell = f'transports = ["{transport}"]\n' + THREE_CELLS.replace("seconds = 1.5", "seconds = 1e4")
    # So small a time step that the simulator, too, is busy for long.
    study = write_study(tmp_path / "study.toml", cell + "compute = { gradient_s = 1e-3 }\n")
    out = tmp_path / "out"
    with started("run", study, "--out", out) as process:
        until(lambda: list(out.glob("runs/*")), 60, "the first cell began", process)
        family = psutil.Process(process.pid).children(recursive=True)
        assert ranks_of(process)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=10)
        _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive, f"orphans: {alive}"
    assert process.returncode == 130, output
    assert "interrupted" in output[1]
    assert not list(out.glob("runs/*/run.parquet"))
    assert not list(out.glob("*.runs")), "the list of cells is left behind"
