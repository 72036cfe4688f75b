"""`paceline probe` under mpirun: the ranks share samples and workers, and find what one process finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import paceline
from tests.support.mpi_launch import ROOT, finish, require, start

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(300)]

STUDY = """
name = "probed"
seeds = [0]
workers = [3]
transports = ["simulated"]
save = "replicas"
budget = { seconds = 2, snapshots = 1 }

[[workload]]
name = "digits-mlp"
width = 8

[[algorithm]]
name = "d-psgd"
"""
CALLS = {
    "noise": ["noise", "--snapshot", "last"],
    "landscape": ["landscape", "--points", "3", "--samples", "50", "--micro-batch", "7"],
    "hessian": ["hessian", "--samples", "50", "--micro-batch", "7", "--probes", "3", "--steps", "8"],
    "ggn": ["hessian", "--kind", "ggn", "--samples", "50", "--micro-batch", "7", "--probes", "3", "--steps", "8"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("mpi")
    folder = tmp_path_factory.mktemp("probed")
    file = folder / "study.toml"
    file.write_text(STUDY)
    assert paceline.main(["run", str(file), "--out", str(folder / "out")]) == 0
    return folder / "out"


def numbers(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What tells rows apart, and their numbers."""
    skipped = ("settings",)
    return [tuple(value for name, value in sorted(row.items()) if name not in skipped) for row in rows]


@pytest.fixture(scope="module")
def alone(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What one process finds."""
    return {name: _probe(made, tmp_path_factory.mktemp(name), 1, call) for name, call in CALLS.items()}


def _probe(made: Path, folder: Path, ranks: int, call: list[str]) -> list[dict[str, Any]]:
    copy = Path(shutil.copytree(made, folder / "out"))
    command = [str(ROOT / "paceline.py"), "probe", str(copy), *call, "--float64", "--json"]
    out, err = finish(start(ranks, command), 200)
    assert out.startswith("["), err
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_find_what_one_process_finds(
    made: Path, tmp_path: Path, alone: dict[str, list[dict[str, Any]]], name: str, ranks: int
) -> None:
    got, want = _probe(made, tmp_path, ranks, CALLS[name]), alone[name]
    assert len(got) == len(want) > 0
    for there, here in zip(got, want, strict=True):
        assert there.keys() == here.keys()
        for column, value in here.items():
            if isinstance(value, float):
                # A residual, and a standard error of few draws, are small differences of large numbers.
                slack = 1e-4 if column == "error" else 1e-6
                assert there[column] == pytest.approx(value, rel=slack, abs=1e-9), (here, column)
            else:
                assert there[column] == value, (here, column)


def test_what_cannot_be_done_is_one_line_and_ends_all_ranks(made: Path) -> None:
    process = start(2, [str(ROOT / "paceline.py"), "probe", str(made), "noise", "--run", "nobody"])
    _, err = finish(process, 100)
    assert process.returncode != 0
    lines = [line for line in err.splitlines() if line.startswith("paceline probe:")]
    assert len(lines) == 1 and "no run 'nobody'" in lines[0] and "Traceback" not in err
