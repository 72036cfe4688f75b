"""What goes wrong on one rank ends all of them within seconds, and says what it was."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.kernel import Stuck
from bench.study import resolve
from tests.parallel import failing
from tests.support.mpi_cases import Case, on_simulator
from tests.support.mpi_launch import finish, require, start

RANKS = 3
TRANSPORTS = ["mpi", "horovod"]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failing algorithms are known in this process for the time of a test."""
    monkeypatch.setattr("algorithms.registry._BUILT_IN", dict(failing.registry._BUILT_IN))
    failing.register()


def run_session(tmp_path: Path, transport: str, algorithm: dict[str, Any], timeout_s: float) -> tuple[Path, str, float]:
    """Run a study of one cell the way the supervisor does, on three ranks.

    Returns:
        The run's folder, stderr, and the seconds between the last "@going wrong" and the end of the last process.
    """
    raw = {
        "name": "wrong", "workers": [RANKS], "transports": [transport], "timeout_s": timeout_s,
        "budget": {"steps": 10}, "workload": [{"name": "quadratic"}], "algorithm": [algorithm],
    }  # fmt: skip
    (cell,) = resolve(raw).cells()
    (tmp_path / "study.json").write_text(json.dumps(raw))
    (tmp_path / "cells.runs").write_text(cell.run_id)
    process = start(RANKS, ["-m", "tests.parallel.failing", str(tmp_path), str(tmp_path / "cells.runs"), "--mpi"])
    ranks = list(ranks_of(process))
    _, stderr = finish(process, 60)
    _, alive = psutil.wait_procs(ranks, timeout=10)
    ended = time.monotonic()
    assert not alive, f"rank processes left: {alive}"
    assert process.returncode != 0
    began = [float(text) for text in re.findall(r"@going wrong \d+ ([\d.]+)", stderr)]
    assert began and len(ranks) == RANKS, stderr
    print(f"{ended - max(began):.2f} s from the failure to the end of all processes")
    return tmp_path / "runs" / cell.run_id, stderr, ended - max(began)


def ranks_of(process: subprocess.Popen[str]) -> Iterator[psutil.Process]:
    """The rank processes below a launcher, once all are there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        ranks = [p for p in below if "tests.parallel.failing" in safely(p)[:4] and "-n" not in safely(p)]
        if len(ranks) == RANKS:
            return iter(ranks)
        time.sleep(0.05)
    return iter(())


def safely(process: psutil.Process) -> list[str]:
    """A process's command line, empty if it has gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.mpi
@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("transport", "others"),
    [("mpi", "receive"), ("horovod", "overlapped"),
     *(pytest.param("mpi", others, marks=pytest.mark.thorough) for others in ("all-reduce", "compute")),
     *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("mpi", "overlapped"), ("mpi", "return"), ("horovod", "all-reduce"), ("horovod", "compute")))],
)  # fmt: skip
def test_an_exception_on_one_rank_ends_all(tmp_path: Path, transport: str, others: str) -> None:
    """Within 5 s, whatever the others do, with the traceback and the name of the rank on stderr and on disk."""
    require(transport)
    folder, stderr, seconds = run_session(tmp_path, transport, {"name": "raises", "others": others}, timeout_s=60)
    assert seconds < 5
    mine = "\n".join(line for line in stderr.splitlines() if line.startswith(f"[rank {failing.CULPRIT}]"))
    assert "RuntimeError: as planned" in mine
    assert "in explode" in mine and "in worker" in mine and "failing.py" in mine
    failure = json.loads((folder / "failure.json").read_text())
    assert failure["rank"] == failing.CULPRIT
    assert "RuntimeError: as planned" in failure["text"]
    assert not (folder / "run.parquet").exists()


# how -> what the table says of a stuck rank: (ranks, what, tag or label, peer)
STUCK = {
    "recv": ({1}, "recv", "never", "2"),
    "request": ({1}, "request", "never", "0"),
    "all-reduce": ({0, 2}, "allreduce", "alone", "all"),
    "overlapped": ({0, 2}, "task", "started 1", "any"),
}


def check_table(text: str, how: str, stuck: tuple[set[int], str, str, str]) -> None:
    """Every rank has a row; the stuck ones' say what, tag or label, peer, and where in the algorithm."""
    ranks, *words = stuck
    rows = [line for line in text.splitlines() if re.match(r"\d+ ", line)]
    assert {int(row.split()[0]) for row in rows} == set(range(RANKS)), text
    for rank in ranks:
        at = [row for row in rows if row.startswith(f"{rank} ") and row.endswith(failing.stuck_at(how))]
        assert any(all(word in row for word in words) for row in at), text


@pytest.mark.mpi
@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("transport", "how"),
    [("mpi", "recv"), ("horovod", "all-reduce"),
     *(pytest.param("mpi", how, marks=pytest.mark.thorough) for how in ("all-reduce", "overlapped")),
     *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("mpi", "request"), ("horovod", "recv"), ("horovod", "overlapped")))],
)  # fmt: skip
def test_a_deadlock_ends_with_a_table(tmp_path: Path, transport: str, how: str) -> None:
    """Within timeout_s + 5 s, with a table that names every rank and what it waits for."""
    require(transport)
    folder, stderr, seconds = run_session(tmp_path, transport, {"name": "hangs", "how": how}, timeout_s=2)
    assert seconds < 2 + 5
    failure = json.loads((folder / "failure.json").read_text())
    assert failure["text"].startswith("time-out: no progress for 2 s")
    assert failure["text"].strip() in stderr
    check_table(failure["text"], how, STUCK[how])


@pytest.mark.parametrize("how", STUCK)
def test_a_deadlock_in_the_simulator(how: str) -> None:
    """At once, with the same table."""
    ranks, what, label, peer = STUCK[how]
    with pytest.raises(Stuck) as caught:
        on_simulator(Case(algorithm=failing.Hangs(how=how), workers=RANKS))
    assert caught.value.reason.startswith("deadlock")
    check_table(str(caught.value), how, (ranks, what, label, peer.replace("all", "any")))
